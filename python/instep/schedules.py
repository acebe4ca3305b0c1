"""Learning rates that change from step to step.

A schedule is called with the number of a step and returns its learning rate. Wherever an optimizer
takes a learning rate, it takes a schedule too. A schedule has no state, except `ReduceOnPlateau`,
which you tell a metric. It is a small frozen dataclass, so it is compared by value, hashed, copied
and pickled like a tuple of its arguments, and its repr is the expression that makes it again.

.. important::
   **Steps are counted from 0.** ``schedule(0)`` is the rate of the first step, ``schedule(t - 1)``
   that of an optimizer's step ``t``. optax counts in the same way, and ``schedule(n)`` is the rate
   of a scheduler of torch after ``n`` calls of its ``step()``. A schedule of `steps` steps begins
   with ``schedule(0)``, ends with ``schedule(steps)``, and **holds the last value** after that.
   `Cyclic` has no end.

Every schedule checks its arguments when it is made. What it returns is a Python float, finite and
not negative.

Examples
--------
A cosine from 0.1 to 0 over 1,000 steps, after 100 steps of warm-up:

>>> from instep import schedules
>>> schedule = schedules.Warmup(schedules.Cosine(0.1, 0.0, steps=1000), steps=100)
>>> [schedule(step) for step in (0, 50, 100, 1100, 9999)]
[0.0, 0.05, 0.1, 0.0, 0.0]
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, TypeAlias

from instep.checks import check_integer, check_keys, check_number

__all__ = [
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "InverseTime",
    "Linear",
    "OneCycle",
    "Polynomial",
    "ReduceOnPlateau",
    "Scaled",
    "Schedule",
    "Sequential",
    "StepDecay",
    "Warmup",
]

#: What an optimizer calls for its learning rate: any function of the step number, counted from 0.
Schedule: TypeAlias = Callable[[int], float]


class _Schedule:
    """What all schedules share: the checks of the arguments and of the step number."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Check the arguments, and make them Python's own numbers."""
        self._check()

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            The number of the step, counted from 0.

        Returns
        -------
        float
            The learning rate, finite and not negative.

        Raises
        ------
        TypeError
            A step that is not an integer.
        ValueError
            A step less than 0.
        """
        if type(step) is not int or step < 0:
            check_integer("step", step, least=0)
            step = int(step)
        return self._rate(step)

    def _check(self) -> None:
        raise NotImplementedError

    def _rate(self, step: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Constant(_Schedule):
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
    ``lr``, as ``optax.constant_schedule``, and as torch without a scheduler. Wherever a schedule is
    taken, a plain number does the same.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Constant(0.1)
    >>> schedule(0), schedule(1000)
    (0.1, 0.1)
    """

    lr: float

    def _check(self) -> None:
        _floats(self, "lr")

    def _rate(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True, slots=True)
class Linear(_Schedule):
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
        _floats(self, "start", "end")
        _integer(self, "steps", least=1)

    def _rate(self, step: int) -> float:
        step = min(step, self.steps)
        return _mean(self.start, (self.steps - step) / self.steps, self.end, step / self.steps)


@dataclass(frozen=True, slots=True)
class Cosine(_Schedule):
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
    ``sin(pi/2*(steps - step)/steps)**2``, which is the same, but exact to the last digits where it
    is small.

    As ``optax.cosine_decay_schedule(start, steps, alpha=end/start)``, and as torch's
    ``CosineAnnealingLR`` with ``T_max = steps`` and ``eta_min = end`` until `steps`. There torch
    turns and rises again; this schedule holds. For restarts, see `Sequential`.

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
        _floats(self, "start", "end")
        _integer(self, "steps", least=1)

    def _rate(self, step: int) -> float:
        return _cosine(self.start, self.end, min(step, self.steps), self.steps)


