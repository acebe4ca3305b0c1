"""Optimizers whose state is shared out over ranks, which are threads here, against one process."""

import functools
import math
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep.sharded import Sharded
from mixed_params import PIECE, Params, copied, drawn, make_params
from optimizer_model import MODES, mode_name
from ranks import ThreadRank, run, run_again

P_NORM, G_NORM = instep.norm("p"), instep.norm("g")

RULES = (instep.Adam, instep.AdamW)


def make_grads(rank: int, step: int) -> Params:
    """Return a rank's gradients, each rank's of another layout."""
    grads = {
        name: np.asarray(drawn(1000 * step + 10 * rank + i, p.shape, p.dtype))
        for i, (name, p) in enumerate(make_params().items())
    }
    if rank % 2:
        grads["W"] = np.asfortranarray(grads["W"])
    return grads


def summed(all_grads: list[Params]) -> Params:
    """Return the sums over the ranks, in their order."""
    return {
        name: np.asarray(functools.reduce(np.add, [grads[name] for grads in all_grads]))
        for name in all_grads[0]
    }


def in_order(array: Array, like: Array) -> Array:
    axes = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    return array.transpose(axes).reshape(-1)


def assert_same(
    size: int,
    make: Callable[..., Any],
    steps: list[dict[str, Any]],
    *,
    bucket_bytes: int = 3 * PIECE * 4,
    grads_of: Callable[[int, int], Params] = make_grads,
) -> None:
    """Fail unless ranks do what one process does with the sums, in every bit."""
    params = make_params()
    own = copied(params)
    one = make(None, own)
    wanted = [
        one.step(summed([grads_of(rank, step) for rank in range(size)]), **asked)
        for step, asked in enumerate(steps)
    ]

    def each(comm: ThreadRank) -> None:
        theirs = copied(params)
        opt = make(comm, theirs, bucket_bytes)
        for step, asked in enumerate(steps):
            assert opt.step(grads_of(comm.rank, step), **asked) == wanted[step]
        assert (opt.t, opt.skips) == (one.t, one.skips)
        for name, array in own.items():
            assert_same_bits(theirs[name], array, name)
            start, stop = opt.owned[name]
            for state, whole in one.state[name].items():
                assert_same_bits(opt.state[name][state], in_order(whole, array)[start:stop], state)
            if one.average is not None:
                average = in_order(one.averages[name], array)[start:stop]
                assert_same_bits(opt.averages[name], average, "average")

    run(size, each)


def maker(rule: Any, **options: Any) -> Callable[..., Any]:
    def make(comm: ThreadRank | None, params: Params, bucket_bytes: int = 0) -> Any:
        if comm is None:
            return rule(params, **options)
        return Sharded(rule, params, comm=comm, bucket_bytes=bucket_bytes, **options)

    return make


@pytest.mark.parametrize(("rule", "mode"), MODES, ids=[mode_name(*mode) for mode in MODES])
def test_every_rule_has_the_bits_of_one_process(rule: Any, mode: dict[str, Any]) -> None:
    options = {**mode, "weight_decay": 0.1, "average": 0.9}
    assert_same(2, maker(rule, **options), [{"grad_scale": 0.5}, {"max_norm": 1.0}])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("bucket_bytes", [1, 5 * PIECE * 4, 1 << 30])
def test_every_number_of_ranks_and_size_of_buckets(size: int, bucket_bytes: int) -> None:
    options = {
        "groups": {"b": {"lr": 0.1}, "V": {"weight_decay": 0.2}},
        "weight_decay_mask": lambda _, array: array.ndim > 1,
        "freeze": lambda name, _: name == "F",
        "average": 0.5,
        "lr": lambda t: 0.1 / (t + 1),
    }
    steps: list[dict[str, Any]] = [
        {"grad_scale": 1 / size},
        {"max_norm": 0.5, "grad_scale": -2.0},
        {"max_array_norm": 0.5, "max_value": 0.01},
        {"max_value": 0.3, "lr": 0.7},
        {"max_norm": math.inf, "nonfinite": "skip"},
    ]
    make = maker(instep.AdamW, **options)
    assert_same(size, make, steps, bucket_bytes=bucket_bytes)


