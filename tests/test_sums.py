"""Gradients that are sums of several arrays, added within the step, against sums of NumPy."""

import functools
from collections.abc import Sequence
from typing import Any

import instep
import numpy as np
import pytest
from bits import LAYOUTS, Array, assert_same_bits, assert_same_buffers, copy_with_buffers
from levels import LEVELS, assert_runs_at
from stored_steps import BFLOAT16, CODED, COMBINATIONS, FLOAT16, FLOAT32, load, store

PIECE = 32_768

# Around the tiles of a step, the least that a thread takes, and a piece.
LENGTHS = (1, 31, 511, 512, 513, 1024, 4095, 4097, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 515)

DTYPES = (np.float32, np.float64)

Terms = list[list[Array]]

P_NORM, G_NORM = instep.norm("p"), instep.norm("g")


@instep.rule
def trust(p, g, m, *, lr=0.1, pn=P_NORM, gn=G_NORM):  # type: ignore[no-untyped-def]
    m = 0.9 * m + g
    return p - lr * pn / (gn + 1.0) * m, m


@instep.rule
def own_rule(p, g, m, *, lr=0.1):  # type: ignore[no-untyped-def]
    m = 0.5 * m + np.abs(g) * g
    return p - lr * m, m


def numbers(seed: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return numbers of many sizes, whose sum depends on the order, with some that are special."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape) * 10.0 ** random.integers(-6, 7, shape)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38])
    where = random.integers(0, 40, shape)
    with np.errstate(over="ignore"):
        return np.where(where < 7, special[where % 7], values).astype(dtype)


def in_layout(layout: Any, values: Array) -> Array:
    array: Array = layout(values.shape, values.dtype)
    array[...] = values
    return array


def begin(opt: Any, grads: list[Any], addends: list[Any], **asked: Any) -> Any:
    names = ("lr", "grad_scale", "max_norm", "max_array_norm", "max_value", "nonfinite")
    defaults: dict[str, Any] = {"grad_scale": 1.0, "nonfinite": "propagate"}
    given = [{**defaults, **asked}.get(name) for name in names]
    return opt._stepper.begin(opt, grads, *given, None, addends)


def begun(opt: instep.Optimizer, terms: Terms, **asked: Any) -> Any:
    """Begin the step by sums; without terms, there is no gradient."""
    grads = [own[0] if own else None for own in terms]
    return begin(opt, grads, [own[1:] for own in terms], **asked)


def step(opt: instep.Optimizer, terms: Terms, **asked: Any) -> instep.StepResult:
    """Step by sums, in two ranges of pieces."""
    one = begun(opt, terms, **asked)
    count = sum(one.pieces)
    one.step(count // 2, count)
    one.step(0, count // 2)
    result: instep.StepResult = one.commit()
    return result


def summed(terms: Terms) -> list[Array | None]:
    """Return NumPy's sums in order: of 16 bits, as float32."""

    def total(own: Sequence[Array]) -> Array:
        small = own[0].dtype.itemsize == 2
        with np.errstate(invalid="ignore", over="ignore"):
            return functools.reduce(np.add, [load(term) if small else term for term in own])

    return [np.array(total(own)).reshape(own[0].shape) if own else None for own in terms]


def assert_same(own: instep.Optimizer, wanted: instep.Optimizer) -> None:
    for name, states in wanted.state.items():
        for state, array in states.items():
            assert_same_bits(own.state[name][state], array, f"{name} {state}")
    for mine, theirs in zip(
        own.param_groups[0]["params"], wanted.param_groups[0]["params"], strict=True
    ):
        assert_same_buffers(mine, theirs)
    if wanted.average is not None:
        for mine, theirs in zip(own.averages, wanted.averages, strict=True):
            assert_same_bits(mine, theirs, "average")


ASKED: list[dict[str, Any]] = [{}, {"grad_scale": -0.37}, {"max_value": 0.5, "lr": 0.2}]

RULES: list[tuple[Any, dict[str, Any]]] = [
    (instep.Adam, {}),
    (instep.Adam, {"average": 0.9, "weight_decay": 0.1, "maximize": True}),
    (instep.AdamW, {"weight_decay": 0.3}),
    (own_rule, {}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_sums_have_the_bits_of_numpy_at_every_length(count: int, dtype: Any) -> None:
    params = [numbers(i, (n,), dtype) for i, n in enumerate(LENGTHS)]
    for rule, options in RULES:
        opts = [rule(copy_with_buffers(params), **options) for _ in range(2)]
        for t, asked in enumerate(ASKED):
            terms = [
                [numbers(100 * t + 10 * k + i, p.shape, dtype) for k in range(count)]
                for i, p in enumerate(params)
            ]
            wanted = opts[1].step(summed(terms), **asked)
            assert step(opts[0], terms, **asked) == wanted
        assert_same(*opts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_have_the_bits_of_numpy_in_every_layout(dtype: Any) -> None:
    shapes = [(23, 45), (7, 3, 30), (1200,), (600, 3)]
    places = [(a, b) for a in LAYOUTS for b in LAYOUTS]
    for shape in shapes:
        params = [in_layout(a, numbers(i, shape, dtype)) for i, (a, _) in enumerate(places)]
        for rule, options in RULES[1:]:
            opts = [rule(copy_with_buffers(params), **options) for _ in range(2)]
            for t, asked in enumerate(ASKED[:2]):
                terms = [
                    [in_layout(b, numbers(99 * t + 9 * k + i, shape, dtype)) for k in range(3)]
                    for i, (_, b) in enumerate(places)
                ]
                opts[1].step(summed(terms), **asked)
                step(opts[0], terms, **asked)
            assert_same(*opts)


@pytest.mark.parametrize("name", [*COMBINATIONS, *CODED])
def test_sums_of_16_bits_are_of_float32(name: str) -> None:
    dtype, options = {**COMBINATIONS, **CODED}[name]
    kinds = [dtype, FLOAT32]
    shapes = [(n,) for n in LENGTHS] + [(70, 33), (9, 8, 40)]
    random = np.random.default_rng(3)

    def drawn(shape: tuple[int, ...], kind: Any, layout: Any) -> Array:
        values = store(
            random.standard_normal(shape, np.float32) * random.choice(5.0 ** np.arange(4)), kind
        )
        return in_layout(layout, values) if values.ndim > 1 else values

    params = [drawn(shape, dtype, LAYOUTS[i % 6]) for i, shape in enumerate(shapes)]
    rules: list[tuple[Any, dict[str, Any]]] = [(instep.AdamW, {"weight_decay": 0.1})]
    if dtype != FLOAT16:
        rules.append((instep.Adam, {"average": 0.5}))
    for rule, more in rules:
        opts = [rule(copy_with_buffers(params), **options, **more) for _ in range(2)]
        for t, asked in enumerate(ASKED):
            kind = kinds[t % 2]
            terms = [
                [drawn(p.shape, kind, LAYOUTS[(i + t) % 5]) for _ in range(1 + (i + t) % 4)]
                for i, p in enumerate(params)
            ]
            if t == 1:
                terms = [[in_layout(LAYOUTS[0], term) for term in own] for own in terms]
            opts[1].step(summed(terms), **asked)
            step(opts[0], terms, **asked)
        assert_same(*opts)


def test_the_number_of_terms_may_change_from_step_to_step() -> None:
    params = [numbers(i, (n,), np.float32) for i, n in enumerate((700, 700, 5, PIECE + 3))]
    opts = [instep.Adam(copy_with_buffers(params)) for _ in range(2)]
    kept = [
        [numbers(50 + 5 * i + k, p.shape, np.float32) for k in range(4)]
        for i, p in enumerate(params)
    ]
    for t, counts in enumerate(
        [(2, 1, 3, 2), (1, 2, 3, 2), (0, 3, 1, 4), (3, 0, 1, 4), (1, 1, 1, 1)]
    ):
        terms = [own[:count] for own, count in zip(kept, counts, strict=True)]
        if t % 2:
            terms = [[term.copy() for term in own] for own in terms]
        opts[1].step(summed(terms))
        step(opts[0], terms)
        assert_same(*opts)


def test_what_a_step_looks_at_is_the_sum() -> None:
    params = [numbers(i, (n,), np.float32) for i, n in enumerate((PIECE + 700, 600))]
    params.append(in_layout(LAYOUTS[2], numbers(9, (40, 50), np.float32)))
    random = np.random.default_rng(0)
    terms = [[random.standard_normal(p.shape, np.float32) for _ in range(3)] for p in params]
    terms[2] = [in_layout(LAYOUTS[2], term) for term in terms[2]]
    for rule in (instep.Adam, trust):
        opt = rule(copy_with_buffers(params))
        one, other = begun(opt, terms), opt.begin(summed(terms))
        count = sum(one.pieces)
        assert one.pieces == other.pieces
        assert one.sums_of_squares(0, count) == other.sums_of_squares(0, count)
        assert one.sums_of_squares(1, 3) == other.sums_of_squares(1, 3)
        assert one.first_nonfinite(0, count) is None
        # Each is finite, and the sum is not.
        huge = [[term.copy() for term in own] for own in terms]
        for term in huge[1]:
            term[599] = 2e38
        assert begun(opt, huge).first_nonfinite(0, count) == 1
        opts = [rule(copy_with_buffers(params)) for _ in range(2)]
        clips: list[dict[str, Any]] = [{"max_array_norm": 0.5}, {"max_norm": 0.5}, {}]
        for t, asked in enumerate(clips):
            one = begun(opts[0], terms, **asked)
            squares = iter(one.sums_of_squares(0, count))
            of_each = [
                functools.reduce(float.__add__, [next(squares) for _ in range(n)], 0.0)
                for n in one.pieces
            ]
            if t == 0:
                one.clip_each([square**0.5 for square in of_each])
            elif t == 1:
                every = one.sums_of_squares(0, count)
                one.clip(functools.reduce(float.__add__, every, 0.0) ** 0.5)
            if one.needs_norms:
                of_params = iter(one.sums_of_squares(0, count, of_params=True))
                of_params_each = [
                    functools.reduce(float.__add__, [next(of_params) for _ in range(n)], 0.0)
                    for n in one.pieces
                ]
                one.set_norms(
                    [square**0.5 for square in of_params_each], [square**0.5 for square in of_each]
                )
            one.step(0, count)
            assert one.commit() == opts[1].step(summed(terms), **asked)
        assert_same(*opts)


def test_what_is_not_like_the_gradient_is_refused() -> None:
    p, g = np.ones((4, 6), np.float32), np.ones((4, 6), np.float32)
    odd = np.zeros(1 + g.nbytes, np.uint8)[1:].view(np.float32).reshape(g.shape)
    opt = instep.Adam([p])
    before = p.tobytes()
    unlike: list[Any] = [g.astype(np.float64), g[:3], np.asfortranarray(g), odd, g.reshape(-1)]
    for addend in unlike:
        with pytest.raises(
            ValueError, match=r"what is added to grads\[0\] as number 1 is not like it"
        ):
            begun(opt, [[g, g, addend]])
    others: list[tuple[Any, type[Exception], str]] = [
        (list(g), TypeError, r"what is added to grads\[0\] is a list; wanted a numpy.ndarray"),
        (p, ValueError, r"grads\[0\] shares memory with params\[0\]"),
    ]
    for addend, error, match in others:
        with pytest.raises(error, match=match):
            begun(opt, [[g, addend]])
    with pytest.raises(ValueError, match="addends has 0 lists; wanted 1, one for each parameter"):
        begin(opt, [g], [])
    opt.zero_grads = True
    with pytest.raises(ValueError, match="zero_grads"):
        begun(opt, [[g, g]])
    opt.zero_grads = False
    assert p.tobytes() == before
    one = begun(opt, [[g, other := g.copy()]])
    other.resize((3, 6), refcheck=False)
    with pytest.raises(ValueError, match="is not like it"):
        one.step(0, 1)
    assert p.tobytes() == before


def test_nothing_is_added_where_there_is_no_step() -> None:
    params = [np.ones(5, np.float32) for _ in range(3)]
    g = np.ones(5, np.float32)
    opt = instep.SGD(params, lr=1.0, freeze=lambda name, _: name == "1")
    grads = [None, g, g]
    one = begin(opt, grads, [[g], [g], [g]])
    one.step(0, sum(one.pieces))
    one.commit()
    for array, wanted in zip(params, (1.0, 1.0, -1.0), strict=True):
        assert_same_bits(array, np.full(5, wanted, np.float32))


def test_bfloat16_of_ml_dtypes_is_summed_as_its_bits_are() -> None:
    g = store(np.array([1.0, 2.0**-9], np.float32), BFLOAT16)
    p = store(np.zeros(2, np.float32), BFLOAT16)
    opt = instep.SGD([p], lr=1.0, master="split")
    step(opt, [[g, g[::-1].copy(), g]])
    (decoded,) = (opt.decoded(name)["p"] for name in opt.state)
    assert decoded.tolist() == [-(2.0 + 2.0**-9), -(1.0 + 2.0**-8)]


REDUCED = """
import instep
import test_sums as tests
for dtype in tests.DTYPES:
    tests.test_sums_have_the_bits_of_numpy_at_every_length(3, dtype)
for name in ("states", "split"):
    tests.test_sums_of_16_bits_are_of_float32(name)
print(instep.config()["isa"])
"""


@pytest.mark.parametrize("level", LEVELS)
def test_every_instruction_level(level: str) -> None:
    assert_runs_at(level, REDUCED)
