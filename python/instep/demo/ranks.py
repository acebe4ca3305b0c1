"""The demo's network trained data-parallel over MPI, and once more by one process.

It needs the extra: ``pip install 'instep[mpi]'``.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from threadpoolctl import threadpool_limits

import instep
from instep.course import Arrays, random_mini_batches
from instep.demo import digits
from instep.demo.network import accuracy, backward, forward, initialize_parameters_he
from instep.mpi import Sharded

__all__ = ["run"]

_BATCH, _SEED, _LR = 64, 10, 1e-3


def run(hidden: Sequence[int], epochs: int, dtype: Literal["float32", "float64"]) -> bool:
    """Train on all ranks, then on rank 0 alone, which prints how they compare.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    epochs : int
        Passes over the data.
    dtype : {"float32", "float64"}
        Of data, weights and state.

    Returns
    -------
    identical : bool
        Whether the weights of all ranks are bit-for-bit identical to those of one process; the same
        on all ranks.
    """
    comm = MPI.COMM_WORLD
    data = digits.load(dtype)
    layers = [len(data.X_train), *hidden, len(data.Y_train)]

    def part_of(parameters: Arrays, X: Any, Y: Any, rank: int) -> Arrays:
        """Return the gradients of the sum of the losses of a rank's examples."""
        own = np.ascontiguousarray(X[:, rank :: comm.size])
        labels = np.ascontiguousarray(Y[:, rank :: comm.size])
        if not own.shape[1]:
            return {name: np.zeros_like(p) for name, p in parameters.items()}
        _, grads = backward(parameters, forward(parameters, own), labels)
        return {name: grads[f"d{name}"] * own.shape[1] for name in parameters}

    def train(parameters: Arrays, step: Callable[[Any, Any], object]) -> None:
        for epoch in range(epochs):
            seed = _SEED + 1 + epoch
            for X, Y in random_mini_batches(data.X_train, data.Y_train, _BATCH, seed):
                step(X, Y)

    # Matrix products with as many threads on all ranks, or their bits may differ.
    with threadpool_limits(1):
        shared = initialize_parameters_he(layers, dtype, _SEED)
        opt = Sharded(instep.Adam, shared, comm=comm, lr=_LR)
        train(
            shared,
            lambda X, Y: opt.step(part_of(shared, X, Y, comm.rank), grad_scale=1 / X.shape[1]),
        )
        alone = initialize_parameters_he(layers, dtype, _SEED)
        if comm.rank == 0:
            one = instep.Adam(alone, lr=_LR)

            def step_of_one(X: Any, Y: Any) -> None:
                every = [part_of(alone, X, Y, rank) for rank in range(comm.size)]
                summed = {n: functools.reduce(np.add, [g[n] for g in every]) for n in alone}
                one.step(summed, grad_scale=1 / X.shape[1])

            train(alone, step_of_one)
        wanted = comm.bcast([array.tobytes() for array in alone.values()])
    own = [array.tobytes() for array in shared.values()]
    identical = bool(comm.allreduce(own == wanted, MPI.LAND))
    if comm.rank == 0:
        right = accuracy(shared, data.X_held_out, data.Y_held_out)
        print(f"{comm.size} ranks, {opt.t} steps: {right:.1%} of the held-out digits are right")
        what = "identical to those" if identical else "NOT those"
        print(f"The weights of all ranks are {what} of one process, bit for bit.")
    return identical
