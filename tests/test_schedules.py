import copy
import dataclasses
import json
import math
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from instep import schedules
from instep.schedules import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    InverseTime,
    Linear,
    OneCycle,
    Polynomial,
    ReduceOnPlateau,
    Scaled,
    Schedule,
    Sequential,
    StepDecay,
    Warmup,
)
from instep.schedules.schedule import CheckedSchedule

CLASSES = [
    getattr(schedules, name) for name in schedules.__all__ if name not in ("Schedule", "Constant")
]

# The peers' values

OPTAX = json.loads((Path(__file__).parent / "trajectories" / "schedules_optax.json").read_text())

# What gives the values of each row of the stored table.
LIKE_OPTAX: dict[str, Schedule] = {
    "constant": Constant(0.1),
    "linear down": Linear(0.3, 0.02, 20),
    "linear up": Linear(0.0, 0.3, 7),
    "cosine": Cosine(0.3, 0.0, 20),
    "cosine to a tenth": Cosine(0.3, 0.03, 20),
    "polynomial 1": Polynomial(0.3, 0.02, 20, 1),
    "polynomial 2": Polynomial(0.3, 0.02, 20, 2),
    "polynomial 0.5, up": Polynomial(0.02, 0.3, 20, 0.5),
    "exponential": Exponential(0.3, 0.95),
    "exponential every 7": Exponential(0.3, 0.5, 7),
    "exponential every 7, staircase": Exponential(0.3, 0.5, 7, staircase=True),
    "one cycle": OneCycle(0.3, 20),
    "one cycle, other factors": OneCycle(0.3, 20, 0.25, 10, 100),
    "warm-up, constant": Warmup(0.3, 8, 0.01),
    "warm-up, cosine": Warmup(Cosine(0.3, 0.03, 15), 5),
    "warm-up, exponential": Warmup(Exponential(0.3, 0.5, 7), 5, 0.01),
    "piecewise constant": Sequential([0.3, 0.15, 0.015], [6, 15]),
    "joined": Sequential([Linear(0.0, 0.3, 6), 0.3, Cosine(0.3, 0.0, 8)], [6, 12]),
    "restarts": Sequential([Warmup(Cosine(0.3, 0.0, 7), 2), Warmup(Cosine(0.2, 0.0, 9), 3)], [9]),
}


def test_every_row_of_the_table_is_compared() -> None:
    assert list(LIKE_OPTAX) == list(OPTAX["schedules"])


@pytest.mark.parametrize("name", LIKE_OPTAX)
def test_values_of_optax(name: str) -> None:
    wanted = OPTAX["schedules"][name]["values"]
    values = [LIKE_OPTAX[name](step) for step in range(len(wanted))]
    # optax adds and takes away the largest rate, which is 0.3: its small ones are so exact.
    assert values == pytest.approx(wanted, rel=1e-14, abs=2e-16)


# torch is too large to install here. These are the closed formulas that it documents for its
# schedulers (those of `_get_closed_form_lr`, and OneCycleLR's phases), written out once more: `lr`
# is the optimizer's, `k` how often the scheduler's step() was called.


def torch_linear(k: int, lr: float, start_factor: float, end_factor: float, total: int) -> float:
    return lr * (start_factor + (end_factor - start_factor) * min(total, k) / total)


def torch_cosine_annealing(k: int, lr: float, t_max: int, eta_min: float) -> float:
    return eta_min + (lr - eta_min) * (1 + math.cos(math.pi * k / t_max)) / 2


def torch_polynomial(k: int, lr: float, total: int, power: float) -> float:
    return lr * math.pow(1.0 - min(total, k) / total, power)


def torch_one_cycle(
    k: int, max_lr: float, total: int, pct_start: float, div: float, final_div: float
) -> float:
    initial, top, last = max_lr / div, pct_start * total - 1, total - 1
    if k <= top:
        begin, end, part = initial, max_lr, k / top
    else:
        begin, end, part = max_lr, initial / final_div, (k - top) / (last - top)
    return end + (begin - end) / 2 * (math.cos(math.pi * part) + 1)


def torch_cyclic(
    k: int, base: float, max_lr: float, up: int, down: int, scale: Callable[[int, int], float]
) -> float:
    """`scale` is a function of the cycle, counted from 1, and of `k`."""
    cycle = math.floor(1 + k / (up + down))
    x = 1.0 + k / (up + down) - cycle
    ratio = up / (up + down)
    height = x / ratio if x <= ratio else (x - 1) / (ratio - 1)
    return base + (max_lr - base) * height * scale(cycle, k)


def like_torch_one_cycle(total: int, pct_start: float) -> OneCycle:
    return OneCycle(0.3, total - 1, (pct_start * total - 1) / (total - 1))