@dataclass(frozen=True, slots=True)
class Polynomial(_Schedule):
    """From one learning rate to another along a power of the time that is left.

    Parameters
    ----------
    start, end : float
        The first learning rate and the last, finite and not negative.
    steps : int
        The step that reaches `end`, at least 1.
    power : float
        The power, finite and greater than 0: 1 is a straight line; more is fast at first and slow
        at the end, less the other way round.

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
        _floats(self, "start", "end", "power")
        _integer(self, "steps", least=1)
        _require(self.power > 0.0, "power", self.power, "a number greater than 0")

    def _rate(self, step: int) -> float:
        left = ((self.steps - min(step, self.steps)) / self.steps) ** self.power
        return _mean(self.start, left, self.end, 1.0 - left)


@dataclass(frozen=True, slots=True)
class Exponential(_Schedule):
    """A learning rate that is multiplied by the same factor again and again.

    Parameters
    ----------
    start : float
        The first learning rate, finite and not negative.
    rate : float
        The factor, greater than 0 and at most 1.
    every : int, default 1
        Steps in which the learning rate is multiplied by `rate` once, at least 1.
    staircase : bool, default False, keyword only
        Whether to multiply at once after every so many steps, as `StepDecay` does, instead of a
        little at every step.

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
        _floats(self, "start", "rate")
        _integer(self, "every", least=1)
        _bool(self, "staircase")
        _require(0.0 < self.rate <= 1.0, "rate", self.rate, "0 < rate <= 1")

    def _rate(self, step: int) -> float:
        times = step // self.every if self.staircase else step / self.every
        return self.start * self.rate**times


@dataclass(frozen=True, slots=True)
class StepDecay(_Schedule):
    """A learning rate that drops by a factor after every so many steps.

    Parameters
    ----------
    start : float
        The first learning rate, finite and not negative.
    factor : float
        What the learning rate is multiplied by, greater than 0 and at most 1.
    every : int
        Steps from one drop to the next, at least 1.

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
        _floats(self, "start", "factor")
        _integer(self, "every", least=1)
        _require(0.0 < self.factor <= 1.0, "factor", self.factor, "0 < factor <= 1")

    def _rate(self, step: int) -> float:
        return self.start * self.factor ** (step // self.every)


@dataclass(frozen=True, slots=True)
class InverseTime(_Schedule):
    """The course's decay: a learning rate divided by what grows with time.

    Parameters
    ----------
    start : float
        The first learning rate, finite and not negative.
    rate : float
        How fast, finite and not negative.
    every : int, default 1
        Steps in which `rate` is added to the divisor once, at least 1.
    staircase : bool, default False, keyword only
        Whether to add it at once after every so many steps instead of a little at every step.

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
    ``schedule_lr_decay``, to the bit, where a step here is an epoch there. torch has it as
    ``LambdaLR(optimizer, lambda epoch: 1 / (1 + rate*epoch))``; optax has none.

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
        _floats(self, "start", "rate")
        _integer(self, "every", least=1)
        _bool(self, "staircase")

    def _rate(self, step: int) -> float:
        times = step // self.every if self.staircase else step / self.every
        return self.start / (1 + self.rate * times)


@dataclass(frozen=True, slots=True)
class OneCycle(_Schedule):
    """Up to a high learning rate and down to nearly nothing, each along half a cosine.

    Parameters
    ----------
    peak : float
        The highest learning rate, finite and not negative.
    steps : int
        The step that reaches the last learning rate, at least 1.
    warmup_fraction : float, default 0.3
        The part of `steps` that goes up, from 0 to 1: the peak is at ``warmup_fraction*steps``,
        between two steps if that is not a whole number.
    div_factor : float, default 25
        The first learning rate is ``peak/div_factor``; at least 1.
    final_div_factor : float, default 10000
        The last learning rate is ``peak/div_factor/final_div_factor``, which is not above `peak`.

    Raises
    ------
    TypeError
        An argument that is not a number; `steps` that are not an integer.
    ValueError
        An argument out of its range.

    Notes
    -----
    With ``top = warmup_fraction*steps``, `Cosine` from ``peak/div_factor`` to `peak` until `top`,
    then `Cosine` from `peak` to ``peak/div_factor/final_div_factor`` until `steps`.

    As ``optax.cosine_onecycle_schedule(steps, peak, warmup_fraction, div_factor,
    final_div_factor)``, which rounds `top` down.

    torch's ``OneCycleLR`` counts differently: its peak is at step ``pct_start*total_steps - 1``,
    its last learning rate at step ``total_steps - 1``. ``steps=total_steps - 1`` and
    ``warmup_fraction=(pct_start*total_steps - 1)/(total_steps - 1)`` give its values. It also
    cycles the momentum unless told not to; a schedule does not.

    The schedule is from Smith and Topin, *Super-Convergence: Very Fast Training of Neural Networks
    Using Large Learning Rates*, 2017; the form with two halves of a cosine is fastai's.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.OneCycle(1.0, steps=100)
    >>> [round(schedule(step), 6) for step in (0, 15, 30, 65, 100)]
    [0.04, 0.52, 1.0, 0.500002, 4e-06]
    """

    peak: float
    steps: int
    warmup_fraction: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def _check(self) -> None:
        _floats(self, "peak", "warmup_fraction", "div_factor", "final_div_factor")
        _integer(self, "steps", least=1)
        fraction, start, end = self.warmup_fraction, self.div_factor, self.final_div_factor
        _require(fraction <= 1.0, "warmup_fraction", fraction, "0 <= warmup_fraction <= 1")
        _require(start >= 1.0, "div_factor", start, "1 or more")
        wanted = f"1/div_factor or more, with a div_factor of {start!r}"
        _require(start * end >= 1.0, "final_div_factor", end, wanted)

    def _rate(self, step: int) -> float:
        step = min(step, self.steps)
        top = self.warmup_fraction * self.steps
        start = self.peak / self.div_factor
        if step < top:
            return _cosine(start, self.peak, step, top)
        if step == top:
            return self.peak
        end = min(start / self.final_div_factor, self.peak)
        return _cosine(self.peak, end, step - top, self.steps - top)


