"""A step of Adam over a list of small arrays, which is bound by what is done for each array."""

import statistics
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any, TypeAlias

import instep
import numpy as np
import pytest
from instep import _instep
from instep.bench.arrays import check_ordinary, draw
from instep.bench.turns import clock, take_turns
from numpy.typing import NDArray

from benches.conftest import Show
from benches.course_loop import update_parameters_with_adam
from benches.played_back import from_measured_times, play_back

ARRAYS, SMOKE_ARRAYS = 148, 4
ELEMENTS = 8
# In float32, or np.power would make all of the course's arrays float64.
HYPERS: Any = tuple(map(np.float32, (1e-3, 0.9, 0.999, 1e-8)))

Step: TypeAlias = Callable[[], object]

CONTESTANTS = ["instep", "numpy", "course", "empty"]


def numpy_loop(
    p: list[NDArray[Any]], g: list[NDArray[Any]], m: list[Any], v: list[Any], t: int
) -> None:
    """Adam over a list, with no more NumPy calls than the formula has operations."""
    beta1, beta2, a = 0.9, 0.999, 1e-3 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
    eps = 1e-8 * (1 - 0.999**t) ** 0.5
    for i, gradient in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gradient
        v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient
        p[i] = p[i] - a * m[i] / (np.sqrt(v[i]) + eps)


class Steps:
    """Steps of the same parameters, in arrays of each contestant's own."""

    def __init__(self, arrays: int) -> None:
        def lists() -> list[list[NDArray[Any]]]:
            drawn = draw(arrays * ELEMENTS, "float32")
            return [[a.copy() for a in np.split(array, arrays)] for array in drawn]

        def zeros(p: list[NDArray[Any]]) -> list[NDArray[Any]]:
            return [np.zeros_like(a) for a in p]

        self.p, g = lists()
        self.opt = instep.Adam(self.p)
        self.by_numpy, g2 = lists()
        m, v = zeros(self.by_numpy), zeros(self.by_numpy)
        p3, g3 = lists()
        names = [f"{kind}{layer}" for layer in range(1, arrays // 2 + 1) for kind in "Wb"]
        self.by_course = dict(zip(names, p3, strict=True))
        grads = {f"d{name}": a for name, a in zip(names, g3, strict=True)}
        m3, v3 = ({name: np.zeros_like(a) for name, a in grads.items()} for _ in range(2))
        t, t3 = count(1), count(1)
        self.named: dict[str, Step] = {
            "instep": lambda: self.opt.step(g),
            "numpy": lambda: numpy_loop(self.by_numpy, g2, m, v, next(t)),
            "course": lambda: update_parameters_with_adam(
                self.by_course, grads, m3, v3, next(t3), *HYPERS
            ),
            "empty": _instep.get_num_threads,
        }


@cache
def measure(smoke: bool) -> dict[str, list[float]]:
    steps = Steps(SMOKE_ARRAYS if smoke else ARRAYS)
    seconds = take_turns(
        {name: clock(step) for name, step in steps.named.items()},
        turn_seconds=0.0001 if smoke else 0.01,
        total_seconds=10.0,
        least_rounds=2,
        most_rounds=2 if smoke else 101,
    )
    check_ordinary("Adam", *steps.p, *steps.by_numpy, *steps.by_course.values())
    return seconds


@from_measured_times
@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_small_arrays(
    benchmark: Any, show: Show, contestant: str, request: pytest.FixtureRequest
) -> None:
    smoke = bool(request.config.getoption("smoke"))
    seconds = measure(smoke)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    arrays = SMOKE_ARRAYS if smoke else ARRAYS
    benchmark.group = f"{arrays} arrays of {ELEMENTS} float32"
    play_back(benchmark, seconds[contestant])

    if contestant == "instep":
        by_instep = medians["instep"]
        cells = {
            "microseconds": f"{1e6 * by_instep:.1f}",
            "ns per array": f"{1e9 * by_instep / arrays:.0f}",
            "empty call, ns": f"{1e9 * medians['empty']:.0f}",
            "NumPy loop / instep": f"{medians['numpy'] / by_instep:.0f}",
            "course code / instep": f"{medians['course'] / by_instep:.0f}",
        }
        show(f"a step of Adam, {arrays} arrays of {ELEMENTS} float32", cells)


def test_contestants_do_the_same() -> None:
    steps = Steps(SMOKE_ARRAYS)
    for _ in range(50):
        for step in steps.named.values():
            step()
    by_course = list(steps.by_course.values())
    for has, by_numpy, course in zip(steps.p, steps.by_numpy, by_course, strict=True):
        assert has.dtype == by_numpy.dtype == course.dtype == np.float32
        assert (has < draw(SMOKE_ARRAYS * ELEMENTS, "float32")[0].max()).all()
        np.testing.assert_allclose(by_numpy, has, rtol=1e-5)
        np.testing.assert_allclose(course, has, rtol=1e-5)