LIKE_TORCH: dict[str, tuple[Schedule, int, Callable[[int], float]]] = {
    "LambdaLR": (InverseTime(0.3, 0.7), 60, lambda k: 0.3 * (1 / (1 + 0.7 * k))),
    "LinearLR": (
        Linear(0.3 * 0.1, 0.3 * 0.8, 40),
        60,
        lambda k: torch_linear(k, 0.3, 0.1, 0.8, 40),
    ),
    "CosineAnnealingLR": (
        Cosine(0.3, 0.01, 40),
        41,  # and up again from there
        lambda k: torch_cosine_annealing(k, 0.3, 40, 0.01),
    ),
    "PolynomialLR": (
        Polynomial(0.3, 0.0, 40, 0.9),
        60,
        lambda k: torch_polynomial(k, 0.3, 40, 0.9),
    ),
    "ExponentialLR": (Exponential(0.3, 0.9), 60, lambda k: 0.3 * 0.9**k),
    "StepLR": (StepDecay(0.3, 0.1, 7), 60, lambda k: 0.3 * 0.1 ** (k // 7)),
    "MultiStepLR": (
        Sequential([0.3, 0.03, 0.003], [10, 25]),
        60,
        lambda k: 0.3 * 0.1 ** ((k >= 10) + (k >= 25)),
    ),
    "OneCycleLR": (
        like_torch_one_cycle(50, 0.3),
        50,
        lambda k: torch_one_cycle(k, 0.3, 50, 0.3, 25, 1e4),
    ),
    "OneCycleLR, its peak between two steps": (
        like_torch_one_cycle(47, 0.25),
        47,
        lambda k: torch_one_cycle(k, 0.3, 47, 0.25, 25, 1e4),
    ),
    "CyclicLR": (
        Cyclic(0.01, 0.3, 5),
        60,
        lambda k: torch_cyclic(k, 0.01, 0.3, 5, 5, lambda cycle, k: 1.0),
    ),
    "CyclicLR, triangular2": (
        Cyclic(0.01, 0.3, 3, 8, "triangular2"),
        60,
        lambda k: torch_cyclic(k, 0.01, 0.3, 3, 8, lambda cycle, k: 1 / 2.0 ** (cycle - 1)),
    ),
    "CyclicLR, exp_range": (
        Cyclic(0.02, 0.3, 8, 4, "exp_range", 0.97),
        60,
        lambda k: torch_cyclic(k, 0.02, 0.3, 8, 4, lambda cycle, k: 0.97**k),
    ),
    "SequentialLR of LinearLR and CosineAnnealingLR": (
        Warmup(Cosine(0.3, 0.0, 40), 10, 0.003),
        51,
        lambda k: (
            torch_linear(k, 0.3, 0.01, 1.0, 10)
            if k < 10
            else torch_cosine_annealing(k - 10, 0.3, 40, 0.0)
        ),
    ),
}


@pytest.mark.parametrize("name", LIKE_TORCH)
def test_documented_formulas_of_torch(name: str) -> None:
    schedule, steps, formula = LIKE_TORCH[name]
    values = [schedule(step) for step in range(steps)]
    assert values == pytest.approx([formula(k) for k in range(steps)], rel=1e-13, abs=2e-16)


# Numbers printed in the docstrings of torch's schedulers.
@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (StepDecay(0.05, 0.1, 30), {0: 0.05, 29: 0.05, 30: 0.005, 59: 0.005, 60: 0.0005}),
        (Sequential([0.05, 0.005, 0.0005], [30, 80]), {29: 0.05, 30: 0.005, 79: 0.005, 80: 0.0005}),
        (Polynomial(0.001, 0.0, 4, 1.0), {0: 0.001, 1: 0.00075, 2: 0.0005, 3: 0.00025, 4: 0.0}),
        (
            Sequential([0.005, Exponential(0.05, 0.9)], [20]),
            {0: 0.005, 19: 0.005, 20: 0.05, 21: 0.045, 22: 0.0405},
        ),
    ],
)
def test_printed_values_of_torch(schedule: Schedule, values: dict[int, float]) -> None:
    assert {step: schedule(step) for step in values} == pytest.approx(values, rel=1e-13)


@given(
    learning_rate=st.floats(0, 1e3),
    rate=st.floats(0, 1e3),
    step=st.integers(0, 10**7),
    interval=st.integers(1, 10**4),
)
def test_bits_of_the_course(learning_rate: float, rate: float, step: int, interval: int) -> None:
    wanted = instep.update_lr(learning_rate, step, rate)
    assert InverseTime(learning_rate, rate)(step) == wanted
    wanted = instep.schedule_lr_decay(learning_rate, step, rate, interval)
    assert InverseTime(learning_rate, rate, interval, staircase=True)(step) == wanted
    wanted = instep.schedule_lr_decay(learning_rate, step, rate)
    assert InverseTime(learning_rate, rate, 1000, staircase=True)(step) == wanted