def test_a_list_of_groups() -> None:
    def make(comm: ThreadRank | None, params: Params, bucket_bytes: int = 0) -> Any:
        names = list(params)
        groups = [
            {"params": {name: params[name] for name in names[:2]}, "lr": 0.2},
            {"params": {name: params[name] for name in names[2:]}},
        ]
        kind = maker(instep.NAdam, lr=0.1)
        opt = kind(comm, groups, bucket_bytes)
        return _OfGroups(opt, names[:2], names[2:])

    assert_same(3, make, [{}, {"max_norm": 1.0}])


class _OfGroups:
    """An optimizer of groups that takes the gradients as one dict."""

    def __init__(self, opt: Any, *names: list[str]) -> None:
        self.opt, self.names = opt, names

    def step(self, grads: Params, **asked: Any) -> Any:
        return self.opt.step([{name: grads[name] for name in own} for own in self.names], **asked)

    def named(self, things: dict[str, Any]) -> dict[str, Any]:
        return {name.partition(".")[2]: thing for name, thing in things.items()}

    @property
    def state(self) -> dict[str, Any]:
        return self.named(self.opt.state)

    @property
    def owned(self) -> dict[str, Any]:
        return self.named(self.opt.owned)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.opt, name)


@pytest.mark.parametrize("asked", [{}, {"max_norm": 1.0}])
@pytest.mark.parametrize("bucket_bytes", [PIECE, 1 << 30])
def test_gradients_that_all_leave_out(bucket_bytes: int, asked: dict[str, Any]) -> None:
    def grads_of(rank: int, step: int) -> Params:
        left_out = (("W", "one"), ("V", "b", "none"), tuple(make_params()))[step]
        return {n: None if n in left_out else g for n, g in make_grads(rank, step).items()}  # type: ignore[misc]

    def summed_with_none(all_grads: list[Params]) -> Params:
        return {
            name: None  # type: ignore[misc]
            if all_grads[0][name] is None
            else np.asarray(functools.reduce(np.add, [grads[name] for grads in all_grads]))
            for name in all_grads[0]
        }

    params = make_params()
    own = copied(params)
    one = instep.Adam(own)
    for step in range(3):
        one.step(summed_with_none([grads_of(rank, step) for rank in range(3)]), **asked)

    def each(comm: ThreadRank) -> None:
        theirs = copied(params)
        opt = Sharded(instep.Adam, theirs, comm=comm, bucket_bytes=bucket_bytes)
        for step in range(3):
            opt.step(grads_of(comm.rank, step), **asked)
        for name, array in own.items():
            assert_same_bits(theirs[name], array, name)

    run(3, each)


@instep.rule
def trust(p, g, m, *, lr=0.1, pn=P_NORM, gn=G_NORM):  # type: ignore[no-untyped-def]
    m = 0.9 * m + g
    return p - lr * pn / (gn + 1.0) * m, m


def test_rules_that_ask_for_norms() -> None:
    steps: list[dict[str, Any]] = [{"grad_scale": 0.5}, {"max_norm": 1.0}, {"max_array_norm": 0.3}]
    assert_same(3, maker(trust), steps)


def test_shares_are_even_to_a_piece_for_each_array() -> None:
    params = {f"{i}": np.zeros(10 * PIECE + i, np.float32) for i in range(5)}
    total = sum(array.size for array in params.values())

    def each(comm: ThreadRank) -> tuple[int, dict[str, tuple[int, int]]]:
        opt = Sharded(instep.Adam, params, comm=comm, bucket_bytes=1 << 20)
        opt.step({name: np.ones_like(array) for name, array in params.items()})
        states = sum(a.nbytes for states in opt.state.values() for a in states.values())
        return states, opt.owned

    results = run(4, each)
    for states, _ in results:
        assert abs(states / 8 - total / 4) <= PIECE
    for name, array in params.items():
        bounds = [owned[name] for _, owned in results if owned[name][1] > owned[name][0]]
        assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
        assert bounds[-1][1] == array.size


