"""Tracing: from a function of arrays, written in NumPy, to the graph of what it does.

The function is called with stand-ins for its arrays and numbers. Each operation on them is noted in
a `Graph`; an operation that comes twice is noted once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from instep.checks import kind_of
from instep.formula.graph import Graph
from instep.formula.math_functions import with_traced_math
from instep.formula.numpy_functions import add_functions
from instep.formula.operators import add_operators
from instep.formula.stand_ins import Array, Kind, Number, StandIn

__all__ = ["trace"]

add_operators()
add_functions()


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
        An operation that can't be in a rule; a return of something that is not an array.
    ValueError
        A return of another number of arrays than there are roles without the gradient.
    """
    graph = Graph(name)
    arrays = [Array(graph, graph.value("array", role)) for role in range(len(roles))]
    numbers = {
        hyper: Number(
            graph, graph.number("hyper", place), kind=Kind.INTEGER if hyper == "t" else Kind.FLOAT
        )
        for place, hyper in enumerate(hypers)
    }
    returned = with_traced_math(function)(*arrays, **numbers)
    wanted = [roles[0], *roles[2:]]
    graph.outputs = [
        _output(graph, array, role)
        for array, role in zip(_as_list(graph, returned, wanted), wanted, strict=True)
    ]
    # Stand-ins that were kept outside, for example in a list, are of no use.
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
        if not all(isinstance(array, (StandIn, float, int)) for array in arrays):
            has = ", ".join(map(kind_of, arrays))
        raise ValueError(
            f"{graph.name} returns {has}; wanted {len(wanted)}, the new parameter and every state "
            f"in the order of the arguments: `return {', '.join(wanted)}`"
        )
    return arrays


def _output(graph: Graph, array: Any, role: str) -> int:
    if not isinstance(array, Array):
        kind = "a number" if isinstance(array, (Number, float, int)) else kind_of(array)
        raise TypeError(
            f"{graph.name} returns {kind} for {role}; wanted an array: np.full_like({role}, x) "
            "makes one of a number x"
        )
    if array.kind is Kind.TRUTH:
        raise TypeError(
            f"{graph.name} returns an array of booleans for {role}; wanted floats: "
            "np.where(condition, 1.0, 0.0)"
        )
    return array.value
