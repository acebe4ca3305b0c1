"""Stand-ins for the arrays and numbers of a formula. A graph records what is done to them.

Operations on numbers are kept apart from those on arrays: they are done once a step, in float64.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NoReturn

import numpy as np

from instep.checks import kind_of
from instep.formula.graph import Graph
from instep.formula.refusals import OF_OTHERS, of_others, rounded_unlike

__all__ = [
    "COMPARISONS",
    "PLURALS",
    "Array",
    "Dtype",
    "Kind",
    "Number",
    "StandIn",
    "array_operation",
    "as_array",
    "choose",
    "clip",
    "is_number",
    "kind_of_elements",
    "power",
]


def is_number(thing: Any) -> bool:
    """Whether it is a number of Python or NumPy."""
    return isinstance(thing, (int, float, np.floating, np.integer, np.bool_))


def _is_float(integer: int) -> bool:
    try:
        return int(float(integer)) == integer
    except OverflowError:
        return False


def as_number(graph: Graph, thing: Any) -> int:
    """Return a number of the graph: one that it has, or a constant."""
    if isinstance(thing, Number):
        thing.check(graph)
        return thing.number
    if is_number(thing):
        if isinstance(thing, np.longdouble):
            raise graph.refusal(f"{thing!r} is a number of {thing.dtype}; write a float")
        if isinstance(thing, int) and not _is_float(thing):
            raise graph.refusal(
                f"an integer that float64 can't hold; write float({str(thing)[:30]})"
            )
        return graph.constant(float(thing))
    if isinstance(thing, np.ndarray):
        raise graph.refusal(
            f"an array from outside, of dtype {thing.dtype} and shape {thing.shape}: a rule can "
            "only have arrays that are its arguments; make it a state, or a number"
        )
    raise graph.refusal(f"{kind_of(thing)} is neither an array of the rule nor a number")


class Kind(IntEnum):
    """What arrays and numbers hold. An operation on two kinds gives the larger, as in NumPy."""

    TRUTH = 0
    INTEGER = 1
    FLOAT = 2


PLURALS = {Kind.TRUTH: "booleans", Kind.INTEGER: "integers", Kind.FLOAT: "floats"}


def kind_of_elements(thing: Any) -> Kind:
    """Return what an array holds, or of which kind a number is."""
    if isinstance(thing, StandIn):
        return thing.kind
    if isinstance(thing, (bool, np.bool_)):
        return Kind.TRUTH
    return Kind.INTEGER if isinstance(thing, (int, np.integer)) else Kind.FLOAT


class StandIn:
    """The base of the stand-ins for arrays and numbers."""

    # NumPy asks these instead of making arrays of them.
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, graph: Graph, kind: Kind) -> None:
        self.graph = graph
        self.kind = kind

    def check(self, graph: Graph | None = None) -> None:
        if not self.graph.is_open or graph not in (None, self.graph):
            raise TypeError(
                f"a stand-in of {self.graph.name} was kept outside of it; a rule is called once, "
                "to be traced, so what it does to things outside is not repeated"
            )

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise self.graph.refusal(
            "a stand-in is converted to an array or a NumPy number; use it as it is, without "
            "np.array, np.float64 and so on"
        )

    def __bool__(self) -> NoReturn:
        raise self.graph.refusal(self._BOOL)

    def __iter__(self) -> NoReturn:
        raise self.graph.refusal("a loop over elements; write a formula for all of them at once")

    def __len__(self) -> NoReturn:
        raise self.graph.refusal("len() of an array; a rule is for arrays of any length")

    _BOOL = ""


# Operations of integers that give integers, and those of them that could give a zero with a sign.
_OF_INTEGERS = frozenset(
    "add sub mul floordiv mod neg abs sign max min maximum minimum".split()  # noqa: SIM905
)
_MAY_BE_MINUS_0 = frozenset(("mul", "floordiv", "mod", "neg"))

# Operations whose results are true or not.
COMPARISONS = frozenset(("lt", "le", "gt", "ge", "eq", "ne"))
_LOGICAL = frozenset(("and", "or", "xor", "not"))

_NO_CONDITIONS = "& | ^ ~ take conditions, such as g > 0; put parentheses around each"


class Number(StandIn):
    """A number of the step."""

    _BOOL = (
        "`if`, `while`, `and`, `or` or `not` looks at a number that changes from step to step; use "
        "np.where(condition, x, y), which takes numbers too"
    )

    def __init__(self, graph: Graph, number: int, kind: Kind = Kind.FLOAT) -> None:
        super().__init__(graph, kind)
        self.number = number

    def of(self, operation: str, *operands: Any) -> "Number":
        self.check()
        graph = self.graph
        _refuse_other_widths(graph, operands)
        kinds = [kind_of_elements(operand) for operand in operands]
        if operation in _LOGICAL:
            if max(kinds) is not Kind.TRUTH:
                raise graph.refusal(_NO_CONDITIONS)
            operation, kind = {"and": "min", "or": "max", "xor": "ne"}[operation], Kind.TRUTH
        elif operation in COMPARISONS:
            kind = Kind.TRUTH
        elif operation == "where":
            kind = max(kinds[1:])
        elif max(kinds) is Kind.FLOAT:
            is_rounded = operation in ("math.floor", "math.ceil")
            kind = Kind.INTEGER if is_rounded else Kind.FLOAT
        else:
            is_power = operation == "pow" and isinstance(operands[1], int) and operands[1] >= 0
            is_integer = is_power or operation in (*_OF_INTEGERS, "math.floor", "math.ceil")
            kind = Kind.INTEGER if is_integer else Kind.FLOAT
        places = [as_number(graph, operand) for operand in operands]
        number = graph.number(operation.removeprefix("math."), *places)
        if kind is Kind.INTEGER and operation in (*_MAY_BE_MINUS_0, "math.floor", "math.ceil"):
            # Integers have one zero.
            number = graph.number("add", number, graph.constant(0.0))
        return Number(graph, number, kind)

    def _to_float(self) -> NoReturn:
        raise self.graph.refusal(
            "float(), int(), round(), or a function of math that is called in another function or "
            "imported within this one, was given a number of the rule; use Python's operators, "
            "np.sqrt, or math as imported at the top of the file, in the rule itself"
        )

    def __float__(self) -> float:
        self._to_float()

    def __int__(self) -> int:
        self._to_float()

    def __index__(self) -> int:
        self._to_float()

    def __round__(self, *_: Any) -> int:
        self._to_float()

    def __invert__(self) -> NoReturn:
        raise self.graph.refusal(
            "~ of a number or of a comparison of numbers is -1 - x in Python, and always true; "
            "write the opposite comparison"
        )

    def __divmod__(self, _: Any) -> NoReturn:
        raise self.graph.refusal("divmod() can't be in a rule; use // and %")

    __rdivmod__ = __divmod__

    def __neg__(self) -> "Number":
        return self.of("neg", self)

    def __pos__(self) -> "Number":
        return self

    def __abs__(self) -> "Number":
        return self.of("abs", self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.graph.refusal(f"a number has no .{name} in a rule")


class Array(StandIn):
    """An array, with the value that it has at the moment. Operations in place change it."""

    _BOOL = (
        "`if`, `while`, `and`, `or`, `not`, max() or min() looks at the elements of an array; use "
        "np.where(condition, x, y), np.maximum, np.minimum, and & | ~ between conditions"
    )

    def __init__(self, graph: Graph, value: int, kind: Kind = Kind.FLOAT) -> None:
        super().__init__(graph, kind)
        self.value = value

    def become(self, other: "Array") -> "Array":
        """Take another value, in place."""
        if other.kind > self.kind:
            raise self.graph.refusal(
                f"an array of {PLURALS[self.kind]} can't hold {PLURALS[other.kind]} in place; "
                "use a new name"
            )
        self.value = other.value
        return self

    @property
    def dtype(self) -> "Dtype":
        if self.kind is not Kind.FLOAT:
            raise self.graph.refusal(
                f"the dtype of an array of {PLURALS[self.kind]}; use that of p"
            )
        return Dtype(self.graph)

    def astype(self, dtype: Any, **_: Any) -> "Array":
        if isinstance(dtype, Dtype):
            return Array(self.graph, self.value)
        if self.kind is not Kind.FLOAT and dtype in (float, np.float64, "float64", int, np.int64):
            kind = Kind.INTEGER if dtype in (int, np.int64) else Kind.FLOAT
            return Array(self.graph, self.value, kind)
        raise self.graph.refusal(
            ".astype: all of a rule is computed in the dtype of its parameter; leave it out, or "
            "use .astype(p.dtype)"
        )

    def copy(self, *_: Any, **__: Any) -> "Array":
        return Array(self.graph, self.value, self.kind)

    def fill(self, number: Any) -> None:
        self[...] = number

    def __getitem__(self, key: Any) -> "Array":
        if _is_all(key):
            return self
        raise self.graph.refusal(
            "some elements are taken from an array; use np.where(condition, x, y)"
        )

    def __setitem__(self, key: Any, item: Any) -> None:
        graph = self.graph
        if isinstance(key, Array) and key.kind is Kind.TRUTH:
            if isinstance(item, Array):
                raise graph.refusal(
                    "an array is assigned to some elements; use np.where(condition, x, y)"
                )
            self.become(choose(graph, key, item, self))
        elif not _is_all(key):
            raise graph.refusal("some elements are assigned to; use np.where(condition, x, y)")
        else:
            self.become(as_array(graph, item).copy())

    def __neg__(self) -> "Array":
        return array_operation(self.graph, "neg", self)

    def __pos__(self) -> "Array":
        return self.copy()

    def __abs__(self) -> "Array":
        return array_operation(self.graph, "abs", self)

    def __invert__(self) -> "Array":
        return array_operation(self.graph, "not", self)

    def __matmul__(self, _: Any) -> NoReturn:
        raise self.graph.refusal(of_others("@"))

    __rmatmul__ = __matmul__

    def __float__(self) -> float:
        raise self.graph.refusal(self._BOOL)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in OF_OTHERS:
            raise self.graph.refusal(of_others(f".{name}"))
        raise self.graph.refusal(
            f".{name} can't be in a rule, which computes each element from itself alone"
        )


def _is_all(key: Any) -> bool:
    return key is Ellipsis or (isinstance(key, slice) and key == slice(None))


class Dtype:
    """The dtype of all arrays of a rule. The formula has to be the same for every dtype."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dtype) or self._is_asked()

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._is_asked()

    def _is_asked(self) -> NoReturn:
        raise self._graph.refusal(
            "the dtype is looked at, and a rule is one formula for float32 and float64; make what "
            "depends on it a keyword"
        )

    def type(self, number: Any) -> Any:
        """Round a number to it, which is done to all numbers that meet arrays."""
        return number


