"""Putting back the parameters that a step has stepped, when it ends with an error."""

import os
import tempfile
from typing import TYPE_CHECKING

from instep.chunked import Chunk, Chunked

if TYPE_CHECKING:
    from io import FileIO

__all__ = ["Undo", "checksum"]


def checksum(own: Chunked, chunk: Chunk) -> int:
    """Return a checksum of the parameters of a chunk in memory."""
    crc = 0
    for part in chunk.parts:
        crc = own.elements[part.array].checksum(part.start, part.stop, crc)
    return crc


class Undo:
    """What to put back of a step: the files have it, but for what was changed since the last one.

    Parameters
    ----------
    own : Chunked
        The optimizer.
    left : list of int
        The checksums of the parameters of all chunks, as the files have them.
    folder : str
        Where there is room for what the files do not have.
    """

    def __init__(self, own: Chunked, left: list[int], folder: str) -> None:
        self._own, self._left, self._folder = own, left, folder
        self._stepped: list[int] = []
        self._changed: dict[int, int] = {}
        self._file: FileIO | None = None

    def note(self, number: int, found: int) -> None:
        """Note that a chunk is about to be stepped, and its checksum as it is."""
        chunk = self._own.chunks[number]
        if found != self._left[number]:
            if self._file is None:
                # Without a buffer: what a full disk has not taken is not tried again.
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            kept = memoryview(bytearray(chunk.spans[0].nbytes))
            self._own.keep(chunk, kept)
            start = self._file.seek(0, os.SEEK_END)
            while kept:
                kept = kept[self._file.write(kept) :]
            # Only now: the chunk is not stepped before all of it is there.
            self._changed[number] = start
        self._stepped.append(number)

    def put_back(self) -> list[int]:
        """Put back what the files do not have; return the numbers of the chunks that they have."""
        for number, offset in self._changed.items():
            assert self._file is not None
            chunk = self._own.chunks[number]
            self._file.seek(offset)
            kept = memoryview(bytearray(chunk.spans[0].nbytes))
            rest = kept
            while rest and (count := self._file.readinto(rest)):
                rest = rest[count:]
            self._own.put_back(chunk, kept)
        return [number for number in self._stepped if number not in self._changed]

    def close(self) -> None:
        """Let go of what was kept."""
        if self._file is not None:
            self._file.close()
