"""Learning rates that decay without end."""

from dataclasses import dataclass, field

from instep.schedules.fields import check_count, check_flags, check_rates, require
from instep.schedules.schedule import CheckedSchedule


@dataclass(frozen=True, slots=True)
class Exponential(CheckedSchedule):
    """A learning rate that is multiplied by the same factor again and again.

    Parameters
    ----------
    start : float
        The first learning rate, finite and not negative.
    rate : float
        The factor, greater than 0 and at most 1.
    every : int, default 1
        The number of steps in which the learning rate is multiplied by `rate` once, at least 1.
    staircase : bool, default False, keyword only
        Whether to multiply once after every `every` steps, as `StepDecay` does, instead of a little
        at every step.

    Raises
    ------
    TypeError
        An argument that is not a number; an `every` that is not an integer; a `staircase` that is
        not a bool.
    ValueError
        A `start` that is negative, NaN or infinite; a `rate` out of its range; ``every < 1``.

    Notes
    -----
    ``start * rate**(step/every)``, with `staircase` ``start * rate**floor(step/every)``.

    As ``optax.exponential_decay(start, every, rate, staircase=staircase)``, and with ``every = 1``
    as torch's ``ExponentialLR`` with ``gamma = rate``.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Exponential(0.8, 0.25, every=2)
    >>> [schedule(step) for step in range(5)]
    [0.8, 0.4, 0.2, 0.1, 0.05]
    """

    start: float
    rate: float
    every: int = 1
    staircase: bool = field(default=False, kw_only=True)

    def _check(self) -> None:
        check_rates(self, "start", "rate")
        check_count(self, "every", least=1)
        check_flags(self, "staircase")
        require(0.0 < self.rate <= 1.0, "rate", self.rate, "0 < rate <= 1")

    def _rate(self, step: int) -> float:
        times = step // self.every if self.staircase else step / self.every
        return self.start * self.rate**times


@dataclass(frozen=True, slots=True)
class StepDecay(CheckedSchedule):
    """A learning rate that is multiplied by a factor after every `every` steps.

    Parameters
    ----------
    start : float
        The first learning rate, finite and not negative.
    factor : float
        The learning rate is multiplied by it; greater than 0 and at most 1.
    every : int
        The number of steps from one drop to the next, at least 1.

    Raises
    ------
    TypeError
        An argument that is not a number; an `every` that is not an integer.
    ValueError
        A `start` that is negative, NaN or infinite; a `factor` out of its range; ``every < 1``.

    Notes
    -----
    ``start * factor**floor(step/every)``.

    As torch's ``StepLR`` with ``gamma = factor`` and ``step_size = every``, and as
    ``optax.exponential_decay(start, every, factor, staircase=True)``. For drops at steps of your
    choice, see `Sequential`.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.StepDecay(0.8, 0.5, every=30)
    >>> [schedule(step) for step in (0, 29, 30, 59, 60)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    start: float
    factor: float
    every: int

    def _check(self) -> None:
        check_rates(self, "start", "factor")
        check_count(self, "every", least=1)
        require(0.0 < self.factor <= 1.0, "factor", self.factor, "0 < factor <= 1")

    def _rate(self, step: int) -> float:
        return self.start * self.factor ** (step // self.every)


@dataclass(frozen=True, slots=True)
class InverseTime(CheckedSchedule):
    """The course's decay: a learning rate over a number that grows with time.

    Parameters
    ----------
    start : float
        The first learning rate, finite and not negative.
    rate : float
        How fast the learning rate decays, finite and not negative.
    every : int, default 1
        The number of steps in which `rate` is added to the divisor once, at least 1.
    staircase : bool, default False, keyword only
        Whether to add it once after every `every` steps, instead of a little at every step.

    Raises
    ------
    TypeError
        An argument that is not a number; an `every` that is not an integer; a `staircase` that is
        not a bool.
    ValueError
        A `start` or `rate` that is negative, NaN or infinite; ``every < 1``.

    Notes
    -----
    ``start / (1 + rate*step/every)``, with `staircase` ``start / (1 + rate*floor(step/every))``.

    ``InverseTime(learning_rate0, decay_rate)`` gives the values of the course's ``update_lr``, and
    ``InverseTime(learning_rate0, decay_rate, every=time_interval, staircase=True)`` those of its
    ``schedule_lr_decay``, to the bit, where a step here is an epoch there. In torch it is
    ``LambdaLR(optimizer, lambda epoch: 1 / (1 + rate*epoch))``. optax has none.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.InverseTime(0.6, 1.0)
    >>> [schedule(step) for step in range(4)]
    [0.6, 0.3, 0.19999999999999998, 0.15]
    >>> schedule = schedules.InverseTime(0.5, 0.25, every=1000, staircase=True)
    >>> [schedule(step) for step in (0, 999, 1000, 4000)]
    [0.5, 0.5, 0.4, 0.25]
    """

    start: float
    rate: float
    every: int = 1
    staircase: bool = field(default=False, kw_only=True)

    def _check(self) -> None:
        check_rates(self, "start", "rate")
        check_count(self, "every", least=1)
        check_flags(self, "staircase")

    def _rate(self, step: int) -> float:
        times = step // self.every if self.staircase else step / self.every
        return self.start / (1 + self.rate * times)
