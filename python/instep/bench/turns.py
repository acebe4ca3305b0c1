"""Contestants that take turns, so that what slows the machine down for a while slows them all."""

import math
import timeit
from collections.abc import Callable, Mapping

__all__ = ["Clock", "clock", "clock_after", "take_turns"]

Clock = Callable[[int], float]
"""Does so many steps, and returns the seconds that they took."""


def clock(step: Callable[[], object]) -> Clock:
    """Return what times that many steps in one go.

    Parameters
    ----------
    step : callable
        Does one step.

    Returns
    -------
    clock : callable
        Takes a number of steps, does them, and returns their seconds.
    """
    return lambda number: timeit.timeit(step, number=number)


def clock_after(work: Callable[[], object], clock: Clock) -> Clock:
    """Return what does other work before every step, untimed.

    Parameters
    ----------
    work : callable
        Does the work.
    clock : callable
        Times steps in one go.

    Returns
    -------
    clock : callable
        Times steps one by one.
    """

    def seconds(number: int) -> float:
        total = 0.0
        for _ in range(number):
            work()
            total += clock(1)
        return total

    return seconds


def take_turns(
    clocks: Mapping[str, Clock],
    *,
    turn_seconds: float,
    total_seconds: float,
    least_rounds: int,
    most_rounds: int,
    before_turn: Callable[[], object] = lambda: None,
    untimed_seconds: float = 0.0,
) -> dict[str, list[float]]:
    """Time contestants in rounds, in each of which each has one turn, in alternating order.

    Parameters
    ----------
    clocks : dict of callable
        What times a number of steps of each contestant, by its name.
    turn_seconds : float
        How long a turn should take. It is as many steps as fill that, and at least one.
    total_seconds : float
        How long all rounds should take together. There are as many rounds as fit into that.
    least_rounds, most_rounds : int
        There are no fewer rounds and no more than these.
    before_turn : callable, optional
        Called before every turn, untimed.
    untimed_seconds : float, default 0.0
        What the clocks do before each step without counting it: how long that takes.

    Returns
    -------
    seconds : dict of list of float
        How long a step took each contestant, a number for every round.
    """
    once = {name: min(time(1), time(1)) + untimed_seconds for name, time in clocks.items()}
    steps = {name: math.ceil(turn_seconds / once[name]) for name in clocks}
    round_seconds = sum(steps[name] * once[name] for name in clocks)
    rounds = min(most_rounds, max(least_rounds, int(total_seconds / round_seconds)))

    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    order = list(clocks)
    for _ in range(rounds):
        for name in order:
            before_turn()
            seconds[name].append(clocks[name](steps[name]) / steps[name])
        order.reverse()
    return seconds
