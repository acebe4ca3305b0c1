"""The signature of a rule's function: its arrays, its numbers, and their first values."""

import inspect
import math
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.checks import check_integer, check_number

__all__ = ["Norm", "arguments", "as_float", "norm"]

MAX_STATES = 4
MAX_NUMBERS = 32


class Norm:
    """The norm of a whole array, as the default of a keyword. `norm` makes it."""

    def __init__(self, of: str) -> None:
        self.of = of

    def __repr__(self) -> str:
        """Show how to make it."""
        return f"instep.norm({self.of!r})"


def norm(of: str) -> Norm:
    """Ask for the norm of a whole array, as the default of a keyword of a `rule`.

    Parameters
    ----------
    of : {"p", "g"}
        Of the parameter or of its gradient, before the step. The gradient is the one that the rule
        gets: multiplied by ``grad_scale`` and by the factors of clipping by norms.

    Returns
    -------
    Norm
        Only to be used as a default.

    Raises
    ------
    ValueError
        Another word.

    Notes
    -----
    The root of the sum of squares, in float64 and in a fixed order, as `reference.gradient_norm`
    defines it. It is one number for each array, and takes one more pass over it. A step with such a
    rule can't have `Rows` or ``max_value``; a ``weight_decay`` must be a keyword of the rule
    itself.

    Examples
    --------
    LARS, without momentum:

    >>> import numpy as np
    >>> import instep
    >>> @instep.rule
    ... def lars(p, g, *, lr=0.1, trust=0.001, p_norm=instep.norm("p"), g_norm=instep.norm("g")):
    ...     return p - lr * (trust * p_norm / g_norm) * g
    >>> p = np.array([3.0, 4.0])
    >>> result = lars(p, lr=1.0, trust=0.5).step(np.array([0.0, 2.0]))
    >>> p
    array([3. , 1.5])
    """
    if of not in ("p", "g"):
        raise ValueError(f"of is {of!r}; wanted 'p' or 'g', the parameter or its gradient")
    return Norm(of)


def arguments(
    function: types.FunctionType, taken: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, float | None], dict[str, Any]]:
    """Return the names of the arrays, what states start with, and the numbers with defaults."""
    name = function.__name__
    arrays, numbers = [], {}
    for argument in inspect.signature(function).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY:
            numbers[argument.name] = argument
        elif argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            raise TypeError(f"{name} has the argument *{argument.name}; wanted each by its name")
        else:
            arrays.append(argument)
    names = tuple(argument.name for argument in arrays)
    if names[:1] in (("self",), ("cls",)):
        raise TypeError(
            f"{name} takes {names[0]}; a rule is a function of arrays and numbers, and no method: "
            f"leave {names[0]} out"
        )
    if "lr" not in numbers:
        if "lr" in names or any(isinstance(a.default, float) for a in arrays):
            raise TypeError(
                f"{name} takes numbers in the places of arrays; put a * before them: "
                f"def {name}({', '.join(names[:2])}, ..., *, lr=0.01)"
            )
        raise TypeError(
            f"{name} has no keyword lr, the learning rate, which groups and schedules set: "
            f"def {name}({', '.join(names)}, *, lr=0.01)"
        )
    if len(names) < 2:
        raise TypeError(f"{name} takes the arrays {names}; wanted the parameter, its gradient, ...")
    if len(names) - 2 > MAX_STATES:
        raise TypeError(f"{name} has {len(names) - 2} states; wanted {MAX_STATES} at most")
    if len(numbers) > MAX_NUMBERS:
        raise TypeError(f"{name} has {len(numbers)} keywords; wanted {MAX_NUMBERS} at most")
    initial = {}
    for argument in arrays:
        default = argument.default
        if default is argument.empty:
            default = 0.0
        elif argument.name in names[:2]:
            raise TypeError(f"{name} has a default for {argument.name}; only states have defaults")
        is_copy = isinstance(default, str) and default == "p"
        if not is_copy and not isinstance(default, (int, float, np.number)):
            raise TypeError(
                f"{name} has the state {argument.name}={default!r}; wanted the number that it "
                "starts with, or 'p' for a copy of the parameter"
            )
        initial[argument.name] = None if is_copy else as_float(argument.name, default)
    defaults = {}
    for key, argument in numbers.items():
        if key in taken:
            raise TypeError(f"{name} has the keyword {key}, which all optimizers have; rename it")
        default = argument.default
        if default is not argument.empty and not isinstance(default, Norm):
            default = _default(name, key, default)
        defaults[key] = default
    return names, initial, defaults


def _default(name: str, key: str, default: Any) -> Any:
    if key == "t":
        check_integer("t", default, least=1)
        return default
    if isinstance(default, (bool, str)):
        raise TypeError(
            f"{name} has the keyword {key}={default!r}; wanted a number: write a rule for each case"
        )
    return as_float(key, default)


def as_float(name: str, given: Any) -> float:
    """Return a number that may be negative, as a float."""
    return check_number(name, given, least=-math.inf)
