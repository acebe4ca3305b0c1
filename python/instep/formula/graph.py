"""The graph of a formula: its operations on arrays and on numbers, each noted once."""

import hashlib
import linecache
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["COMMUTATIVE", "MAX_VALUES", "Graph"]

MAX_VALUES = 2000
"""The most operations on arrays that a rule may have."""

# The folders of instep and NumPy. Errors don't show lines from there.
_NOT_SHOWN = tuple(f"{Path(file).parent}{os.sep}" for file in (Path(__file__).parent, np.__file__))

COMMUTATIVE = frozenset(("add", "mul", "and", "or", "xor", "eq", "ne"))
"""The operations whose operands may be in either order."""

# What can go wrong with the numbers of a step.
_FAILURES = {
    "div": "division by 0",
    "floordiv": "division by 0",
    "mod": "division by 0",
    "pow": "a power that is not a finite float",
    "sqrt": "the root of a negative number",
    "log": "the logarithm of a number that is not positive",
    "exp": "a number that is too large",
}


class Graph:
    """What a function does, in an order in which it can be done.

    Attributes
    ----------
    constants : list of float
        Constants among the numbers.
    numbers : list of tuple
        Operations on numbers: name, operands, and what errors call it. ``"const"`` has the index
        of a constant as its operand, ``"hyper"`` that of a hyper-parameter, all others earlier
        numbers.
    values : list of tuple
        Operations on arrays: name and operands. ``"array"`` has the number of a role as its
        operand, ``"number"`` a number, all others earlier values.
    outputs : list of int
        The values that are returned.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.constants: list[float] = []
        self.numbers: list[tuple[str, tuple[int, ...], str]] = []
        self.values: list[tuple[str, tuple[int, ...]]] = []
        self.outputs: list[int] = []
        self.is_open = True
        self._known: dict[tuple[Any, ...], int] = {}

    def constant(self, value: float) -> int:
        """Note a constant."""
        # Not by value: there are two zeros.
        key = ("constant", repr(value))
        if key not in self._known:
            self.constants.append(value)
            self._known[key] = len(self.constants) - 1
        return self.number("const", self._known[key])

    def number(self, operation: str, *operands: int) -> int:
        """Note an operation on numbers."""
        key = ("number", operation, *operands)
        if key not in self._known:
            failure = _FAILURES.get(operation, "a number that can't be computed")
            place = "" if operation in ("const", "hyper") else self.place(failure)
            self.numbers.append((operation, operands, place))
            self._known[key] = len(self.numbers) - 1
        return self._known[key]

    def value(self, operation: str, *operands: int) -> int:
        """Note an operation on arrays."""
        if operation in COMMUTATIVE:
            operands = tuple(sorted(operands))
        key = ("value", operation, *operands)
        if key not in self._known:
            if len(self.values) == MAX_VALUES:
                raise self.refusal(
                    f"the rule has more than {MAX_VALUES} operations; make it two rules"
                )
            self.values.append((operation, operands))
            self._known[key] = len(self.values) - 1
        return self._known[key]

    def live(self) -> set[int]:
        """Return the values that the outputs depend on."""
        live: set[int] = set()
        waiting = list(self.outputs)
        while waiting:
            value = waiting.pop()
            operation, operands = self.values[value]
            if value not in live:
                live.add(value)
                if operation not in ("array", "number"):
                    waiting.extend(operands)
        return live

    def place(self, what: str) -> str:
        """Return a message with the place in the function, and the line."""
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename.startswith(_NOT_SHOWN):
            frame = frame.f_back
        file, line = frame.f_code.co_filename, frame.f_lineno
        text = linecache.getline(file, line, frame.f_globals).strip()
        shown = f", `{text}`" if text else ""
        return f"{self.name}, line {line}{shown}: {what}"

    def refusal(self, what: str) -> TypeError:
        """Return an error that names the line."""
        return TypeError(self.place(what))

    def hashes(self) -> tuple[str, ...]:
        """Return a hash for each output, the same for equal graphs, however they were written."""
        numbers: list[bytes] = []
        for operation, operands, _ in self.numbers:
            if operation == "const":
                parts = [repr(self.constants[operands[0]]).encode()]
            elif operation == "hyper":
                parts = [str(operands[0]).encode()]
            else:
                parts = [numbers[operand] for operand in operands]
            numbers.append(_digest(operation, parts))
        values: list[bytes] = []
        for operation, places in self.values:
            if operation == "array":
                parts = [str(places[0]).encode()]
            elif operation == "number":
                parts = [numbers[places[0]]]
            else:
                parts = [values[place] for place in places]
            values.append(_digest(operation, parts))
        return tuple(values[output].hex() for output in self.outputs)


def _digest(operation: str, parts: list[bytes]) -> bytes:
    if operation in COMMUTATIVE:
        parts = sorted(parts)
    return hashlib.sha256(b"\0".join([operation.encode(), *parts])).digest()[:16]