# Properties

rates = st.floats(0, 1e300) | st.floats(0, 1) | st.sampled_from([0.0, 5e-324, 0.1, 1.0])
counts = st.integers(1, 50) | st.integers(1, 10**9)
parts = st.floats(0, 1, exclude_min=True)
steps_asked = st.integers(0, 60) | st.integers(0, 10**15)

ramps = (
    st.builds(Linear, rates, rates, counts)
    | st.builds(Cosine, rates, rates, counts)
    | st.builds(Polynomial, rates, rates, counts, st.floats(1e-3, 1e3))
)
decays = (
    st.builds(Exponential, rates, parts, counts, staircase=st.booleans())
    | st.builds(StepDecay, rates, parts, counts)
    | st.builds(InverseTime, rates, rates, counts, staircase=st.booleans())
)
one_cycles = st.builds(
    OneCycle, rates, counts, st.floats(0, 1), st.floats(1, 1e6), st.floats(1, 1e6)
)
cycles = st.builds(
    lambda low, high, up, down, mode, gamma: Cyclic(
        min(low, high), max(low, high), up, down, mode, gamma if mode == "exp_range" else 1.0
    ),
    rates,
    rates,
    counts,
    st.none() | counts,
    st.sampled_from(["triangular", "triangular2", "exp_range"]),
    parts,
)
simple = st.builds(Constant, rates) | ramps | decays | one_cycles | cycles


