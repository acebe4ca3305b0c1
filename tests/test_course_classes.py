"""The classes, in the modes of a course or book, make the very steps of its own code."""

from types import SimpleNamespace
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep.demo import updates_cs231n, updates_dlfs, updates_nnfs


def of_cs231n(rule: str, **config: Any) -> Any:
    rule_of = getattr(updates_cs231n, rule)

    def step(p: Array, g: Array) -> Array:
        new: Array = rule_of(p, g, config)[0]
        return new

    return step


def of_dlfs(name: str, volume: int = 1) -> Any:
    optimizer = getattr(updates_dlfs, name)()

    def step(p: Array, g: Array) -> Array:
        optimizer.update([p] if volume == 2 else {0: p}, [g])
        return p

    return step


def of_nnfs(name: str, **numbers: float) -> Any:
    optimizer = getattr(updates_nnfs, name)(**numbers)
    layer = SimpleNamespace(biases=np.zeros(1), dbiases=np.zeros(1))

    def step(p: Array, g: Array) -> Array:
        layer.weights, layer.dweights = p, g
        optimizer.update_params(layer)
        optimizer.post_update_params()
        return p

    return step


LR_INSIDE: dict[str, Any] = {"momentum": 0.9, "momentum_mode": "lr_inside"}
LOOKING: dict[str, Any] = {"momentum": 0.9, "nesterov": True}
TYPED: Any = "outside_numerator_first"

CASES: dict[str, tuple[Any, Any]] = {
    "cs231n sgd_momentum": (of_cs231n, lambda p: instep.SGD(p, lr=0.01, **LR_INSIDE)),
    "cs231n rmsprop": (of_cs231n, lambda p: instep.RMSprop(p, lr=0.01, eps_mode=TYPED)),
    "cs231n adam": (of_cs231n, lambda p: instep.Adam(p, lr=0.001, eps_mode="outside")),
    "dlfs Nesterov": (of_dlfs, lambda p: instep.SGD(p, 0.01, **LOOKING, momentum_mode="dlfs")),
    "dlfs2 Nesterov": (of_dlfs, lambda p: instep.SGD(p, 0.01, **LOOKING, momentum_mode="dlfs2")),
    "dlfs Momentum": (of_dlfs, lambda p: instep.SGD(p, 0.01, momentum=0.9, momentum_mode="dlfs")),
    "dlfs AdaGrad": (of_dlfs, lambda p: instep.Adagrad(p, lr=0.01, eps=1e-7, eps_mode=TYPED)),
    "dlfs RMSprop": (of_dlfs, lambda p: instep.RMSprop(p, 0.01, 0.99, 1e-7, eps_mode="dlfs")),
    "dlfs Adam": (of_dlfs, lambda p: instep.Adam(p, lr=0.001, eps=1e-7, eps_mode="dlfs")),
    "nnfs Optimizer_Adagrad": (
        of_nnfs,
        lambda p: instep.Adagrad(p, lr=1.0, eps=1e-7, eps_mode=TYPED),
    ),
    "nnfs Optimizer_RMSprop": (
        of_nnfs,
        lambda p: instep.RMSprop(p, 0.001, 0.9, 1e-7, eps_mode=TYPED),
    ),
    "nnfs Optimizer_Adam": (of_nnfs, lambda p: instep.Adam(p, eps=1e-7, eps_mode="outside")),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_the_classes_make_the_same_steps(case: str, dtype: type) -> None:
    host, name = case.split()
    make, rule = CASES[case]
    theirs = make(name, 2) if host == "dlfs2" else make(name)
    rng = np.random.default_rng(0)
    p: Array = rng.standard_normal(77).astype(dtype)
    wanted, opt = p.copy(), rule(p)
    for step in range(100):
        g: Array = (rng.standard_normal(77) * 10.0 ** rng.integers(-6, 2, 77)).astype(dtype)
        wanted = theirs(wanted, g)
        opt.step(g)
        assert_same_bits(p, wanted, f"{case}, step {step}")


def test_inside_numerator_first() -> None:
    """What Karpathy's scripts type, for RMSprop and Adagrad."""
    rng = np.random.default_rng(0)
    p, q = rng.standard_normal((2, 77))
    wanted_p, wanted_q, cache, mem = p.copy(), q.copy(), np.zeros(77), np.zeros(77)
    rmsprop = instep.RMSprop(p, 0.01, 0.99, 1e-5, eps_mode="inside_numerator_first")
    adagrad = instep.Adagrad(q, lr=0.1, eps=1e-8, eps_mode="inside_numerator_first")
    for _ in range(100):
        g = rng.standard_normal(77)
        cache = 0.99 * cache + (1 - 0.99) * g**2
        wanted_p += -0.01 * g / np.sqrt(cache + 1e-5)
        mem += g * g
        wanted_q += -0.1 * g / np.sqrt(mem + 1e-8)
        rmsprop.step(g)
        adagrad.step(g)
    assert_same_bits(p, wanted_p)
    assert_same_bits(q, wanted_q)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (instep.RMSprop, {"eps_mode": TYPED, "momentum": 0.9}, "'inside' or 'outside' with mom"),
        (instep.RMSprop, {"eps_mode": "dlfs", "centered": True}, "'inside' or 'outside' with mom"),
        (instep.Adam, {"eps_mode": "hat_wide", "amsgrad": True}, "that takes amsgrad=False"),
        (instep.AdamW, {"eps_mode": "dlfs", "amsgrad": "corrected"}, "takes amsgrad=False"),
        (instep.Adagrad, {"eps_mode": "dlfs"}, "eps_mode is 'dlfs'; wanted one of"),
    ],
)
def test_what_no_library_has_is_refused(rule: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(np.ones(2), **options)
