"""What the threads of a step are: born without signals, in the one floating-point mode, soon asleep.

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