MODELS: dict[str, Callable[[], Params]] = {
    "one array": lambda: {"W": np.zeros(100 * PIECE + 7, np.float32)},
    "twice as large": lambda: {"W": np.zeros(200 * PIECE + 7, np.float32)},
    "float64": lambda: {"W": np.zeros(60 * PIECE + 7), "V": np.zeros(9)},
    "small ones": lambda: {f"{i}": np.zeros(3_000 + i, np.float32) for i in range(1_000)},
    "strided ones": lambda: {f"{i}": np.zeros((2, 500_001), np.float32).T for i in range(4)},
    "16 bits": lambda: {"W": np.zeros(200 * PIECE, np.float16)},
}


@pytest.mark.parametrize("model", MODELS)
def test_a_step_takes_no_more_memory_than_5_buckets_whatever_the_model(model: str) -> None:
    ranks, bucket = 3, 1 << 20
    all_params = [MODELS[model]() for _ in range(ranks)]
    grads = {name: np.ones_like(p) for name, p in all_params[0].items()}
    options = {"master": "float32"} if model == "16 bits" else {}

    def make(comm: ThreadRank) -> Any:
        opt = Sharded(instep.SGD, all_params[comm.rank], comm=comm, bucket_bytes=bucket, **options)
        assert sum(buffer.nbytes for buffer in [*opt._room.sent, *opt._room.received]) == 0
        return opt

    def step(opt: Any) -> int:
        opt.step(grads)
        buffers = [*opt._room.sent, *opt._room.received, opt._room.kept]
        return sum(buffer.nbytes for buffer in buffers)

    opts = run(ranks, make)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        buffers = run_again(opts, step)
        run_again(opts, step)
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert max(buffers) <= 5 * bucket
    # Beside the buffers, Python's own objects, and room for the numbers of a piece.
    objects = (1 << 18) + 4_096 * len(grads)
    assert most <= ranks * (5 * bucket + objects)
    assert sum(g.nbytes for g in grads.values()) > 2 * 5 * bucket


@pytest.mark.parametrize("bad_rank", [0, 1, 2])
def test_what_is_wrong_on_one_rank_raises_on_all_and_changes_nothing(bad_rank: int) -> None:
    params = make_params()
    good: dict[str, Any] = {}

    def no_array(grads: Params) -> dict[str, Any]:
        return {**grads, "W": grads["W"].tolist()}

    cases: list[tuple[type[Exception], str, Callable[[Params], Any], dict[str, Any]]] = [
        (TypeError, "has dtype float64", lambda g: {**g, "W": g["W"].astype(np.float64)}, good),
        (ValueError, "has shape", lambda g: {**g, "W": g["W"].T}, good),
        (KeyError, "is missing", lambda g: {n: g[n] for n in g if n != "b"}, good),
        (TypeError, "wanted a numpy.ndarray", no_array, good),
        (ValueError, "lr is -1", lambda g: g, {"lr": -1.0}),
        (ValueError, "nonfinite is 'no'", lambda g: g, {"nonfinite": "no"}),
        (ValueError, "DIFFERS", lambda g: {**g, "W": None}, good),
        (ValueError, "DIFFERS", lambda g: g, {"lr": 0.3}),
        (ValueError, "DIFFERS", lambda g: g, {"max_norm": 0.3}),
        (ValueError, "DIFFERS", lambda g: g, {"grad_scale": 0.5}),
        (ValueError, "DIFFERS", lambda g: g, {"max_value": 2.0}),
        (ValueError, "DIFFERS", lambda g: g, {"max_array_norm": 2.0}),
        (ValueError, "DIFFERS", lambda g: g, {"nonfinite": "skip"}),
        (ValueError, "DIFFERS", lambda g: g, {"max_skips": 2}),
    ]

    def each(comm: ThreadRank) -> None:
        theirs = copied(params)
        opt = Sharded(instep.Adam, theirs, comm=comm, bucket_bytes=PIECE)
        opt.step(make_grads(comm.rank, 0))
        before = copied(theirs)
        states = {n: {s: a.copy() for s, a in own.items()} for n, own in opt.state.items()}
        for kind, match, spoil, asked in cases:
            grads = make_grads(comm.rank, 1)
            if comm.rank == bad_rank:
                grads = spoil(grads)
            if match != "DIFFERS":
                match = f"rank {bad_rank}: .*{match}"
            with pytest.raises(kind, match=match if match != "DIFFERS" else "differs") as raised:
                opt.step(grads, **(asked if comm.rank == bad_rank else {}))
            if match == "DIFFERS":
                name, value = next(iter(asked.items()), ('grads["W"]', None))
                usual = {"grad_scale": 1.0, "nonfinite": "propagate", 'grads["W"]': "float32"}
                others = ", ".join(str(rank) for rank in range(3) if rank != bad_rank)
                said = [f"{value!r} on rank {bad_rank}", f"{usual.get(name)!r} on ranks {others}"]
                said = said if bad_rank == 0 else said[::-1]
                wanted = f"{name} differs: {'; '.join(said)}; wanted the same on all ranks"
                assert str(raised.value) == wanted
        for word in ("raise", "skip"):
            grads = make_grads(comm.rank, 1)
            if comm.rank == bad_rank:
                grads["V"][PIECE + 1] = np.nan
            if word == "skip":
                result = opt.step(grads, nonfinite="skip")
                assert (result.skipped, result.t, opt.skips) == (True, 1, 1)
            else:
                with pytest.raises(FloatingPointError, match=rf'rank {bad_rank}: grads\["V"\] has'):
                    opt.step(grads, nonfinite="raise", max_norm=1.0)
        with pytest.raises(FloatingPointError, match=rf"rank {bad_rank}: .*1 steps in a row"):
            opt.step(grads, nonfinite="skip", max_skips=1)
        assert opt.t == 1
        for name, array in before.items():
            assert_same_bits(theirs[name], array, name)
            for state, values in states[name].items():
                assert_same_bits(opt.state[name][state], values, state)
        opt.step(make_grads(comm.rank, 1))
        assert (opt.t, opt.skips) == (2, 0)

    run(3, each)