def as_array(graph: Graph, thing: Any) -> Array:
    """Return an array of the rule, or one of a number."""
    if isinstance(thing, Array):
        thing.check(graph)
        return thing
    return Array(graph, graph.value("number", as_number(graph, thing)), kind_of_elements(thing))


def _refuse_other_widths(graph: Graph, operands: Sequence[Any]) -> None:
    """Refuse a NumPy float without an array of the rule: NumPy would use the float's dtype."""
    for operand in operands:
        if isinstance(operand, np.floating) and type(operand) is not np.float64:
            break
    else:
        return
    if not any(isinstance(other, Array) and other.kind is Kind.FLOAT for other in operands):
        raise graph.refusal(
            f"{operand!r} is combined with numbers or conditions; NumPy computes that in "
            f"{operand.dtype}, but a rule in float64: write float(x) for it"
        )


def array_operation(graph: Graph, operation: str, *operands: Any) -> Array:
    """Note an operation of which one operand is an array."""
    for operand in operands:
        if isinstance(operand, StandIn):
            operand.check(graph)
    if operation in ("gt", "ge"):
        operation, operands = {"gt": "lt", "ge": "le"}[operation], operands[::-1]
    _refuse_other_widths(graph, operands)
    arrays = [as_array(graph, operand) for operand in operands]
    kinds = [array.kind for array in arrays]
    if operation in _LOGICAL:
        if max(kinds) is not Kind.TRUTH:
            raise graph.refusal(_NO_CONDITIONS)
        kind = Kind.TRUTH
    elif operation in COMPARISONS:
        kind = Kind.TRUTH
    elif max(kinds) is Kind.TRUTH and operation in ("mul", "add"):
        operation, kind = {"mul": "and", "add": "or"}[operation], Kind.TRUTH
    elif max(kinds) is Kind.TRUTH or (Kind.TRUTH in kinds and operation == "copysign"):
        raise graph.refusal("a condition is used as floats; use np.where(condition, 1.0, 0.0)")
    else:
        is_integer = max(kinds) is Kind.INTEGER and operation in _OF_INTEGERS
        kind = Kind.INTEGER if is_integer else Kind.FLOAT
    value = graph.value(operation, *(array.value for array in arrays))
    if kind is Kind.INTEGER and operation in _MAY_BE_MINUS_0:
        # Integers have one zero.
        value = graph.value("add", value, as_array(graph, 0.0).value)
    return Array(graph, value, kind)