@dataclass(frozen=True, slots=True)
class Cyclic(_Schedule):
    """Up to a learning rate and down again, in straight lines, again and again.

    Parameters
    ----------
    low, high : float
        The learning rate at which each cycle begins and ends, and the highest of the first cycle;
        finite and not negative.
    steps_up : int, default 2000
        Steps from `low` to the highest, at least 1.
    steps_down : int, optional
        Steps from there to `low`, at least 1; by default as many.
    mode : {"triangular", "triangular2", "exp_range"}, default "triangular"
        What becomes of the height ``high - low`` of a cycle: it stays; it is halved from one cycle
        to the next; or it is multiplied by `gamma` at every step.
    gamma : float, default 1
        The factor of ``"exp_range"``, greater than 0 and at most 1.

    Raises
    ------
    TypeError
        An argument that is not a number; numbers of steps that are not integers.
    ValueError
        An argument out of its range; an unknown `mode`; a `gamma` for another mode.

    Notes
    -----
    ``low + (high - low)*w*a``, with ``k = step % (steps_up + steps_down)``, the cycle ``c =
    step // (steps_up + steps_down)``, ``w = k/steps_up`` on the way up, ``w = (steps_up +
    steps_down - k)/steps_down`` on the way down, and ``a`` by `mode`:

    ``"triangular"``
        ``a = 1``
    ``"triangular2"``
        ``a = 0.5**c``
    ``"exp_range"``
        ``a = gamma**step``

    As torch's ``CyclicLR(optimizer, low, high, steps_up, steps_down, mode, gamma,
    cycle_momentum=False)``. It also cycles the momentum unless told not to; a schedule does not.

    The schedule is from Smith, *Cyclical Learning Rates for Training Neural Networks*, WACV 2017.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Cyclic(0.0, 1.0, steps_up=4, mode="triangular2")
    >>> [schedule(step) for step in (0, 2, 4, 6, 8, 10, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5]
    """

    low: float
    high: float
    steps_up: int = 2000
    steps_down: int | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0

    def _check(self) -> None:
        _floats(self, "low", "high", "gamma")
        _require(self.low <= self.high, "low", self.low, f"low <= high, which is {self.high!r}")
        _integer(self, "steps_up", least=1)
        if self.steps_down is not None:
            _integer(self, "steps_down", least=1)
        _one_of(self, "mode", "triangular", "triangular2", "exp_range")
        _require(0.0 < self.gamma <= 1.0, "gamma", self.gamma, "0 < gamma <= 1")
        of_mode = self.gamma == 1.0 or self.mode == "exp_range"
        _require(of_mode, "mode", self.mode, f"'exp_range', with a gamma of {self.gamma!r}")

    def _rate(self, step: int) -> float:
        up = self.steps_up
        down = up if self.steps_down is None else self.steps_down
        cycle, k = divmod(step, up + down)
        part = k / up if k <= up else (up + down - k) / down
        if self.mode == "triangular2":
            part *= 0.5 ** min(cycle, 2000)
        elif self.mode == "exp_range":
            part *= self.gamma**step
        return _mean(self.low, 1.0 - part, self.high, part)