def test_optimizers_that_are_not_the_same_are_refused() -> None:
    def each(comm: ThreadRank) -> None:
        params = {"W": np.ones(10, np.float32)}
        name = re.escape("param_groups[0]['lr'] differs: 0.1 on rank 0; 0.2 on rank 1; wanted")
        with pytest.raises(ValueError, match=name):
            Sharded(instep.Adam, params, comm=comm, bucket_bytes=1, lr=0.1 * (1 + comm.rank))
        with pytest.raises(ValueError, match="rule differs: 'Adam' on rank 0; 'AdamW' on rank 1"):
            Sharded(RULES[comm.rank], params, comm=comm, bucket_bytes=1)
        with pytest.raises(ValueError, match="bucket_bytes differs: 1 on rank 0; 2 on rank 1"):
            Sharded(instep.Adam, params, comm=comm, bucket_bytes=1 + comm.rank)
        with pytest.raises(ValueError, match="rank 0: bucket_bytes is 0"):
            Sharded(instep.Adam, params, comm=comm, bucket_bytes=0)
        with pytest.raises(ValueError, match="seed differs: 0 on rank 0; 1 on rank 1"):
            Sharded(instep.Adam, params, comm=comm, bucket_bytes=1, seed=comm.rank)
        others = {"W" if comm.rank == 0 else "V": np.ones(10, np.float32)}
        with pytest.raises(
            ValueError, match=r'dtype of params\["W"\] differs: .*; missing on rank 1'
        ):
            Sharded(instep.Adam, others, comm=comm, bucket_bytes=1)
        with pytest.raises(ValueError, match="rank 1: lr is -1"):
            Sharded(instep.Adam, params, comm=comm, bucket_bytes=1, lr=0.1 - 1.1 * comm.rank)
        with pytest.raises(TypeError, match="rank 0: rule is 'Adam'; wanted an optimizer's class"):
            Sharded("Adam", params, comm=comm, bucket_bytes=1)  # type: ignore[arg-type]
        opt = Sharded(instep.Adam, params, comm=comm, bucket_bytes=1)
        rows = instep.Rows(np.array([0]), np.ones(1, np.float32))
        with pytest.raises(TypeError, match=r'rank 0: grads\["W"\] is Rows'):
            opt.step({"W": rows})

    run(2, each)


