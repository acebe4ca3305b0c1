"""Steps without an optimizer object: what `instep.functional` has for every rule."""

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from instep import optimizers
from instep.checks import check_integer, no_option
from instep.groups import work
from instep.optimizer import Optimizer
from instep.rule import TOO_MANY_STEPS, check_rate, compiled
from instep.storage import FIRST_EXPONENTS, Bits, Master, StateDtype, Storage
from instep.tree import called

__all__ = ["RULES", "states", "step_function"]

RULES: dict[str, type[Optimizer]] = {
    name.lower(): getattr(optimizers, name) for name in optimizers.__all__
}
"""The classes, by the names of their functions."""


def states(rule: str, **options: Any) -> tuple[str, ...]:
    """Return the names of the state arrays of a rule, in the order its function takes them.

    Parameters
    ----------
    rule : str
        The name of the function, such as ``"adam"``.
    **options
        Options of the class. With some, the rule has more states.

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
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; wanted one of {', '.join(map(repr, RULES))}")
    merged = _merge(rule, options)
    return compiled(RULES[rule].recipe(merged, 1)).states


@lru_cache
def step_function(function: str) -> Callable[..., None]:
    """Return the function of a rule, with the options of the class in its signature."""
    rule = RULES[function]

    def step(
        p: Any,
        g: Any,
        /,
        *state: Any,
        t: int,
        master: Master | None = None,
        state_dtype: StateDtype = "float32",
        seed: int = 0,
        bits: Bits | None = None,
        name: str | Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        check_integer("t", t, least=1)
        t = int(t)
        if t > TOO_MANY_STEPS:
            raise ValueError(f"t is {t}; wanted {TOO_MANY_STEPS} or less")
        storage = Storage(master, state_dtype, seed, bits)
        merged = rule.checked(_merge(function, options))
        rate = check_rate(merged["lr"], t)
        recipe, numbers, (sign, decay, decouples), _ = work(rule, merged, rate, t)
        roles = ("p", "g", *recipe.states, *storage.beside(recipe.states))
        if len(roles) != 2 + len(state):
            wanted = ", ".join(roles)
            raise TypeError(f"{function}() was given {2 + len(state)} arrays; wanted {wanted}")
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

        names = _names(name, len(given[0]), is_list=is_list)
        kept = [index for index, gradient in enumerate(given[1]) if gradient is not None]
        if not kept:
            return
        chosen = [tuple(array[index] for index in kept) for array in given]

        def describe(_: int, role: int, index: int) -> str:
            if role >= FIRST_EXPONENTS:
                role += len(roles) - len(recipe.states) - FIRST_EXPONENTS
            return called(roles[role], (kept[index],) if is_list else ())

        stored = [
            storage.of(called("p", (index,) if is_list else ()), names[index], given[0][index])
            for index in kept
            if storage.is_used(given[0][index])
        ]
        said = [own.said_of(rule.recipe(merged, t), recipe.states) for own in stored if own]
        if len(said) not in (0, len(kept)) or len({own[:4] for own in said}) > 1:
            raise TypeError(
                "the arrays of p are not stored alike; wanted a call for each kind of them"
            )
        storage.check_use(list(stored))
        around = (sign, 0.0, 1.0 - rate * decay) if decouples else (sign, decay, 1.0)
        arrays = chosen[0], chosen[1], tuple(chosen[2:])
        if not said:
            recipe.step(numbers, *arrays, describe, around)
        else:
            recipe.step(numbers, *arrays, describe, around, None, (said, t, seed))

    step.__name__ = step.__qualname__ = function
    step.__doc__ = (
        f"Do one step of `instep.{rule.__name__}`, in place; its docstring has the formula and the "
        "options."
    )
    own = list(inspect.signature(step).parameters.values())[:-1]
    named = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for option, parameter in inspect.signature(rule).parameters.items()
        if option in _defaults(function)
    ]
    step.__signature__ = inspect.Signature([*own, *named])  # type: ignore[attr-defined]
    return step


def _names(name: str | Sequence[str] | None, count: int, *, is_list: bool) -> list[str]:
    """Return the names of parameters, by default those that they have in an optimizer."""
    if name is None:
        return [str(index) for index in range(count)] if is_list else ["params"]
    names: list[Any] = list(name) if isinstance(name, (list, tuple)) else [name]
    of_str = all(isinstance(each, str) for each in names)
    if not of_str or isinstance(name, str) == is_list or len(names) != count:
        wanted = f"a list of {count} str, as p has arrays" if is_list else "a str"
        raise ValueError(f"name is {name!r}; wanted {wanted}")
    return names


@lru_cache
def _defaults(name: str) -> dict[str, Any]:
    parameters = inspect.signature(RULES[name]).parameters
    others = ("params", "common")
    return {option: p.default for option, p in parameters.items() if option not in others}


def _merge(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a rule, with defaults for those that are not given."""
    defaults = _defaults(name)
    for option in options:
        if option not in defaults:
            raise no_option(f"{name}()", option, defaults)
    return {**defaults, **options}
