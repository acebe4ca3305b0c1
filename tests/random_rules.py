"""Rules that hypothesis draws: expressions over all that a rule can have, and NumPy to compare."""

from __future__ import annotations

import math
import types
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from bits import LAYOUTS, Array, Layout, assert_same_bits, dense
from hypothesis import strategies as st
from instep.formula.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

STATES = ("m", "v", "z")
NUMBERS = {"lr": 0.01, "beta": 0.9, "gamma": -1.5, "t": 1.0}

# What hard arrays are made of, in both dtypes.
HARD = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    3.0,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    1e-310,
    -1e-310,
    1e-44,
    2.3e-38,
    1e-300,
    -1e-200,
    1e-23,
    3e38,
    -3e38,
    1.7e308,
    1e-7,
    -123.456,
)


def _numbers() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(
        ["lr", "beta", "gamma", "t", "0.1", "3", "2.0", "1e-8", "-0.5", "1.0", "0.0", "1e40"]
    )

    def more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, inner)
        return st.one_of(
            st.tuples(two, st.sampled_from("+-*")).map(lambda x: f"({x[0][0]} {x[1]} {x[0][1]})"),
            two.map(lambda x: f"({x[0]} / (1.5 + abs({x[1]})))"),
            inner.map(lambda x: f"(-{x})"),
            inner.map(lambda x: f"math.sqrt(abs({x}))"),
            two.map(lambda x: f"max({x[0]}, {x[1]})"),
            two.map(lambda x: f"min({x[0]}, {x[1]})"),
            st.just("(1 - beta**t)"),
            st.just("(t % 3)"),
            st.just("(t // 2)"),
        )

    return st.recursive(leaves, more, max_leaves=3)


# What a number is in the source of a rule: made once, which takes longer than to draw from it.
NUMBER = _numbers()


@dataclass
class Source:
    """A rule as text, and how many states it has."""

    text: str
    states: int


@st.composite
def sources(draw: Any) -> Source:
    """Draw a rule."""
    states = draw(st.integers(0, 3))
    names = ["p", "g", *STATES[:states]]
    lines = []
    arrays: list[str] = list(names)
    truths: list[str] = []

    def one_of(things: Sequence[str]) -> str:
        # Hypothesis keeps this strategy for each length; it would make st.sampled_from anew.
        place: int = draw(st.integers(0, len(things) - 1))
        return things[place]

    def operand() -> str:
        return one_of(arrays)

    def operand_or_number() -> str:
        return str(draw(NUMBER)) if draw(st.integers(0, 2)) == 0 else operand()

    for count in range(draw(st.integers(1, 9))):
        kind = draw(st.integers(0, 22))
        x, y = operand(), operand_or_number()
        if draw(st.booleans()):
            x, y = y, x
        if not any(name in arrays for name in (x, y)):
            x = operand()
        array = x if x in arrays else y
        new = f"a{count}"
        if kind <= 4:
            expression = f"{x} + {y}" if kind % 2 else f"{x} - {y}"
        elif kind <= 7:
            expression = f"{x} * {y}"
        elif kind <= 9:
            expression = f"{x} / {y}"
        elif kind == 10:
            expression = one_of(
                ["{}**2", "np.square({})", "abs({})", "-{}", "np.sign({})", "np.abs({})"]
            ).format(array)
        elif kind == 11:
            expression = one_of(
                ["np.sqrt({})", "{}**0.5", "np.reciprocal({})", "{}.copy()"]
            ).format(array)
        elif kind == 12:
            name = one_of(["np.maximum", "np.minimum"])
            expression = f"{name}({x}, {y})"
        elif kind == 13:
            # A NaN has no sign that a rule could give.
            sign = operand()
            expression = f"np.copysign({array}, np.where({sign} == {sign}, {sign}, array_of(1.0)))"
        elif kind == 14:
            low, high = sorted(draw(st.tuples(st.integers(-3, 0), st.integers(0, 3))))
            bounds = one_of([f"{low}.5, {high}.5", f"{low}, {high}", "None, 0.25"])
            expression = f"np.clip({array}, {bounds})"
        elif kind == 15:
            expression = f"np.clip({array}, {operand()}, {operand()})"
        elif kind == 16:
            expression = one_of(["np.zeros_like({})", "np.ones_like({})"])
            expression = expression.format(array)
        elif kind <= 18:
            sign = one_of(["<", "<=", ">", ">=", "==", "!="])
            lines.append(f"c{count} = {x} {sign} {y}")
            truths.append(f"c{count}")
            continue
        elif kind == 19 and truths:
            truth, other = one_of(truths), one_of(truths)
            sign = one_of("&|^")
            lines.append(f"c{count} = {one_of(['', '~'])}{truth} {sign} {other}")
            truths.append(f"c{count}")
            continue
        elif kind == 20 and truths:
            truth = one_of(truths)
            expression = f"np.where({truth}, {array}, {y if y != array else operand()})"
        elif kind == 20:
            expression = f"np.where({array}, {array}, {operand()})"
        elif kind == 21 and truths:
            # Of a condition and a number, NumPy makes float64 whatever the arrays are.
            truth = one_of(truths)
            expression = one_of(["{} * {}", "{1} * {0}"]).format(truth, array)
        else:
            # In place, in the array itself or in another: what is done to p, g and states, too.
            form = one_of(
                [
                    "{0} += {1}",
                    "{0} -= {1}",
                    "{0} *= {1}",
                    "{0} /= {1}",
                    "np.multiply({0}, {1}, out={0})",
                    "{0}[...] = {1}",
                    "{0}[{0} < 0] = 2",
                    "np.add({0}, {1}, {2})",
                ]
            )
            lines.append(form.format(operand(), operand_or_number(), operand()))
            continue
        lines.append(f"{new} = {expression}")
        arrays.append(new)
    results = [one_of(arrays[-6:] + arrays[:2]) for _ in range(states + 1)]
    arguments = ", ".join([*names, "*", "lr=0.01", "beta=0.9", "gamma=-1.5", "t"])
    body = "\n    ".join([*lines, f"return ({', '.join(results)},)"])
    return Source(f"def drawn({arguments}):\n    {body}\n", states)


