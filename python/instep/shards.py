"""Which rank holds the state of which elements, and how gradients and parameters travel.

Of each array, a rank owns some neighboring pieces. They travel in chunks. Every rank has a part of
about the same size of each chunk.
"""

from collections.abc import Sequence

from instep.parts import PIECE, Part, padded

__all__ = ["chunks", "shares"]


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
    """Cut what one rank owns into chunks of at most `nbytes`, or a piece; with their bytes."""
    found: list[tuple[list[Part], int]] = []
    parts: list[Part] = []
    size = 0
    # As a padded part fills it.
    nbytes -= nbytes % padded(1)
    for array, ((start, stop), itemsize) in enumerate(zip(owned, itemsizes, strict=True)):
        while start < stop:
            room = max(0, nbytes - size) // itemsize
            if stop - start > room:
                room -= room % PIECE
            if not room and parts:
                found.append((parts, size))
                parts, size = [], 0
                continue
            end = min(stop, start + (room or PIECE))
            parts.append(Part(array, start, end, size))
            size += padded((end - start) * itemsize)
            start = end
    if parts:
        found.append((parts, size))
    return found
