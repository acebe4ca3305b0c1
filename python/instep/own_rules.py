"""Own rules: update formulas that a user has typed, as optimizers."""

import inspect
import types
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

from instep import _instep, reference
from instep.arguments import Common
from instep.checks import check_flag, check_integer, check_number, kind_of, no_option
from instep.formula.explanation import explanation, summary
from instep.formula.signature import as_float, norm
from instep.formula.traced import Traced
from instep.optimizer import Optimizer
from instep.rule import TOO_MANY_STEPS, Options
from instep.tree import called

__all__ = ["OwnRule", "norm", "rule"]

_COMMON = tuple(Common.__annotations__)

# What every optimizer takes; a rule can't have keywords of these names.
_TAKEN = ("params", "maximize", *_COMMON)


def rule(function: Callable[..., Any]) -> "OwnRuleType":
    """Make an optimizer from an update formula, written as a function of NumPy arrays.

    Parameters
    ----------
    function : function
        It takes the parameter, its gradient and up to 4 state arrays, in this order, then numbers
        as keyword arguments: ``lr``, and any others that the formula needs. It returns the new
        parameter and states, in the order of the arguments. A keyword ``t`` gets the number of the
        step, counted from 1. It is called when the rule is made, with stand-ins for the arrays.

    Returns
    -------
    type
        A class of optimizers with the name of the function, see Notes.

    Raises
    ------
    TypeError
        Other arguments than these; an operation that a rule can't have. The message names the line,
        and says what to do.
    ValueError
        The function returns another number of arrays, or returns them in another order.

    Notes
    -----
    With ``mine`` made of a function, and ``m`` and ``v`` its states:

    ``mine(params, lr=0.01)``
        An `Optimizer`. Its options are the keywords of the function, with their defaults, and
        ``weight_decay`` and ``maximize``. ``weight_decay*p`` is added to the gradient, except if
        the function has a keyword of that name: then it does the decay itself.
    ``mine.step(p, g, m, v, lr=0.01, t=3)``
        One step on arrays of your own, **written in place**; nothing is returned.
    ``mine(p, g, m, v, lr=0.01, t=3)``
        The function itself, in NumPy.
    ``mine.explain()``
        A text that says what runs.

    A state starts with zeros. With ``m=0.5`` in the function's arguments it starts with 0.5
    everywhere, and with ``z="p"`` as a copy of the parameter.

    The step is one pass over the arrays, in place, and **bit-for-bit identical to the NumPy
    formula**: it does all operations on arrays in the order in which you wrote them, and rounds
    each to the dtype of the parameter. Numbers are computed in float64, once a step, and then
    rounded once to that dtype. In NumPy 2, a formula becomes float64 if it combines a float32 array
    with a ``np.float64``, or with a condition times a number; in a rule it does not. In NumPy,
    ``np.maximum`` and ``np.minimum`` of 0 and -0 depend on the CPU; here they give the second one.
    A sign that ``np.copysign`` takes from NaN is positive.

    If the formula is that of a compiled recipe, the recipe runs.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> @instep.rule
    ... def momentum(p, g, v, *, lr=0.01, beta=0.9):
    ...     v = beta * v - lr * g
    ...     return p + v, v
    >>> params = {"W": np.ones(3)}
    >>> opt = momentum(params, lr=0.1)
    >>> result = opt.step({"W": np.ones(3)})
    >>> params["W"]
    array([0.9, 0.9, 0.9])
    """
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"function is {kind_of(function)}; wanted a function made with def")
    traced = Traced(function, _TAKEN)
    space: dict[str, Any] = {
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "_traced": traced,
    }
    if traced.outside:
        space["step"] = _checked_step
    return OwnRuleType(function.__name__, (OwnRule,), space)


def _checked_step(self: "OwnRule", grads: Any, **asked: Any) -> Any:
    """Do one step, in place: see `Optimizer.step`."""
    self._traced.check_outside()
    return Optimizer.step(self, grads, **asked)


