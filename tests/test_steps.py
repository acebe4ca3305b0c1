"""What a step may be asked, what it refuses, and that a step refused has changed nothing."""

import copy
import math
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits, misaligned
from instep import Optimizer, reference, schedules
from numpy.lib.stride_tricks import as_strided
from optimizer_model import MODES, RULES, Pair, Rule, mode_name

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
every_mode = pytest.mark.parametrize(
    ("rule", "mode"),
    [pytest.param(rule, mode, id=mode_name(rule, mode)) for rule, mode in MODES],
)


def snapshot(opt: Optimizer) -> Any:
    """Return all that a step might change, and what must stay the same objects."""
    params = [array for group in opt.param_groups for array in leaves(group["params"])]
    states = [array for arrays in opt.state.values() for array in arrays.values()]
    averages = [] if opt.average is None else leaves(opt.averages)
    arrays = [(id(a), a.dtype, a.shape, a.strides, a.tobytes()) for a in params + states + averages]
    options = [
        {name: value for name, value in group.items() if name != "params"}
        for group in opt.param_groups
    ]
    return opt.t, arrays, repr(options)


def leaves(tree: Any) -> list[Array]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [leaf for child in tree for leaf in leaves(child)]
    return [tree]


@contextmanager
def refused(opt: Optimizer, kind: type[BaseException], *parts: str) -> Iterator[None]:
    """Fail unless the block raises that, says all of `parts`, and has changed nothing."""
    before = snapshot(opt)
    with pytest.raises(kind) as info:
        yield
    assert type(info.value) is kind
    message = str(info.value.args[0])
    assert "\n" not in message
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"
    assert snapshot(opt) == before


def normal(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def adam(**options: Any) -> tuple[dict[str, Any], dict[str, Any], instep.Adam]:
    """Return a tree of parameters, one of gradients, and an optimizer that has done two steps."""
    params = {"W": normal(4, 3), "layers": [normal(5, seed=1), normal(2, 2, seed=2)]}
    grads = {"W": normal(4, 3, seed=3), "layers": [normal(5, seed=4), normal(2, 2, seed=5)]}
    opt = instep.Adam(params, amsgrad=True, average=0.9, **options)
    for _ in range(2):
        opt.step(copy.deepcopy(grads))
    return params, grads, opt


# The norm and the clipping by it


def test_an_infinite_max_norm_clips_nothing() -> None:
    """Not even where the norm is infinite or NaN itself."""
    for gradient in ([1e200, 3.0], [np.inf, 3.0], [np.nan, 3.0]):
        plain, asked = np.ones(2), np.ones(2)
        instep.SGD(plain, lr=0.5).step(np.array(gradient))
        result = instep.SGD(asked, lr=0.5).step(np.array(gradient), max_norm=math.inf)
        assert_same_bits(asked, plain)
        assert result.grad_norm is not None
        assert not math.isfinite(result.grad_norm)


def test_the_norm_of_nothing_is_zero() -> None:
    for params, grads in ([np.ones(3)], [None]), ([np.ones(0)], [np.ones(0)]), ([], []):
        norm = instep.Adam(params).step(grads, max_norm=1.0).grad_norm
        assert norm == 0.0
        assert math.copysign(1.0, norm) == 1.0


def test_the_norm_is_that_of_all_groups_together() -> None:
    groups = [
        ([normal(3, 4), normal(7, dtype=np.float32)], {"lr": 0.1, "maximize": True}),
        ([normal(5)], {"lr": 0.2}),
    ]
    pair = Pair(instep.AdamW, groups)
    grads = [[normal(3, 4, seed=1), normal(7, seed=2, dtype=np.float32)], [normal(5, seed=3)]]
    wanted = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for group in grads for g in group))
    for max_norm in (math.inf, wanted * 1.001, wanted / 3, 0.0):
        result = pair.step(grads, max_norm=max_norm)
        assert result.grad_norm == pytest.approx(wanted, rel=1e-14)
    assert pair.step([grads[0], [None]], max_norm=1.0).grad_norm < wanted
    assert pair.step(grads, max_norm=1.0, grad_scale=-0.5).grad_norm == pytest.approx(wanted / 2)
    assert pair.step(grads).grad_norm is None


def test_clipped_gradients_have_the_norm_asked_for() -> None:
    p, g = np.zeros(1000), normal(1000)
    instep.SGD(p, lr=1.0).step(g, max_norm=0.25)
    assert np.linalg.norm(p) == pytest.approx(0.25, rel=1e-6)
    assert np.dot(p, g) < 0


def test_the_norm_takes_the_order_of_the_parameter_not_that_of_the_gradient() -> None:
    g = normal(70, 131) * 10 ** normal(70, 131, seed=1)
    norms = set()
    for layout in (g, np.asfortranarray(g), np.repeat(g, 2, axis=1)[:, ::2], g[::-1].copy()[::-1]):
        norms.add(instep.SGD(np.zeros(g.shape)).step(layout, max_norm=1.0).grad_norm)
    assert norms == {reference.gradient_norm(g)}
    transposed = instep.SGD(np.zeros(g.shape[::-1]).T).step(g, max_norm=1.0).grad_norm
    assert transposed == reference.gradient_norm(g.T) != reference.gradient_norm(g)


# Gradients that are missing or not finite


@every_mode
def test_none_leaves_parameter_and_state_alone(rule: Rule, mode: Any) -> None:
    params = [normal(300), normal(4, 5), normal(600, dtype=np.float32)]
    pair = Pair(rule, [(params, {**mode, "weight_decay": 0.1})], average=0.9, zero_grads=True)
    for present in ([1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]):
        grads = [
            normal(*p.shape, seed=i, dtype=p.dtype) if there else None
            for i, (p, there) in enumerate(zip(params, present, strict=True))
        ]
        pair.step([grads], max_norm=1.0)
    assert pair.opt.t == 5