def compose(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    boundaries = st.lists(counts, min_size=0, max_size=3, unique=True).map(sorted)
    return (
        st.builds(Warmup, inner, st.integers(0, 50), rates)
        | st.builds(Scaled, inner, st.floats(0, 1))
        | boundaries.flatmap(
            lambda b: st.builds(
                Sequential,
                st.lists(inner, min_size=len(b) + 1, max_size=len(b) + 1),
                st.just(b),
            )
        )
    )


every = st.recursive(simple, compose, max_leaves=4)


@given(every, steps_asked)
def test_rates_are_finite_floats_that_are_not_negative(schedule: Any, step: int) -> None:
    rate = schedule(step)
    assert type(rate) is float
    assert 0.0 <= rate < math.inf
    assert math.copysign(1.0, rate) == 1.0


@given(every, st.lists(steps_asked, max_size=5))
def test_copies_are_equal(schedule: Any, steps: list[int]) -> None:
    again = eval(repr(schedule), vars(schedules))
    pickled = [
        pickle.loads(pickle.dumps(schedule, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ]
    for other in (again, *pickled, copy.copy(schedule), copy.deepcopy(schedule)):
        assert type(other) is type(schedule)
        assert other == schedule
        assert hash(other) == hash(schedule)
        assert repr(other) == repr(schedule)
        assert [other(step) for step in steps] == [schedule(step) for step in steps]


@pytest.mark.parametrize("schedule", [*LIKE_OPTAX.values(), StepDecay(0.3, 0.5, 7), Scaled(1, 2)])
def test_every_field_counts_for_equality(schedule: Any) -> None:
    assert schedule != tuple(getattr(schedule, f.name) for f in dataclasses.fields(schedule))
    for f in dataclasses.fields(schedule):
        value = getattr(schedule, f.name)
        if isinstance(value, tuple):
            other: Any = (*value[:-1], 99)
        elif isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        else:
            other = 0.125 if isinstance(value, float) and value < 1 else 30.0
        if value != ():
            assert dataclasses.replace(schedule, **{f.name: other}) != schedule, f.name


@example(Linear(0.03, 0.3, 5), 0, 0)  # 0.03 + (0.3 - 0.03) is not 0.3
@example(Linear(0.3, 0.03, 5), 0, 0)
@given(ramps, steps_asked, steps_asked)
def test_ramps_go_from_start_to_end(ramp: Any, step: int, later: int) -> None:
    step, later = sorted((step, later))
    assert ramp(0) == ramp.start
    assert ramp(ramp.steps) == ramp.end
    low, high = sorted((ramp.start, ramp.end))
    assert low <= ramp(step) <= high
    # libm promises no monotone sin and pow: leave the last digit to it
    slack = 1e-15 * high
    if ramp.start <= ramp.end:
        assert ramp(step) <= ramp(later) + slack
    else:
        assert ramp(step) >= ramp(later) - slack


@given(decays, steps_asked, steps_asked)
def test_decays_only_fall(decay: Any, step: int, later: int) -> None:
    step, later = sorted((step, later))
    assert decay(0) == decay.start
    assert 0.0 <= decay(later) <= decay(step) * (1 + 1e-15) <= decay.start * (1 + 1e-15)


@given(decays, st.integers(0, 1000))
def test_stairs_are_flat_and_meet_the_curve(decay: Any, stair: int) -> None:
    if getattr(decay, "staircase", True):
        first = stair * decay.every
        assert decay(first + decay.every - 1) == decay(first)
        if not isinstance(decay, StepDecay):
            curve = dataclasses.replace(decay, staircase=False)
            assert curve(first) == decay(first)


@given(one_cycles, steps_asked, steps_asked)
def test_one_cycle_goes_up_then_down(cycle: OneCycle, step: int, later: int) -> None:
    top = cycle.warmup_fraction * cycle.steps
    initial = cycle.peak / cycle.div_factor
    final = initial / cycle.final_div_factor
    assert final <= cycle(step) <= cycle.peak
    if top > 0:
        assert cycle(0) == initial
    if top < cycle.steps:
        assert cycle(cycle.steps) == final
    if top.is_integer():
        assert cycle(int(top)) == cycle.peak
    step, later = sorted((step, later))
    slack = 1e-15 * cycle.peak
    if later <= top:
        assert initial <= cycle(step) <= cycle(later) + slack
    elif step >= top:
        assert cycle(step) >= cycle(later) - slack


def test_one_cycle_without_a_way_up_or_down() -> None:
    assert [OneCycle(0.5, 2, 0.0, 5, 1)(step) for step in (0, 2, 3)] == [0.5, 0.1, 0.1]
    assert [OneCycle(0.5, 2, 1.0, 5, 1)(step) for step in (0, 2, 3)] == [0.1, 0.5, 0.5]
    assert OneCycle(0.5, 2, 0.5, 25, 0.04)(9) == 0.5
    # peak/div_factor/final_div_factor is above the peak here, by rounding alone
    assert OneCycle(0.72, 2, 0.5, 22.8, 1 / 22.8)(9) == 0.72


@given(ramps | one_cycles, steps_asked)
def test_the_last_value_is_held(schedule: Any, more: int) -> None:
    assert schedule(schedule.steps + more) == schedule(schedule.steps)


@given(every, st.integers(0, 50), rates, steps_asked)
def test_warmup_meets_its_schedule(inner: Any, steps: int, start: float, step: int) -> None:
    warm = Warmup(inner, steps, start)
    assert warm(steps + step) == inner(step)
    if steps > 0:
        assert warm(0) == start
        low, high = sorted((start, inner(0)))
        assert low <= warm(step % steps) <= high
        line = Fraction(start) + (Fraction(inner(0)) - Fraction(start)) * (step % steps) / steps
        # Below the normal floats there is no part of 1e-14: a few of the smallest steps.
        slack = 1e-14 * high + 4 * 5e-324
        assert warm(step % steps) == pytest.approx(float(line), rel=1e-14, abs=slack)


@given(every, every, counts, steps_asked)
def test_sequential_starts_each_schedule_at_its_boundary(
    first: Any, second: Any, boundary: int, step: int
) -> None:
    both = Sequential((first, second), (boundary,))
    assert both(step % boundary) == first(step % boundary)
    assert both(boundary - 1) == first(boundary - 1)
    assert both(boundary + step) == second(step)
    assert Sequential([first], [])(step) == first(step)


@given(every, st.floats(0, 1), steps_asked)
def test_scaled_is_a_product(inner: Any, factor: float, step: int) -> None:
    assert Scaled(inner, factor)(step) == factor * inner(step)


@example(Cyclic(0.0, 3.0, 1, 1, "triangular2"), 1075)
@given(cycles, st.integers(0, 10**6))
def test_cycles_begin_low_and_are_as_high_as_their_mode_says(cyclic: Cyclic, cycle: int) -> None:
    up = cyclic.steps_up
    down = up if cyclic.steps_down is None else cyclic.steps_down
    first = cycle * (up + down)
    assert cyclic(first) == cyclic.low
    exact = {
        "triangular": Fraction(1),
        "triangular2": Fraction(1, 2 ** min(cycle, 1100)),
        "exp_range": Fraction(cyclic.gamma ** (first + up)),
    }[cyclic.mode]
    height = float((Fraction(cyclic.high) - Fraction(cyclic.low)) * exact + Fraction(cyclic.low))
    # 0.5**cycle is 0 before its product with a high rate would be.
    slack = 1e-320 * max(1.0, cyclic.high)
    assert cyclic(first + up) == pytest.approx(height, rel=1e-14, abs=slack)
    if cycle == 0 and cyclic.mode != "exp_range":
        assert cyclic(up) == cyclic.high


# A metric


class Plateau:
    """torch's ReduceLROnPlateau for one rate, typed from its documentation and source."""

    def __init__(
        self, lr: float, factor: float, patience: int, mode: str, threshold: float,
        threshold_mode: str, cooldown: int, min_lr: float, eps: float,
    ) -> None:  # fmt: skip
        self.lr, self.factor, self.patience, self.mode = lr, factor, patience, mode
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.min_lr, self.eps = min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0

    def is_better(self, a: float, best: float) -> bool:
        if self.mode == "min" and self.threshold_mode == "rel":
            return a < best * (1.0 - self.threshold)
        if self.mode == "min" and self.threshold_mode == "abs":
            return a < best - self.threshold
        if self.mode == "max" and self.threshold_mode == "rel":
            return a > best * (self.threshold + 1.0)
        return a > best + self.threshold

    def step(self, metric: float) -> None:
        if self.is_better(metric, self.best):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            new_lr = max(self.lr * self.factor, self.min_lr)
            if self.lr - new_lr > self.eps:
                self.lr = new_lr
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0


plateaus = st.fixed_dictionaries(
    {
        "lr": st.floats(0, 2),
        "factor": st.floats(0.01, 0.99),
        "patience": st.integers(0, 3),
        "mode": st.sampled_from(["min", "max"]),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1, 0.5]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 3),
        "min_lr": st.sampled_from([0.0, 1e-3, 0.1]),
        "eps": st.sampled_from([0.0, 1e-8, 0.01]),
    }
)
# Few values, so that some are as good as others, and some are as good as the threshold wants.
metrics = st.sampled_from([0.5, 0.9, 1.0, 1.0001, 1.1, 1.5, 2.0, math.nan]) | st.floats(0, 3)


@given(plateaus, st.lists(metrics, min_size=10, max_size=40))
def test_plateaus_are_those_of_torch(options: dict[str, Any], reports: list[float]) -> None:
    schedule, torch = ReduceOnPlateau(**options), Plateau(**options)
    assert schedule.best is None
    for number, metric in enumerate(reports):
        assert schedule(number) == torch.lr
        torch.step(metric)
        assert schedule.report(metric) == schedule(0) == schedule(10**9) == torch.lr
        assert schedule.bad_reports == torch.num_bad_epochs
        assert schedule.cooldown_left == torch.cooldown_counter
        assert schedule.best == (torch.best if math.isfinite(torch.best) else None)


def test_a_plateau_by_hand() -> None:
    schedule = ReduceOnPlateau(0.8, 0.5, patience=1, cooldown=1, min_lr=0.15)
    reported = [schedule.report(metric) for metric in (3, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2)]
    assert reported == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.15]
    other = ReduceOnPlateau(0.8, 0.5, patience=0, mode="max", threshold_mode="abs", threshold=0.5)
    assert [other.report(metric) for metric in (3, 3.5, 3.75, 4.25)] == [0.8, 0.4, 0.4, 0.2]


