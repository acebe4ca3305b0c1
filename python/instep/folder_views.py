"""The arrays of a folder as memory maps, in the layout of their parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep.chunked import Chunked
from instep.generations import Generations
from instep.parts import axes_in_memory

__all__ = ["Views"]


class Views:
    """Read-only maps of what a folder has at this moment.

    Parameters
    ----------
    folder : Generations
        The folder.
    own : Chunked
        Its optimizer.
    generations : sequence of int
        Which generation of each chunk is valid.
    """

    def __init__(self, folder: Generations, own: Chunked, generations: Sequence[int]) -> None:
        self._folder, self._own = folder, own
        # Of each array: its first chunk, with its place in that and the generation.
        self._first = {
            part.array: (chunk, number, generation)
            for chunk, generation in reversed(list(zip(own.chunks, generations, strict=True)))
            for number, part in enumerate(chunk.parts)
        }
        self._maps: dict[tuple[int, int], NDArray[Any]] = {}

    def of(self, array: int, file: int) -> NDArray[Any]:
        """Return what a file has of an array."""
        like, dtype = self._own.members[array].array, self._own.files[array][file]
        if array not in self._first:
            empty = np.empty(like.shape, dtype)
            empty.flags.writeable = False
            return empty
        chunk, number, generation = self._first[array]
        if (generation, file) not in self._maps:
            self._maps[generation, file] = self._folder.map(generation, file)
        span = chunk.spans[file]
        at = span.at[number]
        assert at is not None
        start = span.offset + at
        stop = start + like.size * dtype.itemsize
        flat = self._maps[generation, file][start:stop].view(dtype)
        axes = axes_in_memory(like)
        return flat.reshape([like.shape[axis] for axis in axes]).transpose(np.argsort(axes))

    def states(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the states by the parameter's name and their own."""
        first = self._own.first_state
        return {
            p.name: {
                state: self.of(number, file)
                for file, state in enumerate(self._own.states_of(p), first)
            }
            for number, p in enumerate(self._own.members)
        }

    def averages(self) -> list[NDArray[Any]]:
        """Return the averages of all parameters, in order."""
        return [self.of(number, 1) for number in range(len(self._own.members))]
