"""What the bytecode of a rule's function says: what it takes from outside, and what it returns."""

import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["numbers_outside", "refuse_assignments", "refuse_other_order"]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def numbers_outside(
    function: types.FunctionType,
) -> Iterator[tuple[str, tuple[Any, Callable[[], Any]]]]:
    """Give the numbers that a function takes from its module and from the functions around it.

    Each comes with its name, its value, and a callable that returns the value later.
    """
    names = dict.fromkeys(
        instruction.argval
        for code in _codes(function.__code__)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )
    places: dict[str, Callable[[], Any]] = {
        name: functools.partial(function.__globals__.get, name) for name in names
    }
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    places |= {
        name: functools.partial(getattr, cell, "cell_contents", None) for name, cell in cells
    }
    for name, place in places.items():
        thing = place()
        if isinstance(thing, (int, float, np.number, np.bool_)):
            yield name, (thing, place)


def refuse_assignments(function: types.FunctionType) -> None:
    """Refuse assignments that would be done only once, when the rule is made."""
    for code in _codes(function.__code__):
        for instruction in dis.get_instructions(code):
            of_outside = instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
                instruction.opname in ("STORE_DEREF", "DELETE_DEREF")
                and instruction.argval in function.__code__.co_freevars
            )
            if of_outside:
                raise TypeError(
                    f"{function.__name__} assigns to {instruction.argval}, which is outside of it; "
                    "a rule is called once, when it is made: what changes from step to step has to "
                    "be a state, or the keyword t"
                )


def _returned_names(code: types.CodeType) -> Iterator[list[str]]:
    """Give the names of each return that has only names."""
    loaded: list[str] = []
    made: list[str] = []
    for instruction in dis.get_instructions(code):
        what, operand = instruction.opname, instruction.argval
        if what == "RETURN_VALUE" and made:
            yield made
        made = []
        if what.startswith("LOAD_FAST") or what == "LOAD_DEREF":
            # Newer versions of Python load two at once.
            loaded.extend(operand if isinstance(operand, tuple) else [operand])
        else:
            if what in ("BUILD_TUPLE", "BUILD_LIST") and len(loaded) >= operand:
                made = loaded[-operand:]
            loaded = []


def refuse_other_order(function: types.FunctionType, wanted: list[str]) -> None:
    """Refuse a return of the names of all arguments in another order."""
    for names in _returned_names(function.__code__):
        if names != wanted and sorted(names) == sorted(wanted):
            raise ValueError(
                f"{function.__name__} returns {', '.join(names)}; wanted the order of the "
                f"arguments: `return {', '.join(wanted)}`"
            )
