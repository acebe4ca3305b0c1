"""Tracing: from a function of arrays, written in NumPy, to the graph of what it does.

The function is called with stand-ins for its arrays and numbers, and each operation on them is
noted in a `Graph`; of two that are the same, one is. Operations on numbers are kept apart from
those on arrays: they are done once a step, in float64.

`instep.rule` is what to call.
"""

import builtins
import math
import types
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NoReturn

import numpy as np

from instep.checks import kind_of
from instep.graph import Graph

__all__ = ["trace"]


def trace(
    function: Callable[..., Any], name: str, roles: Sequence[str], hypers: Sequence[str]
) -> Graph:
    """Return what a function does with the arrays of its roles and the numbers of its hypers.

    Parameters
    ----------
    function : function
        It is called once.
    name : str
        What errors call it.
    roles : sequence of str
        The names of its positional arguments: parameter, gradient, states.
    hypers : sequence of str
        The names of its keywords.

    Raises
    ------
    TypeError
        An operation that can't be in a rule, or something that is returned and is no array.
    ValueError
        Another number of arrays than roles without the gradient is returned.
    """
    graph = Graph(name)
    arrays = [_Array(graph, graph.value("array", role)) for role in range(len(roles))]
    numbers = {
        hyper: _Number(
            graph, graph.number("hyper", place), kind=_Kind.INTEGER if hyper == "t" else _Kind.FLOAT
        )
        for place, hyper in enumerate(hypers)
    }
    returned = _with_traced_math(function)(*arrays, **numbers)
    wanted = [roles[0], *roles[2:]]
    graph.outputs = [
        _output(graph, array, role)
        for array, role in zip(_as_list(graph, returned, wanted), wanted, strict=True)
    ]
    # What is left of the stand-ins, in a list outside say, is of no use.
    graph.is_open = False
    return graph


def _as_list(graph: Graph, returned: Any, wanted: list[str]) -> list[Any]:
    if isinstance(returned, (tuple, list)):
        arrays = list(returned)
    elif returned is None:
        raise ValueError(
            f"{graph.name} returns nothing; wanted the new arrays: end it with "
            f"`return {', '.join(wanted)}`"
        )
    else:
        arrays = [returned]
    if len(arrays) != len(wanted):
        has = "1 array" if len(arrays) == 1 else f"{len(arrays)} arrays"
        if not all(isinstance(array, (_StandIn, float, int)) for array in arrays):
            has = ", ".join(map(kind_of, arrays))
        raise ValueError(
            f"{graph.name} returns {has}; wanted {len(wanted)}, the new parameter and every state "
            f"in the order of the arguments: `return {', '.join(wanted)}`"
        )
    return arrays


def _output(graph: Graph, array: Any, role: str) -> int:
    if not isinstance(array, _Array):
        kind = "a number" if isinstance(array, (_Number, float, int)) else kind_of(array)
        raise TypeError(
            f"{graph.name} returns {kind} for {role}; wanted an array: np.full_like({role}, x) "
            "makes one of a number x"
        )
    if array.kind is _Kind.TRUTH:
        raise TypeError(
            f"{graph.name} returns an array of booleans for {role}; wanted floats: "
            "np.where(condition, 1.0, 0.0)"
        )
    return array.value


