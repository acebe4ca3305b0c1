"""pytest-benchmark, given times of contestants that took turns.

It runs one benchmark after the other; they never take turns. So its clock plays back what was
measured, and it does the rest: the statistics, the tables and the JSON.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

_ticks: deque[float] = deque()


def _clock() -> float:
    return _ticks.popleft()


from_measured_times = pytest.mark.benchmark(timer=_clock)


def play_back(benchmark: Any, seconds: Sequence[float]) -> None:
    """Give the `benchmark` fixture of a test marked `from_measured_times` what was measured."""
    _ticks.clear()
    for time in seconds:
        _ticks.extend((0.0, time))
    benchmark.pedantic(lambda: None, rounds=len(seconds))