BAD = {"NaN": np.nan, "Inf": np.inf, "-Inf": -np.inf}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("max_norm", [None, 1.0, math.inf])
@pytest.mark.parametrize("where", [("W",), ("layers", 0), ("layers", 1)], ids=str)
def test_gradients_that_are_not_finite(bad: float, max_norm: float | None, where: Any) -> None:
    params, grads, opt = adam(zero_grads=True)
    *path, last = where
    holder = grads[path[0]] if path else grads
    holder[last].flat[-1] = bad
    kept = copy.deepcopy(grads)
    name = ".".join(map(str, where))
    with refused(opt, FloatingPointError, f'grads["{name}"] has an element that is NaN or inf'):
        opt.step(grads, nonfinite="raise", max_norm=max_norm)
    before = snapshot(opt)
    result = opt.step(grads, nonfinite="skip", max_norm=max_norm)
    assert result.skipped
    assert (result.grad_norm is None) == (max_norm is None)
    assert result.grad_norm is None or not math.isfinite(result.grad_norm)
    assert snapshot(opt) == before
    assert opt.skips == 1
    # What a step clears, a skipped one clears too: else the next sum would be skipped again.
    assert not any(left.any() for left in leaves(grads))
    for left, was in zip(leaves(grads), leaves(kept), strict=True):
        left[...] = was
    result = opt.step(grads, nonfinite="propagate")
    assert (result.grad_norm, result.skipped, result.t, opt.t) == (None, False, 3, 3)
    assert opt.skips == 0
    array = params[where[0]] if len(where) == 1 else params[where[0]][where[1]]
    assert np.isnan(array.flat[-1])
    assert sum(np.isnan(a).sum() for a in leaves(params)) == 1


def test_finite_gradients_are_neither_skipped_nor_raised_about() -> None:
    """Not even those whose squares are beyond the largest number."""
    for nonfinite in ("skip", "raise"):
        for max_norm in (None, 1.0, math.inf):
            p = np.ones(3)
            opt = instep.SGD(p, lr=1e-300)
            result = opt.step(
                np.array([1e300, 1.0, -1e300]), nonfinite=nonfinite, max_norm=max_norm
            )
            assert not result.skipped
            assert opt.t == 1


def test_a_skipped_step_asks_for_the_same_rate_again() -> None:
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return 0.1

    p = np.ones(2)
    opt = instep.SGD(p, lr=rate)
    asked.clear()
    opt.step(np.ones(2))
    opt.step(np.full(2, np.nan), nonfinite="skip")
    opt.step(np.ones(2))
    assert asked == [0, 1, 1]


# The learning rate, and other options


def test_the_rate_of_a_step() -> None:
    rates = [0.5, 0.25, 0.125, 0.0625]
    by_call, by_schedule, by_option, by_group = (np.ones(3) for _ in range(4))
    one = instep.SGD(by_call, lr=9.0)
    two = instep.SGD(by_schedule, lr=lambda step: rates[step])
    three = instep.SGD(by_option)
    four = instep.SGD([{"params": by_group, "lr": schedules.Exponential(0.5, 0.5)}], lr=7.0)
    wanted = np.ones(3)
    for t, rate in enumerate(rates):
        g = normal(3, seed=t)
        one.step(g, lr=rate)
        two.step(g)
        three.param_groups[0]["lr"] = rate
        three.step(g)
        four.step([g])
        wanted -= rate * g
        for p in (by_call, by_schedule, by_option, by_group):
            assert_same_bits(p, wanted)


def test_the_rate_of_a_call_is_that_of_all_groups() -> None:
    a, b = np.ones(2), np.ones(2)
    opt = instep.SGD([{"params": a, "lr": 0.1}, {"params": b, "lr": lambda step: 0.2}])
    opt.step([np.ones(2), np.ones(2)], lr=0.5)
    assert a.tolist() == b.tolist() == [0.5, 0.5]
    opt.step([np.ones(2), np.ones(2)])
    assert a.tolist() == [0.4, 0.4]
    assert b.tolist() == [0.3, 0.3]


def test_a_schedule_that_raises_or_returns_nonsense_changes_nothing() -> None:
    def rate(step: int) -> Any:
        if step == 1:
            raise LookupError("no rate")
        return 0.1

    a, b = np.ones(2), np.ones(2)
    opt = instep.SGD([{"params": a}, {"params": b, "lr": rate}], lr=0.5, momentum=0.5)
    opt.step([np.ones(2), np.ones(2)])
    with refused(opt, LookupError, "no rate"):
        opt.step([np.ones(2), np.ones(2)])
    for wrong in (math.nan, math.inf, -0.1):
        opt.param_groups[1]["lr"] = lambda step, wrong=wrong: wrong
        before = opt.param_groups[1]["lr"]
        with refused(opt, ValueError, f"lr is {wrong}; wanted a finite number that is not neg"):
            opt.step([np.ones(2), np.ones(2)])
        assert opt.param_groups[1]["lr"] is before
    opt.param_groups[1]["lr"] = lambda step: "0.1"
    with refused(opt, TypeError, "lr is '0.1' (str); wanted a number"):
        opt.step([np.ones(2), np.ones(2)])
    assert opt.t == 1