def _with_traced_math(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the functions of `math`, and max and min, taking stand-ins."""
    assert isinstance(function, types.FunctionType)
    own = dict(function.__globals__)
    own.setdefault("max", _max)
    own.setdefault("min", _min)
    closure = function.__closure__
    for name, thing in own.items():
        own[name] = _traced(thing)
    if closure is not None:
        closure = tuple(_traced_cell(cell) for cell in closure)
    copy = types.FunctionType(
        function.__code__, own, function.__name__, function.__defaults__, closure
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _traced_cell(cell: types.CellType) -> types.CellType:
    try:
        contents = cell.cell_contents
    except ValueError:
        return cell
    traced = _traced(contents)
    return cell if traced is contents else types.CellType(traced)


def _traced(thing: Any) -> Any:
    if thing is math:
        return _MATH
    # Builtin functions only: all else may have a strange ==.
    if type(thing) is types.BuiltinFunctionType and thing.__module__ == "math":
        return getattr(_MATH, thing.__name__)
    return thing


def _is_number(thing: Any) -> bool:
    return isinstance(thing, (int, float, np.floating, np.integer, np.bool_))


def _is_float(integer: int) -> bool:
    try:
        return int(float(integer)) == integer
    except OverflowError:
        return False


def _as_number(graph: Graph, thing: Any) -> int:
    """Return a number of the graph: one that it has, or a constant."""
    if isinstance(thing, _Number):
        thing.check(graph)
        return thing.number
    if _is_number(thing):
        if isinstance(thing, np.longdouble):
            raise graph.refusal(f"{thing!r} is a number of {thing.dtype}; write a float")
        if isinstance(thing, int) and not _is_float(thing):
            raise graph.refusal(f"an integer that no float64 has; write float({str(thing)[:30]})")
        return graph.constant(float(thing))
    if isinstance(thing, np.ndarray):
        raise graph.refusal(
            f"an array from outside, of dtype {thing.dtype} and shape {thing.shape}: a rule can "
            "only have arrays that are its arguments; make it a state, or a number"
        )
    raise graph.refusal(f"{kind_of(thing)} is neither an array of the rule nor a number")


class _Kind(IntEnum):
    """What arrays and numbers hold: of two that meet, NumPy gives the larger."""

    TRUTH = 0
    INTEGER = 1
    FLOAT = 2


_PLURALS = {_Kind.TRUTH: "booleans", _Kind.INTEGER: "integers", _Kind.FLOAT: "floats"}


def _kind(thing: Any) -> _Kind:
    if isinstance(thing, _StandIn):
        return thing.kind
    if isinstance(thing, (bool, np.bool_)):
        return _Kind.TRUTH
    return _Kind.INTEGER if isinstance(thing, (int, np.integer)) else _Kind.FLOAT


class _StandIn:
    """What arrays and numbers have in common."""

    # NumPy asks these instead of making arrays of them.
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, graph: Graph, kind: _Kind) -> None:
        self.graph = graph
        self.kind = kind

    def check(self, graph: Graph | None = None) -> None:
        if not self.graph.is_open or graph not in (None, self.graph):
            raise TypeError(
                f"a stand-in of {self.graph.name} was kept outside of it; a rule is called once, "
                "to be traced, and what it does to things outside is not done again"
            )

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise self.graph.refusal(
            "an array or a NumPy number is made of a stand-in; use it as it is, without np.array, "
            "np.float64 and the like"
        )

    def __bool__(self) -> NoReturn:
        raise self.graph.refusal(self._BOOL)

    def __iter__(self) -> NoReturn:
        raise self.graph.refusal(
            "a loop over elements; a rule says what happens to all of them at once"
        )

    def __len__(self) -> NoReturn:
        raise self.graph.refusal("the length is asked for, and a rule is for arrays of any length")

    _BOOL = ""


# Operations of integers that give integers, and those of them that could give a zero with a sign.
_OF_INTEGERS = frozenset(
    "add sub mul floordiv mod neg abs sign max min maximum minimum".split()  # noqa: SIM905
)
_MAY_BE_MINUS_0 = frozenset(("mul", "floordiv", "mod", "neg"))

# Operations whose results are true or not.
_COMPARISONS = frozenset(("lt", "le", "gt", "ge", "eq", "ne"))
_LOGICAL = frozenset(("and", "or", "xor", "not"))

_NO_CONDITIONS = "& | ^ ~ take conditions, such as g > 0; put parentheses around each"


class _Number(_StandIn):
    """A number of the step."""

    _BOOL = (
        "`if`, `while`, `and`, `or` or `not` looks at a number that changes from step to step; use "
        "np.where(condition, x, y), which takes numbers too"
    )

    def __init__(self, graph: Graph, number: int, kind: _Kind = _Kind.FLOAT) -> None:
        super().__init__(graph, kind)
        self.number = number

    def of(self, operation: str, *operands: Any) -> "_Number":
        self.check()
        graph = self.graph
        _refuse_other_widths(graph, operands)
        kinds = [_kind(operand) for operand in operands]
        if operation in _LOGICAL:
            if max(kinds) is not _Kind.TRUTH:
                raise graph.refusal(_NO_CONDITIONS)
            operation, kind = {"and": "min", "or": "max", "xor": "ne"}[operation], _Kind.TRUTH
        elif operation in _COMPARISONS:
            kind = _Kind.TRUTH
        elif operation == "where":
            kind = max(kinds[1:])
        elif max(kinds) is _Kind.FLOAT:
            is_rounded = operation in ("math.floor", "math.ceil")
            kind = _Kind.INTEGER if is_rounded else _Kind.FLOAT
        else:
            is_power = operation == "pow" and isinstance(operands[1], int) and operands[1] >= 0
            is_integer = is_power or operation in (*_OF_INTEGERS, "math.floor", "math.ceil")
            kind = _Kind.INTEGER if is_integer else _Kind.FLOAT
        places = [_as_number(graph, operand) for operand in operands]
        number = graph.number(operation.removeprefix("math."), *places)
        if kind is _Kind.INTEGER and operation in (*_MAY_BE_MINUS_0, "math.floor", "math.ceil"):
            # Integers have one zero.
            number = graph.number("add", number, graph.constant(0.0))
        return _Number(graph, number, kind)

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

    def __neg__(self) -> "_Number":
        return self.of("neg", self)

    def __pos__(self) -> "_Number":
        return self

    def __abs__(self) -> "_Number":
        return self.of("abs", self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _ufunc(self.graph, ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return _array_function(self.graph, function, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.graph.refusal(f"a number has no .{name} in a rule")


class _Array(_StandIn):
    """An array: which value it has at the moment. What is done in place changes that."""

    _BOOL = (
        "`if`, `while`, `and`, `or`, `not`, max() or min() looks at the elements of an array; use "
        "np.where(condition, x, y), np.maximum, np.minimum, and & | ~ between conditions"
    )

    def __init__(self, graph: Graph, value: int, kind: _Kind = _Kind.FLOAT) -> None:
        super().__init__(graph, kind)
        self.value = value

    def become(self, other: "_Array") -> "_Array":
        """Take another value, in place."""
        if other.kind > self.kind:
            raise self.graph.refusal(
                f"an array of {_PLURALS[self.kind]} is to hold {_PLURALS[other.kind]} in place; "
                "use a new name"
            )
        self.value = other.value
        return self

    @property
    def dtype(self) -> "_Dtype":
        if self.kind is not _Kind.FLOAT:
            raise self.graph.refusal(
                f"the dtype of an array of {_PLURALS[self.kind]}; that of p is the rule's"
            )
        return _Dtype(self.graph)

    def astype(self, dtype: Any, **_: Any) -> "_Array":
        if isinstance(dtype, _Dtype):
            return _Array(self.graph, self.value)
        if self.kind is not _Kind.FLOAT and dtype in (float, np.float64, "float64", int, np.int64):
            kind = _Kind.INTEGER if dtype in (int, np.int64) else _Kind.FLOAT
            return _Array(self.graph, self.value, kind)
        raise self.graph.refusal(
            ".astype: all of a rule is computed in the dtype of its parameter; leave it out, or "
            "use .astype(p.dtype)"
        )

    def copy(self, *_: Any, **__: Any) -> "_Array":
        return _Array(self.graph, self.value, self.kind)

    def fill(self, number: Any) -> None:
        self[...] = number

    def clip(self, *args: Any, **kwargs: Any) -> Any:
        return _array_function(self.graph, np.clip, (self, *args), kwargs)

    def __getitem__(self, key: Any) -> "_Array":
        if _is_all(key):
            return self
        raise self.graph.refusal(
            "some elements are taken from an array; use np.where(condition, x, y)"
        )

    def __setitem__(self, key: Any, item: Any) -> None:
        graph = self.graph
        if isinstance(key, _Array) and key.kind is _Kind.TRUTH:
            if isinstance(item, _Array):
                raise graph.refusal(
                    "elements are assigned by a condition; use np.where(condition, x, y)"
                )
            self.become(_where(graph, key, item, self))
        elif not _is_all(key):
            raise graph.refusal("some elements are assigned to; use np.where(condition, x, y)")
        else:
            self.become(_as_array(graph, item).copy())

    def __neg__(self) -> "_Array":
        return _array_operation(self.graph, "neg", self)

    def __pos__(self) -> "_Array":
        return self.copy()

    def __abs__(self) -> "_Array":
        return _array_operation(self.graph, "abs", self)

    def __invert__(self) -> "_Array":
        return _array_operation(self.graph, "not", self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _ufunc(self.graph, ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return _array_function(self.graph, function, args, kwargs)

    def __matmul__(self, _: Any) -> NoReturn:
        raise self.graph.refusal(_of_others("@"))

    __rmatmul__ = __matmul__

    def __float__(self) -> float:
        raise self.graph.refusal(self._BOOL)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _OF_OTHERS:
            raise self.graph.refusal(_of_others(f".{name}"))
        raise self.graph.refusal(
            f".{name} can't be in a rule, which says what happens to every element by itself"
        )


def _is_all(key: Any) -> bool:
    return key is Ellipsis or (isinstance(key, slice) and key == slice(None))


class _Dtype:
    """The dtype of all arrays of a rule, which it has to be the same formula for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dtype) or self._is_asked()

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