@dataclass(frozen=True, slots=True, eq=False)
class ReduceOnPlateau(_Schedule):
    """A learning rate that drops by a factor whenever a metric has stopped getting better.

    Tell it the metric with `report`, for example after each validation. **It has a state**, so it
    is only equal to itself, and to continue a run you have to save its `state_dict` too.

    Parameters
    ----------
    lr : float
        The first learning rate, finite and not negative.
    factor : float, default 0.1
        What the learning rate is multiplied by, greater than 0 and less than 1.
    patience : int, default 10
        How many reports in a row may be no better: one more, and the learning rate drops.
    mode : {"min", "max"}, default "min", keyword only
        Whether a metric that is smaller is better, or one that is larger.
    threshold : float, default 1e-4, keyword only
        By how much a metric has to be better than the best one, finite and not negative.
    threshold_mode : {"rel", "abs"}, default "rel", keyword only
        Whether `threshold` is a part of the best metric, or the difference itself.
    cooldown : int, default 0, keyword only
        How many reports after a drop are not counted as no better.
    min_lr : float, default 0, keyword only
        The least that the learning rate drops to.
    eps : float, default 1e-8, keyword only
        A drop by no more than this is left out.

    Attributes
    ----------
    rate : float
        The learning rate now, at every step until the next drop.
    best : float or None
        The best metric so far; None before the first.
    bad_reports : int
        How many reports in a row were no better.
    cooldown_left : int
        How many reports of the cooldown are still to come.

    Raises
    ------
    TypeError
        An argument that is not a number; numbers of reports that are not integers.
    ValueError
        An argument out of its range; an unknown mode.

    Notes
    -----
    ``rate = max(rate*factor, min_lr)`` at the report that makes it ``patience + 1`` in a row that
    were no better. A metric ``a`` is better than the best one, ``b``, if

    ======= ======================= ===================
    mode    ``"rel"``               ``"abs"``
    ======= ======================= ===================
    ``min`` ``a < b*(1-threshold)`` ``a < b-threshold``
    ``max`` ``a > b*(1+threshold)`` ``a > b+threshold``
    ======= ======================= ===================

    As torch's ``ReduceLROnPlateau``, whose ``step(metric)`` is `report` here. A metric that is NaN
    or infinite is no better than any; torch takes an infinite one for the best where that is the
    better end. With ``"rel"``, metrics are meant to be positive.

    Only reports change it, not steps. For a warm-up, put it into `Warmup`.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> from instep import schedules
    >>> params = {"W": np.ones(2)}
    >>> schedule = schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> opt = instep.Adam(params, lr=schedule)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     result = opt.step({"W": 2 * params["W"]})
    ...     rate = schedule.report(loss)
    >>> rate
    0.05

    Saved and put back with the optimizer:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/run.safetensors"
    ...     opt.save(path, params=True, extra={"schedule": schedule.state_dict()})
    ...     schedule.load_state_dict(opt.load(path)["schedule"])
    """

    lr: float
    factor: float = 0.1
    patience: int = 10
    mode: Literal["min", "max"] = field(default="min", kw_only=True)
    threshold: float = field(default=1e-4, kw_only=True)
    threshold_mode: Literal["rel", "abs"] = field(default="rel", kw_only=True)
    cooldown: int = field(default=0, kw_only=True)
    min_lr: float = field(default=0.0, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)
    rate: float = field(init=False, repr=False)
    best: float | None = field(default=None, init=False, repr=False)
    bad_reports: int = field(default=0, init=False, repr=False)
    cooldown_left: int = field(default=0, init=False, repr=False)

    def _check(self) -> None:
        _floats(self, "lr", "factor", "threshold", "min_lr", "eps")
        _require(0.0 < self.factor < 1.0, "factor", self.factor, "0 < factor < 1")
        _integer(self, "patience", least=0)
        _integer(self, "cooldown", least=0)
        _one_of(self, "mode", "min", "max")
        _one_of(self, "threshold_mode", "rel", "abs")
        _set(self, "rate", self.lr)

    def _rate(self, step: int) -> float:
        return self.rate

    def report(self, metric: float) -> float:
        """Take a metric, and return the learning rate from now on.

        Parameters
        ----------
        metric : float
            The number that should improve: for example, loss or accuracy on the validation set.

        Returns
        -------
        float
            The learning rate of the next step.

        Raises
        ------
        TypeError
            A metric that is not a number.
        """
        number = _metric(metric)
        bad, cooldown, rate = self.bad_reports, self.cooldown_left, self.rate
        if self._is_better(number):
            _set(self, "best", number)
            bad = 0
        else:
            bad += 1
        if cooldown > 0:
            cooldown -= 1
            bad = 0
        if bad > self.patience:
            bad, cooldown = 0, self.cooldown
            lower = max(rate * self.factor, self.min_lr)
            if rate - lower > self.eps:
                rate = lower
        _set(self, "bad_reports", bad)
        _set(self, "cooldown_left", cooldown)
        _set(self, "rate", rate)
        return rate

    def _is_better(self, metric: float) -> bool:
        if not math.isfinite(metric) or self.best is None:
            return math.isfinite(metric)
        best, sign = self.best, -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bound = best * (1.0 + sign * self.threshold)
        else:
            bound = best + sign * self.threshold
        return metric < bound if self.mode == "min" else metric > bound

    def state_dict(self) -> dict[str, Any]:
        """Return what reports have changed, as JSON has it: for the `extra` of a save.

        Returns
        -------
        dict
            ``rate``, ``best``, ``bad_reports`` and ``cooldown_left``. The arguments are not in it.
        """
        return {name: getattr(self, name) for name in _REPORTED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from where another one was. A call that raises an error has changed nothing.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.

        Raises
        ------
        TypeError
            Something of another type than `state_dict` gives.
        ValueError
            A key that is missing or unknown; a number out of its range.
        """
        check_keys("state_dict", state_dict, _REPORTED)
        rate = _float("state_dict['rate']", state_dict["rate"])
        best = state_dict["best"]
        if best is not None:
            best = check_number("state_dict['best']", best, least=-math.inf)
        for name in ("bad_reports", "cooldown_left"):
            check_integer(f"state_dict[{name!r}]", state_dict[name], least=0)
        bad, left = int(state_dict["bad_reports"]), int(state_dict["cooldown_left"])
        for name, value in zip(_REPORTED, (rate, best, bad, left), strict=True):
            _set(self, name, value)


_REPORTED = ("rate", "best", "bad_reports", "cooldown_left")


@dataclass(frozen=True, slots=True)
class Warmup(_Schedule):
    """A straight line up to a schedule, then the schedule.

    Parameters
    ----------
    schedule : callable or float
        The schedule after the warm-up, which counts its own steps from 0: one of this module, any
        function of the step number, or a number, which is a constant.
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
    ``start + (schedule(0) - start)*step/steps`` before `steps`, ``schedule(step - steps)`` from
    there on: the line ends at the schedule's first value.

    As ``optax.warmup_constant_schedule`` around a constant, and as
    ``optax.warmup_cosine_decay_schedule(start, peak, steps, decay_steps, end)`` around
    ``Cosine(peak, end, decay_steps - steps)``; in torch, ``LinearLR`` in front of another scheduler
    in ``SequentialLR``.

    With ``start=0`` the first step has a rate of 0 and changes nothing, as with these. For a first
    step that counts, give ``start=peak/steps``.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Warmup(schedules.Linear(0.5, 0.0, steps=2), steps=4)
    >>> [schedule(step) for step in range(8)]
    [0.0, 0.125, 0.25, 0.375, 0.5, 0.25, 0.0, 0.0]
    >>> schedules.Warmup(0.5, steps=5)(1)
    0.1
    """

    schedule: Schedule | float
    steps: int
    start: float = 0.0

    def _check(self) -> None:
        _set(self, "schedule", _schedule("schedule", self.schedule))
        _floats(self, "start")
        _integer(self, "steps", least=0)

    def _rate(self, step: int) -> float:
        if step >= self.steps:
            return _call("schedule", self.schedule, step - self.steps)
        first = _call("schedule", self.schedule, 0)
        return _mean(self.start, (self.steps - step) / self.steps, first, step / self.steps)


@dataclass(frozen=True, slots=True)
class Sequential(_Schedule):
    """One schedule after another.

    Parameters
    ----------
    schedules : sequence of callable or float
        At least one: schedules of this module, any functions of the step number, or numbers, which
        are constants. Each counts its own steps from 0.
    boundaries : sequence of int
        The step at which each schedule but the first begins: one fewer than `schedules`, rising,
        the first at least 1.

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

    schedules: Sequence[Schedule | float]
    boundaries: Sequence[int]

    def _check(self) -> None:
        schedules = _tuple("schedules", self.schedules)
        _require(len(schedules) > 0, "schedules", self.schedules, "at least one schedule")
        _set(
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
        _set(self, "boundaries", tuple(map(int, boundaries)))

    def _rate(self, step: int) -> float:
        i = bisect_right(self.boundaries, step)
        begin = self.boundaries[i - 1] if i else 0
        return _call(f"schedules[{i}]", self.schedules[i], step - begin)


@dataclass(frozen=True, slots=True)
class Scaled(_Schedule):
    """A schedule times a number.

    Parameters
    ----------
    schedule : callable or float
        One of this module, any function of the step number, or a number, which is a constant.
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
    ``factor * schedule(step)``. As torch's ``LambdaLR`` with ``factor`` for the optimizer's `lr`:
    one schedule for parameters that learn at different rates.

    Examples
    --------
    >>> from instep import schedules
    >>> schedule = schedules.Cosine(0.5, 0.0, steps=1000)
    >>> slow = schedules.Scaled(schedule, 0.1)
    >>> slow(0), slow(1000)
    (0.05, 0.0)
    """

    schedule: Schedule | float
    factor: float

    def _check(self) -> None:
        _set(self, "schedule", _schedule("schedule", self.schedule))
        _floats(self, "factor")

    def _rate(self, step: int) -> float:
        rate = self.factor * _call("schedule", self.schedule, step)
        _require(rate < math.inf, f"factor*schedule({step})", rate, "a finite number")
        return rate


def _mean(start: float, start_weight: float, end: float, end_weight: float) -> float:
    """Mix two rates by weights that add up to 1: exact at both ends, and never outside of them."""
    if start <= end:
        low, high, weight = start, end, end_weight
    else:
        low, high, weight = end, start, start_weight
    # Rounded, low + (high - low) may miss high; with a weight below 1 it cannot pass it.
    return high if weight == 1.0 else low + (high - low) * weight


def _cosine(start: float, end: float, step: float, steps: float) -> float:
    """Go from one rate to another along half a cosine."""
    quarter = math.pi / 2
    left = math.sin(quarter * ((steps - step) / steps)) ** 2
    return _mean(start, left, end, math.sin(quarter * (step / steps)) ** 2)


def _call(name: str, schedule: Schedule | float, step: int) -> float:
    """Return the rate of an inner schedule, checked: it may be any function."""
    rate = schedule(step) if callable(schedule) else schedule
    if type(rate) is float and 0.0 <= rate < math.inf:
        return rate
    return _float(f"{name}({step})", rate)


def _float(name: str, number: object) -> float:
    """Check that a number is finite and not negative; return it as a float."""
    return check_number(name, number) + 0.0  # -0.0 becomes 0.0


def _schedule(name: str, schedule: object) -> object:
    """Check that something is a schedule, or a number that is one."""
    if callable(schedule):
        return schedule
    if isinstance(schedule, bool) or not isinstance(schedule, Real):
        kind = type(schedule).__name__
        raise TypeError(f"{name} is {schedule!r} ({kind}); wanted a schedule or a number")
    return _float(name, schedule)


def _metric(metric: object) -> float:
    """Return a metric as a float: it may be NaN or infinite."""
    if isinstance(metric, bool) or not isinstance(metric, Real):
        kind = type(metric).__name__
        raise TypeError(f"metric is {metric!r} ({kind}); wanted a number: pass float(metric)")
    return float(metric)


def _tuple(name: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, Sequence):
        kind = type(values).__name__
        raise TypeError(f"{name} is {values!r} ({kind}); wanted a list")
    return tuple(values)


def _require(met: bool, name: str, value: object, wanted: str) -> None:
    if not met:
        raise ValueError(f"{name} is {value!r}; wanted {wanted}")


def _set(schedule: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass that is being made."""
    object.__setattr__(schedule, name, value)


def _floats(schedule: object, *names: str) -> None:
    """Check the fields of these names, and make them floats."""
    for name in names:
        _set(schedule, name, _float(name, getattr(schedule, name)))


def _integer(schedule: object, name: str, least: int) -> None:
    """Check the field of this name, and make it an int."""
    check_integer(name, getattr(schedule, name), least=least)
    _set(schedule, name, int(getattr(schedule, name)))


def _one_of(schedule: object, name: str, *words: str) -> None:
    word = getattr(schedule, name)
    if word not in words:
        wanted = ", ".join(map(repr, words))
        raise ValueError(f"{name} is {word!r}; wanted one of {wanted}")


def _bool(schedule: object, name: str) -> None:
    value = getattr(schedule, name)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); wanted True or False")
