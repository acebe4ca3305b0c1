"""Learning rates that go up and down, once or again and again."""

from dataclasses import dataclass
from typing import Literal

from instep.checks import check_mode
from instep.schedules.fields import check_count, check_rates, require
from instep.schedules.interpolation import cosine, mean
from instep.schedules.schedule import CheckedSchedule


@dataclass(frozen=True, slots=True)
class OneCycle(CheckedSchedule):
    """Up to a high learning rate and down to a very low one, each along half a cosine.

    Parameters
    ----------
    peak : float
        The highest learning rate, finite and not negative.
    steps : int
        The step that reaches the last learning rate, at least 1.
    warmup_fraction : float, default 0.3
        The share of `steps` in which it goes up, from 0 to 1. The peak is at
        ``warmup_fraction*steps``, between two steps if that is not a whole number.
    div_factor : float, default 25
        The first learning rate is ``peak/div_factor``; at least 1.
    final_div_factor : float, default 10000
        The last learning rate is ``peak/div_factor/final_div_factor``, not above `peak`.

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
    cycles the momentum by default; a schedule does not.

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
        check_rates(self, "peak", "warmup_fraction", "div_factor", "final_div_factor")
        check_count(self, "steps", least=1)
        fraction, start, end = self.warmup_fraction, self.div_factor, self.final_div_factor
        require(fraction <= 1.0, "warmup_fraction", fraction, "0 <= warmup_fraction <= 1")
        require(start >= 1.0, "div_factor", start, "1 or more")
        wanted = f"1/div_factor or more, with a div_factor of {start!r}"
        require(start * end >= 1.0, "final_div_factor", end, wanted)

    def _rate(self, step: int) -> float:
        step = min(step, self.steps)
        top = self.warmup_fraction * self.steps
        start = self.peak / self.div_factor
        if step < top:
            return cosine(start, self.peak, step, top)
        if step == top:
            return self.peak
        end = min(start / self.final_div_factor, self.peak)
        return cosine(self.peak, end, step - top, self.steps - top)


@dataclass(frozen=True, slots=True)
class Cyclic(CheckedSchedule):
    """Up to a learning rate and down again, in straight lines, again and again.

    Parameters
    ----------
    low, high : float
        The learning rate at which each cycle begins and ends, and the highest of the first cycle;
        finite and not negative.
    steps_up : int, default 2000
        The number of steps from `low` to the highest learning rate, at least 1.
    steps_down : int, optional
        The number of steps from there to `low`, at least 1; by default the same as `steps_up`.
    mode : {"triangular", "triangular2", "exp_range"}, default "triangular"
        How the height ``high - low`` of the cycles changes. It stays, it is halved from one cycle
        to the next, or it is multiplied by `gamma` at every step.
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
    cycle_momentum=False)``. torch's also cycles the momentum by default; a schedule does not.

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
        check_rates(self, "low", "high", "gamma")
        require(self.low <= self.high, "low", self.low, f"low <= high, which is {self.high!r}")
        check_count(self, "steps_up", least=1)
        if self.steps_down is not None:
            check_count(self, "steps_down", least=1)
        check_mode("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        require(0.0 < self.gamma <= 1.0, "gamma", self.gamma, "0 < gamma <= 1")
        of_mode = self.gamma == 1.0 or self.mode == "exp_range"
        require(of_mode, "mode", self.mode, f"'exp_range', with a gamma of {self.gamma!r}")

    def _rate(self, step: int) -> float:
        up = self.steps_up
        down = up if self.steps_down is None else self.steps_down
        cycle, k = divmod(step, up + down)
        part = k / up if k <= up else (up + down - k) / down
        if self.mode == "triangular2":
            part *= 0.5 ** min(cycle, 2000)
        elif self.mode == "exp_range":
            part *= self.gamma**step
        return mean(self.low, 1.0 - part, self.high, part)
