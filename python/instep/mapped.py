"""Large arrays in mapped files: the kernel is told that a step goes through them in order."""

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["maps_of", "sequential"]

# Smaller ones are read at once, or are in memory already.
_LARGE = 16 << 20


def maps_of(arrays: Iterable[Any]) -> list[mmap.mmap]:
    """Return the maps of the arrays that are a large `numpy.memmap`, each once."""
    if not hasattr(mmap, "MADV_SEQUENTIAL"):
        return []
    large = (a for a in arrays if isinstance(a, np.memmap) and a.nbytes >= _LARGE)
    maps = {id(found): found for found in (getattr(array, "_mmap", None) for array in large)}
    # A copy of such an array has the same type, but no map.
    return [each for each in maps.values() if isinstance(each, mmap.mmap)]


@contextmanager
def sequential(maps: list[mmap.mmap]) -> Iterator[None]:
    """Within a block, have the kernel read ahead in maps, and not keep what was read.

    For everything else that uses them, nothing changes.
    """
    for each in maps:
        each.madvise(mmap.MADV_SEQUENTIAL)
    try:
        yield
    finally:
        for each in maps:
            each.madvise(mmap.MADV_NORMAL)