# fmt: off
_OF_OTHERS = frozenset((
    "sum", "mean", "max", "min", "any", "all", "prod", "std", "var", "dot", "norm", "argmax",
    "argmin", "cumsum", "cumprod", "ptp", "sort", "argsort", "median", "average", "amax",
    "amin", "nansum", "nanmean", "nanmax", "nanmin", "vdot", "inner", "outer", "matmul",
    "einsum", "tensordot", "linalg.norm", "quantile", "percentile", "partition",
    "count_nonzero", "trace", "diff", "roll", "flip", "concatenate", "stack", "allclose",
    "array_equal", "isclose",
))
# fmt: on

# fmt: off
_ROUNDED_UNLIKE = frozenset((
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sinh", "cosh", "sin",
    "cos", "tan", "arctan", "arctan2", "arcsin", "arccos", "arcsinh", "arccosh", "arctanh",
    "cbrt", "hypot", "power", "float_power", "logaddexp", "logaddexp2",
))
# fmt: on


def _of_others(name: str) -> str:
    return (
        f"{name} looks at other elements, and a rule says what happens to every element by itself; "
        "for the norm of an array give the rule a keyword g_norm=instep.norm('g')"
    )


def _rounded_unlike(name: str) -> str:
    return (
        f"{name} of arrays is not rounded alike by all CPUs and versions of NumPy, so a rule can't "
        "have it; + - * / and roots are"
    )


