"""Time a step of Thinc's Adam against instep's, taking turns, and print a table.

python benches/thinc_adam.py
"""

from statistics import median
from time import perf_counter
from typing import Any

import instep.thinc
import numpy as np
import thinc.api

CASES: dict[str, dict[str, Any]] = {
    "Thinc's defaults": {},
    "spaCy's defaults": {"use_averages": False, "L2": 0.01},
}


def row(name: str, options: dict[str, Any], size: int) -> str:
    """Time one case, and return its row of the table."""
    rng = np.random.default_rng(0)
    optimizers = [kind(0.001, **options) for kind in (thinc.api.Adam, instep.thinc.Adam)]
    weights = [rng.standard_normal(size).astype("f") for _ in optimizers]
    gradient = rng.standard_normal(size).astype("f") / np.float32(100)
    times: list[list[float]] = [[], []]
    for turn in range(max(12, 1_000_000 // size)):
        for which in (0, 1) if turn % 2 else (1, 0):
            # Steps set it to zero.
            copy = gradient.copy()
            start = perf_counter()
            optimizers[which]((0, "W"), weights[which], copy)
            times[which].append(perf_counter() - start)
    host, ours = (1e6 * median(t) for t in times)
    return f"| {name} | {size:,} | {host:,.0f} µs | {ours:,.0f} µs | {host / ours:.1f} |"


def main() -> None:
    print("| options | elements | Thinc | instep | times as fast |")
    print("|---|---:|---:|---:|---:|")
    for name, options in CASES.items():
        for size in (1_000, 10_000, 100_000, 1_000_000):
            print(row(name, options, size), flush=True)


if __name__ == "__main__":
    main()
