"""scikit-learn's MLPClassifier on digits, fitted twice: as it is, and with steps by instep.

Only the import of the class changes. The two models are compared in every bit.

    pip install 'instep[examples]'
    python examples/sklearn_digits.py
"""

import sys
import warnings
from time import perf_counter
from typing import Any

import instep.sklearn
import numpy as np
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

Array = NDArray[Any]
CLASSES = neural_network.MLPClassifier, instep.sklearn.MLPClassifier


def fit_both(data: list[Array], options: dict[str, Any]) -> tuple[list[Any], float]:
    """Return both models, and how many times as fast the second fits, a median of three."""
    X_train, _, y_train, _ = data
    times: list[list[float]] = [[], []]
    models: list[Any] = [None, None]
    # On a machine that does other things too, threads of matrix products would wait for each other.
    with threadpool_limits(1):
        for turn in range(3):
            for which in (0, 1) if turn % 2 else (1, 0):
                models[which] = CLASSES[which](**options)
                start = perf_counter()
                models[which].fit(X_train, y_train)
                times[which].append(perf_counter() - start)
    return models, float(np.median(times[0]) / np.median(times[1]))


def main(epochs: int = 2) -> int:
    """Fit, and print what came of it; the status is 1 if two models differ in a bit."""
    pixels, labels = load_digits(return_X_y=True)
    warnings.simplefilter("ignore", ConvergenceWarning)  # after so few epochs
    status = 0
    for solver in ("adam", "sgd"):
        for dtype in ("float64", "float32"):
            data = train_test_split(pixels.astype(dtype) / 16, labels, random_state=0)
            options = {
                "hidden_layer_sizes": (512, 512),
                "solver": solver,
                "batch_size": 32,
                "learning_rate_init": 0.001 if solver == "adam" else 0.05,
                "max_iter": epochs,
                "random_state": 0,
            }
            before = instep.sklearn.step_counts()
            models, speed_up = fit_both(data, options)
            after = instep.sklearn.step_counts()
            pairs = zip(*(m.coefs_ + m.intercepts_ for m in models), strict=True)
            identical = all(one.tobytes() == other.tobytes() for one, other in pairs)
            status = status if identical else 1
            print(
                f"{solver:4}  {dtype}  accuracy {models[1].score(data[1], data[3]):.1%}, "
                f"{after.native - before.native} of "
                f"{sum(after) - sum(before)} steps by instep: fit {speed_up:.1f} times as fast, "
                f"{'bit-for-bit identical' if identical else 'NOT the same bits'}"
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
