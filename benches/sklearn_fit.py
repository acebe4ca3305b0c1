"""Time `fit` of scikit-learn's MLPClassifier against instep's, taking turns, and print a table.

python benches/sklearn_fit.py                        every row, some 15 minutes
python benches/sklearn_fit.py  --data digits --threads 1
"""

import argparse
import itertools
import sys
import warnings
from contextlib import nullcontext
from time import perf_counter
from typing import Any

import instep
import instep.sklearn
import numpy as np
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

Array = NDArray[Any]

CHOICES: dict[str, list[str]] = {
    "data": ["digits", "wide"],
    "hidden": ["100", "512,512"],
    "batch": ["32", "200"],
    "solver": ["adam", "sgd"],
    "dtype": ["float64", "float32"],
    "threads": ["1", "default"],
}
HEAD = (
    "| data | hidden | batch | solver | dtype | threads | scikit-learn | instep | times as fast |"
)


def load(name: str, dtype: str) -> tuple[Array, Array]:
    """Return 1,797 digits of 64 pixels, or 20,000 made-up images of 784."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return (X / 16).astype(dtype), y
    rng = np.random.default_rng(0)
    X = rng.random((20_000, 784), np.float32)
    return X.astype(dtype), (X @ rng.standard_normal((784, 10), np.float32)).argmax(axis=1)


def fit(kind: Any, options: dict[str, Any], X: Array, y: Array) -> tuple[float, Any]:
    """Fit, and return the seconds that it took and the model."""
    model = kind(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        start = perf_counter()
        model.fit(X, y)
        return perf_counter() - start, model


def row(case: dict[str, str], seconds: float) -> str:
    """Time one case for about so long, at least three times, and return its row of the table."""
    X, y = load(case["data"], case["dtype"])
    options = {
        "hidden_layer_sizes": tuple(map(int, case["hidden"].split(","))),
        "batch_size": int(case["batch"]),
        "solver": case["solver"],
        "max_iter": 5 if case["data"] == "digits" else 1,
        "random_state": 0,
    }
    kinds = [neural_network.MLPClassifier, instep.sklearn.MLPClassifier]
    times: list[list[float]] = [[], []]
    one_thread = case["threads"] == "1"
    with threadpool_limits(1) if one_thread else nullcontext():
        fit(kinds[1], options, X[:400], y[:400])
        started = perf_counter()
        while len(times[0]) < 3 or perf_counter() - started < seconds:
            turns = [0, 1] if len(times[0]) % 2 else [1, 0]
            models: list[Any] = [None, None]
            before = instep.sklearn.step_counts()
            for turn in turns:
                took, models[turn] = fit(kinds[turn], options, X, y)
                times[turn].append(took)
            after = instep.sklearn.step_counts()
            assert after.native > before.native
            assert after.host == before.host
            for ours, theirs in zip(models[1].coefs_, models[0].coefs_, strict=True):
                assert ours.tobytes() == theirs.tobytes()
    host, ours = map(float, map(np.median, times))
    cells = [*case.values(), f"{1000 * host:,.0f} ms", f"{1000 * ours:,.0f} ms"]
    return f"| {' | '.join([*cells, f'{host / ours:.2f}'])} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time fit of scikit-learn and of instep, taking turns"
    )
    for name, choices in CHOICES.items():
        parser.add_argument(f"--{name}", nargs="+", choices=choices, default=choices)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row (default: 10)")
    parser.add_argument("--rows-only", action="store_true", help="without the table's head")
    chosen = vars(parser.parse_args())
    if not chosen["rows_only"]:
        print(HEAD)
        print("|---" * 6 + "|---:" * 3 + "|")
    for values in itertools.product(*(chosen[name] for name in CHOICES)):
        print(row(dict(zip(CHOICES, values, strict=True)), chosen["seconds"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
