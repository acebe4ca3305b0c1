"""What a rule defines: which recipe to run, and with which numbers.

The rules themselves are the classes of `instep.optimizers`. CONTRIBUTING.md shows how one is added.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from instep import _instep
from instep.checks import check_flag, check_number

__all__ = ["TOO_MANY_STEPS", "LearningRate", "Options", "Rule", "check_rate", "compiled"]

LearningRate: TypeAlias = float | Callable[[int], float]
"""A number, or a callable of the number of steps done, as those of `instep.schedules` are."""

Options: TypeAlias = Mapping[str, Any]
"""The options of one group: ``lr``, ``weight_decay``, ``maximize`` and those of the rule."""

TOO_MANY_STEPS = 2**53
"""Larger numbers of steps are not exact in the formulas."""


class Rule(ABC):
    """A rule: a class with only class methods, of which no object is made."""

    @classmethod
    @abstractmethod
    def recipe(cls, options: Options, t: int) -> str:
        """Return the name of the recipe for step `t`; its states are the same for all steps.

        Raises
        ------
        ValueError
            An unknown mode.
        """

    @classmethod
    def compiled(cls, options: Options, t: int) -> _instep.Recipe:
        """Return what step `t` runs: the recipe, or the program of a rule that has none."""
        return compiled(cls.recipe(options, t))

    @classmethod
    @abstractmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        """Return the numbers of the recipe for step `t`, counted from 1.

        `options` are checked ones, with the numbers that the rule carries among them.
        """

    @classmethod
    def not_the_same(cls, saved: Any, own: str) -> str:
        """Return what is wrong with a saved recipe, if it is not the recipe of the options."""
        return f"is {saved!r}; its options are those of {own!r}"

    @classmethod
    def varies(cls, options: Options) -> bool:
        """Return whether Python has to be asked for the numbers of every step.

        If a rule does not vary, later steps take the numbers of an earlier one, and only ``lr`` and
        those named ``x_power`` are replaced. So if other numbers depend on the rate or on `t`, the
        rule has to return True.
        """
        return bool(cls.carried(options, 0))

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        """Return the options with their numbers checked and made floats; the rate is left out.

        Raises
        ------
        TypeError, ValueError
            An option that is not a number, or out of its range.
        """
        return {
            **options,
            "weight_decay": check_number("weight_decay", options["weight_decay"]),
            "maximize": check_flag("maximize", options["maximize"]),
        }

    @classmethod
    def decouples(cls, options: Options) -> bool:
        """Return whether weight decay shrinks the parameter, and is not a part of the gradient.

        A recipe with ``weight_decay`` among its numbers does it itself, and gets neither.
        """
        return False

    @classmethod
    def initial(cls, state: str, options: Options) -> float | None:
        """Return what a state array is filled with at first; None for a copy of the parameter."""
        return 0.0

    @classmethod
    def carried(cls, options: Options, t: int) -> dict[str, float]:
        """Return the numbers that a group carries from step to step, as they are after `t` steps.

        Most rules have none: theirs follow from `t` alone.
        """
        return {}

    @classmethod
    def advance(cls, options: Options, lr: float, t: int) -> dict[str, float]:
        """Return the carried numbers for step `t`; those of the step before are among `options`."""
        return {}


def check_rate(lr: LearningRate, t: int) -> float:
    """Return the learning rate of step `t`."""
    return check_number("lr", lr(t - 1) if callable(lr) else lr)


@lru_cache
def compiled(recipe: str) -> _instep.Recipe:
    """Return the compiled recipe of a name."""
    return _instep.Recipe(recipe)
