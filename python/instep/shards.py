"""Which rank holds the state of which elements, and how gradients and parameters travel.

The elements of an array are counted in the order of its memory, and cut into pieces of 32,768, as a
norm is summed. Of each array, a rank owns some neighboring pieces. What ranks own goes over the
wire in chunks: of a chunk, every rank has a part of about the same size.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PIECE", "Elements", "Part", "chunks", "padded", "root", "shares"]

PIECE = 32_768

_ALIGNMENT = 64


class Part(NamedTuple):
    """Some elements of an array, and where they are in the bytes of their chunk."""

    array: int
    start: int
    stop: int
    at: int


class Elements:
    """The elements of an array in the order of a parameter's memory.

    Parameters
    ----------
    array : ndarray
        A parameter, or an array of its shape.
    like : ndarray
        The parameter.
    """

    def __init__(self, array: NDArray[Any], like: NDArray[Any]) -> None:
        axes = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
        self._view = np.asarray(array).transpose(axes)
        self._flat = self._view.reshape(-1) if self._view.flags.c_contiguous else None

    @property
    def is_dense(self) -> bool:
        """Whether they are one run of memory."""
        return self._flat is not None

    def get(self, start: int, stop: int) -> NDArray[Any]:
        """Return some of them: a view if they are dense, else a copy."""
        return self._view.flat[start:stop] if self._flat is None else self._flat[start:stop]

    def put(self, start: int, stop: int, values: NDArray[Any]) -> None:
        """Write some of them."""
        if self._flat is None:
            self._view.flat[start:stop] = values
        else:
            self._flat[start:stop] = values


def padded(nbytes: int) -> int:
    """Return so many bytes and what it takes to begin at a cache line after them."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def root(squares: Sequence[float]) -> float:
    """Return the norm of what the sums of squares are of, as a step adds them."""
    return math.sqrt(functools.reduce(operator.add, squares, 0.0))


def shares(sizes: Sequence[int], loads: list[int]) -> list[list[tuple[int, int]]]:
    """Return, for each array, from where to where it is each rank's.

    `loads` is how many elements ranks own already; those that they get are added.
    """
    ranks = len(loads)
    wanted = (sum(loads) + sum(sizes)) / ranks
    rank, done = 0, loads[0]
    owned = []
    for size in sizes:
        bounds = [(0, 0)] * ranks
        start = 0
        for stop in [*range(PIECE, size, PIECE), size]:
            # The next rank begins where that is closer to what each is to have.
            while rank < ranks - 1 and done + (stop - start) / 2 > wanted * (rank + 1):
                rank += 1
                done += loads[rank]
            first, last = bounds[rank]
            bounds[rank] = (first if last > first else start, stop)
            loads[rank] += stop - start
            done += stop - start
            start = stop
        owned.append(bounds)
    return owned


def chunks(
    owned: Sequence[tuple[int, int]], itemsizes: Sequence[int], nbytes: int
) -> list[tuple[list[Part], int]]:
    """Cut what one rank owns into chunks of about `nbytes`, or a piece; with their bytes."""
    found: list[tuple[list[Part], int]] = []
    parts: list[Part] = []
    size = 0
    for array, ((start, stop), itemsize) in enumerate(zip(owned, itemsizes, strict=True)):
        while start < stop:
            room = max(1, (nbytes - size) // (PIECE * itemsize)) * PIECE
            end = min(stop, start + room)
            parts.append(Part(array, start, end, size))
            size += padded((end - start) * itemsize)
            start = end
            if size >= nbytes:
                found.append((parts, size))
                parts, size = [], 0
    if parts:
        found.append((parts, size))
    return found