def test_an_infinite_metric_is_no_better() -> None:
    for mode, metric in (("min", -math.inf), ("max", math.inf), ("min", math.nan)):
        schedule = ReduceOnPlateau(1.0, patience=1, mode=mode)  # type: ignore[arg-type]
        assert [schedule.report(metric), schedule.report(metric)] == [1.0, 0.1]
        assert schedule.best is None


@given(plateaus, st.lists(metrics, max_size=20), st.lists(metrics, max_size=20))
def test_a_plateau_is_copied_pickled_and_saved_with_its_state(
    options: dict[str, Any], before: list[float], after: list[float]
) -> None:
    schedule = ReduceOnPlateau(**options)
    for metric in before:
        schedule.report(metric)
    restored = ReduceOnPlateau(**options)
    restored.load_state_dict(json.loads(json.dumps(schedule.state_dict(), allow_nan=False)))
    others = [copy.copy(schedule), copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))]
    wanted = [schedule.report(metric) for metric in after]
    for other in (restored, *others):
        assert repr(other) == repr(schedule)
        assert [other.report(metric) for metric in after] == wanted
        assert other.state_dict() == schedule.state_dict()
        assert other != schedule
    fresh = eval(repr(schedule), vars(schedules))
    assert fresh.state_dict() == ReduceOnPlateau(**options).state_dict()


