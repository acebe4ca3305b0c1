"""Time a sharded step over MPI against Allreduce and a whole step on every rank, taking turns.

mpiexec -n 2 python -m mpi4py -m benches.mpi_step
mpiexec -n 4 --oversubscribe python -m mpi4py -m benches.mpi_step

Prints a row of the table in docs/larger-than-memory.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import instep
import numpy as np
from instep.mpi import Sharded
from mpi4py import MPI
from numpy.typing import NDArray

Arrays = list[NDArray[np.float32]]


def turns(comm: Any, steps: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median time of each step: until the slowest rank has done it."""
    times: list[list[float]] = [[] for _ in steps]
    for number in range(rounds + 1):
        for own, step in zip(times, steps, strict=True):
            comm.Barrier()
            start = perf_counter()
            step()
            took = comm.allreduce(perf_counter() - start, MPI.MAX)
            if number:  # the first makes buffers
                own.append(took)
    return [median(own) for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16_000_000, help="of all arrays together")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    comm = MPI.COMM_WORLD
    instep.set_num_threads(1)
    random = np.random.default_rng(comm.rank)
    shape = (arguments.size // 4,)
    grads: Arrays = [random.standard_normal(shape, np.float32) for _ in range(4)]
    sums = [np.empty_like(g) for g in grads]
    sharded = Sharded(instep.AdamW, [np.ones(shape, np.float32) for _ in range(4)], comm=comm)
    whole = instep.AdamW([np.ones(shape, np.float32) for _ in range(4)])
    mean = 1 / comm.size

    def allreduce(max_norm: float | None) -> None:
        for own, total in zip(grads, sums, strict=True):
            comm.Allreduce(own, total)
        whole.step(sums, grad_scale=mean, max_norm=max_norm)

    cells = []
    for max_norm in (None, 1.0):
        steps: list[Callable[[], object]] = [
            partial(sharded.step, grads, grad_scale=mean, max_norm=max_norm),
            partial(allreduce, max_norm),
        ]
        ours, theirs = turns(comm, steps, arguments.rounds)
        cells.append(f"{theirs / ours:.2f}")
    held = sum(m.nbytes for state in sharded.state.values() for m in state.values())
    cells.append(f"{held / (8 * arguments.size):.3f}")
    if comm.rank == 0:
        print(f"| {comm.size} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
