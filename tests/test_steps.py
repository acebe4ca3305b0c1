"""What a step may be asked, what it refuses, and that a step refused has changed nothing."""

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep import Optimizer
from optimizer_model import RULES, Rule

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


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


def numbers_of(rule: Rule) -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Yield each option that is a number or two: its name, what errors call it, and its value."""
    opt = rule(np.ones(2))
    for name, value in opt.param_groups[0].items():
        if name == "betas":
            yield name, "betas[0]", lambda x: (x, 0.9)
            yield name, "betas[1]", lambda x: (0.9, x)
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
        if name not in ("lr", "eps", "weight_decay", "dampening", "lr_decay", "momentum_decay"):
            bad += [(1.0, ValueError, f"{name} is ")] * (name != "initial_accumulator_value")
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
    assert {"lr", "weight_decay"} < set(names)


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


def test_averaged_refuses_a_parameter_that_it_cannot_write() -> None:
    params, grads, opt = adam()
    params["layers"][1].flags.writeable = False
    with refused(opt, ValueError, 'params["layers.1"] is read-only'), opt.averaged():
        pass
    params["layers"][1].flags.writeable = True
    with opt.averaged():
        pass
    opt.step(grads)


def test_an_optimizer_is_not_copied_within_averaged() -> None:
    _, grads, opt = adam()
    with opt.averaged():
        for make in (copy.deepcopy, copy.copy, pickle.dumps):
            with pytest.raises(RuntimeError, match=r"copied within averaged\(\)"):
                make(opt)
    copy.deepcopy(opt).step(grads)
