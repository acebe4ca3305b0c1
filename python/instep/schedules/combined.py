"""Schedules made of other schedules."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from instep.checks import check_integer
from instep.rule import LearningRate
from instep.schedules.fields import check_count, check_rate, check_rates, require, set_field
from instep.schedules.interpolation import mean
from instep.schedules.schedule import CheckedSchedule


@dataclass(frozen=True, slots=True)
class Warmup(CheckedSchedule):
    """A straight line up to a schedule, then the schedule.

    Parameters
    ----------
    schedule : callable or float
        The schedule after the warm-up, which counts its own steps from 0: one of
        `instep.schedules`, any function of the step number, or a number, which is a constant.
    steps : int
        How many steps the warm-up takes, at least 0.
    start : float, default 0
        The first learning rate, finite and not negative.

    Raises
    ------
    TypeError
        A `schedule` that is neither callable nor a number; `steps` that are not an integer; a
        `start` that is not a number.
    ValueError
        A rate that is negative, NaN or infinite, now or when the schedule is called; ``steps < 0``.

    Notes
    -----
    ``start + (schedule(0) - start)*step/steps`` before `steps`, ``schedule(step - steps)`` after
    that: the line ends at the schedule's first value.

    As ``optax.warmup_constant_schedule`` around a constant, and as
    ``optax.warmup_cosine_decay_schedule(start, peak, steps, decay_steps, end)`` around
    ``Cosine(peak, end, decay_steps - steps)``; in torch, ``LinearLR`` in front of another scheduler
    in ``SequentialLR``.

    With ``start=0`` the first step has a rate of 0 and changes nothing, as in both libraries. If
    the first step should change something, pass ``start=peak/steps``.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Warmup(schedules.Linear(0.5, 0.0, steps=2), steps=4)
    >>> [schedule(step) for step in range(8)]
    [0.0, 0.125, 0.25, 0.375, 0.5, 0.25, 0.0, 0.0]
    >>> schedules.Warmup(0.5, steps=5)(1)
    0.1
    """

    schedule: LearningRate
    steps: int
    start: float = 0.0

    def _check(self) -> None:
        set_field(self, "schedule", _schedule("schedule", self.schedule))
        check_rates(self, "start")
        check_count(self, "steps", least=0)

    def _rate(self, step: int) -> float:
        if step >= self.steps:
            return _call("schedule", self.schedule, step - self.steps)
        first = _call("schedule", self.schedule, 0)
        return mean(self.start, (self.steps - step) / self.steps, first, step / self.steps)


@dataclass(frozen=True, slots=True)
class Sequential(CheckedSchedule):
    """One schedule after another.

    Parameters
    ----------
    schedules : sequence of callable or float
        At least one: those of `instep.schedules`, any functions of the step number, or numbers,
        which are constants. Each counts its own steps from 0.
    boundaries : sequence of int
        The step at which each schedule except the first begins: one fewer than `schedules`, in
        rising order, the first at least 1.

    Raises
    ------
    TypeError
        `schedules` or `boundaries` that are not sequences; a schedule that is neither callable nor
        a number; a boundary that is not an integer.
    ValueError
        No schedules; not one boundary fewer than schedules; boundaries that do not rise; a rate
        that is negative, NaN or infinite, now or when a schedule is called.

    Notes
    -----
    ``schedules[i](step - boundaries[i-1])`` for the last ``i`` whose boundary is not after `step`.

    As ``optax.join_schedules(schedules, boundaries)``, and as torch's ``SequentialLR`` with
    ``milestones = boundaries``. With numbers for schedules, drops at steps of your choice, as
    torch's ``MultiStepLR`` and ``optax.piecewise_constant_schedule``; with one `Cosine` after the
    other, warm restarts, as torch's ``CosineAnnealingWarmRestarts``.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Sequential([0.1, 0.01, 0.001], [1000, 2000])
    >>> [schedule(step) for step in (0, 999, 1000, 1999, 2000)]
    [0.1, 0.1, 0.01, 0.01, 0.001]
    """

    schedules: Sequence[LearningRate]
    boundaries: Sequence[int]

    def _check(self) -> None:
        schedules = _tuple("schedules", self.schedules)
        require(len(schedules) > 0, "schedules", self.schedules, "at least one schedule")
        set_field(
            self,
            "schedules",
            tuple(_schedule(f"schedules[{i}]", schedule) for i, schedule in enumerate(schedules)),
        )
        boundaries = _tuple("boundaries", self.boundaries)
        if len(boundaries) != len(schedules) - 1:
            raise ValueError(
                f"boundaries has {len(boundaries)} steps; wanted {len(schedules) - 1}, one fewer "
                "than schedules"
            )
        least = 1
        for i, boundary in enumerate(boundaries):
            check_integer(f"boundaries[{i}]", boundary, least=least)
            least = int(boundary) + 1
        set_field(self, "boundaries", tuple(map(int, boundaries)))

    def _rate(self, step: int) -> float:
        i = bisect_right(self.boundaries, step)
        begin = self.boundaries[i - 1] if i else 0
        return _call(f"schedules[{i}]", self.schedules[i], step - begin)


@dataclass(frozen=True, slots=True)
class Scaled(CheckedSchedule):
    """A schedule times a number.

    Parameters
    ----------
    schedule : callable or float
        One of `instep.schedules`, any function of the step number, or a number, which is a
        constant.
    factor : float
        The number, finite and not negative.

    Raises
    ------
    TypeError
        A `schedule` that is neither callable nor a number; a `factor` that is not a number.
    ValueError
        A rate or a `factor` that is negative, NaN or infinite, now or when the schedule is called.

    Notes
    -----
    ``factor * schedule(step)``, as torch's ``LambdaLR`` with ``factor`` as the optimizer's `lr`.
    Use it to have one schedule for parameters that learn at different rates.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Cosine(0.5, 0.0, steps=1000)
    >>> slow = schedules.Scaled(schedule, 0.1)
    >>> slow(0), slow(1000)
    (0.05, 0.0)
    """

    schedule: LearningRate
    factor: float

    def _check(self) -> None:
        set_field(self, "schedule", _schedule("schedule", self.schedule))
        check_rates(self, "factor")

    def _rate(self, step: int) -> float:
        rate = self.factor * _call("schedule", self.schedule, step)
        require(rate < math.inf, f"factor*schedule({step})", rate, "a finite number")
        return rate


def _call(name: str, schedule: LearningRate, step: int) -> float:
    """Return the rate of an inner schedule, checked: it may be any function."""
    rate = schedule(step) if callable(schedule) else schedule
    if type(rate) is float and 0.0 <= rate < math.inf:
        return rate
    return check_rate(f"{name}({step})", rate)


def _schedule(name: str, schedule: object) -> object:
    """Check that something is a schedule, or a number that is one."""
    if callable(schedule):
        return schedule
    if isinstance(schedule, bool) or not isinstance(schedule, Real):
        kind = type(schedule).__name__
        raise TypeError(f"{name} is {schedule!r} ({kind}); wanted a schedule or a number")
    return check_rate(name, schedule)


def _tuple(name: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, Sequence):
        kind = type(values).__name__
        raise TypeError(f"{name} is {values!r} ({kind}); wanted a list")
    return tuple(values)
