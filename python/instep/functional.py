"""Stateless steps: the rules of `instep.optimizers`, for those who keep their own state.

Every rule has a function here, named after its class in lower case: ``adam`` for `Adam`, ``adamw``
for `AdamW`. It takes the parameter, the gradient and the state arrays of the rule's recipe, each an
array or a list of arrays, in which a gradient may be ``None`` to leave its parameter and state
alone; then, as keywords, ``t``, the number of the step counted from 1, and the options of the
class. **Parameter and state are written in place**; nothing is returned. `states` says which state
arrays a rule has, in order. They start as zeros; Adagrad's as what its option
``initial_accumulator_value`` says, which is the caller's to fill in.

Examples
--------
>>> import numpy as np
>>> from instep import functional
>>> p, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
>>> functional.states("adam")
('m', 'v')
>>> m, v = np.zeros(2), np.zeros(2)
>>> functional.adam(p, g, m, v, t=1, lr=0.1)
>>> p.round(6)
array([0.9, 2.1])
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from instep import optimizers
from instep.checks import check_integer
from instep.groups import work
from instep.optimizer import Optimizer
from instep.rule import TOO_MANY_STEPS, check_rate, compiled
from instep.tree import called

__all__ = ["states"]

_RULES: dict[str, type[Optimizer]] = {
    name.lower(): getattr(optimizers, name) for name in optimizers.__all__
}


def states(rule: str, **options: Any) -> tuple[str, ...]:
    """Return the names of the state arrays of a rule, in the order its function takes them.

    Parameters
    ----------
    rule : str
        The name of the function, such as ``"adam"``.
    **options
        Options of the class: some need more states than others.

    Raises
    ------
    ValueError
        An unknown rule, or a mode that it does not have.
    TypeError
        An option that the rule does not have.

    Examples
    --------
    >>> from instep import functional
    >>> functional.states("adam", amsgrad=True)
    ('m', 'v', 'v_max')
    """
    if rule not in _RULES:
        raise ValueError(f"rule is {rule!r}; wanted one of {', '.join(map(repr, _RULES))}")
    merged = _merge(rule, options)
    return compiled(_RULES[rule].recipe(merged, 1)).states


def __getattr__(name: str) -> Callable[..., None]:
    if name not in _RULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _function(name)


def __dir__() -> list[str]:
    return [*globals(), *_RULES]


@lru_cache
def _function(name: str) -> Callable[..., None]:
    """Make the function of a rule."""
    rule = _RULES[name]

    def step(p: Any, g: Any, *state: Any, t: int, **options: Any) -> None:
        check_integer("t", t, least=1)
        t = int(t)
        if t > TOO_MANY_STEPS:
            raise ValueError(f"t is {t}; wanted {TOO_MANY_STEPS} or less")
        merged = rule.checked(_merge(name, options))
        rate = check_rate(merged["lr"], t)
        recipe, numbers, (sign, decay, decouples), _ = work(rule, merged, rate, t)
        roles = ("p", "g", *recipe.states)
        if len(roles) != 2 + len(state):
            wanted = ", ".join(roles)
            raise TypeError(f"{name}() was given {2 + len(state)} arrays; wanted {wanted}")
        if g is None:
            raise TypeError(
                "g is None; wanted a numpy.ndarray, or a list with None for some arrays"
            )
        is_list = isinstance(p, (list, tuple))
        given = [tuple(x) if isinstance(x, (list, tuple)) else (x,) for x in (p, g, *state)]
        for role, arrays in zip(roles, given, strict=True):
            if len(arrays) != len(given[0]):
                has, need = len(arrays), len(given[0])
                raise ValueError(f"{role} has {has} arrays; wanted {need}, as p has")

        kept = [index for index, gradient in enumerate(given[1]) if gradient is not None]
        arrays = [tuple(array[index] for index in kept) for array in given]

        def describe(_: int, role: int, index: int) -> str:
            return called(roles[role], (kept[index],) if is_list else ())

        around = (sign, 0.0, 1.0 - rate * decay) if decouples else (sign, decay, 1.0)
        recipe.step(numbers, arrays[0], arrays[1], tuple(arrays[2:]), describe, around)

    step.__name__ = step.__qualname__ = name
    step.__doc__ = (
        f"Do one step of `instep.{rule.__name__}`, in place; its docstring has the formula and the "
        "options."
    )
    return step


@lru_cache
def _defaults(name: str) -> dict[str, Any]:
    parameters = inspect.signature(_RULES[name]).parameters
    others = ("params", "common")
    return {option: p.default for option, p in parameters.items() if option not in others}


def _merge(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a rule, its defaults where none is given."""
    defaults = _defaults(name)
    for option in options:
        if option not in defaults:
            raise TypeError(f"{name}() has no option {option!r}; wanted {', '.join(defaults)}")
    return {**defaults, **options}