@pytest.mark.parametrize("name", ["W", "F", "strided", "one"])
def test_parameters_of_other_values_are_refused(name: str) -> None:
    def each(comm: ThreadRank) -> None:
        params = copied(make_params())
        if comm.rank == 1:
            params[name].flat[-1] += 1
        said = rf'checksum of params\["{name}"\] differs: \d+ on rank 0; \d+ on rank 1; wanted'
        with pytest.raises(ValueError, match=said):
            Sharded(instep.Adam, params, comm=comm, bucket_bytes=PIECE)

    run(2, each)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("can't read 'd\udce9.txt'"), r"rank 1: can't read 'd\\udce9.txt'"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "rank 1: .*can't encode"),
        (KeyError("W"), "rank 1: W"),
    ],
)
def test_an_error_that_takes_more_than_a_message_is_everyones(error: Exception, said: str) -> None:
    def each(comm: ThreadRank) -> None:
        opt = Sharded(instep.SGD, np.ones(3), comm=comm, bucket_bytes=PIECE)

        def hook(_: Any, grads: Any) -> Any:
            if comm.rank == 1:
                raise error
            return grads

        opt.register_step_pre_hook(hook)
        with pytest.raises(Exception, match=said):
            opt.step(np.ones(3))

    run(2, each)


def test_averages_take_the_place_of_the_parameters_on_all_ranks() -> None:
    params = make_params()
    own = copied(params)
    one = instep.SGD(own, average=0.5)
    for step in range(2):
        one.step(summed([make_grads(rank, step) for rank in range(3)]))

    def each(comm: ThreadRank) -> None:
        theirs = copied(params)
        opt = Sharded(instep.SGD, theirs, comm=comm, bucket_bytes=PIECE, average=0.5)
        for step in range(2):
            opt.step(make_grads(comm.rank, step))
        after = copied(theirs)
        with opt.averaged():
            for name in own:
                assert_same_bits(theirs[name], one.averages[name], name)
            with pytest.raises(RuntimeError, match="within averaged"):
                opt.step(make_grads(comm.rank, 0))
        for name, array in after.items():
            assert_same_bits(theirs[name], array, name)
        opt.step(make_grads(comm.rank, 2))

    run(3, each)


def test_hooks_and_cleared_gradients() -> None:
    def each(comm: ThreadRank) -> None:
        params = {"W": np.ones(3 * PIECE, np.float32)}
        opt = Sharded(instep.SGD, params, comm=comm, bucket_bytes=1, lr=1.0, zero_grads=True)
        seen: list[int] = []
        opt.register_step_pre_hook(lambda _, grads: {"W": grads["W"][::2]})
        opt.register_step_post_hook(lambda _, result: seen.append(result.t))
        grad = np.ones(6 * PIECE, np.float32)
        opt.step({"W": grad})
        assert seen == [1]
        assert not grad[::2].any()
        assert grad[1::2].all()
        assert (params["W"] == -1).all()

    run(2, each)


@pytest.mark.parametrize("size", [2, 3])
def test_many_small_arrays_travel_in_buckets_of_several(size: int) -> None:
    params = {f"{i}": drawn(i, (9_001 + i,)) for i in range(60)}

    def grads_of(rank: int, step: int) -> Params:
        return {n: drawn(100 * step + rank, p.shape) for n, p in params.items()}

    own = copied(params)
    one = instep.Adam(own)
    for step in range(3):
        one.step(summed([grads_of(rank, step) for rank in range(size)]))

    def each(comm: ThreadRank) -> None:
        theirs = copied(params)
        opt = Sharded(instep.Adam, theirs, comm=comm, bucket_bytes=100_000 * size)
        for step in range(3):
            opt.step(grads_of(comm.rank, step))
        for name, array in own.items():
            assert_same_bits(theirs[name], array, name)

    run(size, each)


def groups_of(params: Params) -> list[dict[str, Any]]:
    """Return two groups: one to begin with, and one that is added."""
    first = ("W", "b", "F")
    own = [{n: p for n, p in params.items() if (n in first) == is_first} for is_first in (1, 0)]
    return [{"params": own[0], "lr": 0.3}, {"params": own[1], "weight_decay": 0.2}]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("rule", [instep.NAdam, instep.AdamW])
