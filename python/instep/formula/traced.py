"""The function of a rule, and everything that is known about it."""

import hashlib
import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any

from instep import _instep
from instep.formula.bytecode import numbers_outside, refuse_assignments, refuse_other_order
from instep.formula.recognition import Recognized, recipe_of
from instep.formula.signature import Norm, arguments
from instep.formula.tracing import trace

__all__ = ["Traced"]


class Traced:
    """A function and everything that is known about it."""

    def __init__(self, function: types.FunctionType, taken: Sequence[str]) -> None:
        self.function = function
        self.name = function.__name__
        self.roles, self.initial, self.defaults = arguments(function, taken)
        self.numbers = tuple(self.defaults)
        self.norms = {
            name: "pg".index(default.of)
            for name, default in self.defaults.items()
            if isinstance(default, Norm)
        }
        self.options = tuple(n for n in self.numbers if n != "t" and n not in self.norms)
        self.outside = dict(numbers_outside(function))
        refuse_other_order(function, [self.roles[0], *self.roles[2:]])
        refuse_assignments(function)
        self.graph = trace(function, self.name, self.roles, self.numbers)
        again = trace(function, self.name, self.roles, self.numbers)
        if again.hashes() != self.graph.hashes():
            raise ValueError(
                f"{self.name} is a different formula in each call; what changes from step to "
                "step has to be a keyword or a state"
            )
        what = [*self.graph.hashes(), *map(repr, self.norms.items())]
        self.hash = hashlib.sha256("".join(what).encode()).hexdigest()[:16]
        self.recipe = recipe_of(self.graph, len(self.roles) - 2)
        self.compiled = self.compile(self.recipe)

    def compile(self, recipe: Recognized | None, isa: str | None = None) -> _instep.Recipe:
        """Return what runs the formula at an instruction level: a recipe, or a program."""
        graph = self.graph
        return _instep.Recipe.of_formula(
            self.name,
            self.numbers,
            tuple(self.roles[2:]),
            graph.constants,
            graph.numbers,
            graph.values,
            graph.outputs,
            [(self.numbers.index(name), role) for name, role in self.norms.items()],
            recipe,
            isa,
        )

    def check_outside(self) -> None:
        """Raise an error if a number that was captured has changed."""
        for name, (value, place) in self.outside.items():
            now = place()
            if not _is_same(value, now):
                raise ValueError(
                    f"{self.name} was made when {name} was {value!r}, and now it is {now!r}; a "
                    "number that changes has to be a keyword of the function"
                )

    def call_numbers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of one call, with defaults."""
        for name in given:
            if name not in self.options and name != "t":
                wanted = ", ".join(n for n in self.numbers if n not in self.norms)
                raise TypeError(f"{self.name} has no keyword {name!r}; wanted {wanted}")
        numbers = {**self.defaults, **dict.fromkeys(self.norms, 1.0), **given}
        for name, number in numbers.items():
            if number is inspect.Parameter.empty:
                what = ", the number of the step counted from 1" if name == "t" else ""
                raise TypeError(f"{self.name} was called without {name}{what}; it has no default")
        return numbers


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))
