"""Own rules: typed from papers and books, and all that an optimizer has around them."""

# mypy: disallow-untyped-defs=False, disallow-untyped-decorators=False

import copy
import inspect
import math
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
import random_rules
import typed_rules
from bits import Array, assert_same_bits
from instep import _instep, reference
from instep.formula.recognition import recipe_of
from instep.formula.tracing import trace

DTYPES = (np.float32, np.float64)
P_NORM, G_NORM = instep.norm("p"), instep.norm("g")


@instep.rule
def mine(p, g, m, v, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, t):
    """The rule of the documentation."""
    m = beta1 * m + (1 - beta1) * g
    v = np.maximum(beta2 * v, (g - m) ** 2)
    return p - lr * m / (1 - beta1**t) / (np.sqrt(v) + eps), m, v


# In NumPy 2 these go on in float64 where a np.float64 meets a float32 array; a rule does not.
PROMOTED = ("dlfs_adam",)


def start(function: Callable[..., Any], p: Array) -> dict[str, Array]:
    """Return the states of a function as they are before the first step."""
    states = list(inspect.signature(function).parameters.values())[2:]
    return {
        s.name: p.copy()
        if s.default == "p"
        else np.full_like(p, 0 if s.default is s.empty else s.default)
        for s in states
        if s.kind is not s.KEYWORD_ONLY
    }


@pytest.mark.parametrize("function", typed_rules.RULES, ids=lambda f: f.__name__)
def test_300_steps_of_a_typed_rule(function: Any) -> None:
    rule = instep.rule(function)
    takes_t = "t" in inspect.signature(function).parameters
    for dtype in DTYPES[function.__name__ in PROMOTED :]:
        random = np.random.default_rng(1)
        p: Array = random.standard_normal((7, 31)).astype(dtype)
        own = p.copy()
        opt = rule(own)
        states = start(function, p)
        for t in range(1, 301):
            g: Array = p + random.standard_normal(p.shape).astype(dtype)
            given = [p.copy(), g.copy(), *(state.copy() for state in states.values())]
            returned = rule(*given, **({"t": t} if takes_t else {}))
            p, *new = returned if isinstance(returned, tuple) else (returned,)
            states = dict(zip(states, new, strict=True))
            opt.step(g)
        assert_same_bits(own, p, "p")
        for name, state in states.items():
            assert_same_bits(opt.state["params"][name], state, name)


def test_a_rule_of_float32_stays_in_float32_whatever_its_numbers_are() -> None:
    @instep.rule
    def with_math(p, g, m, v, *, lr=0.001, beta1=0.9, beta2=0.999, t):
        lr_t = lr * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g**2 - v)
        p -= lr_t * m / (np.sqrt(v) + 1e-7)
        return p, m, v

    with_numpy = instep.rule(typed_rules.dlfs_adam)
    random = np.random.default_rng(8)
    p, g, m, v = (abs(random.standard_normal(99)).astype(np.float32) for _ in range(4))
    q, n, w = p.copy(), m.copy(), v.copy()
    wanted = with_math(p.copy(), g, m.copy(), v.copy(), t=3)
    with_math.step(p, g, m, v, t=3)
    with_numpy.step(q, g, n, w, t=3)
    for arrays in zip(wanted, (p, m, v), (q, n, w), strict=True):
        assert_same_bits(arrays[1], arrays[0])
        assert_same_bits(arrays[2], arrays[0])


def test_there_are_twenty_typed_rules() -> None:
    assert len(typed_rules.RULES) >= 20