def test_an_optimizer_sees_what_was_reported() -> None:
    p = np.zeros(1)
    schedule = ReduceOnPlateau(1.0, 0.5, patience=0)
    opt = instep.SGD(p, lr=Warmup(schedule, 2))
    for metric, rate in ((1.0, 0.0), (1.0, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.25)):
        assert opt.step(np.ones(1)).lr == rate
        schedule.report(metric)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"rate": -1.0}, ValueError, "state_dict['rate'] is -1.0"),
        ({"rate": None}, TypeError, "state_dict['rate'] is None"),
        ({"best": math.nan}, ValueError, "state_dict['best'] is nan"),
        ({"best": "1"}, TypeError, "state_dict['best'] is '1'"),
        ({"bad_reports": -1}, ValueError, "state_dict['bad_reports'] is -1"),
        ({"bad_reports": 1.0}, TypeError, "state_dict['bad_reports'] is 1.0"),
        ({"cooldown_left": True}, TypeError, "state_dict['cooldown_left'] is True"),
        ({"more": 1}, ValueError, "state_dict has the unknown 'more'"),
    ],
)
def test_states_of_a_plateau_that_are_wrong(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    schedule = ReduceOnPlateau(1.0, patience=3, cooldown=2)
    for metric in (1.0, 2.0, 3.0):
        schedule.report(metric)
    before = schedule.state_dict()
    assert before == {"rate": 1.0, "best": 1.0, "bad_reports": 2, "cooldown_left": 0}
    with pytest.raises(error, match=re.escape(match)):
        schedule.load_state_dict({**before, **change})
    with pytest.raises(TypeError, match="state_dict is None; wanted a dict"):
        schedule.load_state_dict(None)  # type: ignore[arg-type]
    assert schedule.state_dict() == before


def test_small_rates_keep_their_digits() -> None:
    # The textbook form, (1 + cos(x))/2, is off by 1 part in 10,000 here.
    steps = 10**6
    last = Cosine(1.0, 0.0, steps)(steps - 1)
    assert last == pytest.approx((math.pi / 2 / steps) ** 2, rel=1e-11, abs=0.0)
    assert Linear(0.0, 0.1, steps)(1) == pytest.approx(1e-7, rel=1e-15, abs=0.0)
    assert Linear(0.1, 0.0, steps)(steps - 1) == pytest.approx(1e-7, rel=1e-15, abs=0.0)


# Arguments


def test_numbers_become_python_numbers() -> None:
    cosine = Cosine(np.float32(0.5), np.float64(0.25), np.int64(8))  # type: ignore[arg-type]
    assert cosine == Cosine(0.5, 0.25, 8)
    assert repr(cosine) == "Cosine(start=0.5, end=0.25, steps=8)"
    assert [type(value) for value in dataclasses.astuple(cosine)] == [float, float, int]
    assert repr(Constant(-0.0)) == "Constant(lr=0.0)"
    assert repr(Constant(1)) == "Constant(lr=1.0)"
    sequential = Sequential([np.float32(0.5), 1], [np.int64(7)])  # type: ignore[list-item]
    assert repr(sequential) == "Sequential(schedules=(0.5, 1.0), boundaries=(7,))"
    assert [type(value) for value in (*sequential.schedules, *sequential.boundaries)] == [
        float,
        float,
        int,
    ]
    assert type(Linear(1, 0, 3)(np.int32(1))) is float  # type: ignore[arg-type]
    assert Linear(1, 0, 4)(np.uint8(3)) == 0.25  # type: ignore[arg-type]


def test_any_function_of_the_step_is_a_schedule() -> None:
    def narrow(step: int) -> Any:
        return np.float32(step + 2)

    for schedule in (Warmup(narrow, 2), Sequential([narrow], []), Scaled(narrow, 0.5)):
        assert (schedule(1), type(schedule(1))) == (
            {Warmup: 1.0, Sequential: 3.0, Scaled: 1.5}[type(schedule)],
            float,
        )


def test_fields_cannot_be_set() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Constant(0.1).lr = 0.2  # type: ignore[misc]


def test_base_has_no_rate() -> None:
    with pytest.raises(NotImplementedError):
        CheckedSchedule()(0)
    with pytest.raises(NotImplementedError):
        CheckedSchedule().__post_init__()


NAN = math.nan
BAD_VALUES: list[tuple[Callable[[], object], str]] = [
    (lambda: Constant(-0.1), "lr is -0.1; wanted a finite number that is not negative"),
    (lambda: Constant(NAN), "lr is nan; wanted a finite number that is not negative"),
    (lambda: Constant(math.inf), "lr is inf; wanted a finite number that is not negative"),
    (lambda: Constant(10**400), "lr is 1000"),
    (lambda: Linear(-1, 0, 5), "start is -1; wanted a finite number that is not negative"),
    (lambda: Linear(1, NAN, 5), "end is nan; wanted a finite number that is not negative"),
    (lambda: Linear(1, 0, 0), "steps is 0; wanted 1 or more"),
    (lambda: Cosine(1, -1, 5), "end is -1; wanted a finite number that is not negative"),
    (lambda: Cosine(1, 0, -3), "steps is -3; wanted 1 or more"),
    (lambda: Polynomial(1, 0, 5, 0), "power is 0.0; wanted a number greater than 0"),
    (lambda: Polynomial(1, 0, 5, -2), "power is -2; wanted a finite number that is not neg"),
    (lambda: Polynomial(1, 0, 0, 2), "steps is 0; wanted 1 or more"),
    (lambda: Exponential(1, 0), "rate is 0.0; wanted 0 < rate <= 1"),
    (lambda: Exponential(1, 1.01), "rate is 1.01; wanted 0 < rate <= 1"),
    (lambda: Exponential(1, 0.5, 0), "every is 0; wanted 1 or more"),
    (lambda: StepDecay(1, 0, 5), "factor is 0.0; wanted 0 < factor <= 1"),
    (lambda: StepDecay(1, 10, 5), "factor is 10.0; wanted 0 < factor <= 1"),
    (lambda: StepDecay(1, 0.5, 0), "every is 0; wanted 1 or more"),
    (lambda: InverseTime(1, -1), "rate is -1; wanted a finite number that is not negative"),
    (lambda: InverseTime(1, 1, 0), "every is 0; wanted 1 or more"),
    (lambda: OneCycle(NAN, 5), "peak is nan; wanted a finite number that is not negative"),
    (lambda: OneCycle(1, 0), "steps is 0; wanted 1 or more"),
    (lambda: OneCycle(1, 5, 1.5), "warmup_fraction is 1.5; wanted 0 <= warmup_fraction <= 1"),
    (lambda: OneCycle(1, 5, 0.3, 0.5), "div_factor is 0.5; wanted 1 or more"),
    (lambda: OneCycle(1, 5, 0.3, 2, 0.4), "final_div_factor is 0.4; wanted 1/div_factor or more"),
    (lambda: Cyclic(0.5, 0.1), "low is 0.5; wanted low <= high, which is 0.1"),
    (lambda: Cyclic(-0.5, 0.1), "low is -0.5; wanted a finite number that is not negative"),
    (lambda: Cyclic(0, 1, 0), "steps_up is 0; wanted 1 or more"),
    (lambda: Cyclic(0, 1, 5, 0), "steps_down is 0; wanted 1 or more"),
    (lambda: Cyclic(0, 1, 5, mode="square"), "mode is 'square'; wanted one of 'triangular', 't"),  # type: ignore[arg-type]
    (lambda: Cyclic(0, 1, 5, gamma=0.9), "mode is 'triangular'; wanted 'exp_range', with a gamma"),
    (lambda: Cyclic(0, 1, 5, None, "exp_range", 1.1), "gamma is 1.1; wanted 0 < gamma <= 1"),
    (lambda: ReduceOnPlateau(-1), "lr is -1; wanted a finite number that is not negative"),
    (lambda: ReduceOnPlateau(1, 1), "factor is 1.0; wanted 0 < factor < 1"),
    (lambda: ReduceOnPlateau(1, 0), "factor is 0.0; wanted 0 < factor < 1"),
    (lambda: ReduceOnPlateau(1, patience=-1), "patience is -1; wanted 0 or more"),
    (lambda: ReduceOnPlateau(1, mode="low"), "mode is 'low'; wanted one of 'min', 'max'"),  # type: ignore[arg-type]
    (lambda: ReduceOnPlateau(1, threshold=NAN), "threshold is nan; wanted a finite number"),
    (lambda: ReduceOnPlateau(1, threshold_mode="x"), "threshold_mode is 'x'; wanted one of"),  # type: ignore[arg-type]
    (lambda: ReduceOnPlateau(1, cooldown=-1), "cooldown is -1; wanted 0 or more"),
    (lambda: ReduceOnPlateau(1, min_lr=-1), "min_lr is -1; wanted a finite number"),
    (lambda: ReduceOnPlateau(1, eps=-1), "eps is -1; wanted a finite number"),
    (lambda: Warmup(-0.1, 5), "schedule is -0.1; wanted a finite number that is not negative"),
    (lambda: Warmup(0.1, -1), "steps is -1; wanted 0 or more"),
    (lambda: Warmup(0.1, 5, -1), "start is -1; wanted a finite number that is not negative"),
    (lambda: Warmup(lambda step: -step, 0)(3), "schedule(3) is -3; wanted a finite number"),
    (lambda: Warmup(lambda step: NAN, 5)(3), "schedule(0) is nan; wanted a finite number"),
    (lambda: Sequential([], []), "schedules is []; wanted at least one schedule"),
    (lambda: Sequential([1, 2], []), "boundaries has 0 steps; wanted 1, one fewer than schedules"),
    (lambda: Sequential([1], [3]), "boundaries has 1 steps; wanted 0, one fewer than schedules"),
    (lambda: Sequential([1, NAN], [3]), "schedules[1] is nan; wanted a finite number"),
    (lambda: Sequential([1, 2], [0]), "boundaries[0] is 0; wanted 1 or more"),
    (lambda: Sequential([1, 2, 3], [5, 5]), "boundaries[1] is 5; wanted 6 or more"),
    (
        lambda: Sequential([1, lambda step: math.inf], [5])(7),
        "schedules[1](2) is inf; wanted a finite number",
    ),
    (lambda: Scaled(1, -1), "factor is -1; wanted a finite number that is not negative"),
    (lambda: Scaled(1e200, 1e200)(4), "factor*schedule(4) is inf; wanted a finite number"),
    (lambda: Constant(1)(-1), "step is -1; wanted 0 or more"),
]
BAD_TYPES: list[tuple[Callable[[], Any], str]] = [
    (lambda: Constant("0.1"), "lr is '0.1' (str); wanted a number"),  # type: ignore[arg-type]
    (lambda: Constant(None), "lr is None (NoneType); wanted a number"),  # type: ignore[arg-type]
    (lambda: Constant(True), "lr is True (bool); wanted a number"),
    (lambda: Constant(1j), "lr is 1j (complex); wanted a number"),  # type: ignore[arg-type]
    (lambda: Constant(np.ones(1)), "lr is array([1.]) (ndarray); wanted"),  # type: ignore[arg-type]
    (lambda: Linear(1, 0, 5.0), "steps is 5.0 (float); wanted an integer"),  # type: ignore[arg-type]
    (lambda: Cosine(1, 0, True), "steps is True (bool); wanted an integer"),
    (lambda: InverseTime(1, 1, staircase=1), "staircase is 1 (int); wanted True or"),  # type: ignore[arg-type]
    (lambda: Exponential(1, 1, staircase="no"), "staircase is 'no' (str); wanted"),  # type: ignore[arg-type]
    (lambda: Cyclic(0, 1, 5.0), "steps_up is 5.0 (float); wanted an integer"),  # type: ignore[arg-type]
    (lambda: Cyclic(0, 1, 5, 2.0), "steps_down is 2.0 (float); wanted an"),  # type: ignore[arg-type]
    (lambda: ReduceOnPlateau(None), "lr is None (NoneType); wanted a number"),  # type: ignore[arg-type]
    (lambda: ReduceOnPlateau(1, patience=1.5), "patience is 1.5 (float); wanted an"),  # type: ignore[arg-type]
    (lambda: ReduceOnPlateau(1).report("1"), "metric is '1' (str); wanted a number: pass float"),  # type: ignore[arg-type]
    (lambda: ReduceOnPlateau(1).report(np.ones(1)), "metric is array([1.]) (ndarray); wanted a"),  # type: ignore[arg-type]
    (lambda: Warmup("cosine", 5), "schedule is 'cosine' (str); wanted a schedule or a number"),  # type: ignore[arg-type]
    (lambda: Warmup(True, 5), "schedule is True (bool); wanted a schedule or a number"),
    (lambda: Warmup(0.1, 5.0), "steps is 5.0 (float); wanted an integer"),  # type: ignore[arg-type]
    (lambda: Warmup(lambda step: "x", 0)(0), "schedule(0) is 'x' (str); wanted a number"),  # type: ignore[arg-type, return-value]
    (lambda: Scaled(None, 1), "schedule is None (NoneType); wanted a schedule"),  # type: ignore[arg-type]
    (lambda: Sequential(Constant(1), []), "schedules is Constant(lr=1.0) (Constant); wanted a"),  # type: ignore[arg-type]
    (lambda: Sequential([1, None], [3]), "schedules[1] is None (NoneType); wanted a"),  # type: ignore[list-item]
    (lambda: Sequential([1, 2], 3), "boundaries is 3 (int); wanted a list"),  # type: ignore[arg-type]
    (lambda: Sequential([1, 2], [3.0]), "boundaries[0] is 3.0 (float); wanted an"),  # type: ignore[list-item]
    (lambda: Constant(1)(2.0), "step is 2.0 (float); wanted an integer"),  # type: ignore[arg-type]
    (lambda: Constant(1)(True), "step is True (bool); wanted an integer"),
]


@pytest.mark.parametrize(("call", "message"), BAD_VALUES, ids=[m for _, m in BAD_VALUES])
def test_bad_values(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call()


@pytest.mark.parametrize(("call", "message"), BAD_TYPES, ids=[m for _, m in BAD_TYPES])
def test_bad_types(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        call()


# The module


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_tested_and_documented(kind: type) -> None:
    table = "\n".join(repr(schedule) for schedule in LIKE_OPTAX.values())
    table += "\n".join(repr(row[0]) for row in LIKE_TORCH.values())
    assert kind in (Scaled, ReduceOnPlateau) or f"{kind.__name__}(" in table
    doc = kind.__doc__ or ""
    for part in ("Parameters", "Raises", "Notes", "Examples", "torch"):
        assert part in doc
    formula = doc.split("Notes\n    -----\n    ")[1]
    assert formula.startswith(("``", "With ``"))
