"""From one learning rate to another, along a curve."""

from dataclasses import dataclass

from instep.schedules.fields import check_count, check_rates, require
from instep.schedules.interpolation import cosine, mean
from instep.schedules.schedule import CheckedSchedule


@dataclass(frozen=True, slots=True)
class Constant(CheckedSchedule):
    """The same learning rate at every step.

    Parameters
    ----------
    lr : float
        The learning rate, finite and not negative.

    Raises
    ------
    TypeError
        An `lr` that is not a number.
    ValueError
        An `lr` that is negative, NaN or infinite.

    Notes
    -----
    ``lr``, as ``optax.constant_schedule``, and as torch without a scheduler. A plain number does
    the same wherever a schedule is accepted.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Constant(0.1)
    >>> schedule(0), schedule(1000)
    (0.1, 0.1)
    """

    lr: float

    def _check(self) -> None:
        check_rates(self, "lr")

    def _rate(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True, slots=True)
class Linear(CheckedSchedule):
    """From one learning rate to another in equal steps, up or down.

    Parameters
    ----------
    start, end : float
        The first learning rate and the last, finite and not negative.
    steps : int
        The step that reaches `end`, at least 1.

    Raises
    ------
    TypeError
        An argument that is not a number; `steps` that are not an integer.
    ValueError
        A rate that is negative, NaN or infinite; ``steps < 1``.

    Notes
    -----
    ``start + (end - start)*step/steps``, then `end`.

    As ``optax.linear_schedule(start, end, steps)``, and as torch's ``LinearLR`` with ``start =
    lr*start_factor``, ``end = lr*end_factor`` and ``steps = total_iters``.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Linear(0.5, 0.0, steps=4)
    >>> [schedule(step) for step in range(6)]
    [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int

    def _check(self) -> None:
        check_rates(self, "start", "end")
        check_count(self, "steps", least=1)

    def _rate(self, step: int) -> float:
        step = min(step, self.steps)
        return mean(self.start, (self.steps - step) / self.steps, self.end, step / self.steps)


@dataclass(frozen=True, slots=True)
class Cosine(CheckedSchedule):
    """From one learning rate to another along half a cosine: slow, fast, slow.

    Parameters
    ----------
    start, end : float
        The first learning rate and the last, finite and not negative.
    steps : int
        The step that reaches `end`, at least 1.

    Raises
    ------
    TypeError
        An argument that is not a number; `steps` that are not an integer.
    ValueError
        A rate that is negative, NaN or infinite; ``steps < 1``.

    Notes
    -----
    ``end + (start - end)*(1 + cos(pi*step/steps))/2``, then `end`. The half cosine is computed as
    ``sin(pi/2*(steps - step)/steps)**2``, which is equal, but exact to the last digits where it
    is small.

    As ``optax.cosine_decay_schedule(start, steps, alpha=end/start)``, and as torch's
    ``CosineAnnealingLR`` with ``T_max = steps`` and ``eta_min = end`` until `steps`. After
    that, torch rises again, and this schedule keeps the last value. For restarts, see `Sequential`.

    The schedule is from Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm
    Restarts*, ICLR 2017.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Cosine(0.1, 0.0, steps=4)
    >>> [round(schedule(step), 4) for step in range(6)]
    [0.1, 0.0854, 0.05, 0.0146, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int

    def _check(self) -> None:
        check_rates(self, "start", "end")
        check_count(self, "steps", least=1)

    def _rate(self, step: int) -> float:
        return cosine(self.start, self.end, min(step, self.steps), self.steps)


@dataclass(frozen=True, slots=True)
class Polynomial(CheckedSchedule):
    """From one learning rate to another along a power of the share of steps that is left.

    Parameters
    ----------
    start, end : float
        The first learning rate and the last, finite and not negative.
    steps : int
        The step that reaches `end`, at least 1.
    power : float
        The power, finite and greater than 0. With 1 it is a straight line; with more it is fast at
        first and slow at the end; with less it is slow at first and fast at the end.

    Raises
    ------
    TypeError
        An argument that is not a number; `steps` that are not an integer.
    ValueError
        A rate that is negative, NaN or infinite; ``steps < 1``; a `power` that is not greater than
        0, or not finite.

    Notes
    -----
    ``end + (start - end)*(1 - step/steps)**power``, then `end`.

    As ``optax.polynomial_schedule(start, end, power, steps)``, and with ``end = 0`` as torch's
    ``PolynomialLR`` with ``total_iters = steps``.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Polynomial(0.16, 0.0, steps=4, power=2)
    >>> [schedule(step) for step in range(6)]
    [0.16, 0.09, 0.04, 0.01, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int
    power: float

    def _check(self) -> None:
        check_rates(self, "start", "end", "power")
        check_count(self, "steps", least=1)
        require(self.power > 0.0, "power", self.power, "a number greater than 0")

    def _rate(self, step: int) -> float:
        left = ((self.steps - min(step, self.steps)) / self.steps) ** self.power
        return mean(self.start, left, self.end, 1.0 - left)
