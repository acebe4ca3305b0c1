"""Python's operators of stand-ins: each notes an operation."""

from collections.abc import Callable
from typing import Any

from instep.formula.graph import Graph
from instep.formula.stand_ins import Array, Number, array_operation, power

__all__ = ["add_operators"]


def _binary_methods(operation: str, name: str) -> tuple[Callable[..., Any], ...]:
    """Return the method of an operator, the reversed one and the one in place."""

    def apply(graph: Graph, x: Any, y: Any) -> Any:
        if name == "pow":
            return power(graph, x, y, "**")
        if operation in ("floordiv", "mod"):
            raise graph.refusal("// and % of arrays can't be in a rule")
        return array_operation(graph, operation, x, y)

    def of_arrays(self: Array, other: Any) -> Any:
        return apply(self.graph, self, other)

    def reversed_of_arrays(self: Array, other: Any) -> Any:
        return apply(self.graph, other, self)

    def in_place(self: Array, other: Any) -> Any:
        return self.become(apply(self.graph, self, other))

    def of_numbers(self: Number, other: Any) -> Any:
        return NotImplemented if isinstance(other, Array) else self.of(operation, self, other)

    def reversed_of_numbers(self: Number, other: Any) -> Any:
        return self.of(operation, other, self)

    return of_arrays, reversed_of_arrays, in_place, of_numbers, reversed_of_numbers


def add_operators() -> None:
    """Give the stand-ins their operators."""
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
            (Array, "", methods[0]),
            (Array, "r", methods[1]),
            (Array, "i", methods[2]),
            (Number, "", methods[3]),
            (Number, "r", methods[4]),
        ):
            setattr(kind, f"__{prefix}{name}__", method)
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        methods = _binary_methods(name, name)
        setattr(Array, f"__{name}__", methods[0])
        setattr(Number, f"__{name}__", methods[3])
    for name in ("and", "or", "xor"):
        methods = _binary_methods(name, name)
        for prefix, method in zip(("", "r", "i"), methods, strict=False):
            setattr(Array, f"__{prefix}{name}__", method)
        for prefix, method in zip(("", "r"), methods[3:], strict=True):
            setattr(Number, f"__{prefix}{name}__", method)