def test_a_group_that_is_added_has_the_bits_of_one_process(size: int, rule: Any) -> None:
    """The state of the first group stays where it is, and goes on."""
    options: dict[str, Any] = {
        "lr": 0.1,
        "average": 0.9,
        "weight_decay_mask": lambda name, _: "V" not in name,
        "freeze": lambda name, _: name in ("0.b", "1.strided"),
    }
    params = make_params()
    asked: list[dict[str, Any]] = [{}, {}, {"max_norm": 1.0}, {"nonfinite": "skip"}]

    def grads_of(rank: int, step: int) -> list[Params]:
        grads = make_grads(rank, step)
        if step == 3:
            grads["V"][0] = np.nan
        return [group["params"] for group in groups_of(grads)][: 1 + (step > 1)]

    own = copied(params)
    groups = groups_of(own)
    one = rule(groups[:1], **options)
    wanted = []
    for step, how in enumerate(asked):
        if step == 2:
            one.add_param_group(groups[1])
        every = [grads_of(rank, step) for rank in range(size)]
        sums = [summed([each[number] for each in every]) for number in range(len(every[0]))]
        wanted.append(repr(one.step(sums, **how)))

    def each(comm: ThreadRank) -> None:
        theirs = copied(params)
        groups = groups_of(theirs)
        opt = Sharded(rule, groups[:1], comm=comm, bucket_bytes=PIECE, **options)
        seen: list[int] = []
        opt.register_step_post_hook(lambda _, result: seen.append(result.t))
        for step, how in enumerate(asked):
            if step == 2:
                first = opt.param_groups[0]
                opt.add_param_group(groups[1])
                assert opt.param_groups[0] is first
            assert repr(opt.step(grads_of(comm.rank, step), **how)) == wanted[step]
        assert (opt.t, opt.skips) == (one.t, one.skips) == (3, 1)
        assert seen == [1, 2, 3, 3]
        averages = {n: a for group in opt.averages for n, a in group.items()}
        for name, array in own.items():
            assert_same_bits(theirs[name], array, name)
            key = f"{0 if name in groups[0]['params'] else 1}.{name}"
            start, stop = opt.owned[key]
            for state, whole in one.state[key].items():
                assert_same_bits(opt.state[key][state], in_order(whole, array)[start:stop], state)
            whole = {n: a for group in one.averages for n, a in group.items()}[name]
            assert_same_bits(averages[name], in_order(whole, array)[start:stop], "average")

    run(size, each)


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_a_group_that_is_wrong_on_one_rank_is_added_on_none(bad_rank: int) -> None:
    def each(comm: ThreadRank) -> None:
        groups = groups_of(copied(make_params()))
        opt = Sharded(instep.Adam, groups[:1], comm=comm, bucket_bytes=PIECE, average=0.5)
        gradient = {n: np.ones_like(p) for n, p in groups[0]["params"].items()}
        opt.step([gradient])
        is_bad = comm.rank == bad_rank
        cases: list[tuple[type[Exception], str, Any]] = [
            (TypeError, f"rank {bad_rank}: params", {"params": [3]}),
            (
                ValueError,
                rf"rank {bad_rank}: param_groups\[1\] has the option",
                {**groups[1], "beta": 1},
            ),
            (ValueError, r"\['lr'\] differs: ", {**groups[1], "lr": 0.7}),
            (ValueError, "rank .: .* same array as", groups[0]),
            (ValueError, r'checksum of params\["1\.0"\] differs', {"params": [np.ones(3)]}),
        ]
        for kind, match, group in cases:
            good = {"params": [np.zeros(3)]} if "checksum" in match else groups[1]
            with pytest.raises(kind, match=match):
                opt.add_param_group(group if is_bad else good)
            assert len(opt.param_groups) == 1
            assert opt.owned.keys() == {"0.W", "0.b", "0.F"}
            opt.step([gradient])
        with opt.averaged(), pytest.raises(RuntimeError, match="within averaged"):
            opt.add_param_group(groups[1])
        opt.add_param_group(groups[1])
        opt.step([gradient, {n: np.ones_like(p) for n, p in groups[1]["params"].items()}])
        assert opt.t == 7
        with pytest.raises(ValueError, match="rank 0: params was not a list of groups"):
            Sharded(instep.Adam, np.ones(3), comm=comm, bucket_bytes=1).add_param_group(groups[1])

    run(2, each)
