"""What a step of Adam does besides, against another pass over the same arrays in NumPy."""

import math
import statistics
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import instep
import numpy as np
import pytest
from instep.bench.arrays import check_ordinary, draw
from instep.bench.turns import clock, take_turns

from benches.conftest import Show
from benches.played_back import from_measured_times, play_back

SIZE, SMOKE_SIZE = 1_000_000, 500
DECAY = 0.999

# What a step does besides, and what NumPy does after it instead. A norm takes a read of all
# gradients before the step can begin: max() is a read, vectorised and in one thread.
EXTRAS = {
    "max_norm": ("max_norm=math.inf", "g.max()"),
    "average": ("average=0.999", "a *= d; a += (1 - d)*p"),
    "zero_grads": ("zero_grads=True", "g.fill(0)"),
}


class Steps:
    """Steps with and without extras, all of the same parameter and gradient."""

    def __init__(self, size: int) -> None:
        self.p, self.g = draw(size, "float32")
        self.kept = self.g.copy()
        self.a = self.p.copy()
        self.opt = instep.Adam(self.p)
        self.averaging = instep.Adam(self.p, average=DECAY)
        self.named: dict[str, Callable[[], object]] = {
            "plain": lambda: self.opt.step(self.g),
            "max_norm": lambda: self.opt.step(self.g, max_norm=math.inf),
            "max_norm, NumPy": partial(self.then, lambda: self.g.max()),
            "average": lambda: self.averaging.step(self.g),
            "average, NumPy": partial(self.then, self.average),
            "zero_grads": self.clearing,
            "zero_grads, NumPy": partial(self.then, lambda: self.g.fill(0)),
        }

    def refill(self) -> None:
        """Bring back the gradient that was cleared, or the moments would decay to subnormals."""
        np.copyto(self.g, self.kept)

    def clearing(self) -> None:
        self.opt.zero_grads = True
        self.opt.step(self.g)
        self.opt.zero_grads = False

    def then(self, after: Callable[[], object]) -> None:
        self.opt.step(self.g)
        after()

    def average(self) -> None:
        self.a *= DECAY
        self.a += (1 - DECAY) * self.p


@cache
def measure(smoke: bool) -> dict[str, list[float]]:
    steps = Steps(SMOKE_SIZE if smoke else SIZE)
    seconds = take_turns(
        {name: clock(step) for name, step in steps.named.items()},
        turn_seconds=0.0001 if smoke else 0.01,
        total_seconds=10.0,
        least_rounds=2,
        most_rounds=2 if smoke else 101,
        before_turn=steps.refill,
    )
    for opt in (steps.opt, steps.averaging):
        check_ordinary("Adam", steps.p, steps.a, *opt.state["params"].values())
    return seconds


def added(seconds: dict[str, list[float]], name: str) -> float:
    """Return how much longer a step took than a plain one: the median of all rounds."""
    pairs = zip(seconds[name], seconds["plain"], strict=True)
    return statistics.median(time - plain for time, plain in pairs)


@from_measured_times
@pytest.mark.parametrize("contestant", ["plain", "instep", "numpy"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_extra(
    benchmark: Any,
    show: Show,
    extra: str,
    contestant: str,
    request: pytest.FixtureRequest,
) -> None:
    smoke = bool(request.config.getoption("smoke"))
    seconds = measure(smoke)
    name = {"plain": "plain", "instep": extra, "numpy": f"{extra}, NumPy"}[contestant]
    benchmark.group = extra
    play_back(benchmark, seconds[name])

    if contestant == "instep":
        by_instep, by_numpy = (added(seconds, one) for one in (extra, f"{extra}, NumPy"))
        benchmark.extra_info["added"] = {"instep": by_instep, "NumPy": by_numpy}
        option, code = EXTRAS[extra]
        size = SMOKE_SIZE if smoke else SIZE
        title = f"microseconds added to a step of Adam, {size:,} elements, float32"
        cells = {
            "option": option,
            "adds": f"{1e6 * by_instep:.1f}",
            "in NumPy": code,
            "NumPy adds": f"{1e6 * by_numpy:.1f}",
            # A cost that drowns in the noise has no ratio.
            "ratio": f"{by_numpy / by_instep:.1f}" if by_instep > 0 else "-",
        }
        show(title, cells)


@pytest.mark.parametrize("extra", ["average", "zero_grads"])
def test_numpy_does_the_same(extra: str) -> None:
    by_instep, by_numpy = Steps(50), Steps(50)
    by_instep.named[extra]()
    by_numpy.named[f"{extra}, NumPy"]()
    np.testing.assert_array_equal(by_instep.p, by_numpy.p)
    np.testing.assert_array_equal(by_instep.g, by_numpy.g)
    if extra == "average":
        np.testing.assert_allclose(by_instep.averaging.averages, by_numpy.a, rtol=1e-6)
        assert (by_numpy.a != by_numpy.p).any()
    else:
        assert not by_numpy.g.any()


def test_gradient_is_filled_before_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    refills: list[Steps] = []
    monkeypatch.setattr(Steps, "refill", lambda steps: refills.append(steps))
    monkeypatch.setattr("benches.test_extras.check_ordinary", lambda *_: None)
    seconds = measure.__wrapped__(smoke=True)
    assert len(refills) == sum(map(len, seconds.values())) == 2 * (1 + 2 * len(EXTRAS))