def test_groups_have_their_own_options_and_share_the_step_count() -> None:
    first, second = normal(3), normal(3, seed=1)
    opt = instep.RMSprop(
        [{"params": [first], "momentum": 0.9, "centered": True}, {"params": {"b": second}}],
        lr=0.1,
        alpha=0.5,
    )
    assert list(opt.state) == ["0.0", "1.b"]
    assert list(opt.state["0.0"]) == ["v", "g_mean", "m"]
    assert list(opt.state["1.b"]) == ["v"]
    assert [group["alpha"] for group in opt.param_groups] == [0.5, 0.5]
    opt.step([[normal(3)], {"b": normal(3)}])
    third = normal(4, seed=2)
    opt.add_param_group({"params": third, "alpha": 0.7})
    assert opt.param_groups[2]["params"] is third
    assert opt.param_groups[2]["alpha"] == 0.7
    assert opt.t == 1
    opt.step([[None], {"b": None}, np.ones(4)])
    v = (1 - 0.7) * np.ones(4)
    assert_same_bits(opt.state["2"]["v"], v)


def test_a_group_that_cannot_be_added_changes_nothing() -> None:
    p = normal(3)
    alone = instep.SGD(p)
    with refused(alone, ValueError, "params was not a list of groups"):
        alone.add_param_group({"params": normal(2)})
    opt = instep.Adam([{"params": [p], "lr": 0.1}])
    kept = opt.param_groups
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"params": normal(2), "bogus": 1}, ValueError, "the option 'bogus'; wanted lr, betas,"),
        ({"params": normal(2), "betas": (0.9, 1.0)}, ValueError, "betas[1] is 1.0; wanted 0 <="),
        ({"params": normal(2), "betas": 0.9}, ValueError, "betas is 0.9; wanted two numbers"),
        ({"params": normal(2), "lr": -1}, ValueError, "lr is -1; wanted a finite number"),
        ({"params": normal(2), "eps_mode": "x"}, ValueError, "eps_mode is 'x'; wanted one of"),
        ({"params": normal(2), "amsgrad": "x"}, ValueError, "amsgrad is 'x'; wanted one of False,"),
        (
            {"params": normal(2), "amsgrad": "corrected", "eps_mode": "hat"},
            ValueError,
            "eps_mode is 'hat'; wanted 'scaled', 'outside' or 'inside' with amsgrad 'corrected'",
        ),
        ({"params": [normal(2), 3.0]}, TypeError, 'params["1.1"] is a float; wanted a plain'),
        ({"params": normal(2).astype(int)}, TypeError, "params[1] has dtype int64; wanted float32"),
        (
            {"params": {"a.b": normal(2), "a": {"b": normal(2)}}},
            ValueError,
            "two arrays named '1.a.b'",
        ),
        ({"lr": 0.1}, ValueError, "wanted a dict with the key 'params'"),
        ({"params": p}, ValueError, 'params[1] is the same array as params["0.0"]'),
    ]
    for group, kind, message in bad:
        with refused(opt, kind, message):
            opt.add_param_group(group)
        assert opt.param_groups == kept
        assert list(opt.state) == ["0.0"]
    opt.step([[normal(3)]])


@every_rule
def test_unknown_options(rule: Rule) -> None:
    with pytest.raises(TypeError, match="bogus"):
        rule(np.ones(2), bogus=1)
    with pytest.raises(ValueError, match=r"^param_groups\[0\] has the option 'bogus'; wanted lr, "):
        rule([{"params": np.ones(2), "bogus": 1}], lr=0.1)
    with pytest.raises(ValueError, match=r"^param_groups\[0\] has the option 'zero_grads'"):
        rule([{"params": np.ones(2), "zero_grads": True}], lr=0.1)


def test_an_option_that_came_later() -> None:
    opt = instep.RMSprop([{"params": np.ones(2)}, {"params": np.ones(3)}])
    grads = [np.ones(2), np.ones(3)]
    opt.param_groups[1]["momentun"] = 0.9
    with refused(opt, ValueError, "param_groups[1] has the unknown 'momentun'"):
        opt.step(grads)
    del opt.param_groups[1]["momentun"], opt.param_groups[0]["alpha"]
    with refused(opt, ValueError, "param_groups[0] lacks 'alpha'"):
        opt.step(grads)
    opt.param_groups[0]["alpha"] = 0.9
    opt.step(grads)
    alone = instep.Adam({"W": np.ones(2)})
    alone.param_groups[0]["beta1"] = 0.8
    with refused(alone, ValueError, "param_groups[0] has the unknown 'beta1'"):
        alone.step({"W": np.ones(2)})


