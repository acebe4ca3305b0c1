"""What a rule runs, in words."""

import operator
import re
from collections.abc import Iterator, Mapping, Sequence

from instep.formula.graph import Graph
from instep.formula.traced import Traced

__all__ = ["explanation", "summary"]


def summary(traced: Traced) -> str:
    """Return what a rule runs, in a few words."""
    if traced.recipe is not None:
        return f"runs the recipe {traced.recipe[0]}"
    return f"runs {len(traced.compiled.listing.splitlines())} instructions"


def explanation(traced: Traced) -> Iterator[str]:
    """Give the lines that say what a rule runs."""
    graph = traced.graph
    arrays, numbers = traced.roles, traced.numbers
    yield f"{traced.name}({', '.join(arrays)}, *, {', '.join(numbers)})"
    live = [graph.values[value] for value in graph.live()]
    operations = sum(operation not in ("array", "number") for operation, _ in live)
    read = sum(operation == "array" for operation, _ in live)
    # An array that keeps its value is not written.
    roles = [0, *range(2, len(arrays))]
    kept = [graph.value("array", role) for role in roles]
    elements = read + sum(map(operator.ne, graph.outputs, kept))
    yield (
        f"per element: {operations} operations; {elements} numbers read or written, "
        f"{8 * elements} bytes in float64, {4 * elements} in float32"
    )
    yield (
        "limit: moving these bytes, if the arrays are not in a cache; else the operations, of "
        f"which {sum(operation in ('div', 'sqrt') for operation, _ in live)} divide or take roots"
    )
    if traced.recipe is not None:
        yield f"runs the compiled recipe {traced.recipe[0]}, which is the same formula"
        return
    yield "runs these instructions on blocks of elements; x is what is in the registers"
    names = {**dict(enumerate(arrays)), **{i: f"buffer{i - 6}" for i in range(7, 256)}}
    for instruction in traced.compiled.listing.splitlines():
        yield f"    {_readable(instruction, names, traced)}"


def _readable(instruction: str, names: Mapping[int, str], traced: Traced) -> str:
    """Return an instruction with the names of slots, and how its numbers are made."""

    def slot(match: re.Match[str]) -> str:
        return names[int(match[1])]

    def number(match: re.Match[str]) -> str:
        return f"[{_formula_of(traced.graph, int(match[1]), traced.numbers)}]"

    return re.sub(r"#(\d+)", number, re.sub(r"@(\d+)", slot, instruction))


_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "floordiv": "//",
    "mod": "%",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


def _formula_of(graph: Graph, number: int, names: Sequence[str]) -> str:
    """Return a number as Python has it."""
    operation, operands, _ = graph.numbers[number]
    if operation == "const":
        return f"{graph.constants[operands[0]]:g}"
    if operation == "hyper":
        return names[operands[0]]
    inner = [_formula_of(graph, operand, names) for operand in operands]
    if operation in _SIGNS:
        return f"({inner[0]} {_SIGNS[operation]} {inner[1]})"
    return f"-{inner[0]}" if operation == "neg" else f"{operation}({', '.join(inner)})"