def _as_array(graph: Graph, thing: Any) -> _Array:
    """Return an array of the rule, or one of a number."""
    if isinstance(thing, _Array):
        thing.check(graph)
        return thing
    return _Array(graph, graph.value("number", _as_number(graph, thing)), _kind(thing))


# Those that take one array of floats.
_UNARY = frozenset(("sqrt", "abs", "neg", "sign"))


def _refuse_other_widths(graph: Graph, operands: Sequence[Any]) -> None:
    """Refuse a NumPy float that meets no array of the rule's dtype, or NumPy's dtype would win."""
    if any(isinstance(operand, _Array) and operand.kind is _Kind.FLOAT for operand in operands):
        return
    for operand in operands:
        if isinstance(operand, np.floating) and type(operand) is not np.float64:
            raise graph.refusal(
                f"{operand!r} meets numbers or conditions, and NumPy computes that in "
                f"{operand.dtype}, a rule in float64; write float(x) for it"
            )


def _array_operation(graph: Graph, operation: str, *operands: Any) -> _Array:
    """Note an operation of which one operand is an array."""
    for operand in operands:
        if isinstance(operand, _StandIn):
            operand.check(graph)
    if operation in ("gt", "ge"):
        operation, operands = {"gt": "lt", "ge": "le"}[operation], operands[::-1]
    _refuse_other_widths(graph, operands)
    arrays = [_as_array(graph, operand) for operand in operands]
    kinds = [array.kind for array in arrays]
    if operation in _LOGICAL:
        if max(kinds) is not _Kind.TRUTH:
            raise graph.refusal(_NO_CONDITIONS)
        kind = _Kind.TRUTH
    elif operation in _COMPARISONS:
        kind = _Kind.TRUTH
    elif max(kinds) is _Kind.TRUTH and operation in ("mul", "add"):
        operation, kind = {"mul": "and", "add": "or"}[operation], _Kind.TRUTH
    elif max(kinds) is _Kind.TRUTH or (_Kind.TRUTH in kinds and operation == "copysign"):
        raise graph.refusal("a condition is used as floats; use np.where(condition, 1.0, 0.0)")
    else:
        is_integer = max(kinds) is _Kind.INTEGER and operation in _OF_INTEGERS
        kind = _Kind.INTEGER if is_integer else _Kind.FLOAT
    value = graph.value(operation, *(array.value for array in arrays))
    if kind is _Kind.INTEGER and operation in _MAY_BE_MINUS_0:
        # Integers have one zero.
        value = graph.value("add", value, _as_array(graph, 0.0).value)
    return _Array(graph, value, kind)


