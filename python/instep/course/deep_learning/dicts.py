"""The dicts of the course, with the keys ``W1, b1, ..., WL, bL``, and what errors call them."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from sys import intern
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep._instep import Recipe
from instep.checks import kind_of
from instep.course.state import plain, zeros_for

Arrays: TypeAlias = dict[str, NDArray[Any]]


@lru_cache
def layer_keys(count: int) -> tuple[str, ...]:
    """Return as many keys of W1, b1, ..., WL, bL."""
    # Interned, as names in code are: a dict sees at once that it is the same object.
    return tuple(intern(f"{'Wb'[index % 2]}{index // 2 + 1}") for index in range(count))


@lru_cache
def other_keys(count: int) -> tuple[str, ...]:
    """Return as many keys of dW1, db1, ..., dWL, dbL."""
    return tuple(intern("d" + key) for key in layer_keys(count))


@lru_cache
def _getters(count: int) -> tuple[Callable[[Arrays], Any], Callable[[Arrays], Any]]:
    """Return two functions that take the arrays out of a dict: of parameters, and of all others."""
    if count == 0:
        return lambda _: (), lambda _: ()
    keys = layer_keys(count + count % 2)
    return itemgetter(*keys), itemgetter(*other_keys(len(keys)))


class LayerDicts:
    """The dicts of one update function: takes their arrays out, and names them in errors."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def tuples(self, parameters: Arrays, *others: Arrays) -> list[tuple[NDArray[Any], ...]]:
        """Return the arrays of each dict, in the order of the layers."""
        dicts = (parameters, *others)
        try:
            for arrays in dicts:
                if type(arrays) is not dict:
                    # It may make what is missing, as a defaultdict does.
                    _refuse_keys(dict(zip(self.names, dicts, strict=True)))
                    break
            of_parameters, of_others = _getters(len(parameters))
            return [of_parameters(parameters), *map(of_others, others)]
        except (LookupError, TypeError, ValueError):
            _refuse_keys(dict(zip(self.names, dicts, strict=True)))
            raise

    def step(self, recipe: Recipe, hypers: tuple[float, ...], dicts: tuple[Arrays, ...]) -> None:
        """Do a step over dicts and arrays of any kind, or say what is wrong with them."""
        p, g, *states = self.tuples(*dicts)
        recipe.step(hypers, p, g, tuple(states), self.describe)

    @staticmethod
    def keys(count: int) -> tuple[str, ...]:
        """Return W1, dW1, b1, db1, ...: the keys of so many parameters."""
        return tuple(chain.from_iterable(zip(layer_keys(count), other_keys(count), strict=True)))

    def describe(self, _group: int, role: int, index: int) -> str:
        """Name the array at a place in `tuples`."""
        key = layer_keys(index + 1)[index]
        return f'{self.names[role]}["{"d" if role else ""}{key}"]'


def _refuse_keys(dicts: dict[str, Arrays]) -> None:
    """Say what is wrong with the dicts or their keys."""
    for name, arrays in dicts.items():
        if not isinstance(arrays, Mapping):
            raise TypeError(f"{name} is {kind_of(arrays)}; wanted a dict of arrays")
    parameters = dicts["parameters"]
    layers = (len(parameters) + 1) // 2
    keys = layer_keys(2 * layers)
    if strays := [key for key in parameters if key not in keys]:
        wanted = "W1, b1" if layers == 1 else f"W1, b1, ..., W{layers}, b{layers}"
        raise ValueError(f"parameters has the key {strays[0]!r}; wanted only {wanted}")
    for name, arrays in dicts.items():
        for key in keys if name == "parameters" else other_keys(len(keys)):
            if key not in arrays:
                raise KeyError(f'{name}["{key}"] is missing')


def empty_like(keys: tuple[str, ...], arrays: tuple[NDArray[Any], ...]) -> Arrays:
    """Make an empty array like each; not for something else, which a step will refuse."""
    pairs = zip(keys, arrays, strict=True)
    return {key: np.empty_like(plain(a)) for key, a in pairs if isinstance(a, np.ndarray)}


def zeros_like(parameters: Arrays) -> Arrays:
    """Make zeros like every parameter, under the key of its gradient."""
    (arrays,) = LayerDicts("parameters").tuples(parameters)
    keys, others = layer_keys(len(arrays)), other_keys(len(arrays))
    triples = zip(keys, others, arrays, strict=True)
    return {other: zeros_for(f'parameters["{key}"]', array) for key, other, array in triples}
