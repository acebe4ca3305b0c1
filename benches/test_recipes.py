"""Every recipe against the limit: the same arrays loaded and stored, with next to no arithmetic.

Recipes are found in the registry, so a new rule is timed without a word here.
"""

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from instep import _instep
from instep.bench.arrays import check_ordinary, draw
from instep.bench.turns import clock, take_turns

from benches.conftest import Show
from benches.played_back import from_measured_times, play_back

SIZE, SMOKE_SIZE = 1_000_000, 500
BY_SIZE = "adam_scaled"
SIZES = [
    100,
    300,
    1_000,
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    2_000_000,
    4_000_000,
]

# Hyper-parameters by name: beta to the 1000th for a power, and the last for any other name.
HYPERS = {"beta": 0.9, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "lr": 0.01}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    sizes = SIZES[:2] if metafunc.config.getoption("smoke") else SIZES
    for name, values in (
        ("recipe", _instep.recipes()),
        ("dtype", ["float32", "float64"]),
        ("size", sizes),
        ("contestant", ["recipe", "limit"]),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.fixture
def smoke(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("smoke"))


def hypers_of(recipe: _instep.Recipe) -> tuple[float, ...]:
    numbers = []
    for name in recipe.hypers:
        number = HYPERS.get(name.removesuffix("_power"), HYPERS["lr"])
        numbers.append(number**1000 if name.endswith("_power") else number)
    return tuple(numbers)


def describe(_group: int, role: int, index: int) -> str:
    return f"array {index} of role {role}"


def new_steps(name: str, size: int, dtype: str) -> tuple[dict[str, Callable[[], object]], Any]:
    """Return the steps of a recipe and of its limit, and the arrays of both.

    Both step the same arrays: where they lie in memory makes no difference between the two.
    """
    recipe = _instep.Recipe(name)
    limit = _instep.Recipe(f"limit_{len(recipe.states)}")
    hypers = hypers_of(recipe)
    p, g = draw(size, dtype)
    arrays = (p,), (g,), tuple((np.zeros_like(p),) for _ in recipe.states)
    steps: dict[str, Callable[[], object]] = {
        "recipe": lambda: recipe.step(hypers, *arrays, describe),
        "limit": lambda: limit.step((), *arrays, describe),
    }
    return steps, (p, *(state for (state,) in arrays[2]))


@cache
def measure(name: str, size: int, dtype: str, smoke: bool) -> dict[str, list[float]]:
    steps, arrays = new_steps(name, size, dtype)
    seconds = take_turns(
        {contestant: clock(step) for contestant, step in steps.items()},
        turn_seconds=0.0001 if smoke else 0.01,
        total_seconds=2.0,
        least_rounds=2,
        most_rounds=2 if smoke else 101,
    )
    check_ordinary(name, *arrays)
    return seconds


def against_limit(
    benchmark: Any, contestant: str, name: str, size: int, dtype: str, smoke: bool
) -> dict[str, str]:
    """Play one of the two back, and return the cells of a table that both are in."""
    seconds = measure(name, size, dtype, smoke)
    ns = {key: 1e9 * statistics.median(times) / size for key, times in seconds.items()}
    ratio = ns["recipe"] / ns["limit"]
    benchmark.group = f"{name}, {size}, {dtype}"
    benchmark.extra_info["ratio"] = ratio
    play_back(benchmark, seconds[contestant])
    return {
        "ns per element": f"{ns['recipe']:.3f}",
        "limit": f"{ns['limit']:.3f}",
        "ratio": f"{ratio:.2f}",
    }


@from_measured_times
def test_by_rule(benchmark: Any, show: Show, recipe: str, contestant: str, smoke: bool) -> None:
    size = SMOKE_SIZE if smoke else SIZE
    cells = against_limit(benchmark, contestant, recipe, size, "float32", smoke)
    if contestant == "recipe":
        states = str(len(_instep.Recipe(recipe).states))
        title = f"every recipe against the limit, {size:,} elements, float32"
        show(title, {"recipe": recipe, "states": states, **cells})


@from_measured_times
def test_by_size(
    benchmark: Any, show: Show, dtype: str, size: int, contestant: str, smoke: bool
) -> None:
    cells = against_limit(benchmark, contestant, BY_SIZE, size, dtype, smoke)
    if contestant == "recipe":
        title = f"{BY_SIZE} against the limit, by size"
        show(title, {"dtype": dtype, "elements": f"{size:,}", **cells})


def test_numbers_stay_ordinary(recipe: str, dtype: str) -> None:
    steps, arrays = new_steps(recipe, 100, dtype)
    for number in (3000, 3):
        for step in steps.values():
            for _ in range(number):
                step()
            check_ordinary(recipe, *arrays)
