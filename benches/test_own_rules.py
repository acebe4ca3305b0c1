"""A program traced from the course's Adam, against the compiled recipe and the function in NumPy.

The formula is that of `adam_outside`, and would run as it: here it is made to run as a program.
"""

import statistics
from functools import cache
from typing import TYPE_CHECKING, Any

import instep
import numpy as np
import pytest
from instep import _instep
from instep.bench.arrays import draw
from instep.bench.turns import clock, take_turns
from instep.formula.tracing import trace

from benches.conftest import Show
from benches.played_back import from_measured_times, play_back

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [8, 10_000, 100_000, 300_000, 1_000_000, 30_000_000]
NUMBERS = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "t": 1000.0}
CONTESTANTS = ["program", "recipe", "NumPy"]


def course_adam(
    p: Any, g: Any, m: Any, v: Any, *, lr: float, beta1: float, beta2: float, eps: float, t: float
) -> tuple[Any, Any, Any]:
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    return p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    sizes = SIZES[:2] if metafunc.config.getoption("smoke") else SIZES
    for name, values in (
        ("dtype", ["float64", "float32"]),
        ("size", sizes),
        ("threads", [1, 2]),
        ("contestant", CONTESTANTS),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


def describe(_group: int, role: int, index: int) -> str:
    return f"array {index} of role {role}"


@cache
def measure(size: int, dtype: str, threads: int, smoke: bool) -> dict[str, list[float]]:
    graph = trace(course_adam, "course_adam", ("p", "g", "m", "v"), tuple(NUMBERS))
    program = _instep.Recipe.of_formula(
        "course_adam", tuple(NUMBERS), ("m", "v"), graph.constants, graph.numbers, graph.values,
        graph.outputs, [],
    )  # fmt: skip
    recipe = _instep.Recipe("adam_outside")
    p, g = draw(size, dtype)
    m, v = np.zeros_like(p), np.zeros_like(p)
    arrays = (p,), (g,), ((m,), (v,))
    lr, beta1, beta2, eps, t = NUMBERS.values()
    numbers = lr, beta1, beta2, eps, beta1**t, beta2**t

    def in_numpy() -> object:
        return course_adam(p, g, m, v, **NUMBERS)

    before = instep.get_num_threads()
    instep.set_num_threads(threads)
    steps: dict[str, Callable[[], object]] = {
        "program": lambda: program.step(tuple(NUMBERS.values()), *arrays, describe),
        "recipe": lambda: recipe.step(numbers, *arrays, describe),
        "NumPy": in_numpy,
    }
    try:
        return take_turns(
            {contestant: clock(step) for contestant, step in steps.items()},
            turn_seconds=0.0001 if smoke else 0.01,
            total_seconds=2.0,
            least_rounds=2,
            most_rounds=2 if smoke else 101,
        )
    finally:
        instep.set_num_threads(before)


@from_measured_times
def test_own_rules(
    benchmark: Any,
    show: Show,
    size: int,
    dtype: str,
    threads: int,
    contestant: str,
    request: pytest.FixtureRequest,
) -> None:
    seconds = measure(size, dtype, threads, bool(request.config.getoption("smoke")))
    times = {key: statistics.median(each) for key, each in seconds.items()}
    benchmark.group = f"own rule, {size}, {dtype}, {threads}"
    benchmark.extra_info["ratio"] = times["program"] / times["recipe"]
    play_back(benchmark, seconds[contestant])
    if contestant == CONTESTANTS[-1]:
        show(
            "The course's Adam as a program",
            {
                "dtype": dtype,
                "elements": f"{size:,}",
                "threads": str(threads),
                "ns per element": f"{1e9 * times['program'] / size:.3f}",
                "times the recipe's": f"{times['program'] / times['recipe']:.2f}",
                "as fast as NumPy": f"{times['NumPy'] / times['program']:.1f}",
            },
        )
