"""A learning rate that waits for a metric."""

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from instep.checks import check_integer, check_keys, check_mode, check_number
from instep.schedules.fields import (
    check_count,
    check_rate,
    check_rates,
    require,
    set_field,
)
from instep.schedules.schedule import CheckedSchedule


@dataclass(frozen=True, slots=True, eq=False)
class ReduceOnPlateau(CheckedSchedule):
    """A learning rate that is multiplied by a factor whenever a metric has stopped improving.

    Call `report` with the metric, for example after each validation. **It has a state**: it is only
    equal to itself, and to continue a run you have to save its `state_dict` too.

    Parameters
    ----------
    lr : float
        The first learning rate, finite and not negative.
    factor : float, default 0.1
        The learning rate is multiplied by it; greater than 0 and less than 1.
    patience : int, default 10
        How many reports in a row may bring no improvement. With one more, the learning rate drops.
    mode : {"min", "max"}, default "min", keyword only
        Whether a smaller metric is better, or a larger one.
    threshold : float, default 1e-4, keyword only
        How much better than the best metric a new one has to be, finite and not negative.
    threshold_mode : {"rel", "abs"}, default "rel", keyword only
        Whether `threshold` is relative to the best metric, or the difference itself.
    cooldown : int, default 0, keyword only
        How many reports after a drop may be no better without being counted.
    min_lr : float, default 0, keyword only
        The smallest learning rate that it drops to.
    eps : float, default 1e-8, keyword only
        If a drop would be no larger than this, it is left out.

    Attributes
    ----------
    rate : float
        The current learning rate, for every step until the next drop.
    best : float or None
        The best metric so far; None before the first.
    bad_reports : int
        How many reports in a row brought no improvement.
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
    ``rate = max(rate*factor, min_lr)`` after ``patience + 1`` reports in a row without an
    improvement. A metric ``a`` is better than the best one, ``b``, if

    ======= ======================= ===================
    mode    ``"rel"``               ``"abs"``
    ======= ======================= ===================
    ``min`` ``a < b*(1-threshold)`` ``a < b-threshold``
    ``max`` ``a > b*(1+threshold)`` ``a > b+threshold``
    ======= ======================= ===================

    As torch's ``ReduceLROnPlateau``, whose ``step(metric)`` is `report` here. A metric that is NaN
    or infinite never counts as better; in torch an infinite one becomes the best if it is at the
    better end. With ``"rel"``, metrics should be positive.

    Only reports change the rate, not steps. For a warm-up, put the schedule into `Warmup`.

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
        check_rates(self, "lr", "factor", "threshold", "min_lr", "eps")
        require(0.0 < self.factor < 1.0, "factor", self.factor, "0 < factor < 1")
        check_count(self, "patience", least=0)
        check_count(self, "cooldown", least=0)
        check_mode("mode", self.mode, ("min", "max"))
        check_mode("threshold_mode", self.threshold_mode, ("rel", "abs"))
        set_field(self, "rate", self.lr)

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
            set_field(self, "best", number)
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
        set_field(self, "bad_reports", bad)
        set_field(self, "cooldown_left", cooldown)
        set_field(self, "rate", rate)
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
        """Return what reports have changed, in the types of JSON, for the `extra` of a save.

        Returns
        -------
        dict
            ``rate``, ``best``, ``bad_reports`` and ``cooldown_left``. The arguments are not in it.
        """
        return {name: getattr(self, name) for name in _REPORTED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from where another schedule was.

        A call that raises an error has changed nothing.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.

        Raises
        ------
        TypeError
            A value of another type than in `state_dict`.
        ValueError
            A key that is missing or unknown; a number out of its range.
        """
        check_keys("state_dict", state_dict, _REPORTED)
        rate = check_rate("state_dict['rate']", state_dict["rate"])
        best = state_dict["best"]
        if best is not None:
            best = check_number("state_dict['best']", best, least=-math.inf)
        for name in ("bad_reports", "cooldown_left"):
            check_integer(f"state_dict[{name!r}]", state_dict[name], least=0)
        bad, left = int(state_dict["bad_reports"]), int(state_dict["cooldown_left"])
        for name, value in zip(_REPORTED, (rate, best, bad, left), strict=True):
            set_field(self, name, value)


_REPORTED = ("rate", "best", "bad_reports", "cooldown_left")


def _metric(metric: object) -> float:
    """Return a metric as a float: it may be NaN or infinite."""
    if isinstance(metric, bool) or not isinstance(metric, Real):
        kind = type(metric).__name__
        raise TypeError(f"metric is {metric!r} ({kind}); wanted a number: pass float(metric)")
    return float(metric)
