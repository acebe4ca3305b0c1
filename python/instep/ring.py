"""A ring of buffers, through which chunks of files go past the page cache.

While a chunk is worked on, threads read those that follow and write those before.
"""

import errno
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from instep.workers import Batch, Workers, end

__all__ = ["BLOCK", "Chunks", "Region", "Ring", "StateFile", "Task", "blocks"]

BLOCK = 4096
"""What places and lengths in files are multiples of, as direct reads and writes need it."""

Region: TypeAlias = memoryview
"""The bytes of one array of a chunk."""

# So many chunks at a time, and so many threads that read and as many that write.
_SLOTS = 6
_THREADS = 3


def blocks(nbytes: int) -> int:
    """Return so many bytes and what it takes to fill the last block."""
    return -(-nbytes // BLOCK) * BLOCK


class StateFile:
    """A file of a fixed length, read and written past the page cache where that is possible.

    Parameters
    ----------
    path : str
        The file.
    nbytes : int
        How long it is, a multiple of `BLOCK`.
    is_new : bool
        Whether to make it, with all its room on the disk.

    Raises
    ------
    OSError
        It can't be opened or made; the disk is full.
    ValueError
        It is shorter.
    """

    def __init__(self, path: str, nbytes: int, *, is_new: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if is_new else 0)
        self.is_direct = hasattr(os, "O_DIRECT")
        try:
            self._descriptor = os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # A file system that has no direct reads.
            self.is_direct = False
            self._descriptor = os.open(path, flags, 0o666)
        try:
            if is_new and nbytes:
                self._reserve(nbytes)
            has = os.fstat(self._descriptor).st_size
            if has < nbytes:
                raise ValueError(f"{path} has {has:,} bytes; wanted {nbytes:,}: it was changed")
            if has > nbytes:
                # Of a group that was not added after all.
                os.ftruncate(self._descriptor, nbytes)
        except BaseException:
            self.close()
            raise

    def resize(self, nbytes: int) -> None:
        """Make it longer, with all its room on the disk, or shorter."""
        if nbytes > os.fstat(self._descriptor).st_size:
            self._reserve(nbytes)
        else:
            os.ftruncate(self._descriptor, nbytes)

    def _reserve(self, nbytes: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._descriptor, 0, nbytes)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None
        else:
            os.truncate(self._descriptor, nbytes)

    def read(self, into: Region, offset: int) -> None:
        """Fill a buffer from a place on."""
        self._all(os.preadv, into, offset)

    def write(self, data: Region, offset: int) -> None:
        """Write a buffer to a place."""
        self._all(os.pwritev, data, offset)

    def _all(self, call: Callable[[int, list[Region], int], int], data: Region, at: int) -> None:
        done = 0
        try:
            while done < len(data):
                count = call(self._descriptor, [data[done:]], at + done)
                if not count:
                    raise OSError(errno.EIO, "it is shorter than it was")
                done += count
            if not self.is_direct and call is os.preadv:
                self._forget(at, len(data))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error

    def flush(self) -> None:
        """Return when all that was written is on the disk."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error
        if not self.is_direct:
            self._forget(0, 0)

    def _forget(self, offset: int, nbytes: int) -> None:
        """Have the page cache give up what it holds of a range."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, nbytes, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close it, once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


Task: TypeAlias = Callable[[list[Region]], object]
"""What a thread does with the regions of all arrays of a chunk, such as to read one of them."""

Chunks: TypeAlias = Iterable[tuple[int, Sequence[Task], Sequence[Task]]]
"""Each with its number, and what to do before and after the work."""


class Ring:
    """Buffers for some chunks.

    Parameters
    ----------
    arrays : int
        How many arrays a chunk has at most.
    nbytes : int
        How many bytes each of them has at most, a multiple of `BLOCK`.
    """

    def __init__(self, arrays: int, nbytes: int) -> None:
        self._nbytes = nbytes
        # Of pages, as direct reads need it, and not zeroed before they are used.
        self._slots = [memoryview(mmap.mmap(-1, max(arrays * nbytes, 1))) for _ in range(_SLOTS)]

    @property
    def nbytes(self) -> int:
        """The bytes of all buffers."""
        return sum(map(len, self._slots))

    def run(self, chunks: Chunks, work: Callable[[int, list[Region]], None]) -> None:
        """Read chunks, work on each in its turn, and write them.

        Parameters
        ----------
        chunks : iterable
            The chunks.
        work : callable
            Called in this thread with the number of each and the regions of all arrays.

        Raises
        ------
        OSError
            A read or a write that failed. None is under way any more.
        """
        readers, writers = Workers(_THREADS), Workers(_THREADS)
        free = deque(self._slots)
        reading: deque[tuple[int, memoryview, Sequence[Task], Batch]] = deque()
        writing: deque[tuple[memoryview, Batch]] = deque()

        def wait() -> None:
            slot, batch = writing.popleft()
            batch.wait()
            free.append(slot)

        def do(workers: Workers, tasks: Sequence[Task], slot: memoryview) -> Batch:
            regions = self._regions(slot)
            return workers.submit([partial(task, regions) for task in tasks])

        remaining = iter(chunks)
        is_over = False
        try:
            readers.start()
            writers.start()
            while True:
                while not is_over and (free or not reading):
                    following = next(remaining, None)
                    if following is None:
                        is_over = True
                        break
                    if not free:
                        wait()
                    number, before, after = following
                    slot = free.popleft()
                    reading.append((number, slot, after, do(readers, before, slot)))
                if not reading:
                    break
                number, slot, after, batch = reading.popleft()
                batch.wait()
                work(number, self._regions(slot))
                writing.append((slot, do(writers, after, slot)))
                while writing and writing[0][1].is_done:
                    wait()
            while writing:
                wait()
        finally:
            end(readers, writers)

    def _regions(self, slot: memoryview) -> list[Region]:
        count = len(slot) // self._nbytes if self._nbytes else 0
        return [slot[i * self._nbytes : (i + 1) * self._nbytes] for i in range(count)]