def made(source: Source, array_of: Any) -> types.FunctionType:
    """Return the function of a source."""
    space = {"np": np, "math": math, "array_of": array_of}
    exec(source.text, space)
    function = space["drawn"]
    assert isinstance(function, types.FunctionType)
    return function


def run_numpy(source: Source, arrays: list[Array], numbers: dict[str, float]) -> list[Array]:
    """Return what the function gives in NumPy, in the dtype of its arrays."""
    dtype = arrays[0].dtype

    def array_of(x: float) -> Array:
        return np.asarray(x, dtype)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        given = [np.array(array, order="C") for array in arrays]
        returned = made(source, array_of)(*given, **numbers)
    return [np.array(np.broadcast_to(array, given[0].shape), dtype) for array in returned]


def graph_of(source: Source) -> Any:
    """Return the traced graph."""
    roles = ["p", "g", *STATES[: source.states]]
    return trace(made(source, lambda x: x), "drawn", roles, list(NUMBERS))


@st.composite
def arrays_like(draw: Any, count: int) -> list[Array]:
    """Draw arrays of one shape, each in a layout, with hard values in some places."""
    dtype = np.dtype(draw(st.sampled_from([np.float32, np.float64])))
    layouts: list[Layout] = [dense]
    if draw(st.integers(0, 2)) == 0:
        layouts = list(LAYOUTS)
    if draw(st.integers(0, 3)):
        shape: tuple[int, ...] = (draw(st.integers(1, 300)),)
    else:
        shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    seed = draw(st.integers(0, 2**32 - 1))
    share = draw(st.sampled_from([0.0, 0.02, 0.3]))
    random = np.random.default_rng(seed)
    arrays = []
    for _ in range(count):
        layout = draw(st.sampled_from(layouts))
        array = layout(shape, dtype)
        with np.errstate(all="ignore"):
            values = random.standard_normal(shape) * 10.0 ** random.integers(-3, 4, shape)
            hard = random.choice(HARD, shape)
            array[...] = np.where(random.random(shape) < share, hard, values).astype(dtype)
        arrays.append(array)
    return arrays


__all__ = [
    "NUMBERS",
    "STATES",
    "Source",
    "arrays_like",
    "assert_same_bits",
    "graph_of",
    "run_numpy",
    "sources",
]
