"""Stateless steps: the bits of the classes, the options of the classes, and their errors."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from functional_stub import STUB, stub
from instep import _instep, functional, optimizers, reference
from optimizer_model import MODES, RULES, Rule, defaults_of, mode_name
from stored_steps import BFLOAT16, CODED, COMBINATIONS, store

every_mode = pytest.mark.parametrize(
    ("rule", "mode"),
    [pytest.param(rule, mode, id=mode_name(rule, mode)) for rule, mode in MODES],
)
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


def function_of(rule: Rule) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(functional, rule.__name__.lower())
    return function


def normal(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def states_of(rule: Rule, arrays: list[Array], **options: Any) -> list[list[Array]]:
    merged = {**defaults_of(rule), **options}
    names = functional.states(rule.__name__.lower(), **options)
    initial = [rule.initial(name, merged) for name in names]
    return [
        [p.copy() if number is None else np.full_like(p, number) for p in arrays]
        for number in initial
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_mode
def test_a_function_does_the_step_of_its_class(rule: Rule, mode: Any, dtype: Any) -> None:
    options = {**mode, "weight_decay": 0.03, "maximize": True}
    shapes = [(300,), (), (4, 5), (0,)]
    ours = [normal(*shape, dtype=dtype) for shape in shapes]
    ours = [np.asarray(p, dtype) for p in ours]
    theirs = [p.copy() for p in ours]
    opt = rule(theirs, **options)
    states = states_of(rule, ours, **options)
    assert functional.states(rule.__name__.lower(), **options) == tuple(opt.state["0"])
    for t in range(1, 13):
        grads = [np.asarray(normal(*s, seed=t, dtype=dtype), dtype) for s in shapes]
        kept = [g.copy() for g in grads]
        opt.step(grads)
        result = function_of(rule)(ours, grads, *states, t=t, **options)
        assert result is None
        for g, was in zip(grads, kept, strict=True):
            assert_same_bits(g, was)
        for p, q in zip(ours, theirs, strict=True):
            assert_same_bits(p, q)
        for name, arrays in zip(opt.state["0"], states, strict=True):
            for index, array in enumerate(arrays):
                assert_same_bits(array, opt.state[str(index)][name])


@every_rule
def test_one_array_or_a_list_of_them(rule: Rule) -> None:
    p, g = normal(50), normal(50, seed=1)
    alone, listed = p.copy(), [p.copy()]
    flat = [array for (array,) in states_of(rule, [p])]
    function_of(rule)(alone, g, *flat, t=1)
    states = states_of(rule, [p])
    function_of(rule)(listed, (g,), *map(tuple, states), t=np.int64(1))
    assert_same_bits(alone, listed[0])
    for one, (other,) in zip(flat, states, strict=True):
        assert_same_bits(one, other)
    assert (alone != p).any()


@every_rule
def test_defaults_are_those_of_the_class(rule: Rule) -> None:
    ends: list[Array] = []
    for options in ({}, defaults_of(rule)):
        p = normal(50)
        states = states_of(rule, [p])
        function_of(rule)([p], [normal(50, seed=1)], *states, t=1, **options)
        ends.append(p)
    assert_same_bits(ends[0], ends[1])
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return 0.5

    p, q = normal(50), normal(50)
    function_of(rule)([p], [normal(50, seed=1)], *states_of(rule, [p]), t=7, lr=rate)
    function_of(rule)([q], [normal(50, seed=1)], *states_of(rule, [q]), t=7, lr=0.5)
    assert_same_bits(p, q)
    # A rule that carries numbers adds up those of the steps before.
    before = range(6) if rule.carried(rule.checked({**defaults_of(rule), "lr": 0.5}), 0) else ()
    assert {6} <= set(asked) <= {6, *before}


def test_the_module_has_a_function_for_every_class() -> None:
    names = [name.lower() for name in optimizers.__all__]
    assert set(names) <= set(dir(functional))
    for name in names:
        function = getattr(functional, name)
        assert function is getattr(functional, name)
        assert function.__name__ == function.__qualname__ == name
        assert "in place" in (inspect.getdoc(function) or "")
    with pytest.raises(
        AttributeError, match=r"module 'instep\.functional' has no attribute 'adams'"
    ):
        _ = functional.adams  # type: ignore[attr-defined]


def test_the_stub_is_that_of_the_classes() -> None:
    """If it is not: python tests/functional_stub.py."""
    assert STUB.read_text() == stub()


@every_rule
def test_a_signature_has_the_options_of_the_class(rule: Rule) -> None:
    parameters = inspect.signature(function_of(rule)).parameters
    stored = ["master", "state_dtype", "seed", "bits", "name"]
    assert list(parameters) == ["p", "g", "state", "t", *stored, *defaults_of(rule)]
    for name, default in defaults_of(rule).items():
        assert parameters[name].default == default
        assert parameters[name].annotation == inspect.signature(rule).parameters[name].annotation


def test_type_checkers_see_arrays_and_options() -> None:
    """That of `make lint` does: it would say that an ignored error is none."""
    p, g, m, v = (np.ones(3) for _ in range(4))
    functional.adam([p], [g], [m], [v], t=1, lr=0.1, betas=(0.9, 0.99), eps_mode="hat")
    functional.rmsprop(p, g, v, t=1)
    functional.rmsprop(p, g, v, m, t=1, momentum=0.9)
    with pytest.raises(TypeError, match=r"adam\(\) has no option 'momentum'; wanted lr, betas, "):
        functional.adam(p, g, m, v, t=1, momentum=0.9)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"adam\(\) was given 3 arrays; wanted p, g, m, v"):
        functional.adam(p, g, m, t=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 't'"):
        functional.adam(p, g, m, v)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="eps_mode is 'under'"):
        functional.adam(p, g, m, v, t=1, eps_mode="under")  # type: ignore[arg-type]


def test_states() -> None:
    reached = {
        (rule.recipe(mode, 1), functional.states(rule.__name__.lower(), **mode))
        for rule, mode in MODES
    }
    assert all(_instep.Recipe(recipe).states == states for recipe, states in reached)
    assert functional.states("sgd") == ()
    assert functional.states("sgd", momentum=0.5) == ("m",)
    with pytest.raises(ValueError, match="rule is 'Adam'; wanted one of 'asgd', "):
        functional.states("Adam")
    with pytest.raises(TypeError, match=r"adam\(\) has no option 'momentum'; wanted lr, betas, "):
        functional.states("adam", momentum=0.9)
    with pytest.raises(ValueError, match="eps_mode is 'under'; wanted one of 'scaled', "):
        functional.states("adam", eps_mode="under")


def test_none_in_a_list_leaves_an_array_alone() -> None:
    p, g, m, v = ([normal(5), normal(5, seed=1)] for _ in range(4))
    kept = [p[0].copy(), m[0].copy(), v[0].copy()]
    functional.adam(p, [None, g[1]], m, v, t=1, lr=0.1)
    for array, was in zip((p[0], m[0], v[0]), kept, strict=True):
        assert_same_bits(array, was)
    assert (p[1] != normal(5, seed=1)).all()


def test_bad_calls_change_nothing() -> None:
    def ones() -> list[Array]:
        return [np.ones(3), np.ones(3)]

    p, g, m, v = ones(), ones(), ones(), ones()
    one, base = np.ones(3), np.ones(3)
    bad: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((p, g, m, v), {}, TypeError, "missing 1 required keyword-only argument: 't'"),
        ((p, g, m, v), {"t": 0}, ValueError, "t is 0; wanted 1 or more"),
        ((p, g, m, v), {"t": 1.0}, TypeError, "t is 1.0 (float); wanted an integer"),
        ((p, g, m, v), {"t": True}, TypeError, "t is True (bool); wanted an integer"),
        ((p, g, m), {"t": 1}, TypeError, "adam() was given 3 arrays; wanted p, g, m, v"),
        ((p, g, m, v, v), {"t": 1}, TypeError, "adam() was given 5 arrays; wanted p, g, m, v"),
        ((p, g, m, v), {"t": 1, "beta": 0.9}, TypeError, "adam() has no option 'beta'; wanted lr,"),
        ((p, g, m, v), {"t": 1, "average": 0.9}, TypeError, "has no option 'average'"),
        ((p, g, m, v), {"t": 1, "lr": math.nan}, ValueError, "lr is nan; wanted a finite number"),
        ((p, g, m, v), {"t": 1, "eps_mode": "x"}, ValueError, "eps_mode is 'x'; wanted one of"),
        ((p, g[:1], m, v), {"t": 1}, ValueError, "g has 1 arrays; wanted 2, as p has"),
        ((p, g, m, v[:1]), {"t": 1}, ValueError, "v has 1 arrays; wanted 2, as p has"),
        ((p, one, m, v), {"t": 1}, ValueError, "g has 1 arrays; wanted 2, as p has"),
        ((p, g, m, [v[0], np.ones(4)]), {"t": 1}, ValueError, "v[1] has shape (4,); wanted (3,)"),
        ((p, g, m, [v[0], [1.0]]), {"t": 1}, TypeError, "v[1] is a list; wanted a numpy.ndarray"),
        ((p, g, [m[0], p[0]], v), {"t": 1}, ValueError, "m[1] shares memory with p[0]"),
        ((one, base, base, np.ones(3)), {"t": 1}, ValueError, "m shares memory with g, and"),
        ((one, np.ones(3, np.float32), base, base), {"t": 1}, TypeError, "g has dtype float32"),
        ((3.0, g[0], m[0], v[0]), {"t": 1}, TypeError, "p is a float; wanted a numpy.ndarray"),
        ((p[0], None, m[0], v[0]), {"t": 1}, TypeError, "g is None; wanted a numpy.ndarray, or a"),
        ((p, None, m, v), {"t": 1}, TypeError, "g is None; wanted a numpy.ndarray, or a list"),
        (([p[0]], None, [m[0]], [v[0]]), {"t": 1}, TypeError, "g is None; wanted a numpy.ndarray"),
    ]
    for arrays, options, kind, message in bad:
        with pytest.raises(kind) as info:
            functional.adam(*arrays, **options)
        assert type(info.value) is kind
        assert message in str(info.value)
    assert all((array == 1).all() for array in (*p, *g, *m, *v, one, base))


def test_the_references_of_what_is_around_a_rule_are_used() -> None:
    """A class is a stateless step between `prepare` and `average`."""
    p, g = normal(100), normal(100, seed=1)
    before = p.copy()
    opt = instep.Adam(p, lr=0.1, weight_decay=0.2, average=0.75, eps_mode="hat")
    norm = opt.step(g, max_norm=2.0, grad_scale=0.5).grad_norm
    assert norm == reference.gradient_norm(g) * 0.5
    scale = 0.5 * reference.clip_factor(norm, max_norm=2.0)
    q, h = reference.prepare(before, g, scale=scale, weight_decay=0.2, shrink=1.0)
    functional.adam(q, h, np.zeros(100), np.zeros(100), t=1, lr=0.1, eps_mode="hat")
    assert_same_bits(p, q)
    assert_same_bits(opt.averages, reference.average(before, q, decay=0.75))


@pytest.mark.parametrize("name", [*COMBINATIONS, *CODED])
@pytest.mark.parametrize("rule", [instep.Adam, instep.RMSprop], ids=["Adam", "RMSprop"])
def test_arrays_in_fewer_bytes_have_the_bits_of_the_class(rule: Rule, name: str) -> None:
    dtype, options = {**COMBINATIONS, **CODED}[name]
    ours = [store(normal(*shape, seed=9, dtype=np.float32), dtype) for shape in ((300,), (4, 5))]
    theirs = [p.copy() for p in ours]
    named = {"first": theirs[0], "second": theirs[1]}
    opt = rule(named, seed=7, **options)
    arrays = [[opt.state[key][of].copy() for key in named] for of in opt.state["first"]]
    for t in range(1, 4):
        grads = [store(normal(*p.shape, seed=t, dtype=np.float32), dtype) for p in ours]
        opt.step(dict(zip(named, grads, strict=True)))
        function_of(rule)(ours, grads, *arrays, t=t, seed=7, name=list(named), **options)
    for index, key in enumerate(named):
        assert ours[index].tobytes() == named[key].tobytes()
        for array, own in zip(arrays, opt.state[key].values(), strict=True):
            assert array[index].tobytes() == own.tobytes()


def test_names_are_by_default_those_of_an_optimizer() -> None:
    def bits(p: Any, name: Any, seed: int = 0) -> bytes:
        one = p if isinstance(p, np.ndarray) else p[-1]
        g = np.ones(one.shape, np.float32)
        functional.sgd(p, g if p is one else [g] * len(p), t=1, lr=1e-4, seed=seed, name=name)
        return one.tobytes()

    def made() -> Array:
        return store(np.ones(1000, np.float32), BFLOAT16)

    p = made()
    instep.SGD(p, lr=1e-4).step(np.ones(1000, np.float32))
    assert p.tobytes() == bits(made(), None) == bits(made(), "params")
    listed = [made(), made()]
    instep.SGD(listed, lr=1e-4).step([np.ones(1000, np.float32)] * 2)
    assert listed[1].tobytes() == bits([made(), made()], None) == bits([made(), made()], ["a", "1"])
    assert len({bits(made(), "a"), bits(made(), "b"), bits(made(), "a", 1)}) == 3
    bad: list[tuple[Any, Any]] = [(made(), 3), ([made()], "a"), ([made()], ["a", "b"])]
    for arrays, name in bad:
        with pytest.raises(ValueError, match=r"name is .*; wanted a"):
            bits(arrays, name)


def test_what_is_not_stored_alike_is_refused() -> None:
    half, plain = store(np.ones(3, np.float32), BFLOAT16), np.ones(3, np.float32)
    m, v = np.zeros(3, np.float32), np.zeros(3, np.float32)
    before = half.tobytes()
    with pytest.raises(TypeError, match="the arrays of p are not stored alike"):
        functional.adam([half, plain], [plain] * 2, [m, m.copy()], [v, v.copy()], t=1)
    with pytest.raises(ValueError, match="master is 'split', and no parameter has 16 bits"):
        functional.adam(plain, plain.copy(), m, v, v.copy(), t=1, master="split")
    with pytest.raises(TypeError, match=r"adam\(\) was given 4 arrays; wanted p, g, m, v, p_low"):
        functional.adam(half, plain, m, v, t=1, master="split")
    with pytest.raises(TypeError, match=r"^m has dtype float32; wanted bfloat16, as p is stored"):
        functional.adam(half, plain, m, v, t=1, state_dtype="bfloat16")
    with pytest.raises(TypeError, match=r"state_dtype is '8bit', which \w+ does not"):
        functional.adagrad(plain, plain.copy(), v, v.copy(), t=1, state_dtype="8bit")
    codes = [np.zeros(3, np.uint8) for _ in range(2)]
    read_only = np.zeros(1, np.uint8)
    read_only.flags.writeable = False
    for scale, message in (
        (
            np.zeros(2, np.uint8),
            "v_scale has shape (2,); wanted (1,) in C order, an exponent for each 256 elements "
            "of p",
        ),
        (np.zeros(1, np.int8), "v_scale has dtype int8; wanted uint8, as p is stored"),
        (read_only, "v_scale is read-only, and a step writes it; pass a writable array"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
            functional.adam(
                plain,
                plain.copy(),
                *codes,
                np.zeros(1, np.uint8),
                scale,
                t=1,
                state_dtype="8bit",
            )
    wide = [np.zeros(300, kind) for kind in ("f4", "f4", "u1", "u1")]
    with pytest.raises(
        ValueError, match=r"^m_scale has shape \(2,\), not in C order; wanted \(2,\) in C "
    ):
        functional.adam(
            *wide, np.zeros(4, np.uint8)[::2], np.zeros(2, np.uint8), t=1, state_dtype="8bit"
        )
    assert half.tobytes() == before


@pytest.mark.parametrize("options", [{}, {"state_dtype": "8bit"}, {"master": "split"}])
@pytest.mark.parametrize("count", [0, 2])
def test_arrays_without_a_gradient_are_left_alone(count: int, options: Any) -> None:
    stored = {"state_dtype": 2, "master": 1}
    extras = sum(n for option, n in stored.items() if option in options)
    arrays = [[np.full(3, 0.5, np.float32) for _ in range(count)] for _ in range(3 + extras)]
    functional.adam(arrays[0], [None] * count, *arrays[1:], t=1, **options)
    for arrays_of_role in arrays:
        for array in arrays_of_role:
            assert_same_bits(array, np.full(3, 0.5, np.float32))