def test_the_decay_of_the_averages_is_only_read() -> None:
    opt = instep.SGD(np.ones(2), lr=0.1, average=0.5)
    with refused(opt, AttributeError):
        opt.average = 0.9  # type: ignore[misc]
    loaded = instep.SGD(np.ones(2), lr=0.1, average=0.75)
    loaded.load_state_dict(opt.state_dict())
    for same in (opt, loaded, copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert same.average == 0.5
        same.step(np.ones(2))
        np.testing.assert_allclose(same.averages, 0.95)
    assert instep.SGD(np.ones(2)).average is None


NO_NUMBERS: dict[str, Any] = {
    "list": [0.5],
    "array": np.array([0.5, 0.5]),
    "array of one": np.array([0.5]),
    "array without axes": np.array(0.5),
    "str": "0.5",
    "None": None,
    "complex": 0.5 + 0j,
    "Decimal": Decimal("0.5"),
}
OUT_OF_RANGE: dict[str, Any] = {
    "negative": -0.5,
    "NaN": math.nan,
    "infinite": math.inf,
    "-infinite": -math.inf,
    "NumPy's NaN": np.float32(np.nan),
    "beyond float64": 10**400,
    "beyond float64, negative": -(10**400),
}


def betas_with(count: int, place: int, number: Any) -> tuple[Any, ...]:
    return tuple(number if i == place else 0.9 for i in range(count))


def numbers_of(rule: Rule) -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Yield each option that is a number or two: its name, what errors call it, and its value."""
    opt = rule(np.ones(2))
    for name, value in opt.param_groups[0].items():
        if name == "betas":
            for place in range(len(value)):
                yield name, f"betas[{place}]", partial(betas_with, len(value), place)
        elif type(value) is float:
            yield name, name, lambda x: x


@every_rule
def test_options_that_are_no_numbers_or_out_of_their_range(rule: Rule) -> None:
    names = []
    for option, name, value in numbers_of(rule):
        names.append(name)
        bad: list[tuple[Any, type[Exception], str]] = []
        bad += [(x, TypeError, f"{name} is ") for x in NO_NUMBERS.values()]
        bad += [(x, ValueError, f"{name} is ") for x in OUT_OF_RANGE.values()]
        is_decay = name.startswith("betas") or name in ("momentum", "rho", "beta")
        if is_decay or (rule is instep.RMSprop and name == "alpha"):
            bad.append((1.0, ValueError, f"{name} is "))
        for wrong, kind, message in bad:
            with pytest.raises(kind) as info:
                rule(np.ones(2), **{option: value(wrong)})
            assert type(info.value) is kind, (name, wrong)
            assert str(info.value).startswith(message), (name, wrong)
            assert "wanted" in str(info.value)
            if name == "initial_accumulator_value":
                continue  # which is looked at but once
            opt = rule(np.ones(2), average=0.5)
            opt.step(np.ones(2))
            kept = opt.param_groups[0][option]
            opt.param_groups[0][option] = value(wrong)
            with pytest.raises(kind, match="wanted"):
                opt.step(np.ones(2))
            assert opt.t == 1
            opt.param_groups[0][option] = kept
            opt.step(np.ones(2))
    assert {"lr", "weight_decay"} <= set(names)


def test_numbers_of_other_types_work() -> None:
    kinds: tuple[Any, ...] = (np.float32, np.float64, Fraction, np.longdouble)
    for kind in kinds:
        p, wanted = np.ones(3), np.ones(3)
        instep.SGD(p, lr=kind(0.5), momentum=kind(0.25)).step(np.ones(3), grad_scale=kind(0.5))
        instep.SGD(wanted, lr=0.5, momentum=0.25).step(np.ones(3), grad_scale=0.5)
        assert_same_bits(p, wanted)
    p = np.ones(3)
    instep.SGD(p, lr=1).step(np.ones(3))
    assert p.tolist() == [0, 0, 0]


def test_dampening_is_at_most_one() -> None:
    instep.SGD(np.ones(2), momentum=0.9, dampening=1)
    with pytest.raises(ValueError, match=r"dampening is 1\.5; wanted 0 <= dampening <= 1"):
        instep.SGD(np.ones(2), momentum=0.9, dampening=1.5)


@pytest.mark.parametrize("name", ["lr", "grad_scale", "max_norm"])
def test_numbers_of_a_step(name: str) -> None:
    _, grads, opt = adam()
    for wrong in NO_NUMBERS.values():
        if wrong is None and name != "grad_scale":
            continue
        with refused(opt, TypeError, f"{name} is ", "wanted a number"):
            opt.step(grads, **{name: wrong})
    for label, wrong in OUT_OF_RANGE.items():
        if (name, label) in {("grad_scale", "negative"), ("max_norm", "infinite")}:
            continue
        with refused(opt, ValueError, f"{name} is ", "wanted a finite number"):
            opt.step(grads, **{name: wrong})


def test_of_several_threads_one_enters_averaged() -> None:
    p = np.ones(200_000)
    opt = instep.SGD(p, lr=0.5, average=0.5)
    opt.step(np.ones(200_000))
    barrier, entered, errors = threading.Barrier(4), [], []
    leave = threading.Event()

    def enter() -> None:
        barrier.wait()
        try:
            with opt.averaged():
                entered.append((p == 0.75).all())
                leave.wait(60)
        except RuntimeError as error:
            errors.append(str(error))
            if len(errors) == 3:
                leave.set()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered == [True]
    assert errors == ["averaged() was entered within averaged()"] * 3
    assert (p == 0.5).all()


def test_words_of_a_step() -> None:
    _, grads, opt = adam()
    wanted = "wanted one of 'propagate', 'skip', 'raise'"
    for word in ("ignore", 3, None):
        with refused(opt, ValueError, f"nonfinite is {word!r}; {wanted}"):
            opt.step(grads, nonfinite=word)  # type: ignore[arg-type]
    for wrong in (1.0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"average is .*; wanted 0 <= average < 1"):
            instep.Adam(np.ones(2), average=wrong)


@pytest.mark.parametrize(
    ("rule", "options", "change"),
    [
        (instep.Adam, {}, {"amsgrad": True}),
        (instep.Adam, {"amsgrad": True}, {"amsgrad": False}),
        (instep.Adam, {}, {"amsgrad": "corrected"}),
        (instep.Adam, {"amsgrad": "corrected"}, {"amsgrad": False}),
        (instep.RMSprop, {}, {"centered": True}),
        (instep.RMSprop, {"momentum": 0.9}, {"momentum": 0.0}),
        (instep.RMSprop, {"momentum": 0.9}, {"momentum": 0.0, "centered": True}),
        (instep.SGD, {}, {"momentum": 0.9}),
        (instep.SGD, {"momentum": 0.9}, {"momentum": 0.0}),
    ],
)
def test_an_option_that_changes_the_states_is_refused(
    rule: Rule, options: dict[str, Any], change: dict[str, Any]
) -> None:
    p, q = normal(4), normal(3)
    opt = rule([{"params": q, "lr": 0.1}, {"params": p, **options}], lr=0.2, average=0.5)
    opt.step([normal(3), normal(4)])
    kept = dict(opt.param_groups[1])
    opt.param_groups[1].update(change)
    with refused(opt, ValueError, "keeps other states", "make a new optimizer"):
        opt.step([normal(3), normal(4)])
    opt.param_groups[1].update(kept)
    opt.step([normal(3), normal(4)])
    assert opt.t == 2


def test_a_mode_of_the_same_states_may_be_changed() -> None:
    p = normal(100)
    pair = Pair(instep.Adam, [([p], {"lr": 0.1})])
    for mode in ("inside", "hat", "outside", "scaled"):
        for group in (pair.opt.param_groups[0], pair.model.groups[0].options):
            group["eps_mode"] = mode
            group["maximize"] = mode == "hat"
        pair.step([[normal(100, seed=4)]])


# Bad input


class Subclass(np.ndarray[Any, Any]):
    pass


BAD_GRADIENTS: dict[str, tuple[Callable[[Array], Any], type[Exception], str]] = {
    "list": (lambda g: g.tolist(), TypeError, "is a list; wanted a numpy.ndarray"),
    "float": (lambda g: 1.0, TypeError, "is a float; wanted a numpy.ndarray"),
    "mask": (np.ma.array, TypeError, "is a numpy.ma.MaskedArray"),
    "dtype": (lambda g: g.astype(np.float32), TypeError, "has dtype float32; wanted float64"),
    "integer": (lambda g: g.astype(int), TypeError, "has dtype int64; wanted float32 or float64"),
    "bytes": (lambda g: g.astype(">f8"), TypeError, "has dtype >f8; wanted float32 or float64"),
    "object": (lambda g: g.astype(object), TypeError, "has dtype object; wanted float32"),
    "shape": (lambda g: g[:-1], ValueError, "has shape "),
    "axis": (lambda g: g[None], ValueError, "has shape (1, "),
}


@pytest.mark.parametrize("kind", BAD_GRADIENTS)
@pytest.mark.parametrize("where", ["W", "layers.0", "layers.1"])
def test_bad_gradients(where: str, kind: str) -> None:
    _, grads, opt = adam()
    spoil, error, message = BAD_GRADIENTS[kind]
    if where == "W":
        grads["W"] = spoil(grads["W"])
    else:
        grads["layers"][int(where[-1])] = spoil(grads["layers"][int(where[-1])])
    wanted = [f'grads["{where}"] {message}']
    if kind in ("dtype", "shape", "axis"):
        wanted.append(f'of params["{where}"]')
    with refused(opt, error, *wanted):
        opt.step(grads)


def test_bad_gradients_are_named_by_their_place() -> None:
    single, several = instep.SGD(np.ones(2)), instep.SGD([np.ones(2) for _ in range(5)])
    groups = instep.SGD([{"params": np.ones(2)}, {"params": {"a": [np.ones(2)], 3: np.ones(1)}}])
    good = np.ones(2)
    with refused(single, ValueError, "grads has shape (3,); wanted (2,), the shape of params"):
        single.step(np.ones(3))
    with refused(several, ValueError, "grads[3] has shape (3,); wanted (2,)", "of params[3]"):
        several.step([good, good, good, np.ones(3), good])
    with refused(
        groups, ValueError, "grads[0] has shape (3,); wanted (2,), the shape of params[0]"
    ):
        groups.step([np.ones(3), {"a": [good], 3: None}])
    with refused(groups, ValueError, 'grads["1.a.0"] has shape (3,)', 'of params["1.a.0"]'):
        groups.step([good, {"a": [np.ones(3)], 3: None}])
    with refused(groups, ValueError, 'grads["1.3"] has shape (3,)', 'of params["1.3"]'):
        groups.step([good, {"a": [good], 3: np.ones(3)}])


def test_gradients_of_another_structure() -> None:
    w, a, b = normal(4, 3), normal(5), normal(2, 2)
    _, _, opt = adam()
    bad: list[tuple[Any, type[Exception], str]] = [
        ([w, [a, b]], TypeError, "grads is a list; wanted a dict, as in params"),
        (w, TypeError, "grads is an ndarray; wanted a dict, as in params"),
        (None, TypeError, "grads is None; wanted a dict"),
        ({"W": w}, KeyError, 'grads["layers"] is missing'),
        ({"layers": [a, b]}, KeyError, 'grads["W"] is missing'),
        ({"W": w, "layers": [a, b], "b": a}, ValueError, "grads has the key 'b', which params"),
        ({"W": w, "layer": [a, b]}, KeyError, 'grads["layers"] is missing'),
        ({"W": w, "layers": [a]}, ValueError, 'grads["layers"] has length 1; wanted 2'),
        ({"W": w, "layers": [a, b, b]}, ValueError, 'grads["layers"] has length 3; wanted 2'),
        ({"W": w, "layers": {0: a, 1: b}}, TypeError, 'grads["layers"] is a dict; wanted a list'),
        ({"W": w, "layers": a}, TypeError, 'grads["layers"] is an ndarray; wanted a list'),
        ({"W": {"W": w}, "layers": [a, b]}, TypeError, 'grads["W"] is a dict; wanted a numpy'),
    ]
    for grads, kind, message in bad:
        with refused(opt, kind, message):
            opt.step(grads)
    opt.step({"layers": (a, b), "W": w})  # another order, and a tuple for a list
    groups = instep.SGD([{"params": np.ones(2)}, {"params": [np.ones(2)]}])
    with refused(groups, ValueError, "grads has length 1; wanted 2, one for each group"):
        groups.step([np.ones(2)])
    with refused(
        groups, TypeError, "grads is an ndarray; wanted a list, with a tree for each group"
    ):
        groups.step(np.ones((2, 2)))
    with refused(groups, ValueError, "grads[1] has length 2; wanted 1, as in params"):
        groups.step([np.ones(2), [np.ones(2), np.ones(2)]])


def test_parameters_that_cannot_be_stepped() -> None:
    bad: list[tuple[Any, str]] = [
        (3.0, "params is a float; wanted a plain numpy.ndarray"),
        (None, "params is None; wanted a plain numpy.ndarray"),
        ([np.ones(2), "x"], "params[1] is a str; wanted a plain numpy.ndarray"),
        ({"a": [np.ones(2), [None]]}, 'params["a.1.0"] is None; wanted a plain'),
        (np.ma.array([1.0]), "params is a MaskedArray; wanted a plain numpy.ndarray"),
        ({"a": np.ones(2, int)}, 'params["a"] has dtype int64; wanted float32 or float64'),
        ({"a": np.ones(2, ">f4")}, 'params["a"] has dtype >f4; wanted float32 or float64'),
        ([np.ones(2, np.float16)], "params[0] has dtype float16; wanted float32 or float64"),
    ]
    for params, message in bad:
        with pytest.raises(TypeError) as info:
            instep.Adam(params)
        assert str(info.value).startswith(message)


def test_read_only_arrays() -> None:
    written: dict[str, Callable[[Any, Optimizer], Array]] = {
        'params["W"]': lambda params, opt: params["W"],
        'params["layers.1"]': lambda params, opt: params["layers"][1],
        'state["layers.0"]["v_max"]': lambda params, opt: opt.state["layers.0"]["v_max"],
        'averages["W"]': lambda params, opt: opt.averages["W"],
    }
    for name, find in written.items():
        params, grads, opt = adam()
        find(params, opt).flags.writeable = False
        with refused(opt, ValueError, f"{name} is read-only, and a step writes it"):
            opt.step(grads)
    _, grads, opt = adam()
    grads["W"].flags.writeable = False
    opt.step(grads)
    opt.zero_grads = True
    with refused(opt, ValueError, 'grads["W"] is read-only, and a step writes it'):
        opt.step(grads)


def test_arrays_that_share_memory() -> None:
    base = np.ones(10)
    with pytest.raises(ValueError, match="the sum of both: ") as info:
        instep.SGD({"a": base, "b": base}, lr=0.1)
    assert 'grads["a"] + grads["b"]' in str(info.value)
    for first, second in ((base, base[:]), (base[:6], base[4:]), (base[::2], base[1::2])):
        shares = np.shares_memory(first, second)
        opt = instep.SGD({"a": first, "b": second}, lr=0.1)
        if shares:
            with refused(opt, ValueError, 'params["b"] shares memory with params["a"]'):
                opt.step({"a": np.ones(first.shape), "b": np.ones(second.shape)})
        else:
            opt.step({"a": np.ones(first.shape), "b": np.ones(second.shape)})
        # Nothing is written to what has no gradient.
        opt.step({"a": None, "b": np.ones(second.shape)})
    p = np.ones(4)
    opt = instep.SGD(p, momentum=0.9, average=0.9)
    with refused(opt, ValueError, "grads shares memory with params"):
        opt.step(p)
    with refused(opt, ValueError, 'state["params"]["m"] shares memory with grads'):
        opt.step(opt.state["params"]["m"])
    with refused(opt, ValueError, 'averages["params"] shares memory with grads'):
        opt.step(opt.averages)
    raw = bytearray(32)
    one, two = np.frombuffer(raw, count=3), np.frombuffer(raw, offset=8)
    both = instep.SGD([one, two])
    with refused(both, ValueError, "params[1] shares memory with params[0]"):
        both.step([np.ones(3), np.ones(3)])
    folded = as_strided(np.ones(3), (2, 2), (8, 8))
    alone = instep.SGD(folded)
    with refused(alone, ValueError, "params has elements that share memory with each other"):
        alone.step(np.ones((2, 2)))


def test_gradients_may_share_memory_unless_they_are_cleared() -> None:
    g = np.ones(4)
    params = [np.ones(4), np.ones(4), np.ones((3, 4))]
    grads = [g, g, np.broadcast_to(g, (3, 4))]
    opt = instep.SGD(params, lr=0.5)
    opt.step(grads)
    assert all((p == 0.5).all() for p in params)
    opt.zero_grads = True
    with refused(opt, ValueError, "grads[2] is read-only"):
        opt.step(grads)
    with refused(opt, ValueError, "grads[1] shares memory with grads[0]"):
        opt.step([g, g, None])
    stretched = as_strided(g, (3, 4), (0, 8))
    with refused(opt, ValueError, "grads[2] has elements that share memory with each other"):
        opt.step([None, None, stretched])
    assert (g == 1).all()


def test_subclasses_without_a_mask_work(tmp_path: Any) -> None:
    plain = normal(5)
    of_subclass = plain.copy().view(Subclass)
    on_disk = np.memmap(tmp_path / "p", np.float64, "w+", shape=5)
    on_disk[...] = plain
    opt = instep.Adam([plain, of_subclass, on_disk], average=0.9)
    opt.step([np.ones(5), np.ones(5).view(Subclass), np.ones(5)])
    assert_same_bits(np.asarray(of_subclass), plain)
    assert_same_bits(np.asarray(on_disk), plain)
    for arrays in opt.state.values():
        assert all(type(array) is np.ndarray for array in arrays.values())
    assert all(type(average) is np.ndarray for average in opt.averages)


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Optimizer(np.ones(2), {})  # type: ignore[abstract]


# Averages


def test_averaged_swaps_in_and_back() -> None:
    params, grads, opt = adam()
    opt.step(grads)
    before, kept = snapshot(opt), copy.deepcopy(params)
    averages = copy.deepcopy(opt.averages)
    for _ in range(2):
        with opt.averaged():
            for p, average in zip(leaves(params), leaves(averages), strict=True):
                assert_same_bits(p, average)
        for p, was in zip(leaves(params), leaves(kept), strict=True):
            assert_same_bits(p, was)
        assert snapshot(opt) == before
    with pytest.raises(LookupError, match="from the body"), opt.averaged():
        raise LookupError("from the body")
    assert snapshot(opt) == before
    with opt.averaged():
        within = snapshot(opt)
        with pytest.raises(RuntimeError, match=r"step was called within averaged\(\)"):
            opt.step(grads)
        with (
            pytest.raises(RuntimeError, match=r"averaged\(\) was entered within averaged\(\)"),
            opt.averaged(),
        ):
            pass
        assert snapshot(opt) == within
    assert snapshot(opt) == before
    opt.step(grads)
    assert opt.t == 4


def test_averaged_of_layouts_and_groups() -> None:
    params = [np.asfortranarray(normal(3, 4)), normal(8)[::2], misaligned((5,), np.dtype("f8"))]
    single = normal(1).reshape(())
    opt = instep.SGD([{"params": params}, {"params": single}], lr=0.1, average=0.5)
    kept = [p.copy() for p in (*params, single)]
    opt.step([[np.ones(p.shape) for p in params], np.ones(())])
    stepped = [p.copy() for p in (*params, single)]
    with opt.averaged():
        for p, first, now in zip((*params, single), kept, stepped, strict=True):
            assert_same_bits(p, 0.5 * first + 0.5 * now)
    for p, now in zip((*params, single), stepped, strict=True):
        assert_same_bits(p, now)


def test_no_averages_are_kept_unless_asked_for() -> None:
    opt = instep.SGD(np.ones(2))
    for use in (lambda: opt.averages, lambda: opt.averaged().__enter__()):
        with refused(opt, ValueError, "no averages are kept; make the optimizer with average="):
            use()
    opt.step(np.ones(2))


def test_averaged_refuses_a_parameter_that_it_cannot_write() -> None:
    params, grads, opt = adam()
    params["layers"][1].flags.writeable = False
    with refused(opt, ValueError, 'params["layers.1"] is read-only'), opt.averaged():
        pass
    params["layers"][1].flags.writeable = True
    with opt.averaged():
        pass
    opt.step(grads)


# Copies


def test_an_optimizer_is_not_copied_within_averaged() -> None:
    _, grads, opt = adam()
    with opt.averaged():
        for make in (copy.deepcopy, pickle.dumps):
            with pytest.raises(RuntimeError, match=r"copied within averaged\(\)"):
                make(opt)
    copy.deepcopy(opt).step(grads)


def test_an_optimizer_is_not_copied_without_its_arrays() -> None:
    with pytest.raises(TypeError, match=r"use copy\.deepcopy"):
        copy.copy(instep.SGD(np.ones(2)))


@every_mode
@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))], ids=["deepcopy", "pickle"]
)
def test_copies_go_on_with_the_same_bits_by_themselves(rule: Rule, mode: Any, make: Any) -> None:
    p = {"a": normal(300), "b": [normal(4, 5, dtype=np.float32)]}
    options = {**mode, "weight_decay": 0.1, "lr": schedules.Exponential(0.1, 0.9)}
    opt = rule([{"params": p, **options}], lr=9.0, average=0.9, zero_grads=True)

    def gradients(seed: int) -> list[Any]:
        return [{"a": normal(300, seed=seed), "b": [normal(4, 5, seed=seed, dtype=np.float32)]}]

    for t in range(4):
        opt.step(gradients(t), max_norm=1.0)
    before = snapshot(opt)
    twin = make(opt)
    assert snapshot(opt) == before
    assert twin.t == opt.t
    twin.step(gradients(5))
    assert snapshot(opt) == before
    assert opt.param_groups[0]["params"] is p
    opt.step(gradients(5))
    opt.param_groups[0]["lr"] = 0.5
    twin.param_groups[0]["lr"] = 0.5
    for t in range(6, 9):
        assert opt.step(gradients(t), max_norm=1.0) == twin.step(gradients(t), max_norm=1.0)
    for mine, its in zip(
        [*leaves(p), *leaves(opt.state), *leaves(opt.averages)],
        [*leaves(twin.param_groups[0]["params"]), *leaves(twin.state), *leaves(twin.averages)],
        strict=True,
    ):
        assert_same_bits(its, mine)
        assert not np.shares_memory(mine, its)
    assert twin.t == opt.t == 8
    with twin.averaged():
        pass


# Threads


def run(*functions: Callable[[], object]) -> None:
    """Run all at once, each in a thread."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def guarded(function: Callable[[], object]) -> None:
        try:
            barrier.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    assert not errors, errors


def test_threads_that_step_one_optimizer_do_so_one_after_the_other() -> None:
    """Every interleaving of steps with one gradient is that of one thread."""
    for n in (7, 20_000, 200_000):
        p, wanted, g = normal(n), normal(n), normal(n, seed=1)
        asked: list[int] = []

        def rate(step: int, asked: list[int] = asked) -> float:
            asked.append(step)
            return 0.1

        options: dict[str, Any] = {"average": 0.9, "weight_decay": 0.1, "amsgrad": True}
        opt = instep.Adam(p, lr=rate, **options)
        asked.clear()
        steps = 30 if n < 100_000 else 8

        def work(opt: Optimizer = opt, steps: int = steps, g: Array = g) -> None:
            for _ in range(steps):
                opt.step(g, max_norm=3.0)

        run(work, work, work)
        assert opt.t == 3 * steps
        # A thread that another was quicker than asks anew, for the next step.
        assert list(dict.fromkeys(asked)) == list(range(3 * steps))
        alone = instep.Adam(wanted, lr=0.1, **options)
        for _ in range(3 * steps):
            alone.step(g, max_norm=3.0)
        assert_same_bits(p, wanted)
        assert_same_bits(opt.averages, alone.averages)
        for name, array in alone.state["params"].items():
            assert_same_bits(opt.state["params"][name], array)


def test_two_gradients_from_two_threads_make_one_of_two_orders() -> None:
    g, h = normal(50_000, seed=1), normal(50_000, seed=2)
    wanted = []
    for order in ((g, h), (h, g)):
        p = normal(50_000)
        opt = instep.Adam(p, lr=0.1)
        for gradient in order:
            opt.step(gradient)
        wanted.append(p.tobytes())
    assert wanted[0] != wanted[1]
    for _ in range(10):
        p = normal(50_000)
        opt = instep.Adam(p, lr=0.1)
        run(partial(opt.step, g), partial(opt.step, h))
        assert p.tobytes() in wanted


def test_threads_with_an_optimizer_each() -> None:
    def path(rule: Rule, n: int) -> Array:
        p = normal(n)
        opt = rule(p, lr=0.1, average=0.9)
        for t in range(10):
            opt.step(normal(n, seed=t), max_norm=1.0)
        return np.concatenate([p, opt.averages])

    jobs = [(rule, n) for rule in RULES for n in (50, 30_000)]
    wanted = [path(*job) for job in jobs]
    paths: list[Any] = [None] * len(jobs)

    def work(index: int) -> None:
        paths[index] = path(*jobs[index])

    run(*(partial(work, index) for index in range(len(jobs))))
    for actual, expected in zip(paths, wanted, strict=True):
        assert_same_bits(actual, expected)


def test_averaged_waits_for_a_step_and_a_step_is_refused_within() -> None:
    p = normal(200_000)
    opt = instep.Adam(p, lr=0.1, average=0.9)
    wanted = normal(200_000)
    alone = instep.Adam(wanted, lr=0.1, average=0.9)
    g = normal(200_000, seed=1)
    done = 0

    def stepping() -> None:
        nonlocal done
        while done < 20:
            try:
                opt.step(g)
            except RuntimeError as error:
                assert "within averaged()" in str(error)  # noqa: PT017
            else:
                done += 1

    def swapping() -> None:
        for _ in range(10):
            with opt.averaged():
                pass

    run(stepping, swapping)
    for _ in range(20):
        alone.step(g)
    assert_same_bits(p, wanted)
    assert_same_bits(opt.averages, alone.averages)


# Memory

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "average": ({"average": 0.99}, {}),
    "max_norm": ({}, {"max_norm": 1.0}),
    "nonfinite": ({}, {"nonfinite": "raise"}),
    "zero_grads": ({"zero_grads": True}, {}),
    "all": (
        {"average": 0.99, "zero_grads": True, "weight_decay": 0.1, "maximize": True},
        {"max_norm": 1.0, "nonfinite": "skip", "grad_scale": 0.5},
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@every_rule
def test_a_step_allocates_nothing_as_large_as_the_arrays(rule: Rule, name: str) -> None:
    options, arguments = SETTINGS[name]
    for n in (10, 1_000, 1_000_000):
        for strided in (False, True):
            if strided and n > 1_000 and name not in ("plain", "all"):
                continue
            p, g = np.ones(2 * n if strided else n, np.float32), np.ones(n, np.float32)
            opt = rule(p[::2] if strided else p, **options)
            opt.step(g, **arguments)
            tracemalloc.start()
            try:
                opt.step(g, **arguments)
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                for _ in range(3):
                    opt.step(g, **arguments)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak - before < 16 * 1024


PEAK = '''
from pathlib import Path
import numpy as np
import instep
from optimizer_model import RULES

def resident():
    """The peak of this process. That of `resource` is at first the one of who started it."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return 1024 * int(line.split()[1])

arguments = {"max_norm": 1.0, "nonfinite": "skip", "grad_scale": 0.5}
options = {"average": 0.9, "weight_decay": 0.1, "zero_grads": True}
'''
STEPS_OF_LARGE_ARRAYS = """
p, g = np.ones(8_000_000, np.float32), np.ones(8_000_000, np.float32)
opts = [rule(p, **options) for rule in RULES if rule.__name__ in ("Adam", "RAdam", "Lion")]
strided = instep.SGD(np.ones((2, 4_000_000), np.float32).T, **options)
h = g.reshape(4_000_000, 2)
for rule in RULES:
    instep.SGD(np.ones((2, 3)).T, **options).step(np.ones((3, 2)), **arguments)
    rule(np.ones(3), **options).step(np.ones(3), **arguments)
# No step of these before: one that allocates would raise the peak already.
before = resident()
for opt in opts:
    for _ in range(3):
        opt.step(g, **arguments)
    opt.step(g)
strided.step(h, **arguments)
strided.step(h)
print(resident() - before)
"""
MANY_STEPS = """
p = {"W": np.ones((20, 30)), "layers": [np.ones(30).T, np.ones((7, 5)).T]}
g = {"W": np.ones((20, 30)), "layers": [np.ones(30), np.ones((7, 5)).T]}
opts = [rule(p, lr=lambda step: 1e-3, **options) for rule in RULES]

def steps(count):
    for _ in range(count):
        for opt in opts:
            opt.step(g, **arguments)
            try:
                opt.step([g])
            except TypeError:
                pass

steps(200)
before = resident()
steps(10_000)
with opts[0].averaged():
    pass
print(resident() - before)
"""


@pytest.mark.parametrize("code", [STEPS_OF_LARGE_ARRAYS, MANY_STEPS], ids=["large", "many"])
def test_steps_leave_the_resident_set_as_it_is(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK + code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000_000