class OwnRuleType(ABCMeta):
    """The type of the classes that `rule` returns: how they are called, explained and shown."""

    _traced: Traced

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an optimizer. With more than one argument, call the function itself."""
        traced = getattr(cls, "_traced", None)
        if traced is None:
            raise TypeError("OwnRule has no formula; instep.rule makes its subclasses")
        by_name = [name for name in traced.roles if name in kwargs and name not in _TAKEN]
        if by_name:
            raise TypeError(
                f"{traced.name} was given {by_name[0]}= by its name; give arrays in order"
            )
        if len(args) < 2:
            return super().__call__(*args, **kwargs)
        if isinstance(args[1], (int, float)) and not isinstance(args[0], (int, float)):
            raise TypeError(
                f"{traced.name} was given {args[1]!r} instead of the gradient; for an "
                f"optimizer write {traced.name}(params, lr={args[1]!r})"
            )
        for name, role in traced.norms.items():
            if name not in kwargs:
                kwargs[name] = reference.gradient_norm(args[role])
        return traced.function(*args, **kwargs)

    @property
    def step(cls) -> Callable[..., None]:
        """One step on arrays of your own, in place."""
        return _Step(cls._traced)

    def explain(cls) -> str:
        """Return what a step runs, as text."""
        return "\n".join(explanation(cls._traced))

    def __repr__(cls) -> str:
        """Show the arguments of the rule, and what it runs."""
        if "_traced" not in cls.__dict__:
            return super().__repr__()
        traced = cls._traced
        states = ", ".join(traced.roles[2:]) or "none"
        return f"<instep.rule {traced.name}: states {states}; {summary(traced)}>"


class _Step:
    """The step of a rule on arrays."""

    def __init__(self, traced: Traced) -> None:
        self._traced = traced
        self.__name__ = self.__qualname__ = f"{traced.name}.step"

    def __call__(self, *arrays: Any, **numbers: Any) -> None:
        """Do one step, in place."""
        traced = self._traced
        roles = traced.roles
        if len(arrays) != len(roles):
            wanted = ", ".join(roles)
            raise TypeError(f"{self.__name__}() was given {len(arrays)} arrays; wanted {wanted}")
        traced.check_outside()
        given = traced.call_numbers(numbers)
        if "t" in given:
            check_integer("t", given["t"], least=1)
            if given["t"] > TOO_MANY_STEPS:
                raise ValueError(f"t is {given['t']}; wanted {TOO_MANY_STEPS} or less")
        checked = tuple(as_float(name, number) for name, number in given.items())

        def describe(_: int, role: int, index: int) -> str:
            return called(roles[role], ())

        p, g, *states = ((array,) for array in arrays)
        traced.compiled.step(checked, p, g, tuple(states), describe, (1.0, 0.0, 1.0))


class OwnRule(Optimizer, metaclass=OwnRuleType):
    """The base of the classes that `rule` makes."""

    _traced: Traced

    def __init__(self, params: Any, **options: Any) -> None:
        traced = self._traced
        own = {name: traced.defaults[name] for name in traced.options}
        own |= {"weight_decay": own.get("weight_decay", 0.0), "maximize": False}
        common = {name: options.pop(name) for name in _COMMON if name in options}
        for name in options:
            if name not in own:
                raise no_option(traced.name, name, (*own, *_COMMON))
        own |= options
        for name, option in own.items():
            if option is inspect.Parameter.empty:
                raise TypeError(f"{traced.name} was made without {name}; it has no default")
        super().__init__(params, own, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        """Return what is stored with the states: the name of the rule and a hash of its formula."""
        return f"{cls._traced.name} {cls._traced.hash}"

    @classmethod
    def not_the_same(cls, saved: Any, own: str) -> str:
        """Return what is wrong with a saved formula."""
        return (
            f"is {saved!r}, and the formula of {cls._traced.name} is {own!r} now: it was changed "
            "after the state was saved. Load it with the function as it was, or start again"
        )

    @classmethod
    def compiled(cls, options: Options, t: int) -> _instep.Recipe:
        """Return the program."""
        return cls._traced.compiled

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        """Return the options with their numbers checked."""
        own = {n: as_float(n, options[n]) for n in cls._traced.options if n != "lr"}
        if "weight_decay" not in own:
            decay = check_number("weight_decay", options["weight_decay"])
            if decay and cls._traced.norms:
                raise ValueError(
                    f"weight_decay is {decay}, and {cls._traced.name} asks for norms; wanted 0: "
                    "give the function a keyword weight_decay, and decay in it"
                )
            own["weight_decay"] = decay
        return {**options, **own, "maximize": check_flag("maximize", options["maximize"])}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        """Return the numbers of the program for step `t`."""
        given = {**options, **dict.fromkeys(cls._traced.norms, 1.0), "lr": lr, "t": float(t)}
        return tuple(given[name] for name in cls._traced.numbers)

    @classmethod
    def initial(cls, state: str, options: Options) -> float | None:
        """Return what a state starts with; None for a copy of the parameter."""
        return cls._traced.initial[state]
