"""What is measured: contestants at every size, dtype and number of threads, and its statistics."""

import math
import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from instep.bench.arrays import check_ordinary, draw
from instep.bench.contestants import OURS, Contestant, Limit, OneByOne
from instep.bench.dicts import DTYPE, LOOPS, UNITS
from instep.bench.peers import PEERS
from instep.bench.turns import clock_after, take_turns
from instep.threads import num_threads

__all__ = [
    *("Pace", "Result", "Setting"),
    *("blas_threads", "bytes_needed", "contestants", "measure", "nets", "sizes"),
]

SMALLEST = 100

MATRIX = 384
"""Rows and columns of what is multiplied between steps: a hidden layer, a millisecond or so."""

LIST = (148, 8)
"""How many arrays of how many elements: bound by what is done for each array."""

SCATTERED_FROM = 4 << 20
"""From how many bytes on it matters for an array's speed where the system has put it.

NumPy asks for large pages from here on, and gets them or not."""

MAKINGS = 4
"""How often contestants are made anew where it matters, so that good luck and bad go around."""

ARRAYS_READ_OR_WRITTEN = 7
"""By a step of Adam that moves each number once: reads p, g, m and v, writes p, m and v."""


@dataclass(frozen=True)
class Pace:
    """How long to measure at each size."""

    turn_seconds: float
    """What a turn lasts, if a step does not take longer by itself."""
    total_seconds: float
    """What all rounds at one size last, if the least number of rounds does not take longer."""
    least_rounds: int
    most_rounds: int
    pause_seconds: float
    """How long nothing is done before a turn, so that the pool before has gone to sleep."""


@dataclass(frozen=True)
class Setting:
    """What contestants have in common that are compared."""

    dtype: str
    threads: int
    size: int
    """Elements of an array."""
    blas_threads: int | None = None
    """On how many threads a matrix product is done before every step; None for no product."""
    arrays: int = 1
    """How many arrays of that size there are."""
    in_dicts: bool = False
    """Whether the arrays are those of a net in the dicts of the course; the size is that of all."""


@dataclass(frozen=True)
class Result:
    """One contestant in one setting."""

    setting: Setting
    contestant: str
    rounds: int
    seconds: float
    """Of one step: the median of the rounds."""

    @property
    def ns_per_element(self) -> float:
        """Nanoseconds of a step for each element."""
        return 1e9 * self.seconds / self.elements

    @property
    def elements(self) -> int:
        """The elements of all arrays together."""
        return self.setting.arrays * self.setting.size

    @property
    def gigabytes_per_second(self) -> float:
        """The bytes that Adam has to move, whatever this contestant moves, over the time."""
        moved = ARRAYS_READ_OR_WRITTEN * np.dtype(self.setting.dtype).itemsize * self.elements
        return moved / self.seconds / 1e9


def sizes(max_size: int) -> list[int]:
    """Return the sizes to measure: 100, 300, 1,000, 3,000, ..., and last the largest.

    Parameters
    ----------
    max_size : int
        The largest, 100 or more.

    Returns
    -------
    sizes : list of int
        Ascending.
    """
    found = []
    power = SMALLEST
    while power < max_size:
        found += [size for size in (power, 3 * power) if size < max_size]
        power *= 10
    return [*found, max_size]


def nets(dtypes: Sequence[str]) -> list[Setting]:
    """Return what is measured besides single arrays: many small ones, on one thread.

    Parameters
    ----------
    dtypes : sequence of str
        Of lists of arrays.

    Returns
    -------
    settings : list of Setting
        A list of arrays for each dtype, and last the dicts of the course.
    """
    arrays, size = LIST
    of_lists = [Setting(dtype, 1, size, arrays=arrays) for dtype in dtypes]
    weights = sum((before + 1) * units for before, units in pairwise(UNITS))
    return [*of_lists, Setting(DTYPE, 1, weights, in_dicts=True)]


def contestants(
    dtypes: Sequence[str],
) -> tuple[list[type[Contestant]], dict[str, str]]:
    """Find out who can take part, by a step of each on a few elements.

    Parameters
    ----------
    dtypes : sequence of str
        Of the arrays that will be stepped.

    Returns
    -------
    able : list of type
        Those that did their step.
    missing : dict of str
        Why each of the others did not, by its name.
    """
    able: list[type[Contestant]] = []
    missing = {}
    for contestant in (*OURS, *PEERS):
        try:
            with num_threads(1):
                for dtype in set(dtypes).intersection(contestant.dtypes):
                    contestant(*draw(10, dtype), threads=1).step()
        except ImportError as error:
            missing[contestant.name] = str(error)
        except Exception as error:  # a library that is there, but too old or broken
            if contestant in OURS:
                raise
            missing[contestant.name] = f"{type(error).__name__}: {error}"
        else:
            able.append(contestant)
    return able, missing


