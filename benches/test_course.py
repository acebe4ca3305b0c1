"""The course's update functions: the NumPy loop and instep take turns."""

import statistics
import timeit
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import cycle, pairwise
from multiprocessing import get_context
from typing import Any

import instep
import numpy as np
import pytest
from instep.bench.turns import clock, take_turns
from numpy.typing import NDArray

from benches import course_loop
from benches.conftest import Show
from benches.played_back import from_measured_times, play_back

Net = tuple[int, ...]
Arrays = dict[str, NDArray[Any]]

CONTESTANTS = {"numpy": course_loop, "instep": instep.course}
RULES = ["gd", "momentum", "rmsprop", "adam"]
DTYPES = ["float32", "float64"]
NETS: list[Net] = [
    (2, 5, 2, 1),
    (64, 128, 64, 10),
    (784, 256, 128, 10),
    (784, 1024, 1024, 10),
    (1024, 4096, 4096, 1024),
]

TURN_SECONDS = 0.02
PAIR_SECONDS = 8.0
LEAST_ROUNDS = 11
MOST_ROUNDS = 75
SMOKE_ROUNDS = 2


def label(value: str | Net) -> str:
    return value if isinstance(value, str) else "-".join(map(str, value))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    nets = NETS[:1] if metafunc.config.getoption("smoke") else NETS
    for name, values in (
        ("rule", RULES),
        ("dtype", DTYPES),
        ("net", nets),
        ("contestant", list(CONTESTANTS)),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=label)


@pytest.fixture
def most_rounds(request: pytest.FixtureRequest) -> int:
    return SMOKE_ROUNDS if request.config.getoption("smoke") else MOST_ROUNDS


def random_arrays(net: Net, dtype: str, prefix: str, seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    arrays = {}
    for layer, (inputs, outputs) in enumerate(pairwise(net), start=1):
        for name, shape in (("W", (outputs, inputs)), ("b", (outputs, 1))):
            arrays[f"{prefix}{name}{layer}"] = generator.standard_normal(shape, np.dtype(dtype))
    return arrays


def new_update(
    contestant: str, rule: str, net: Net, dtype: str
) -> tuple[Callable[[], object], Arrays]:
    """Return what does one step on arrays of its own, and the parameters among them."""
    functions: Any = CONTESTANTS[contestant]
    parameters = random_arrays(net, dtype, prefix="", seed=1)
    grads = random_arrays(net, dtype, prefix="d", seed=2)
    v, s = ({key: np.zeros_like(grad) for key, grad in grads.items()} for _ in range(2))

    hypers: Any = (0.01, 0.9, 0.999, 1e-8)
    if contestant == "numpy" and dtype == "float32":
        # Of a Python float np.power makes a float64, which turns every array into float64: the
        # loop would be timed at another dtype than instep.
        hypers = map(np.float32, hypers)
    lr, beta1, beta2, epsilon = hypers
    # Starts anew before the powers of the betas become subnormal.
    steps = cycle(range(1, 1001))

    updates: dict[str, Callable[[], object]] = {
        "gd": lambda: functions.update_parameters_with_gd(parameters, grads, lr),
        "momentum": lambda: functions.update_parameters_with_momentum(
            parameters, grads, v, beta1, lr
        ),
        "rmsprop": lambda: functions.update_parameters_with_rmsprop(
            parameters, grads, s, lr, beta1, epsilon
        ),
        "adam": lambda: functions.update_parameters_with_adam(
            parameters, grads, v, s, next(steps), lr, beta1, beta2, epsilon
        ),
    }
    return updates[rule], parameters


def measure(rule: str, net: Net, dtype: str, most_rounds: int) -> dict[str, list[float]]:
    """Return how long a step takes each contestant, once for every round."""
    updates = {name: new_update(name, rule, net, dtype)[0] for name in CONTESTANTS}
    return take_turns(
        {name: clock(update) for name, update in updates.items()},
        turn_seconds=TURN_SECONDS,
        total_seconds=PAIR_SECONDS,
        least_rounds=LEAST_ROUNDS,
        most_rounds=most_rounds,
    )


@cache
def measure_alone(rule: str, net: Net, dtype: str, most_rounds: int) -> dict[str, list[float]]:
    """Measure in a process of its own, as a notebook trains its one net.

    In a process that has freed larger arrays malloc keeps more memory at hand, and NumPy's
    temporaries cost less.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, rule, net, dtype, most_rounds).result()


@from_measured_times
def test_step(
    benchmark: Any,
    show: Show,
    rule: str,
    net: Net,
    dtype: str,
    contestant: str,
    most_rounds: int,
) -> None:
    seconds = measure_alone(rule, net, dtype, most_rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["numpy"] / medians["instep"]

    benchmark.group = f"{rule}, {list(net)}, {dtype}"
    benchmark.extra_info["parameters"] = sum((m + 1) * n for m, n in pairwise(net))
    benchmark.extra_info["ratio"] = ratio
    play_back(benchmark, seconds[contestant])

    if contestant == "instep":
        cells = {"rule": rule, "dtype": dtype, "net": str(list(net))}
        cells |= {
            title: f"{1e6 * medians[name]:,.1f}"
            for title, name in (("NumPy", "numpy"), ("instep", "instep"))
        }
        cells["ratio"] = f"{ratio:.1f}"
        show("median microseconds per step", cells)


def test_contestants_do_the_same(rule: str, dtype: str) -> None:
    updates, parameters = zip(
        *(new_update(contestant, rule, NETS[0], dtype) for contestant in CONTESTANTS), strict=True
    )
    for _ in range(1100):
        for update in updates:
            update()
    by_numpy, by_instep = parameters
    for key, array in by_numpy.items():
        assert array.dtype == by_instep[key].dtype == dtype
        assert np.isfinite(array).all()
        if dtype == "float64":
            np.testing.assert_array_equal(array, by_instep[key])
        else:
            # The loop's float32 hyper-parameters round once more.
            np.testing.assert_allclose(array, by_instep[key], rtol=1e-4, atol=1e-4)


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[object] = []

    def timed(update: object, number: int) -> float:
        turns.append(update)
        return 1.0

    monkeypatch.setattr(timeit, "timeit", timed)
    measure("gd", NETS[0], "float64", most_rounds=4)
    first, second = turns[4:6]
    assert first is not second
    assert turns[:4] == [first, first, second, second]  # how long one takes
    assert turns[4:] == [first, second, second, first, first, second, second, first]