def _power(graph: Graph, base: Any, exponent: Any, name: str) -> _Array:
    array = _as_array(graph, base)
    if array.kind is _Kind.TRUTH:
        raise graph.refusal("a condition is used as floats; use np.where(condition, 1.0, 0.0)")
    if isinstance(base, _Array) and _is_number(exponent):
        if exponent == 2:
            return _array_operation(graph, "mul", array, array)
        if exponent == 1:
            return array.copy()
        # NumPy has these for Python's ** and numbers only.
        if name == "**" and type(exponent) in (int, float) and array.kind is _Kind.FLOAT:
            if exponent == 0.5:
                return _array_operation(graph, "sqrt", array)
            if exponent == -1:
                return _array_operation(graph, "div", 1.0, array)
    hint = "x**2, x**0.5, x**-1, np.sqrt and products can be: x*x*x, or 1/np.sqrt(x)"
    raise graph.refusal(f"{_rounded_unlike(name)}: {hint}")


# The operations of NumPy's functions.
_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "sqrt": "sqrt",
    "absolute": "abs",
    "fabs": "abs",
    "negative": "neg",
    "sign": "sign",
    "maximum": "maximum",
    "minimum": "minimum",
    "copysign": "copysign",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
    "bitwise_and": "and",
    "logical_and": "and",
    "bitwise_or": "or",
    "logical_or": "or",
    "bitwise_xor": "xor",
    "logical_xor": "xor",
    "invert": "not",
    "logical_not": "not",
}

# Those that take numbers, too.
_NUMBER_UFUNCS = {
    **{name: _UFUNCS[name] for name in ("add", "subtract", "multiply", "divide", "true_divide")},
    **{name: _UFUNCS[name] for name in ("absolute", "fabs", "negative", "maximum", "minimum")},
    **{name: operation for name, operation in _UFUNCS.items() if operation in _COMPARISONS},
    "floor": "floor",
    "ceil": "ceil",
    "sqrt": "np.sqrt",
}