def taking_part(
    able: Sequence[type[Contestant]], setting: Setting, all_threads: int
) -> list[type[Contestant]]:
    """Return those that can be measured in a setting."""
    return [
        contestant
        for contestant in able
        if setting.dtype in contestant.dtypes
        and (setting.threads == all_threads or not contestant.needs_all_threads)
        # Of many small arrays, instep's own calls are the limit.
        and (setting.arrays == 1 or contestant is not Limit)
    ]


def bytes_needed(count: int, dtype: str, size: int) -> int:
    """Return how much memory so many contestants take at a size.

    Parameters
    ----------
    count : int
        Of contestants.
    dtype : str
        Of their arrays.
    size : int
        Elements of each array.

    Returns
    -------
    bytes : int
        Four arrays each, one more of Thinc's, and seven for what is drawn and for the temporaries
        of NumPy's turn.
    """
    return (4 * count + 8) * np.dtype(dtype).itemsize * size


def blas_threads() -> int:
    """Return on how many threads NumPy's matrix products are done.

    Returns
    -------
    count : int
        1 where threadpoolctl knows of no BLAS.
    """
    libraries = ThreadpoolController().select(user_api="blas").info()
    return max((library["num_threads"] for library in libraries), default=1)


def measure(
    able: Sequence[type[Contestant]], setting: Setting, all_threads: int, pace: Pace
) -> list[Result]:
    """Let all contestants take turns in one setting.

    Parameters
    ----------
    able : sequence of type
        The contestants. Those that can't run in this setting are left out.
    setting : Setting
        The dtype, the numbers of threads and the size.
    all_threads : int
        How many threads there are for those that always take all.
    pace : Pace
        How long to measure.

    Returns
    -------
    results : list of Result
        In the order of the contestants.

    Raises
    ------
    FloatingPointError
        A contestant's numbers are no longer ordinary, so its times mean nothing.
    """
    bytes_of_array = setting.size * np.dtype(setting.dtype).itemsize
    makings = MAKINGS if bytes_of_array >= SCATTERED_FROM else 1
    limits = ThreadpoolController().limit(limits=setting.blas_threads, user_api="blas")
    seconds: dict[str, list[float]] = {}
    with limits, num_threads(setting.threads):
        for making in range(makings):
            part = replace(
                pace,
                total_seconds=pace.total_seconds / makings,
                least_rounds=math.ceil(pace.least_rounds / makings),
                most_rounds=max(1, pace.most_rounds // makings),
            )
            kinds = taking_part(able, setting, all_threads)
            if making % 2 == 1:
                kinds.reverse()
            for name, times in _turns(kinds, setting, part).items():
                seconds[name] = seconds.get(name, []) + times
    return [
        Result(setting, name, len(times), statistics.median(times))
        for name, times in seconds.items()
    ]


def _turns(
    kinds: Sequence[type[Contestant]], setting: Setting, pace: Pace
) -> dict[str, list[float]]:
    """Make contestants, let them take turns, and look at their numbers after that."""
    made = _made(kinds, setting)
    clocks = {name: contestant.clock() for name, contestant in made.items()}
    untimed = 0.0
    if setting.blas_threads is not None:
        multiply = _product()
        untimed = min(timeit.repeat(multiply, number=1, repeat=5))
        clocks = {name: clock_after(multiply, clock) for name, clock in clocks.items()}
    seconds = take_turns(
        clocks,
        turn_seconds=pace.turn_seconds,
        total_seconds=pace.total_seconds,
        least_rounds=pace.least_rounds,
        most_rounds=pace.most_rounds,
        before_turn=lambda: time.sleep(pace.pause_seconds),
        untimed_seconds=untimed,
    )
    for name, contestant in made.items():
        check_ordinary(name, *contestant.arrays())
    return seconds


def _made(kinds: Sequence[type[Contestant]], setting: Setting) -> dict[str, Contestant]:
    """Make contestants, each with arrays of its own."""
    if setting.in_dicts:
        return {loop.name: loop() for loop in LOOPS}
    p, g = draw(setting.arrays * setting.size, setting.dtype)
    made: dict[str, Contestant] = {}
    for kind in kinds:
        if setting.arrays == 1:
            made[kind.name] = kind(p.copy(), g.copy(), setting.threads)
            continue
        ps, gs = ([a.copy() for a in np.split(array, setting.arrays)] for array in (p, g))
        if kind.takes_lists:
            of_lists: Any = kind
            made[kind.name] = of_lists(ps, gs, setting.threads)
        else:
            pairs = zip(ps, gs, strict=True)
            made[kind.name] = OneByOne([kind(*pair, setting.threads) for pair in pairs])
    return made


def _product() -> Callable[[], object]:
    """Return what multiplies two matrices, as the layers of a net do between steps."""
    a, b, out = (np.ones((MATRIX, MATRIX), np.float32) for _ in range(3))
    return lambda: np.matmul(a, b, out=out)
