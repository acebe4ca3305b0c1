"""Functions of `math`, and max and min, for the numbers of a formula."""

import builtins
import math
import types
from collections.abc import Callable
from typing import Any

from instep.formula.stand_ins import Array, Kind, Number, StandIn

__all__ = ["with_traced_math"]


def with_traced_math(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with functions of `math`, max and min that take stand-ins."""
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
    # Builtin functions only: anything else may have a strange ==.
    if type(thing) is types.BuiltinFunctionType and thing.__module__ == "math":
        return getattr(_MATH, thing.__name__)
    return thing


class _Math:
    """The functions of `math`, which take numbers of a rule too."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(math, name)
        if not callable(real):
            return real

        def function(*args: Any) -> Any:
            stand_ins = [arg for arg in args if isinstance(arg, StandIn)]
            if not stand_ins:
                return real(*args)
            graph = stand_ins[0].graph
            if any(isinstance(arg, Array) for arg in args):
                raise graph.refusal(f"math.{name} takes no arrays; use np.{name}")
            own = {"fabs": "abs", "floor": "math.floor", "ceil": "math.ceil"}
            operation = own.get(name, name)
            if operation not in _MATH_FUNCTIONS or len(args) != _MATH_FUNCTIONS[operation]:
                known = ", ".join(own.removeprefix("math.") for own in _MATH_FUNCTIONS)
                raise graph.refusal(f"math.{name} can't be in a rule; {known} can")
            number = Number(graph, graph.constant(0.0)).of(operation, *args)
            if operation not in ("math.floor", "math.ceil"):
                number.kind = Kind.FLOAT
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
    stand_ins = [arg for arg in given if isinstance(arg, StandIn)]
    if not stand_ins or kwargs:
        return real(*args, **kwargs)
    graph = stand_ins[0].graph
    if any(isinstance(arg, Array) for arg in given):
        raise graph.refusal(f"{name}() looks at the elements of an array; use np.{name}imum(x, y)")
    most = given[0]
    for other in given[1:]:
        most = Number(graph, graph.constant(0.0)).of(name, most, other)
    return most


def _max(*args: Any, **kwargs: Any) -> Any:
    return _extreme("max", args, kwargs)


def _min(*args: Any, **kwargs: Any) -> Any:
    return _extreme("min", args, kwargs)
