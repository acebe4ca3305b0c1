"""The compiled recipes give the bits of `instep.reference`, wherever the arrays lie.

Recipes are found in the registry, so a new one is tested without a word here.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from itertools import count, cycle, islice, product
from typing import Any

import hypothesis.strategies as st
import instep
import numpy as np
import pytest
from bits import (
    LAYOUTS,
    Array,
    Layout,
    assert_same_bits,
    assert_same_buffers,
    buffer_of,
    copy_with_buffer,
    dense,
    misaligned,
)
from hypothesis import given, settings
from instep import _instep, reference
from levels import LEVELS

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

# Hyper-parameters by name. Other names get `lr`'s value: any number that is no limit of a range.
DEFAULTS = {"lr": 0.01, "beta": 0.9, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
OTHERS: Sequence[dict[str, float]] = (
    {"lr": 0.37, "beta": 0.5, "beta1": 0.5, "beta2": 0.75, "eps": 1e-3},
    {"lr": 0.0, "beta": 0.0, "beta1": 0.0, "beta2": 0.0, "eps": 0.0},
    {"lr": 3e-4, "beta": 0.99, "beta1": 0.95, "beta2": 0.9999, "eps": 1e-15},
    {"lr": 1e3, "beta": 1 - 1e-12, "beta1": 1 - 1e-7, "beta2": 1 - 1e-12, "eps": 1e-300},
    {"lr": 1e-300, "beta": 1e-30, "beta1": 1e-30, "beta2": 1e-300, "eps": 1e300},
)

cases = [
    pytest.param(_instep.Recipe(name, isa=level), dtype, id=f"{name}-{level}-{dtype}")
    for name, level, dtype in product(_instep.recipes(), LEVELS, DTYPES)
]
every_case = pytest.mark.parametrize(("recipe", "dtype"), cases)


def hypers_at(recipe: _instep.Recipe, values: dict[str, float], t: int) -> tuple[float, ...]:
    """Return the hyper-parameters of a recipe at step `t`."""
    numbers = []
    for name in recipe.hypers:
        base = name.removesuffix("_power")
        number = values.get(base, values["lr"])
        numbers.append(number if base == name else number**t)
    return tuple(numbers)


def reference_of(recipe: _instep.Recipe) -> Callable[..., tuple[Array, ...]]:
    function: Callable[..., tuple[Array, ...]] = getattr(reference, recipe.name)
    return function


def describe(_group: int, role: int, index: int) -> str:
    return f"array {index} of role {role}"


def assert_steps_agree(
    recipe: _instep.Recipe,
    hypers_of_steps: Iterable[tuple[float, ...]],
    arrays: Sequence[Array],
    fresh: Callable[[], Array] | None = None,
    where: object = "",
) -> None:
    """Do steps in place and in the reference, and compare all arrays after each.

    `arrays` are a parameter, its gradient and its states. With `fresh`, every step has a gradient
    of its own. What lies between and around the elements has to stay as it was, too. A failure
    shows `where`.
    """
    wanted = [copy_with_buffer(array) for array in arrays]
    names = ("p", "g", *recipe.states)
    for step, hypers in enumerate(hypers_of_steps):
        if fresh is not None:
            arrays[1][...] = wanted[1][...] = fresh()
        p, g, *states = arrays
        recipe.step(hypers, (p,), (g,), tuple((state,) for state in states), describe)
        with np.errstate(all="ignore"):
            p, g, *states = wanted
            named = dict(zip(recipe.hypers, hypers, strict=True))
            new = reference_of(recipe)(p, g, *states, **named)
        for old, array in zip((p, *states), new, strict=True):
            assert array.dtype == old.dtype
            old[...] = array
        for name, actual, expected in zip(names, arrays, wanted, strict=True):
            assert_same_buffers(actual, expected, f"{name} after step {step} {where}")


def plain_values(rng: np.random.Generator, shape: tuple[int, ...], role: int) -> Array:
    """Numbers as they occur in training; those of states are not negative."""
    values = rng.standard_normal(shape)
    return values if role < 2 else 0.01 * values * values


def of_values(recipe: _instep.Recipe, values: Callable[[int], Array], dtype: Any) -> list[Array]:
    """Make dense arrays for all roles of a recipe, with margins."""
    arrays = []
    for role in range(2 + len(recipe.states)):
        drawn = values(role)
        array = dense(drawn.shape, dtype)
        with np.errstate(all="ignore"):
            array[...] = drawn
        arrays.append(array)
    return arrays


def hard_values(dtype: Any) -> Array:
    """Zeros, subnormal numbers, the ends of the range, and where quick divisions give up."""
    info = np.finfo(dtype)
    tiny, least, largest = (
        float(x) for x in (info.smallest_normal, info.smallest_subnormal, info.max)
    )
    numbers = [0.0, least, 3 * least, tiny - least, tiny, tiny * (1 + 2 * info.eps)]
    numbers += [tiny / info.eps]
    numbers += [1.0, 1 - info.epsneg, 1 + info.eps, 1e-8, 0.1, 7.0, largest, largest / 2]
    numbers += [largest * 0.1, largest * 0.0999, largest * 1e-3, largest**0.5, tiny**0.5]
    numbers += [np.inf, np.nan]
    # The smallest dividends and radicands of the quick ways.
    for edge in (1e-280, 1e-270) if info.bits == 64 else (1e-23,):
        rounded = dtype.type(edge)
        numbers += [edge, edge * 10, edge / 9, edge * 1.1]
        numbers += [float(np.nextafter(rounded, dtype.type(end))) for end in (0, 1)]
    if info.bits == 64:
        numbers += [1e-140, 1e-141, 3.2e-142, 1e-154, 1.5e154, 1e-300, 1e-310, 1e300, 1e306]
    return np.array([*numbers, *(-x for x in numbers)], dtype)


def test_every_recipe_has_a_reference_and_the_other_way_round() -> None:
    around = {"average", "clip_factor", "gradient_norm", "prepare"}
    assert set(_instep.recipes()) == set(reference.__all__) - around
    assert len(set(_instep.recipes())) == len(_instep.recipes()) >= 8


@pytest.mark.parametrize("name", _instep.recipes())
def test_the_reference_takes_what_the_recipe_takes(name: str) -> None:
    recipe = _instep.Recipe(name)
    parameters = inspect.signature(reference_of(recipe)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert positional == ["p", "g", *recipe.states]
    assert keywords == list(recipe.hypers)
    assert len(positional) + len(keywords) == len(parameters)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", _instep.recipes())
def test_a_recipe_says_what_it_is(name: str, level: str) -> None:
    recipe = _instep.Recipe(name, isa=level)
    assert (recipe.name, recipe.isa) == (name, level)
    assert all(isinstance(word, str) for word in (*recipe.hypers, *recipe.states))
    assert _instep.Recipe(name).isa == instep.config()["isa"]


@every_case
def test_every_length_and_offset(recipe: _instep.Recipe, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    roles = 2 + len(recipe.states)
    bases = [plain_values(rng, (310,), role).astype(dtype) for role in range(roles)]
    for n in range(301):
        # What is left of a block of 64 comes with each offset: the same for all arrays, and in turn
        # another for each.
        offsets = [n // 64 + role * (n % 2) & 3 for role in range(roles)]
        arrays = [
            base[: n + 9].copy()[at : at + n] for base, at in zip(bases, offsets, strict=True)
        ]
        hypers = [hypers_at(recipe, DEFAULTS, 1 + n % 7)]
        assert_steps_agree(recipe, hypers, arrays, where=f"{n=} {offsets=}")


@every_case
def test_many_steps_with_fresh_gradients(recipe: _instep.Recipe, dtype: Any) -> None:
    # Alone in the tail, whole blocks and a tail, and more than a chunk.
    for n, steps in ((3, 40), (4097, 40), (100_003, 4)):
        rng = np.random.default_rng(n)

        def fresh(n: int = n, rng: np.random.Generator = rng) -> Array:
            drawn: Array = rng.standard_normal(n).astype(dtype) * dtype.type(0.1)
            return drawn

        arrays = of_values(recipe, lambda role: np.full(n, 0.5 if role == 0 else 0.0), dtype)  # noqa: B023
        hypers = [hypers_at(recipe, DEFAULTS, t) for t in range(1, steps + 1)]
        assert_steps_agree(recipe, hypers, arrays, fresh, where=f"{n=}")


@every_case
def test_other_hyper_parameters(recipe: _instep.Recipe, dtype: Any) -> None:
    for values in OTHERS:
        rng = np.random.default_rng(2)
        arrays = of_values(recipe, lambda role: plain_values(rng, (389,), role), dtype)  # noqa: B023
        times = (1, 2, 3, 10, 100, 1_000, 54_321, 10_000_000)
        with np.errstate(all="ignore"):
            hypers = [hypers_at(recipe, values, t) for t in times]
        assert_steps_agree(recipe, hypers, arrays, where=values)


@every_case
def test_numbers_of_all_magnitudes(recipe: _instep.Recipe, dtype: Any) -> None:
    """Random bits are numbers of every exponent, with every mantissa."""
    rng = np.random.default_rng(3)
    words = np.dtype(f"u{dtype.itemsize}")
    for t in (1, 2, 5, 30, 1_000, 100_000):
        for narrow in (False, True):
            arrays = []
            for role in range(2 + len(recipe.states)):
                array = rng.integers(0, 2 ** (8 * dtype.itemsize), 4_133, words).view(dtype)
                if narrow:
                    # Mantissas as they come, magnitudes near one: all of it goes the quick way.
                    mantissa, exponent = np.frexp(np.where(np.isfinite(array), array, 1))
                    array = np.ldexp(mantissa, exponent % 16).astype(dtype)
                arrays.append(np.abs(array) if role > 2 else array)
            assert_steps_agree(recipe, [hypers_at(recipe, DEFAULTS, t)] * 2, arrays)


def where_hard(n: int) -> dict[str, Array]:
    """Masks of the elements that are hard: some of some blocks of 64, whole blocks, the tail."""
    index = np.arange(n)
    return {
        "everywhere": index >= 0,
        "one in 7": index % 7 == 3,
        "one in 64, at every place": index % 65 == 0,
        "one in 500": index % 500 == 77,
        "first block": index < 64,
        "every second block": index // 64 % 2 == 1,
        "last whole block": index // 64 == n // 64 - 1,
        "tail": index >= n // 64 * 64,
        "last element": index == n - 1,
    }


HARD_LENGTH = 64 * 13 + 41


@every_case
def test_hard_values(recipe: _instep.Recipe, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    pool = hard_values(dtype)
    roles = range(2 + len(recipe.states))
    # Hard in one role at a time, in the gradient and all states, and in all.
    which = [*([role] for role in roles), [*roles][1:], [*roles]]
    others = cycle(zip(OTHERS, count(1), strict=False))
    for (where, mask), hard_roles in product(where_hard(HARD_LENGTH).items(), which):

        def values(role: int, mask: Array = mask, hard_roles: Sequence[int] = hard_roles) -> Array:
            drawn = plain_values(rng, (HARD_LENGTH,), role).astype(dtype)
            if role not in hard_roles:
                return drawn
            return np.where(mask, rng.choice(pool, HARD_LENGTH), drawn)

        for hypers, t in ((DEFAULTS, 1), (DEFAULTS, 100_000), *islice(others, 1)):
            with np.errstate(all="ignore"):
                numbers = [hypers_at(recipe, hypers, t), hypers_at(recipe, hypers, t + 1)]
            arrays = of_values(recipe, values, dtype)
            assert_steps_agree(recipe, numbers, arrays, where=(where, hard_roles, hypers, t))


@every_case
def test_every_pair_of_hard_values(recipe: _instep.Recipe, dtype: Any) -> None:
    """Each hard value of a gradient or a state meets each of another."""
    pool = hard_values(dtype)
    first, second = (array.ravel() for array in np.meshgrid(pool, pool))
    quarter = np.full(first.size, 0.25)
    for third in (0.0, 1.0, 1e-300, 1e-30, np.inf):
        rest = np.full(first.size, third)
        for columns in (
            (quarter, first, second, rest),
            (quarter, first, rest, second),
            (quarter, rest, first, second),
            (first, rest, second, quarter),
        ):
            roles = [*columns, *[rest] * len(recipe.states)]
            arrays = of_values(recipe, roles.__getitem__, dtype)
            assert_steps_agree(recipe, [hypers_at(recipe, DEFAULTS, 2)], arrays)


@every_case
def test_zeros_of_both_signs(recipe: _instep.Recipe, dtype: Any) -> None:
    """In every combination, and in blocks without a NaN."""
    some = (0.0, -0.0, 0.5, -0.5)
    columns = np.array([*product(some, some, some, (0.0, -0.0, 0.5), some, some)]).T
    for values in (DEFAULTS, {**DEFAULTS, "lr": 0.0}):
        hypers = [hypers_at(recipe, values, t) for t in (1, 2)]
        assert_steps_agree(recipe, hypers, of_values(recipe, columns.__getitem__, dtype))


@every_case
def test_the_ends_of_the_range_without_nan(recipe: _instep.Recipe, dtype: Any) -> None:
    """As large and as small as numbers can be while no division makes a NaN of them."""
    rng = np.random.default_rng(11)
    double = dtype.itemsize == 8
    root = 1e-137 if double else 1e-18
    small, large = root * root * 100, (1e300 if double else 1e35)
    for t in (1, 2, 40, 1_000, 10**6):
        for _ in range(5):

            def values(role: int) -> Array:
                low, high = (root, 1 / root) if role == 1 else (small, large)
                numbers = np.exp(rng.uniform(np.log(low), np.log(high), 64 * 40 + 5))
                ends = rng.choice([low, high, 0.0], numbers.size)
                numbers = np.where(rng.random(numbers.size) < 0.3, ends, numbers)
                signed = role < 2 or recipe.states[role - 2] == "m"
                return numbers * rng.choice([1, -1], numbers.size) if signed else numbers

            arrays = of_values(recipe, values, dtype)
            hypers = hypers_at(recipe, {**DEFAULTS, "eps": small}, t)
            assert_steps_agree(recipe, [hypers], arrays)
            assert not np.isnan(arrays[0]).any()


@every_case
def test_a_moment_that_dies_out(recipe: _instep.Recipe, dtype: Any) -> None:
    """With gradients of zero the moments go through all magnitudes down to subnormal numbers."""
    values = {**DEFAULTS, "beta": 0.1, "beta1": 0.1, "beta2": 0.01}
    arrays = of_values(recipe, lambda role: np.linspace(-1, 2, 201) ** role, dtype)
    arrays[1][...] = 0
    arrays[1][::2] = -0.0
    hypers = [hypers_at(recipe, values, t) for t in range(1, 400)]
    assert_steps_agree(recipe, hypers, arrays)


def assert_layouts_agree(
    recipe: _instep.Recipe, dtype: Any, shape: tuple[int, ...], layouts: Sequence[Layout]
) -> None:
    rng = np.random.default_rng(5)
    arrays = []
    for role, layout in enumerate(layouts):
        array = layout(shape, dtype)
        assert array.shape == shape
        buffer_of(array).reshape(-1).view(np.uint8)[...] = 0x3D
        array[...] = plain_values(rng, shape, role)
        arrays.append(array)
    where = (shape, *(layout.__name__ for layout in layouts))
    assert_steps_agree(recipe, [hypers_at(recipe, DEFAULTS, 3)], arrays, where=where)


# More elements than are gathered at a time.
SHAPES = ((17, 23), (5, 7, 11), (389,))


@every_case
def test_every_layout_with_every_other(recipe: _instep.Recipe, dtype: Any) -> None:
    """Any two roles have every pair of layouts, since 11 is prime."""
    assert len(LAYOUTS) <= 11
    for first, step in product(range(11), repeat=2):
        roles = range(2 + len(recipe.states))
        layouts = [LAYOUTS[(first + role * step) % 11 % len(LAYOUTS)] for role in roles]
        assert_layouts_agree(recipe, dtype, SHAPES[(first + step) % 3], layouts)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["gradient_descent", "momentum_ema", "adam_hat"])
def test_every_combination_of_layouts(name: str, dtype: Any) -> None:
    """Of two, three and four arrays: all that is there for strides knows no more of a recipe."""
    recipe = _instep.Recipe(name)
    combinations = product(LAYOUTS, repeat=2 + len(recipe.states))
    for layouts, shape in zip(combinations, cycle(SHAPES), strict=False):
        assert_layouts_agree(recipe, dtype, shape, layouts)


@every_case
def test_strides(recipe: _instep.Recipe, dtype: Any) -> None:
    rng = np.random.default_rng(6)
    for step, n in product((2, 3, -1, -2, 64), (1, 64, 65, 255, 256, 257)):
        arrays = []
        for role in range(2 + len(recipe.states)):
            base = plain_values(rng, (n * abs(step) + 3,), role).astype(dtype)
            arrays.append(base[1 : 1 + n * abs(step)][::step])
        hypers = [hypers_at(recipe, DEFAULTS, t) for t in (1, 2)]
        assert_steps_agree(recipe, hypers, arrays, where=f"{step=} {n=}")


@every_case
def test_one_misaligned_array(recipe: _instep.Recipe, dtype: Any) -> None:
    rng = np.random.default_rng(7)
    shapes = ((), (1,), (1, 1), (64,), (300,), (20, 30))
    for role, shape in product(range(2 + len(recipe.states)), shapes):
        arrays = of_values(recipe, lambda role: plain_values(rng, shape, role), dtype)  # noqa: B023
        odd = misaligned(shape, dtype)
        odd[...] = arrays[role]
        arrays[role] = odd
        hypers = [hypers_at(recipe, DEFAULTS, t) for t in (1, 2)]
        assert_steps_agree(recipe, hypers, arrays, where=(role, shape))


@every_case
def test_one_element_or_none(recipe: _instep.Recipe, dtype: Any) -> None:
    rng = np.random.default_rng(8)
    for shape in ((), (1,), (1, 1), (1,) * 4, (0,), (0, 3), (3, 0, 2)):
        arrays = of_values(recipe, lambda role: plain_values(rng, shape, role), dtype)  # noqa: B023
        hypers = [hypers_at(recipe, DEFAULTS, t) for t in (1, 2)]
        assert_steps_agree(recipe, hypers, arrays, where=shape)


@every_case
def test_a_broadcast_gradient(recipe: _instep.Recipe, dtype: Any) -> None:
    rng = np.random.default_rng(9)
    cases: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = (
        ((), (300,)),
        ((1,), (7, 80)),
        ((7, 1), (7, 80)),
        ((80,), (7, 80)),
        ((3, 1, 5), (3, 70, 5)),
    )
    for source, shape in cases:
        arrays = of_values(recipe, lambda role: plain_values(rng, shape, role), dtype)  # noqa: B023
        gradient = np.broadcast_to(rng.standard_normal(source).astype(dtype), shape)
        assert 0 in gradient.strides
        assert not gradient.flags.writeable
        wanted = [arrays[0].copy(), gradient, *(array.copy() for array in arrays[2:])]
        hypers = hypers_at(recipe, DEFAULTS, 2)
        recipe.step(hypers, (arrays[0],), (gradient,), tuple((s,) for s in arrays[2:]), describe)
        named = dict(zip(recipe.hypers, hypers, strict=True))
        new = reference_of(recipe)(*wanted, **named)
        for actual, expected in zip((arrays[0], *arrays[2:]), new, strict=True):
            assert_same_bits(actual, expected, f"{source} to {shape}")


@every_case
def test_many_parameters_in_one_call(recipe: _instep.Recipe, dtype: Any) -> None:
    """Parameters of all sizes, layouts and both dtypes step together as each would alone."""
    rng = np.random.default_rng(10)
    dtypes = cycle((dtype, *DTYPES))
    parameters: list[list[Array]] = []
    for n, layout in zip([0, 1, 2, 5, 64, 65, 200, 300, 1_000] * 3, cycle(LAYOUTS), strict=False):
        shape, kind, arrays = (3, n), next(dtypes), []
        for role in range(2 + len(recipe.states)):
            array = layout(shape, kind)
            array[...] = plain_values(rng, shape, role)
            arrays.append(array)
        parameters.append(arrays)
    hypers = hypers_at(recipe, DEFAULTS, 4)
    named = dict(zip(recipe.hypers, hypers, strict=True))
    wanted = [reference_of(recipe)(*arrays, **named) for arrays in parameters]
    p, g, *states = zip(*parameters, strict=True)
    recipe.step(hypers, p, g, tuple(states), describe)
    for index, (arrays, expected) in enumerate(zip(parameters, wanted, strict=True)):
        for actual, array in zip((arrays[0], *arrays[2:]), expected, strict=True):
            assert_same_bits(actual, array, f"parameter {index}")


def any_float() -> st.SearchStrategy[float]:
    hard = [float(x) for dtype in DTYPES for x in hard_values(dtype)]
    return st.one_of(st.floats(), st.floats(-2, 2), st.sampled_from(hard))


def any_hypers() -> st.SearchStrategy[dict[str, float]]:
    positive = st.one_of(st.floats(0, 1), st.floats(0, allow_infinity=False))
    usual = st.sampled_from([0.0, 0.9, 0.999, 1 - 1e-9])
    beta = st.one_of(st.floats(0, 1, exclude_max=True), usual)
    names: dict[str, st.SearchStrategy[float]] = {"lr": positive, "eps": positive}
    return st.fixed_dictionaries({**names, "beta": beta, "beta1": beta, "beta2": beta})


@pytest.mark.parametrize("name", _instep.recipes())
@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(
    elements=st.lists(st.tuples(*[any_float()] * 6), min_size=1, max_size=12),
    hypers=any_hypers(),
    n=st.integers(0, 200),
    t=st.one_of(st.integers(1, 20), st.integers(1, 10**7)),
)
def test_any_values(
    name: str, elements: list[tuple[float, ...]], hypers: dict[str, float], n: int, t: int
) -> None:
    """The elements drawn are repeated up to the length, so that they come by in every lane."""
    rows = [*islice(cycle(elements), n)]

    def values(role: int) -> Array:
        return np.array([row[role] for row in rows], np.float64)

    for level, dtype in product(LEVELS, DTYPES):
        recipe = _instep.Recipe(name, isa=level)
        numbers = [hypers_at(recipe, hypers, t), hypers_at(recipe, hypers, t + 1)]
        assert_steps_agree(recipe, numbers, of_values(recipe, values, dtype))


def test_the_comparison_sees_a_bit_and_forgives_the_kind_of_nan() -> None:
    wanted = np.array([0.0, 1.0, np.nan, np.inf])
    assert_same_bits(wanted.copy(), wanted)
    assert_same_bits(np.array([0.0, 1.0, -np.nan, np.inf]), wanted)
    others = ([-0.0, 1, np.nan, np.inf], [0, np.nextafter(1, 2), np.nan, np.inf])
    more = ([0, 1, 2, np.inf], [0, 1, np.nan, -np.inf], [0, 1, np.nan, np.nan])
    for numbers in (*others, *more):
        with pytest.raises(AssertionError, match="1 of 4 elements differ"):
            assert_same_bits(np.array(numbers), wanted)


def test_the_layouts_are_what_they_say() -> None:
    views = [layout((3, 4, 5), DTYPES[0]) for layout in LAYOUTS]
    # The misaligned one is dense.
    assert len({view.strides for view in views}) == len(LAYOUTS) - 1
    assert [view.flags.aligned for view in views].count(False) == 1
    for view in views:
        view[...] = np.arange(60).reshape(3, 4, 5)
        copy = copy_with_buffer(view)
        assert copy.strides == view.strides
        assert_same_bits(copy, view)
        assert not np.shares_memory(copy, view)