def power(graph: Graph, base: Any, exponent: Any, name: str) -> Array:
    """Note a power that is rounded alike everywhere."""
    array = as_array(graph, base)
    if array.kind is Kind.TRUTH:
        raise graph.refusal("a condition is used as floats; use np.where(condition, 1.0, 0.0)")
    if isinstance(base, Array) and is_number(exponent):
        if exponent == 2:
            return array_operation(graph, "mul", array, array)
        if exponent == 1:
            return array.copy()
        # NumPy has these for Python's ** and numbers only.
        if name == "**" and type(exponent) in (int, float) and array.kind is Kind.FLOAT:
            if exponent == 0.5:
                return array_operation(graph, "sqrt", array)
            if exponent == -1:
                return array_operation(graph, "div", 1.0, array)
    hint = "x**2, x**0.5, x**-1, np.sqrt and products can be: x*x*x, or 1/np.sqrt(x)"
    raise graph.refusal(f"{rounded_unlike(name)}: {hint}")


def choose(graph: Graph, condition: Any, x: Any, y: Any) -> Any:
    """Note a choice between arrays, or between numbers."""
    if not any(isinstance(thing, Array) for thing in (condition, x, y)):
        stand_in = next(thing for thing in (condition, x, y) if isinstance(thing, Number))
        return stand_in.of("where", condition, x, y)
    _refuse_other_widths(graph, (x, y))
    arrays = [as_array(graph, thing) for thing in (condition, x, y)]
    value = graph.value("where", *(array.value for array in arrays))
    if isinstance(condition, (bool, np.bool_)):
        value = arrays[1 if condition else 2].value
    return Array(graph, value, max(arrays[1].kind, arrays[2].kind))


def clip(graph: Graph, x: Any, least: Any, most: Any) -> Any:
    """Note a clip as NumPy does it: of two zeros, it keeps the array's if bounds are numbers."""
    if not any(isinstance(thing, Array) for thing in (x, least, most)):
        stand_in = next(thing for thing in (x, least, most) if isinstance(thing, Number))
        for operation, bound in (("maximum", least), ("minimum", most)):
            x = x if bound is None else stand_in.of(operation, x, bound)
        return x
    if least is None or most is None:
        if least is None and most is None:
            return as_array(graph, x).copy()
        operation = "minimum" if least is None else "maximum"
        return array_operation(graph, operation, x, most if least is None else least)
    if isinstance(least, Array) or isinstance(most, Array):
        return array_operation(graph, "minimum", array_operation(graph, "maximum", x, least), most)
    return array_operation(graph, "minimum", most, array_operation(graph, "maximum", least, x))
