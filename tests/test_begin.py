"""Steps that their caller does piece by piece, and states in arrays that the caller makes."""

import functools
import itertools
import math
import operator
import random
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits, copy_with_buffers
from instep import reference
from optimizer_model import MODES, mode_name

PIECE = 32_768

P_NORM, G_NORM = instep.norm("p"), instep.norm("g")

SHAPES = {"W": (300, 333), "b": (7,), "none": (0, 3), "V": (70_001,), "one": ()}


def values(seed: int, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def trees(seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return parameters of several layouts and dtypes, and gradients for them."""
    params = {name: values(seed + i, shape) for i, (name, shape) in enumerate(SHAPES.items())}
    params["F"] = np.asfortranarray(values(seed + 10, (200, 201), np.float64))
    params["strided"] = values(seed + 11, (90, 2, 400))[:, 0, ::2]
    grads = {
        name: values(seed + 20 + i, p.shape, p.dtype) for i, (name, p) in enumerate(params.items())
    }
    return params, grads


def layouts(params: dict[str, Array]) -> dict[str, Array]:
    """Return copies of the same layouts."""
    return dict(zip(params, copy_with_buffers(list(params.values())), strict=True))


def assert_same_state(one: instep.Optimizer, other: instep.Optimizer) -> None:
    for name, states in one.state.items():
        for state, array in states.items():
            assert_same_bits(other.state[name][state], array)


def by_pieces(
    opt: instep.Optimizer, grads: Any, order: random.Random, **asked: Any
) -> instep.StepResult:
    """Do a step in ranges of pieces of any length, in any order."""
    begun = opt.begin(grads, **asked)
    count = sum(begun.pieces)
    cuts = sorted({0, count, *(order.randrange(count + 1) for _ in range(4))})
    ranges = list(itertools.pairwise(cuts))
    order.shuffle(ranges)
    for first, last in ranges:
        begun.step(first, last)
    return begun.commit()


@pytest.mark.parametrize(("rule", "mode"), MODES, ids=[mode_name(*mode) for mode in MODES])
def test_pieces_make_the_step(rule: Any, mode: dict[str, Any]) -> None:
    order = random.Random(1)
    params, _ = trees()
    opts = [rule(layouts(params), **{**mode, "weight_decay": 0.1}, average=0.9) for _ in range(2)]
    for seed in range(2):
        _, grads = trees(seed)
        results = [
            opts[0].step(grads, grad_scale=0.5, max_value=1.5),
            by_pieces(opts[1], grads, order, grad_scale=0.5, max_value=1.5),
        ]
        assert results[0] == results[1]
    for name in params:
        assert_same_bits(
            opts[1].param_groups[0]["params"][name], opts[0].param_groups[0]["params"][name]
        )
        assert_same_bits(opts[1].averages[name], opts[0].averages[name])
    assert_same_state(*opts)


def sum_of_squares(g: Array) -> float:
    """Return the sum of the squares of a piece as the documentation says."""
    lanes = np.zeros(16)
    for i in range(16):
        for x in g[i::16].astype(np.float64):
            lanes[i] += x * x
    return functools.reduce(operator.add, lanes.tolist(), -0.0)


def test_sums_of_squares_are_those_of_each_piece() -> None:
    params, grads = trees()
    opt = instep.SGD(params)
    begun = opt.begin(grads)
    assert begun.lr == [opt.param_groups[0]["lr"]]
    assert begun.pieces == [-(-array.size // PIECE) for array in params.values()]
    for of_params in (False, True):
        wanted = []
        for name, p in params.items():
            axes = sorted(range(p.ndim), key=lambda k: -p.strides[k])
            flat = (p if of_params else grads[name]).transpose(axes).reshape(-1)
            wanted += [sum_of_squares(flat[i : i + PIECE]) for i in range(0, flat.size, PIECE)]
        count = len(wanted)
        assert begun.sums_of_squares(0, count, of_params=of_params) == wanted
        for first, last in ((0, 0), (1, 3), (count - 1, count)):
            assert begun.sums_of_squares(first, last, of_params=of_params) == wanted[first:last]
    total = math.sqrt(functools.reduce(operator.add, begun.sums_of_squares(0, count), 0.0))
    assert opt.step(grads, grad_scale=-2.0, max_norm=math.inf).grad_norm == total * 2


def test_a_norm_that_the_caller_sums_clips() -> None:
    params, grads = trees()
    order = random.Random(2)
    opts = [instep.Adam(layouts(params)) for _ in range(2)]
    result = opts[0].step(grads, max_norm=0.5, grad_scale=3.0)
    begun = opts[1].begin(grads, max_norm=0.5, grad_scale=3.0)
    squares = begun.sums_of_squares(0, sum(begun.pieces))
    total = math.sqrt(functools.reduce(operator.add, squares, 0.0))
    assert begun.clip(total) == result.grad_norm
    for piece in order.sample(range(len(squares)), len(squares)):
        begun.step(piece, piece + 1)
    assert begun.commit() == result
    assert_same_state(*opts)


def norms_of(begun: instep.BegunStep, *, of_params: bool = False) -> list[float]:
    squares = iter(begun.sums_of_squares(0, sum(begun.pieces), of_params=of_params))
    sums = [
        functools.reduce(operator.add, [next(squares) for _ in range(n)], 0.0) for n in begun.pieces
    ]
    return [math.sqrt(total) for total in sums]


def test_norms_of_each_array_clip_it() -> None:
    params, grads = trees()
    opts = [instep.Adam(layouts(params)) for _ in range(2)]
    opts[0].step(grads, max_array_norm=2.0)
    begun = opts[1].begin(grads, max_array_norm=2.0)
    begun.clip_each(norms_of(begun))
    for piece in range(sum(begun.pieces)):
        begun.step(piece, piece + 1)
    begun.commit()
    assert_same_state(*opts)
    # The next one is not clipped by these.
    for opt in opts:
        opt.step(grads)
    assert_same_state(*opts)


@instep.rule
def trust(p, g, m, *, lr=0.1, pn=P_NORM, gn=G_NORM):  # type: ignore[no-untyped-def]
    m = 0.9 * m + g
    return p - lr * pn / (gn + 1.0) * m, m


def test_rules_that_ask_for_norms_get_those_of_the_caller() -> None:
    params, grads = trees()
    opts = [trust(layouts(params)) for _ in range(2)]
    assert not instep.Adam(layouts(params)).begin(grads).needs_norms
    for _ in range(2):
        opts[0].step(grads, grad_scale=0.5)
        begun = opts[1].begin(grads, grad_scale=0.5)
        assert begun.needs_norms
        with pytest.raises(ValueError, match="the rule asks for norms, and none were set"):
            begun.step(0, 1)
        begun.set_norms(norms_of(begun, of_params=True), norms_of(begun))
        for piece in range(sum(begun.pieces)):
            begun.step(piece, piece + 1)
        begun.commit()
    assert_same_state(*opts)
    for name in params:
        own, wanted = (opt.param_groups[0]["params"][name] for opt in (opts[1], opts[0]))
        assert_same_bits(own, wanted)


def test_the_first_gradient_that_is_not_finite_is_found_and_skipped_or_raised() -> None:
    params, grads = trees()
    opt = instep.Adam(layouts(params))
    begun = opt.begin(grads, nonfinite="skip", max_skips=1)
    count = sum(begun.pieces)
    assert begun.first_nonfinite(0, count) is None
    grads["V"][40_000] = np.inf  # In the second piece of the fourth parameter.
    place = sum(begun.pieces[:3]) + 1
    assert begun.first_nonfinite(0, count) == 3
    assert begun.first_nonfinite(0, place) is None
    assert begun.first_nonfinite(place, place + 1) == 3
    assert begun.first_nonfinite(place + 1, count) is None
    before = layouts(opt.param_groups[0]["params"])
    result = begun.skip(3)
    assert (result.skipped, result.t, opt.t, opt.skips) == (True, 0, 0, 1)
    with pytest.raises(FloatingPointError, match=r'grads\["V"\].*1 steps in a row'):
        opt.begin(grads, nonfinite="skip", max_skips=1).skip(3)
    with pytest.raises(FloatingPointError, match=r'grads\["V"\] has an element'):
        opt.begin(grads, nonfinite="raise").skip(3)
    for name, array in before.items():
        assert_same_bits(opt.param_groups[0]["params"][name], array)
    begun = opt.begin(grads)
    begun.step(0, count)
    begun.commit()
    assert (opt.t, opt.skips) == (1, 0)


def test_zero_grads_clears_the_pieces_that_are_stepped() -> None:
    params, grads = trees()
    opt = instep.SGD(layouts(params), zero_grads=True)
    begun = opt.begin(grads)
    begun.step(0, 1)
    flat = grads["W"].reshape(-1)
    assert not flat[:PIECE].any()
    assert flat[PIECE:].all()


def test_a_step_that_is_skipped_clears_what_it_was_to_clear() -> None:
    params, grads = trees()
    opt = instep.SGD(layouts(params), zero_grads=True)
    grads["V"][0] = np.nan
    with pytest.raises(FloatingPointError):
        opt.begin(grads, nonfinite="raise").skip(3)
    assert all(grad.any() for grad in grads.values() if grad.size)
    assert opt.begin(grads, nonfinite="skip").skip(3).skipped
    assert not any(grad.any() for grad in grads.values())


def test_a_step_that_was_begun_is_refused_once_it_is_not_the_next() -> None:
    params, grads = trees()
    opt = instep.Adam(params, average=0.5)
    begun = opt.begin(grads)
    opt.step(grads)
    for call in (
        lambda: begun.step(0, 1),
        begun.commit,
        lambda: begun.skip(0),
        lambda: begun.pieces,
    ):
        with pytest.raises(RuntimeError, match="was begun before the optimizer changed"):
            call()
    begun = opt.begin(grads)
    with opt.averaged():
        with pytest.raises(RuntimeError, match="averaged"):
            begun.step(0, 1)
        with pytest.raises(RuntimeError, match="averaged"):
            opt.begin(grads)
    begun.step(0, sum(begun.pieces))
    begun.commit()
    with pytest.raises(RuntimeError, match="is over"):
        begun.commit()
    assert opt.t == 2


def test_arrays_are_looked_at_again_in_each_call() -> None:
    p, g = np.ones(100_000, np.float32), np.ones(100_000, np.float32)
    opt = instep.SGD({"W": p})
    begun = opt.begin({"W": g})
    begun.step(0, 1)
    g.resize(50_000, refcheck=False)
    with pytest.raises(ValueError, match="has shape"):
        begun.step(1, 2)
    p.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        begun.step(1, 2)


def test_what_is_not_there_is_refused() -> None:
    params, grads = trees()
    opt = instep.SGD(params)
    begun = opt.begin(grads)
    count = sum(begun.pieces)
    for first, last in ((0, count + 1), (2, 1), (count + 1, count + 1)):
        with pytest.raises(IndexError, match=f"there are {count}"):
            begun.step(first, last)
    for call in (lambda: begun.clip(1.0), lambda: begun.clip_each([1.0])):
        with pytest.raises(ValueError, match="was begun without max_"):
            call()
    with pytest.raises(ValueError, match=f"has 1 numbers; wanted {len(params)}"):
        begun.set_norms([1.0], [1.0])
    with pytest.raises(IndexError, match="out of range"):
        opt.begin(grads, nonfinite="raise").skip(99)
    rows = instep.Rows(np.array([0]), grads["W"][:1])
    with pytest.raises(TypeError, match="Rows can't be stepped in pieces"):
        opt.begin({**grads, "W": rows})


def test_check_is_the_check_of_a_step() -> None:
    params, grads = trees()
    opt = instep.Adam(params, freeze=lambda name, _: name == "b")
    checked = opt.check({**grads, "V": None})
    assert [g is None for g in checked] == [name in ("b", "V") for name in params]
    assert all(g is None or g is grads[name] for name, g in zip(params, checked, strict=True))
    before = layouts(params)
    for bad in (
        {**grads, "W": grads["W"].astype(np.float64)},
        {**grads, "W": grads["W"].T},
        {**grads, "W": params["W"]},
        {**grads, "W": list(grads["W"])},
        {name: grads[name] for name in ("W", "b")},
        {**grads, "more": grads["W"]},
    ):
        with pytest.raises((TypeError, ValueError, KeyError)) as wanted:
            opt.step(bad)
        with pytest.raises(type(wanted.value)) as raised:
            opt.check(bad)
        assert str(raised.value) == str(wanted.value)
        with pytest.raises(type(wanted.value)) as raised:
            opt.begin(bad)
        assert str(raised.value) == str(wanted.value)
    for bad_option in ({"lr": -1.0}, {"max_norm": -1.0}, {"nonfinite": "no"}, {"max_skips": -1}):
        with pytest.raises(ValueError, match=next(iter(bad_option))):
            opt.begin(grads, **bad_option)
    assert opt.t == 0
    for name, array in before.items():
        assert_same_bits(params[name], array)


def test_states_are_in_the_arrays_that_the_caller_makes(tmp_path: Path) -> None:
    params, grads = trees()
    made: dict[tuple[str, str], Array] = {}

    def make(name: str, state: str, shape: tuple[int, ...], dtype: Any) -> Array:
        file = tmp_path / f"{name}-{state}"
        size = max(1, math.prod(shape)) * dtype.itemsize
        file.write_bytes(b"\xff" * size)
        array = (
            np.memmap(file, dtype, "r+", shape=shape)
            if math.prod(shape)
            else np.empty(shape, dtype)
        )
        return made.setdefault((name, state), array)

    options: dict[str, Any] = {"amsgrad": True, "average": 0.9, "weight_decay": 0.1}
    opts = [instep.AdamW(layouts(params), **options, state=state) for state in (None, make)]
    assert len(made) == 4 * len(params)
    for name, states in opts[1].state.items():
        assert all(array is made[name, state] for state, array in states.items())
        assert opts[1].averages[name] is made[name, "average"]
    for seed in range(3):
        _, grads = trees(seed)
        for opt in opts:
            opt.step(grads, max_norm=1.0)
    assert_same_state(*opts)
    for name, array in opts[0].averages.items():
        assert_same_bits(made[name, "average"], array)
    on_disk = np.fromfile(tmp_path / "W-m", np.float32).reshape(SHAPES["W"])
    assert_same_bits(on_disk, opts[0].state["W"]["m"])


def test_states_start_as_the_rule_says() -> None:
    params, _ = trees()
    for rule in (instep.Adagrad, instep.AdamWScheduleFree, instep.ASGD, instep.Rprop):
        own, wanted = (
            rule(layouts(params), state=state).state
            for state in (lambda _name, _state, shape, dtype: np.full(shape, np.nan, dtype), None)
        )
        for name, states in wanted.items():
            for state, array in states.items():
                assert_same_bits(own[name][state], array)


def test_arrays_that_do_not_fit_are_refused() -> None:
    params = {"W": np.ones((2, 3), np.float32)}
    read_only = np.zeros((2, 3), np.float32)
    read_only.flags.writeable = False
    for array, error, match in (
        (np.zeros((2, 3)), TypeError, r"state\('W', 'm', ...\) has dtype float64"),
        (np.zeros(6, np.float32), ValueError, r"has shape \(6,\); wanted \(2, 3\)"),
        (None, TypeError, "wanted a plain numpy.ndarray"),
        (read_only, ValueError, "is read-only"),
    ):
        with pytest.raises(error, match=match):
            instep.Adam(params, state=lambda *_, array=array: array)
    with pytest.raises(TypeError, match="state is a dict; wanted a callable"):
        instep.Adam(params, state={})  # type: ignore[arg-type]
    shared = np.zeros((2, 3), np.float32)
    opt = instep.Adam(params, state=lambda *_: shared)
    with pytest.raises(ValueError, match="shares memory"):
        opt.step(params)


def test_reference_is_plain_numpy() -> None:
    """Two pieces of the step by hand, so that the whole is not compared with itself alone."""
    p, g = values(1, (PIECE + 5,)), values(2, (PIECE + 5,))
    m, s = np.zeros_like(p), np.zeros_like(p)
    numbers = {
        "lr": 0.001,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "beta1_power": 0.9,
        "beta2_power": 0.999,
    }
    wanted, *states = reference.adam_scaled(p, g, m, s, **numbers)
    own = p.copy()
    opt = instep.Adam(own)
    begun = opt.begin(g)
    begun.step(1, 2)
    assert_same_bits(own[:PIECE], p[:PIECE])
    assert_same_bits(own[PIECE:], wanted[PIECE:])
    begun.step(0, 1)
    begun.commit()
    assert_same_bits(own, wanted)
    for array, state in zip(opt.state["params"].values(), states, strict=True):
        assert_same_bits(array, state)
