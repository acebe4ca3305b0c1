"""NumPy's functions of stand-ins: NumPy calls the stand-ins, which note the operation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.formula.graph import Graph
from instep.formula.refusals import OF_OTHERS, ROUNDED_UNLIKE, of_others, rounded_unlike
from instep.formula.stand_ins import (
    COMPARISONS,
    Array,
    Dtype,
    Kind,
    Number,
    StandIn,
    array_operation,
    as_array,
    choose,
    clip,
    power,
)

__all__ = ["add_functions"]

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
    **{name: operation for name, operation in _UFUNCS.items() if operation in COMPARISONS},
    "floor": "floor",
    "ceil": "ceil",
    "sqrt": "np.sqrt",
}


def _ufunc(graph: Graph, ufunc: Any, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    name = ufunc.__name__
    if method != "__call__":
        raise graph.refusal(of_others(f"np.{name}.{method}"))
    out, where = kwargs.pop("out", None), kwargs.pop("where", True)
    if isinstance(kwargs.get("dtype"), Dtype):
        del kwargs["dtype"]
    if kwargs:
        raise graph.refusal(f"np.{name} has {next(iter(kwargs))}=, which can't be in a rule")
    result = _called(graph, name, inputs)
    if out is None:
        if where is not True:
            raise graph.refusal(
                f"np.{name} has where= but no out=; some elements would have no value"
            )
        return result
    return _into(graph, out[0] if len(out) == 1 else None, result, where, f"np.{name}")


def _into(graph: Graph, out: Any, result: Any, where: Any, name: str) -> Array:
    """Put a result into the array of out=, in all places or only in those of where=."""
    if not isinstance(out, Array):
        raise graph.refusal(f"{name} has an out= that is not an array of the rule")
    return out.become(
        as_array(graph, result if where is True else choose(graph, where, result, out))
    )


def _called(graph: Graph, name: str, inputs: Sequence[Any]) -> Any:
    if not any(isinstance(operand, Array) for operand in inputs):
        # One of them is a number, or NumPy would not have called.
        if name not in _NUMBER_UFUNCS or not inputs:
            raise graph.refusal(
                f"np.{name} of a number can't be in a rule; Python's operators and the functions "
                "of math can, such as math.exp and **"
            )
        stand_in = next(operand for operand in inputs if isinstance(operand, Number))
        return stand_in.of(_NUMBER_UFUNCS[name], *inputs)
    if name == "square":
        return power(graph, inputs[0], 2, "np.square")
    if name == "positive":
        return inputs[0].copy()
    if name == "reciprocal":
        if inputs[0].kind is not Kind.FLOAT:
            raise graph.refusal("np.reciprocal of integers, which rounds down; use 1 / x")
        return array_operation(graph, "div", 1.0, inputs[0])
    if name == "power":
        return power(graph, inputs[0], inputs[1], "np.power")
    if name == "isnan":
        return array_operation(graph, "ne", inputs[0], inputs[0])
    if name == "isfinite":
        difference = array_operation(graph, "sub", inputs[0], inputs[0])
        return array_operation(graph, "eq", difference, 0.0)
    if name == "clip":
        return clip(graph, *inputs)
    if name in ROUNDED_UNLIKE:
        raise graph.refusal(rounded_unlike(f"np.{name}"))
    if name == "matmul":
        raise graph.refusal(of_others("@"))
    if name not in _UFUNCS:
        raise graph.refusal(f"np.{name} can't be in a rule; the documentation lists what can")
    result = array_operation(graph, _UFUNCS[name], *inputs)
    if name == "fabs":
        result.kind = Kind.FLOAT
    return result


# The numbers in the arrays that these make. In NumPy, np.empty_like may have any.
_LIKE = {np.zeros_like: False, np.ones_like: True, np.empty_like: False, np.full_like: None}


def _array_function(graph: Graph, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function.__name__
    if function is np.where and len(args) == 3 and not kwargs:
        return choose(graph, *args)
    if function is np.clip:
        return _clip_call(graph, *args, **kwargs)
    if function in _LIKE and len(args) == 1 + (function is np.full_like):
        dtype = kwargs.pop("dtype", None)
        if not kwargs and isinstance(args[0], Array) and isinstance(dtype, (Dtype, type(None))):
            kind = args[0].kind if dtype is None else Kind.FLOAT
            number = args[1] if function is np.full_like else _LIKE[function]
            return Array(graph, args[0].value, kind).become(as_array(graph, number))
    if function is np.copyto and len(args) == 2 and not kwargs and isinstance(args[0], Array):
        args[0][...] = args[1]
        return None
    if function is np.copy and len(args) == 1 and not kwargs:
        return args[0].copy()
    if name in OF_OTHERS:
        of_linalg = "linalg." if name == "norm" else ""
        raise graph.refusal(of_others(f"np.{of_linalg}{name}"))
    raise graph.refusal(
        f"np.{name} can't be in a rule, or not with these arguments; the documentation lists what "
        "can"
    )


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
    clipped = clip(graph, x, min if a_min is None else a_min, max if a_max is None else a_max)
    return clipped if out is None else _into(graph, out, clipped, True, "np.clip")


def add_functions() -> None:
    """Give the stand-ins the methods that NumPy calls."""

    def array_ufunc(self: StandIn, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _ufunc(self.graph, ufunc, method, inputs, kwargs)

    def array_function(self: StandIn, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return _array_function(self.graph, function, args, kwargs)

    def clip_of(self: Array, *args: Any, **kwargs: Any) -> Any:
        return _array_function(self.graph, np.clip, (self, *args), kwargs)

    for kind, name, method in (
        (StandIn, "__array_ufunc__", array_ufunc),
        (StandIn, "__array_function__", array_function),
        (Array, "clip", clip_of),
    ):
        setattr(kind, name, method)
