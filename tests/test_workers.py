"""What the threads of a step are like: they take no signals, compute as NumPy does, and soon sleep.

Each test runs in a process of its own, which is killed if it takes too long;
`worker_scenarios.py` has what is done there.
"""

import pytest
from processes import scenario

FILE = "worker_scenarios.py"


def test_workers_are_given_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    # NumPy's own threads take any signal.
    for library in ("OPENBLAS", "MKL", "BLIS", "OMP"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    scenario("signals", file=FILE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_computes_in_the_mode_of_its_thread(dtype: str) -> None:
    scenario("modes", dtype, file=FILE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recipes_compute_in_the_mode_of_their_thread(dtype: str) -> None:
    scenario("recipes_in_modes", dtype, file=FILE)


def test_workers_are_soon_asleep() -> None:
    scenario("soon_asleep", file=FILE)


def test_middling_sizes_have_the_same_bits_on_any_number_of_threads() -> None:
    scenario("middling_sizes", file=FILE)
