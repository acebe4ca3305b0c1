"""Recognition: finds the recipe that a traced formula is, if there is one.

The definitions of the recipes in `instep.reference` are functions of arrays too. They are traced in
the same way, once, when the first formula with as many states comes. A formula is a recipe if their
graphs of arrays are the same for some order of the states, and if a number of the formula can be
put in the place of each hyper-parameter so that all numbers are the same.
"""

import inspect
import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

from instep import _instep, reference
from instep.formula.graph import COMMUTATIVE, Graph
from instep.formula.tracing import trace

__all__ = ["Recognized", "recipe_of"]

Recognized: TypeAlias = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A recipe's name; a number of the formula for each hyper-parameter; a state for each state."""

# They compute in float64 for arrays of any dtype, which no rule does.
_WIDE = frozenset(("adam_dlfs", "adam_hat_wide"))


@lru_cache
def _references(states: int) -> list[tuple[str, Graph, int]]:
    """Return the graphs of the recipes with so many states, and how many numbers each takes."""
    found = []
    for name in _instep.recipes():
        recipe = _instep.Recipe(name)
        if name in _WIDE or len(recipe.states) != states:
            continue
        function = getattr(reference, name)
        assert inspect.isfunction(function)
        roles = ("p", "g", *recipe.states)
        graph = trace(function, name, roles, recipe.hypers)
        found.append((name, graph, len(recipe.hypers)))
    return found


def recipe_of(graph: Graph, states: int) -> Recognized | None:
    """Return the recipe that a graph of so many states is; None if it is none."""
    count = _counts(graph)
    for name, other, hypers in _references(states):
        if _counts(other) != count:
            continue
        for order in itertools.permutations(range(states)):
            matched = _Match(graph, other, order).hypers(hypers)
            if matched is not None:
                return name, matched, order
    return None


def _counts(graph: Graph) -> tuple[str, ...]:
    """Return the operations that the outputs depend on, numbers and arrays left out."""
    operations = (graph.values[value][0] for value in graph.live())
    return tuple(sorted(o for o in operations if o not in ("array", "number")))


class _Match:
    """An attempt to match the graph of a recipe with another."""

    def __init__(self, graph: Graph, recipe: Graph, order: tuple[int, ...]) -> None:
        self.graph = graph
        self.recipe = recipe
        # The role of the formula for each of the recipe.
        self.roles = (0, 1, *(2 + state for state in order))
        self.outputs = (graph.outputs[0], *(graph.outputs[1 + state] for state in order))

    def hypers(self, count: int) -> tuple[int, ...] | None:
        """Return the formula's number for each hyper-parameter of the recipe."""
        pairs: list[tuple[int, int]] = list(zip(self.outputs, self.recipe.outputs, strict=True))
        for bound in self._all(pairs, {}):
            if len(bound) == count:
                return tuple(bound[hyper] for hyper in range(count))
        return None

    def _all(self, pairs: list[tuple[int, int]], bound: dict[int, int]) -> Iterator[dict[int, int]]:
        """Give all ways to make these pairs of values equal, with these hyper-parameters known."""
        if not pairs:
            yield bound
            return
        (own, its), rest = pairs[0], pairs[1:]
        (operation, operands), (wanted, others) = self.graph.values[own], self.recipe.values[its]
        if operation != wanted:
            return
        if operation == "array":
            if operands[0] == self.roles[others[0]]:
                yield from self._all(rest, bound)
            return
        if operation == "number":
            for known in self._numbers(operands[0], others[0], bound):
                yield from self._all(rest, known)
            return
        for order in _orders(operation, operands):
            yield from self._all([*zip(order, others, strict=True), *rest], bound)

    def _numbers(self, own: int, its: int, bound: dict[int, int]) -> Iterator[dict[int, int]]:
        """Give all ways to make two numbers equal."""
        wanted, others, _ = self.recipe.numbers[its]
        if wanted == "hyper":
            hyper = others[0]
            if hyper not in bound:
                yield {**bound, hyper: own}
            elif bound[hyper] == own:
                yield bound
            return
        operation, operands, _ = self.graph.numbers[own]
        if operation != wanted and {operation, wanted} != {"sqrt", "np.sqrt"}:
            return
        if operation == "const":
            if repr(self.graph.constants[operands[0]]) == repr(self.recipe.constants[others[0]]):
                yield bound
            return
        for order in _orders(operation, operands):
            yield from self._pairs_of_numbers(list(zip(order, others, strict=True)), bound)

    def _pairs_of_numbers(
        self, pairs: list[tuple[int, int]], bound: dict[int, int]
    ) -> Iterator[dict[int, int]]:
        if not pairs:
            yield bound
            return
        for known in self._numbers(*pairs[0], bound):
            yield from self._pairs_of_numbers(pairs[1:], known)


def _orders(operation: str, operands: tuple[int, ...]) -> list[tuple[int, ...]]:
    if operation in COMMUTATIVE and operands[0] != operands[1]:
        return [operands, operands[::-1]]
    return [operands]