def _ufunc(graph: Graph, ufunc: Any, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    name = ufunc.__name__
    if method != "__call__":
        raise graph.refusal(_of_others(f"np.{name}.{method}"))
    out, where = kwargs.pop("out", None), kwargs.pop("where", True)
    if isinstance(kwargs.get("dtype"), _Dtype):
        del kwargs["dtype"]
    if kwargs:
        raise graph.refusal(f"np.{name} has {next(iter(kwargs))}=, which can't be in a rule")
    result = _called(graph, name, inputs)
    if out is None:
        if where is not True:
            raise graph.refusal(f"np.{name} has where= and no out=, which leaves holes")
        return result
    return _into(graph, out[0] if len(out) == 1 else None, result, where, f"np.{name}")


def _into(graph: Graph, out: Any, result: Any, where: Any, name: str) -> _Array:
    """Put a result into the array of out=, in all places or those of where=."""
    if not isinstance(out, _Array):
        raise graph.refusal(f"{name} has an out= that is no array of the rule")
    return out.become(
        _as_array(graph, result if where is True else _where(graph, where, result, out))
    )


def _called(graph: Graph, name: str, inputs: Sequence[Any]) -> Any:
    if not any(isinstance(operand, _Array) for operand in inputs):
        # One of them is a number, or NumPy would not have asked.
        if name not in _NUMBER_UFUNCS or not inputs:
            raise graph.refusal(
                f"np.{name} of a number can't be in a rule; Python's operators and the functions "
                "of math can, such as math.exp and **"
            )
        stand_in = next(operand for operand in inputs if isinstance(operand, _Number))
        return stand_in.of(_NUMBER_UFUNCS[name], *inputs)
    if name == "square":
        return _power(graph, inputs[0], 2, "np.square")
    if name == "positive":
        return inputs[0].copy()
    if name == "reciprocal":
        if inputs[0].kind is not _Kind.FLOAT:
            raise graph.refusal("np.reciprocal of integers, which rounds down; use 1 / x")
        return _array_operation(graph, "div", 1.0, inputs[0])
    if name == "power":
        return _power(graph, inputs[0], inputs[1], "np.power")
    if name == "isnan":
        return _array_operation(graph, "ne", inputs[0], inputs[0])
    if name == "isfinite":
        difference = _array_operation(graph, "sub", inputs[0], inputs[0])
        return _array_operation(graph, "eq", difference, 0.0)
    if name == "clip":
        return _clip(graph, *inputs)
    if name in _ROUNDED_UNLIKE:
        raise graph.refusal(_rounded_unlike(f"np.{name}"))
    if name == "matmul":
        raise graph.refusal(_of_others("@"))
    if name not in _UFUNCS:
        raise graph.refusal(f"np.{name} can't be in a rule; the documentation lists what can")
    result = _array_operation(graph, _UFUNCS[name], *inputs)
    if name == "fabs":
        result.kind = _Kind.FLOAT
    return result


# What is in the arrays that these make; in NumPy np.empty_like has anything.
_LIKE = {np.zeros_like: False, np.ones_like: True, np.empty_like: False, np.full_like: None}


def _array_function(graph: Graph, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function.__name__
    if function is np.where and len(args) == 3 and not kwargs:
        return _where(graph, *args)
    if function is np.clip:
        return _clip_call(graph, *args, **kwargs)
    if function in _LIKE and len(args) == 1 + (function is np.full_like):
        dtype = kwargs.pop("dtype", None)
        if not kwargs and isinstance(args[0], _Array) and isinstance(dtype, (_Dtype, type(None))):
            kind = args[0].kind if dtype is None else _Kind.FLOAT
            number = args[1] if function is np.full_like else _LIKE[function]
            return _Array(graph, args[0].value, kind).become(_as_array(graph, number))
    if function is np.copyto and len(args) == 2 and not kwargs and isinstance(args[0], _Array):
        args[0][...] = args[1]
        return None
    if function is np.copy and len(args) == 1 and not kwargs:
        return args[0].copy()
    if name in _OF_OTHERS:
        of_linalg = "linalg." if name == "norm" else ""
        raise graph.refusal(_of_others(f"np.{of_linalg}{name}"))
    raise graph.refusal(
        f"np.{name} can't be in a rule, or not with these arguments; the documentation lists what "
        "can"
    )


def _where(graph: Graph, condition: Any, x: Any, y: Any) -> Any:
    if not any(isinstance(thing, _Array) for thing in (condition, x, y)):
        stand_in = next(thing for thing in (condition, x, y) if isinstance(thing, _Number))
        return stand_in.of("where", condition, x, y)
    _refuse_other_widths(graph, (x, y))
    arrays = [_as_array(graph, thing) for thing in (condition, x, y)]
    value = graph.value("where", *(array.value for array in arrays))
    if isinstance(condition, (bool, np.bool_)):
        value = arrays[1 if condition else 2].value
    return _Array(graph, value, max(arrays[1].kind, arrays[2].kind))


def _clip_call(
    graph: Graph,
    x: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,  # noqa: A002
    max: Any = None,  # noqa: A002
) -> Any:
    clipped = _clip(graph, x, min if a_min is None else a_min, max if a_max is None else a_max)
    return clipped if out is None else _into(graph, out, clipped, True, "np.clip")


def _clip(graph: Graph, x: Any, least: Any, most: Any) -> Any:
    """Note what NumPy does: of two zeros it keeps that of the array, if bounds are numbers."""
    if not any(isinstance(thing, _Array) for thing in (x, least, most)):
        stand_in = next(thing for thing in (x, least, most) if isinstance(thing, _Number))
        for operation, bound in (("maximum", least), ("minimum", most)):
            x = x if bound is None else stand_in.of(operation, x, bound)
        return x
    if least is None or most is None:
        if least is None and most is None:
            return _as_array(graph, x).copy()
        operation = "minimum" if least is None else "maximum"
        return _array_operation(graph, operation, x, most if least is None else least)
    if isinstance(least, _Array) or isinstance(most, _Array):
        return _array_operation(
            graph, "minimum", _array_operation(graph, "maximum", x, least), most
        )
    return _array_operation(graph, "minimum", most, _array_operation(graph, "maximum", least, x))


def _binary_methods(operation: str, name: str) -> tuple[Callable[..., Any], ...]:
    """Return the method of an operator, the reversed one and the one in place."""

    def apply(graph: Graph, x: Any, y: Any) -> Any:
        if name == "pow":
            return _power(graph, x, y, "**")
        if operation in ("floordiv", "mod"):
            raise graph.refusal("// and % of arrays can't be in a rule")
        return _array_operation(graph, operation, x, y)

    def of_arrays(self: _Array, other: Any) -> Any:
        return apply(self.graph, self, other)

    def reversed_of_arrays(self: _Array, other: Any) -> Any:
        return apply(self.graph, other, self)

    def in_place(self: _Array, other: Any) -> Any:
        return self.become(apply(self.graph, self, other))

    def of_numbers(self: _Number, other: Any) -> Any:
        return NotImplemented if isinstance(other, _Array) else self.of(operation, self, other)

    def reversed_of_numbers(self: _Number, other: Any) -> Any:
        return self.of(operation, other, self)

    return of_arrays, reversed_of_arrays, in_place, of_numbers, reversed_of_numbers


def _add_operators() -> None:
    names = {
        "add": "add",
        "sub": "sub",
        "mul": "mul",
        "truediv": "div",
        "floordiv": "floordiv",
        "mod": "mod",
        "pow": "pow",
    }
    for name, operation in names.items():
        methods = _binary_methods(operation, name)
        for kind, prefix, method in (
            (_Array, "", methods[0]),
            (_Array, "r", methods[1]),
            (_Array, "i", methods[2]),
            (_Number, "", methods[3]),
            (_Number, "r", methods[4]),
        ):
            setattr(kind, f"__{prefix}{name}__", method)
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        methods = _binary_methods(name, name)
        setattr(_Array, f"__{name}__", methods[0])
        setattr(_Number, f"__{name}__", methods[3])
    for name in ("and", "or", "xor"):
        methods = _binary_methods(name, name)
        for prefix, method in zip(("", "r", "i"), methods, strict=False):
            setattr(_Array, f"__{prefix}{name}__", method)
        for prefix, method in zip(("", "r"), methods[3:], strict=True):
            setattr(_Number, f"__{prefix}{name}__", method)


_add_operators()


class _Math:
    """The functions of `math`, which take numbers of a rule too."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(math, name)
        if not callable(real):
            return real

        def function(*args: Any) -> Any:
            stand_ins = [arg for arg in args if isinstance(arg, _StandIn)]
            if not stand_ins:
                return real(*args)
            graph = stand_ins[0].graph
            if any(isinstance(arg, _Array) for arg in args):
                raise graph.refusal(f"math.{name} takes no arrays; use np.{name}")
            own = {"fabs": "abs", "floor": "math.floor", "ceil": "math.ceil"}
            operation = own.get(name, name)
            if operation not in _MATH_FUNCTIONS or len(args) != _MATH_FUNCTIONS[operation]:
                known = ", ".join(own.removeprefix("math.") for own in _MATH_FUNCTIONS)
                raise graph.refusal(f"math.{name} can't be in a rule; {known} can")
            number = _Number(graph, graph.constant(0.0)).of(operation, *args)
            if operation not in ("math.floor", "math.ceil"):
                number.kind = _Kind.FLOAT
            return number

        return function


_MATH_FUNCTIONS = {
    "sqrt": 1,
    "exp": 1,
    "log": 1,
    "sin": 1,
    "cos": 1,
    "tanh": 1,
    "math.floor": 1,
    "math.ceil": 1,
    "abs": 1,
    "pow": 2,
}

_MATH = _Math()


def _extreme(name: str, args: Any, kwargs: Any) -> Any:
    real = getattr(builtins, name)
    given = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    stand_ins = [arg for arg in given if isinstance(arg, _StandIn)]
    if not stand_ins or kwargs:
        return real(*args, **kwargs)
    graph = stand_ins[0].graph
    if any(isinstance(arg, _Array) for arg in given):
        raise graph.refusal(f"{name}() looks at the elements of an array; use np.{name}imum(x, y)")
    most = given[0]
    for other in given[1:]:
        most = _Number(graph, graph.constant(0.0)).of(name, most, other)
    return most


def _max(*args: Any, **kwargs: Any) -> Any:
    return _extreme("max", args, kwargs)


def _min(*args: Any, **kwargs: Any) -> Any:
    return _extreme("min", args, kwargs)