# Each of p and g, with every pair of hard values in them, and a number that is one of them.
OPERATIONS = (
    "p + g", "p - g", "p * g", "p / g", "p + lr", "lr - p", "p - lr", "p * lr", "p / lr", "lr / p",
    "p**2", "p**0.5", "p**1", "np.square(p)", "np.sqrt(p)", "np.reciprocal(p)", "np.power(p, 2)",
    "abs(p)", "np.fabs(p)", "-p", "+p", "np.sign(p)", "np.maximum(p, g)", "np.minimum(p, g)",
    "np.maximum(p, lr)", "np.minimum(lr, p)", "np.clip(p, -1.5, 2.5)", "np.clip(p, -0.0, 0.0)",
    "np.clip(p, g, 1.0)", "np.clip(p, None, lr)", "p.clip(-lr, lr)", "np.clip(p, g, np.abs(g))",
    "np.copysign(p, lr)", "np.copysign(p, np.where(g == g, g, 1.0))",
    "np.where(p < g, p, g)", "np.where(p <= g, p, g * 2)", "np.where(p > g, p, g)",
    "np.where(p >= g, p, g * 2)", "np.where(p == g, p * 3, g)", "np.where(p != g, p, g * 3)",
    "np.where(p >= lr, g, p)", "np.where(lr < p, g, p)", "np.where(p, g, p)", "np.where(lr, p, g)",
    "np.where((p > 0) & (g > 0), p, g * 2)", "np.where((p > 0) | (g > 0), p, g * 2)",
    "np.where((p > 0) ^ (g > 0), p, g * 2)", "np.where(~(p > 0), p, g * 2)",
    "np.where(np.logical_not(p > g), p, g * 2)", "np.where((p > 0) * (g > 0), p, g * 2)",
    "np.where((p > 0) + (g > 0), p, g * 2)", "(p > g) * p", "p - (p <= g)",
    "((p > 0) + (g > 0)) * p",
    "np.where(np.isnan(p), g, p)", "np.where(np.isfinite(p), p, g)", "np.zeros_like(p) - g",
    "np.ones_like(p) / p", "np.full_like(p, 0.25) * g", "lr * p + lr * g", "p * lr - g * lr",
    "lr * p - g", "g - lr * p", "np.sqrt(p) + lr", "p / 0.3", "p / 0.7 / lr", "(p - g) * (p - g)",
    # Integers have one zero, and of booleans + is or.
    "p + (g > 0) * -1", "-np.where(g > 0, 1, 0) * p",
    "np.where(p > 0, 1, -1) * np.where(g > 0, 1, 0)", "((g > 0) * 2 - 1) * p",
    "(g > 0) * 1 - (g < 0) * 1 + p",
    "-np.fabs(np.where(g > 0, 1, 0)) * p",
    "np.where(g > 0, True, False) + np.where(p > 0, True, False) + 0.0 * p",
    "p * ((g > 0) * True + (p > 0) * True)", "-((g > 0).astype(int)) * p",
    "(g > 0).astype(p.dtype) * p", "-((g > 0).astype(float)) * p", "p.astype(p.dtype)",
    "p**-1", "p**-1.0", "p * p.dtype.type(1 - np.clip(lr, 0, 0.3))",
    "p * p.dtype.type(1 - np.where(True, lr, 0.5))",
    "np.where((lr > 0.2) & (lr < 1), p, g)", "np.where((lr > 0.5) | (p > g), p, g)",
    "np.where(((lr > 0.5) ^ (lr < 2)) & (p > 0), p, g)", "-np.zeros_like(p, dtype=p.dtype) + g",
    "np.divide(p, g, out=np.zeros_like(p), where=g != 0)", "np.add(p, g, dtype=p.dtype)",
    "p * np.float32(0.1)", "np.where(p > 0, np.float32(0.1), g)",
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_operation_on_hard_values(dtype: Any) -> None:
    with np.errstate(all="ignore"):
        hard = np.array(random_rules.HARD).astype(dtype)
    p, g = (side.reshape(-1).copy() for side in np.meshgrid(hard, hard))
    for expression in OPERATIONS:
        space: dict[str, Any] = {"np": np}
        exec(f"def own(p, g, *, lr):\n    return {expression}", space)
        graph = trace(space["own"], "own", ("p", "g"), ("lr",))
        for isa in instep.config()["isa_available"]:
            recipe = _instep.Recipe.of_formula(
                "own", ["lr"], [], graph.constants, graph.numbers, graph.values, graph.outputs, [],
                None, isa,
            )  # fmt: skip
            for lr in (0.3, 1.0, -2.5, 3e38):
                with np.errstate(all="ignore"):
                    wanted = np.asarray(space["own"](p, g, lr=lr), dtype)
                new = p.copy()
                recipe.step((lr,), (new,), (g,), (), lambda *_: "", (1.0, 0.0, 1.0))
                assert_same_bits(new, wanted, f"{expression} at {isa}, lr={lr}")


def all_recipes() -> list[str]:
    return [name for name in _instep.recipes() if name not in ("adam_dlfs", "adam_hat_wide")]


@pytest.mark.parametrize("name", all_recipes())
def test_every_reference_as_a_program_is_its_recipe(name: str) -> None:
    recipe = _instep.Recipe(name)
    graph = trace(getattr(reference, name), name, ("p", "g", *recipe.states), recipe.hypers)
    # It may be another one's formula with other numbers: Adam "scaled" is "hat" with another eps.
    recognized = recipe_of(graph, len(recipe.states))
    assert recognized is not None
    random = np.random.default_rng(5)
    numbers = tuple(random.uniform(0.2, 0.8, len(recipe.hypers)))
    for isa in instep.config()["isa_available"]:
        recipe = _instep.Recipe(name, isa)
        programs = [
            _instep.Recipe.of_formula(
                name, recipe.hypers, recipe.states, graph.constants, graph.numbers, graph.values,
                graph.outputs, [], found, isa,
            )
            for found in (None, recognized)
        ]  # fmt: skip
        assert "=" in programs[0].listing
        assert programs[1].listing.strip() == recognized[0]
        for dtype in DTYPES:
            arrays: list[Array] = [abs(random.standard_normal(257)).astype(dtype) for _ in range(6)]
            arrays[0] = -arrays[0]
            arrays = arrays[: 2 + len(recipe.states)]
            copies = [[array.copy() for array in arrays] for _ in programs]
            for run, given in zip((recipe, *programs), (arrays, *copies), strict=True):
                p, g, *states = ((array,) for array in given)
                for _ in range(3):
                    run.step(numbers, p, g, tuple(states), lambda *_: "", (1.0, 0.0, 1.0))
            for copied in copies:
                for array, other in zip(arrays, copied, strict=True):
                    assert_same_bits(other, array, f"{name} at {isa}")


def test_a_formula_that_is_a_recipe_runs_as_it() -> None:
    @instep.rule
    def course(p, g, s, v, *, lr=0.01, epsilon=1e-8, b1=0.9, b2=0.999, t):
        v = b1 * v + (1 - b1) * g
        s = b2 * s + g**2 * (1 - b2)
        return p - lr * (v / (1 - b1**t)) / np.sqrt(s / (1 - b2**t) + epsilon), s, v

    assert "runs the recipe adam_inside" in repr(course)
    assert "adam_inside" in course.explain()
    random = np.random.default_rng(0)
    for dtype in DTYPES:
        p = random.standard_normal(1001).astype(dtype)
        s, v, own = np.zeros_like(p), np.zeros_like(p), p.copy()
        opt = course(own, lr=0.1)
        for t in range(1, 5):
            g = random.standard_normal(1001).astype(dtype)
            p, s, v = course(p, g, s, v, lr=0.1, t=t)
            opt.step(g)
        assert_same_bits(own, p)
        assert_same_bits(opt.state["params"]["s"], s)
        assert_same_bits(opt.state["params"]["v"], v)


def test_a_formula_that_is_nearly_a_recipe_is_none() -> None:
    @instep.rule
    def nearly(p, g, m, v, *, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, t):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b1) * g**2
        return p - lr * (m / (1 - b1**t)) / np.sqrt(v / (1 - b2**t) + eps), m, v

    @instep.rule
    def of_others(p, g, m, v, *, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, t):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * p**2
        return p - lr * (m / (1 - b1**t)) / np.sqrt(v / (1 - b2**t) + eps), m, v

    @instep.rule
    def with_another_constant(p, g, m, v, *, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, t):
        m = b1 * m + (2 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return p - lr * (m / (1 - b1**t)) / np.sqrt(v / (1 - b2**t) + eps), m, v

    assert "instructions" in repr(of_others)
    assert "instructions" in repr(with_another_constant)
    assert "instructions" in repr(nearly)
    explained = nearly.explain()
    assert "m = x" in explained
    assert "(1 - (b1 ** t))" in explained


def test_all_that_optimizers_have() -> None:
    random = np.random.default_rng(3)
    params = {"W": random.standard_normal((30, 20)), "b": random.standard_normal(20).astype("f4")}
    want = {name: array.copy() for name, array in params.items()}
    opt = mine(
        params, lr=lambda t: 0.01 / (1 + t), average=0.9, zero_grads=True, maximize=True,
        groups={"b": {"weight_decay": 0.25, "beta1": 0.5}},
    )  # fmt: skip
    states = {n: (np.zeros_like(p), np.zeros_like(p)) for n, p in want.items()}
    averages = {n: p.copy() for n, p in want.items()}
    for t in range(1, 6):
        grads = {n: random.standard_normal(p.shape).astype(p.dtype) for n, p in want.items()}
        norm = reference.gradient_norm(*grads.values()) * 0.5
        factor = reference.clip_factor(norm, max_norm=1.0)
        raw = {n: g.copy() for n, g in grads.items()}
        result = opt.step(grads, grad_scale=0.5, max_norm=1.0)
        assert result.grad_norm == norm
        assert not any(g.any() for g in grads.values())
        for n, p in want.items():
            p, g = reference.prepare(
                p, raw[n], scale=-0.5 * factor, weight_decay=0.25 * (n == "b"), shrink=1.0
            )
            own = {"beta1": 0.5} if n == "b" else {}
            want[n], *states[n] = mine(p, g, *states[n], lr=0.01 / t, t=t, **own)
            averages[n] = reference.average(averages[n], want[n], decay=0.9)
    for n in params:
        assert_same_bits(params[n], want[n], n)
        assert_same_bits(opt.averages[n], averages[n], n)
        assert_same_bits(opt.state[n]["m"], states[n][0], n)
        assert_same_bits(opt.state[n]["v"], states[n][1], n)


def test_rows_and_frozen_parameters() -> None:
    random = np.random.default_rng(4)
    p = random.standard_normal((10, 3))
    before = p.copy()
    values = random.standard_normal((2, 3))
    mine(p).step(instep.Rows(np.array([7, 2]), values))
    m = np.zeros((2, 3))
    rows, *_ = mine(before[[7, 2]], values, m, m.copy(), t=1)
    wanted = before.copy()
    wanted[[7, 2]] = rows
    assert_same_bits(p, wanted)


def test_the_rule_on_arrays() -> None:
    random = np.random.default_rng(2)
    p, g, m, v = (random.standard_normal(100) for _ in range(4))
    v = abs(v)
    new = mine(p, g, m, v, lr=0.1, t=3)
    assert mine.step(p, g, m, v, lr=0.1, t=3) is None
    for own, wanted in zip((p, m, v), new, strict=True):
        assert_same_bits(own, wanted)
    with pytest.raises(TypeError, match=r"without t, the number of the step"):
        mine.step(p, g, m, v, lr=0.1)
    with pytest.raises(TypeError, match=r"3 arrays; wanted p, g, m, v"):
        mine.step(p, g, m, t=1)
    with pytest.raises(TypeError, match="no keyword 'beta'"):
        mine.step(p, g, m, v, beta=0.1, t=1)
    with pytest.raises(ValueError, match="t is 0; wanted 1 or more"):
        mine.step(p, g, m, v, t=0)
    with pytest.raises(ValueError, match="shares memory"):
        mine.step(p, g, p, v, t=1)


@instep.rule
def lars(
    p, g, m, *, lr=0.1, beta=0.9, trust=0.01, weight_decay=1e-2,
    p_norm=P_NORM, g_norm=G_NORM,
):  # fmt: skip
    """You et al. 2017."""
    rate = trust * p_norm / (g_norm + weight_decay * p_norm + 1e-9)
    m = beta * m + lr * rate * (g + weight_decay * p)
    return p - m, m


@instep.rule
def lamb_direction(p, g, m, v, u, *, lr=1e-3, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.01, t):
    """You et al. 2019: the direction, which stays in u; the parameter stays as it is."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p
    return p, m, v, u


@instep.rule
def lamb(p, u, *, lr=1e-3, p_norm=P_NORM, u_norm=G_NORM):
    """The rest of it: the direction comes in the place of a gradient."""
    return (
        p - lr * np.where(p_norm > 0, np.where(u_norm > 0, p_norm / max(u_norm, 1e-30), 1), 1) * u
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_norms(threads: int) -> None:
    random = np.random.default_rng(6)
    before = instep.get_num_threads()
    instep.set_num_threads(threads)
    try:
        for dtype in DTYPES:
            params = [random.standard_normal(s).astype(dtype) for s in (5, 70_000, (300, 40))]
            params[2] = np.asfortranarray(params[2])[::2]
            want = [np.array(p, order="C") for p in params]
            ms = [np.zeros_like(p) for p in want]
            opt = lars(params)
            for _ in range(3):
                grads = [np.asarray(random.standard_normal(p.shape), dtype) for p in want]
                opt.step(grads, grad_scale=-0.25)
                for i, g in enumerate(grads):
                    # In the order of the parameter's memory.
                    turned = [want[i].T, g.T] if i == 2 else [want[i], g]
                    norms = {
                        "p_norm": reference.gradient_norm(turned[0]),
                        "g_norm": reference.gradient_norm(turned[1]) * 0.25,
                    }
                    scaled = np.multiply(dtype(-0.25), g)
                    want[i], ms[i] = lars(want[i], scaled, ms[i], **norms)
            for own, wanted in zip(params, want, strict=True):
                assert_same_bits(np.array(own, order="C"), wanted)
    finally:
        instep.set_num_threads(before)


def test_lamb_in_two_rules() -> None:
    random = np.random.default_rng(7)
    p = random.standard_normal(1000)
    own = {"W": p.copy()}
    first, second = lamb_direction(own), lamb(own, lr=0.1)
    m, v, u = (np.zeros_like(p) for _ in range(3))
    for t in range(1, 11):
        g = random.standard_normal(1000)
        first.step({"W": g})
        second.step({"W": first.state["W"]["u"]})
        p, m, v, u = lamb_direction(p, g, m, v, u, t=t)
        p = lamb(p, u, lr=0.1)
    assert_same_bits(own["W"], p)
    assert_same_bits(first.state["W"]["u"], u)


def test_norms_refuse_what_would_change_them() -> None:
    p, g = np.ones(3), np.ones(3)
    with pytest.raises(ValueError, match="max_value was given to a rule that asks for norms"):
        lars(p).step(g, max_value=1.0)
    with pytest.raises(ValueError, match="a gradient of rows"):
        lars(q := np.ones((3, 2))).step(instep.Rows(np.array([0]), np.ones((1, 2))))
    assert (p == 1).all()
    assert (q == 1).all()
    with pytest.raises(ValueError, match=r"weight_decay is 0\.1, and lamb asks for norms"):
        lamb(p, weight_decay=0.1)
    with pytest.raises(ValueError, match="of is 'm'"):
        instep.norm("m")


def changed(version: int) -> Any:
    def own(p, g, m, *, lr=0.1, beta=0.9):
        m = beta * m + (g if version == 1 else g * 2)
        return p - lr * m, m

    return instep.rule(own)


def test_what_is_done_in_place_of_other_kinds() -> None:
    @instep.rule
    def own(p, g, m, v, *, lr=0.1):
        m[...] = g > 0
        np.less(g, p, out=v)
        c = g > 0
        c[p > 1] = False
        buffer = np.empty_like(p)
        np.multiply(g, lr, out=buffer)
        p[c] = 0
        p -= buffer
        buffer.fill(0.5)
        np.copyto(v, v + buffer)
        return p, m, v

    random = np.random.default_rng(9)
    p, g, m, v = random.standard_normal((4, 99))
    wanted = own(p.copy(), g.copy(), m.copy(), v.copy())
    own.step(p, g, m, v)
    for array, new in zip((p, m, v), wanted, strict=True):
        assert_same_bits(array, new)


def test_python_numbers_keep_their_zeros() -> None:
    @instep.rule
    def own(p, g, a, b, c, d, *, lr=0.1, t):
        zero = np.full_like(p, -0.0)
        a = zero + (-((t - 1) ** 2))
        b = zero + (-math.fabs(t - 1))
        c = zero + math.pow(t - 1, 2) * -1
        d = zero + (-np.where(t > 1, 1, 0))
        return p, a, b, c, d

    p, g, *states = np.ones((6, 3))
    wanted = own(p, g, *states, t=1)
    own.step(p, g, *states, t=1)
    for state, new in zip(states, wanted[1:], strict=True):
        assert_same_bits(state, new)


def of_a_state(factor: float) -> Any:
    def own(p, g, m, *, lr=0.1):
        return p - lr * m, factor * m + g

    return instep.rule(own)


def of_a_norm(of: str) -> Any:
    asked = instep.norm(of)

    def own(p, g, *, lr=0.1, norm=asked):
        return p - lr * norm * g

    return instep.rule(own)


@pytest.mark.parametrize("made", [(of_a_state, 0.9, 0.8), (of_a_norm, "p", "g")])
def test_a_formula_is_the_same_with_all_of_it(tmp_path: Path, made: Any) -> None:
    make, saved, now = made
    opt = make(saved)(np.ones(3))
    opt.step(np.ones(3))
    path = tmp_path / "state.safetensors"
    opt.save(path, params=True)
    make(saved)(np.ones(3)).load(path)
    with pytest.raises(ValueError, match="it was changed after the state was saved"):
        make(now)(np.ones(3)).load(path)


def test_t_may_have_a_default() -> None:
    @instep.rule
    def own(p, g, *, lr=0.1, t=2):
        return p - lr * g / t

    p, q = np.ones(3), np.ones(3)
    own.step(p, np.ones(3))
    own(q).step(np.ones(3))
    assert_same_bits(p, np.ones(3) - 0.1 * np.ones(3) / 2)
    assert_same_bits(q, np.ones(3) - 0.1 * np.ones(3) / 1)


def test_a_function_within_a_rule_returns_as_it_likes() -> None:
    @instep.rule
    def own(p, g, m, *, lr=0.1):
        def turned(p: Any, m: Any) -> Any:
            return m, p

        new, old = turned(p, m)
        return new - lr * g, old

    assert "states m" in repr(own)


def test_what_is_no_call_of_a_rule() -> None:
    @instep.rule
    def plain(p, g, average, *, lr=0.1):
        return p - lr * g, average + g

    p = np.ones(3)
    for params in (p, {"W": p}):
        with pytest.raises(TypeError, match=r"given 0\.01 instead of .*plain\(params, lr=0\.01\)"):
            plain(params, 0.01)
    with pytest.raises(TypeError, match="plain was given g= by its name; give arrays in order"):
        plain(p, g=p)
    assert plain(p, average=0.9).averages is not None
    with pytest.raises(TypeError, match="OwnRule has no formula"):
        instep.own_rules.OwnRule(p)


def test_explain_counts_what_is_run() -> None:
    @instep.rule
    def own(p, g, m, v, *, lr=0.1):
        np.sqrt(p * g)
        return p, m + g, v

    assert "per element: 1 operations; 5 numbers read or written" in own.explain()
    assert "of which 0 divide" in own.explain()


def test_a_state_is_loaded_into_the_same_formula_only(tmp_path: Path) -> None:
    p = np.ones(4)
    opt = changed(1)(p)
    opt.step(np.ones(4))
    path = tmp_path / "state.safetensors"
    opt.save(path, params=True)
    other = changed(1)(q := np.zeros(4))
    other.load(path)
    other.step(np.ones(4))
    opt.step(np.ones(4))
    assert_same_bits(p, q)
    with pytest.raises(ValueError, match="it was changed after the state was saved"):
        changed(2)(q).load(path)
    # The order in which commutative operations are written is no change.
    with pytest.raises(ValueError, match="rule"):
        mine(q).load(path)


def test_optimizers_are_pickled_and_copied() -> None:
    p = np.ones(4)
    opt = mine(p, lr=0.5)
    opt.step(np.arange(4.0))
    others: list[Any] = [pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)]
    for other in others:
        kind: object = type(other)
        assert kind is mine
        other.step(np.arange(4.0))
        assert other.t == 2
    assert pickle.loads(pickle.dumps(mine)) is mine


def test_a_number_that_cannot_be_computed_leaves_all_as_it_was() -> None:
    @instep.rule
    def divides(p, g, m, *, lr=0.1, beta=1.0, t):
        m = m + g
        return p - lr / (1 - beta**t) * m, m

    p = np.ones(3)
    opt = divides(p)
    with pytest.raises(
        ValueError, match=r"line \d+, `return p - lr .*`: division by 0, with lr=0.1"
    ):
        opt.step(np.ones(3))
    assert (p == 1).all()
    assert opt.t == 0
    assert not opt.state["params"]["m"].any()


SCALE = 0.5


def test_a_number_from_outside_that_changes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    @instep.rule
    def scaled(p, g, *, lr=0.1):
        return p - lr * SCALE * g

    p = np.ones(3)
    opt = scaled(p)
    opt.step(np.ones(3))
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.25)
    with pytest.raises(ValueError, match=r"when SCALE was 0.5, and now it is 0.25"):
        opt.step(np.ones(3))
    with pytest.raises(ValueError, match="SCALE"):
        scaled.step(p, np.ones(3))
    assert_same_bits(p, np.full(3, 1 - 0.1 * 0.5))


def test_the_caller_keeps_its_gradient() -> None:
    @instep.rule
    def own(p, g, *, lr=0.1):
        g *= 2
        p -= lr * g
        return p

    p, g = np.ones(3), np.ones(3)
    own(p).step(g)
    assert_same_bits(g, np.ones(3))
    assert_same_bits(p, np.ones(3) - 0.1 * 2)


COUNTER = [0]
COUNTED = 0
OUTSIDE = np.ones(3)


def no_return(p, g, *, lr=0.1):
    p -= lr * g


def wrong_order(p, g, m, v, *, lr=0.1):
    m = m + g
    v = v + g
    p = p - lr * m
    return m, v, p


def forgotten_state(p, g, m, v, *, lr=0.1):
    m = m + g
    return p - lr * m, m


def branch(p, g, *, lr=0.1):
    if g > 0:
        return p - lr
    return p + lr


def branch_on_number(p, g, *, lr=0.1, t):
    return p - (lr if t < 10 else lr / 2) * g


def maximum_method(p, g, *, lr=0.1):
    return p - lr * g / g.max()


def exponential(p, g, *, lr=0.1):
    return p - lr * np.exp(g)


def whole_sum(p, g, *, lr=0.1):
    return p - lr * g / np.sum(g)


def whole_norm(p, g, *, lr=0.1):
    return p - lr * g / np.linalg.norm(g)


def product(p, g, *, lr=0.1):
    return p - lr * (g @ g)


def reduced(p, g, *, lr=0.1):
    return p - lr * np.add.reduce(g)


def builtin_max(p, g, *, lr=0.1):
    return p - lr * max(g, 0)


def odd_power(p, g, *, lr=0.1):
    return p - lr * g**1.5


def cube(p, g, *, lr=0.1):
    return p - lr * np.power(g, 3)


def constant_array(p, g, *, lr=0.1):
    return p - lr * OUTSIDE * g


def global_counter(p, g, *, lr=0.1):
    global COUNTED
    COUNTED = 1
    return p - lr * g


def counts(p, g, *, lr=0.1):
    COUNTER[0] += 1
    return p - lr * COUNTER[0] * g


def no_lr(p, g, *, rate=0.1):
    return p - rate * g


def no_star(p, g, m, lr=0.1, beta=0.9):
    m = beta * m + g
    return p - lr * m, m


def flag(p, g, *, lr=0.1, nesterov=True):
    return p - lr * g


def cast(p, g, *, lr=0.1):
    return p - lr * g.astype(np.float64)


def part(p, g, *, lr=0.1):
    return p - lr * g[0]


def condition_as_state(p, g, m, *, lr=0.1):
    return p - lr * g, g > 0


def number_as_state(p, g, m, *, lr=0.1):
    return p - lr * g, 0.0


def many(p, g, *gs, lr=0.1):
    return p - lr * g


def taken(p, g, *, lr=0.1, average=0.9):
    return p - lr * g


def five_states(p, g, a, b, c, d, e, *, lr=0.1):
    return p - lr * g, a, b, c, d, e


def float_of_number(p, g, *, lr=0.1):
    return p - float(lr) * g


def array_of(p, g, *, lr=0.1):
    return p - lr * np.asarray(g)


def looks_at_dtype(p, g, *, lr=0.1):
    return p - lr * g * (1e-4 if p.dtype == np.float32 else 1e-8)


def other_width(p, g, *, lr=0.1):
    return p - np.float32(0.9) * lr * g


def other_width_of_condition(p, g, *, lr=0.1):
    return p - (g > 0) * np.float32(0.9) * lr


def long_number(p, g, *, lr=0.1):
    return p - np.longdouble(0.5) * g


def huge_integer(p, g, *, lr=0.1):
    return p - 10**400 * g


def inverted_number(p, g, *, lr=0.1, t):
    return np.where(~(t > 5), p, g)


def divmod_of_number(p, g, *, lr=0.1, t):
    return p - divmod(t, 2)[1] * g


def power_of_numpy_number(p, g, *, lr=0.1):
    return p - lr * g ** np.float64(0.5)


def reciprocal_of_integers(p, g, *, lr=0.1):
    return p - np.reciprocal(np.where(g > 0, 2, 1)) * lr


def integers_in_place(p, g, *, lr=0.1):
    k = np.where(g > 0, 2, 1)
    k[...] = 0.5
    return p - k * g


def where_without_out(p, g, *, lr=0.1):
    return p - np.divide(p, g, where=g != 0)


def out_of_outside(p, g, *, lr=0.1):
    return np.clip(p, 0, 1, out=OUTSIDE)


def unknown_function(p, g, *, lr=0.1):
    return p - lr * np.nan_to_num(g)


def numpy_number(p, g, *, lr=0.1):
    return p - np.float64(lr) * g


def imports_math(p, g, *, lr=0.1):
    import math

    return p - math.sqrt(lr) * g


def method(self, p, g, *, lr=0.1):
    return p - lr * g


def array_as_default(p, g, m=OUTSIDE, *, lr=0.1):
    return p - lr * g, m


def gives_a_dict(p, g, m, *, lr=0.1):
    return {"p": p - lr * g, "m": m}


def too_many_at_once(p, g, *, lr=0.1):
    xs = [p * (i + 1) + g for i in range(140)]
    total = sum(x * g for x in xs)
    for x in xs:
        total = total * x
    return total


MISTAKES = [
    (looks_at_dtype, TypeError, "the dtype is looked at"),
    (other_width, TypeError, r"np\.float32\(0\.9\) is combined with numbers .*write float\(x\)"),
    (
        other_width_of_condition,
        TypeError,
        r"float32\(0\.9\) is combined with numbers or conditions",
    ),
    (long_number, TypeError, "write a float"),
    (huge_integer, TypeError, "an integer that float64 can't hold"),
    (inverted_number, TypeError, "~ of a number .*write the opposite comparison"),
    (divmod_of_number, TypeError, "use // and %"),
    (power_of_numpy_number, TypeError, r"\*\* of arrays is not rounded the same"),
    (reciprocal_of_integers, TypeError, "use 1 / x"),
    (integers_in_place, TypeError, "an array of integers can't hold floats"),
    (where_without_out, TypeError, r"where= but no out="),
    (out_of_outside, TypeError, r"np\.clip has an out= that is not an array of the rule"),
    (unknown_function, TypeError, r"np\.nan_to_num can't be .*the documentation lists what can"),
    (numpy_number, TypeError, r"use it as it is, without np\.array, np\.float64"),
    (imports_math, TypeError, "imported within this one"),
    (method, TypeError, "leave self out"),
    (array_as_default, TypeError, "has the state m=array.*wanted the number that it starts with"),
    (gives_a_dict, ValueError, "returns a dict; wanted 2"),
    (too_many_at_once, ValueError, "more than 128 values at the same time; make two"),
    (no_return, ValueError, "returns nothing; wanted the new arrays: end it with `return p`"),
    (wrong_order, ValueError, "returns m, v, p; wanted the order .*`return p, m, v`"),
    (forgotten_state, ValueError, "returns 2 arrays; wanted 3, .*`return p, m, v`"),
    (branch, TypeError, "line \\d+, `if g > 0:`: .*np.where"),
    (branch_on_number, TypeError, "looks at a number that changes .*np.where"),
    (maximum_method, TypeError, r"\.max looks at other elements"),
    (
        exponential,
        TypeError,
        "line \\d+, `return p - lr \\* np.exp\\(g\\)`: np.exp of arrays is not",
    ),
    (whole_sum, TypeError, "np.sum looks at other elements"),
    (whole_norm, TypeError, "np.linalg.norm looks at other .*instep.norm"),
    (product, TypeError, "@ looks at other elements"),
    (reduced, TypeError, "np.add.reduce looks at other elements"),
    (builtin_max, TypeError, r"np\.maximum\(x, y\)"),
    (odd_power, TypeError, r"\*\* of arrays is not rounded the same .*x\*\*2"),
    (cube, TypeError, r"np.power of arrays is not rounded the same .*x\*x\*x"),
    (constant_array, TypeError, r"an array from outside, of dtype float64 and shape \(3,\)"),
    (global_counter, TypeError, "assigns to COUNTED, which is outside"),
    (counts, ValueError, "a different formula in each call"),
    (no_lr, TypeError, "has no keyword lr"),
    (no_star, TypeError, r"put a \* before them"),
    (flag, TypeError, "keyword nesterov=True; wanted a number"),
    (cast, TypeError, "astype: all of a rule is computed in the dtype of its parameter"),
    (part, TypeError, "some elements are taken"),
    (condition_as_state, TypeError, "an array of booleans for m"),
    (number_as_state, TypeError, r"returns a number for m; .*np.full_like\(m, x\)"),
    (many, TypeError, r"argument \*gs"),
    (taken, TypeError, "keyword average, which all optimizers have"),
    (five_states, TypeError, "5 states; wanted 4 at most"),
    (float_of_number, TypeError, r"float\(\), int\(\)"),
    (array_of, TypeError, "without np.array"),
]


@pytest.mark.parametrize(
    ("function", "error", "message"), MISTAKES, ids=lambda x: getattr(x, "__name__", "")
)
def test_mistakes_are_refused_when_the_rule_is_made(
    function: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        instep.rule(function)
    text = str(caught.value)
    assert re.search(message, text, re.DOTALL), text
    assert function.__name__ in text


def test_a_stand_in_kept_outside_is_of_no_use() -> None:
    kept = []

    @instep.rule
    def keeps(p, g, *, lr=0.1):
        kept.append(p)
        return p - lr * g

    with pytest.raises(TypeError, match="kept outside"):
        kept[0] + 1


def test_options_that_are_wrong() -> None:
    p = np.ones(3)
    with pytest.raises(TypeError, match="mine has no option 'beta'; wanted lr, beta1"):
        mine(p, beta=0.9)
    with pytest.raises(ValueError, match="eps is nan"):
        mine(p, eps=math.nan)
    with pytest.raises(TypeError, match=r"beta1 is '0\.9'"):
        mine(p, beta1="0.9")

    @instep.rule
    def no_default(p, g, *, lr):
        return p - lr * g

    with pytest.raises(TypeError, match="made without lr"):
        no_default(p)
    with pytest.raises(TypeError, match="wanted a function made with def"):
        instep.rule(np.exp)
