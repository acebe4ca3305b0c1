"""A folder with two generations of arrays, and a record of which of them counts.

A step reads one generation and writes the other; then the record is replaced as a whole. So the
folder is that of one moment between two steps, whenever the program ends.
"""

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep.files import flush_folder, replacing
from instep.ring import StateFile

__all__ = ["Generations"]

_RECORD = "optimizer.json"

# Is there while a folder is made.
_MAKING = "making"

_KIND = "folder of an instep optimizer"

_FORMAT = 1


class Generations:
    """A folder that one optimizer of one process has to itself.

    Parameters
    ----------
    path : str or path
        The folder, which is made where there is none.

    Attributes
    ----------
    record : dict or None
        What was last committed; None in a folder in which nothing was.

    Raises
    ------
    OSError
        The folder can't be made or read; or another optimizer has it.
    ValueError
        The record is none of instep's, or of a newer format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise TypeError(f"folder is {path!r}; wanted the path of a folder")
        # As it is now, wherever the program goes.
        self.path = Path(path).absolute()
        self.files: list[list[StateFile]] = []
        self._process = os.getpid()
        if not self.path.is_dir():
            self.path.mkdir()
            flush_folder(self.path.parent)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._take_lock()
            self.record = self._read()
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = "another optimizer has this folder open; close it, or wait for its process"
            raise BlockingIOError(error.errno, what, str(self.path)) from None

    def _read(self) -> dict[str, Any] | None:
        path = self.path / _RECORD
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        try:
            record = json.loads(text)
            kind, version = record["kind"], record["format"]
        except (ValueError, TypeError, KeyError):
            kind, version = None, None
        if kind != _KIND or type(version) is not int:
            raise ValueError(f"{path} is not what instep writes; wanted another folder")
        if version > _FORMAT:
            raise ValueError(
                f"{path} has the format {version}, and this instep knows those up to {_FORMAT}; a "
                "newer one will read it"
            )
        own: dict[str, Any] = record
        return own

    def open(self, sizes: Sequence[int], *, is_new: bool) -> None:
        """Open or make the files of both generations, which have so many bytes.

        Raises
        ------
        ValueError
            New ones, and there are files of these names; or they are to be there, and are not.
        """
        # Files that an earlier try has left are there together with this one.
        making, arrays = self.path / _MAKING, len(sizes)
        if is_new and not making.exists():
            for there in (self.file(g, a) for g in range(2) for a in range(arrays)):
                if there.exists():
                    raise ValueError(
                        f"{there} is there, and no {_RECORD} that says what it is; wanted a folder "
                        "of instep as it was, or one without such files"
                    )
            making.touch()
        try:
            for generation in range(2):
                self.files.append([])
                for array, nbytes in enumerate(sizes):
                    path = str(self.file(generation, array))
                    self.files[-1].append(StateFile(path, nbytes, is_new=is_new))
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename} is missing; wanted a whole folder") from None
        except BaseException:
            if is_new:
                self.remove(arrays)
            raise

    def grow(self, sizes: Sequence[int]) -> None:
        """Make the files longer, and make those that are not there yet."""
        for generation, files in enumerate(self.files):
            for file, nbytes in zip(files, sizes, strict=False):
                file.resize(nbytes)
            for array in range(len(files), len(sizes)):
                path = str(self.file(generation, array))
                files.append(StateFile(path, sizes[array], is_new=True))

    def shrink(self, sizes: Sequence[int]) -> None:
        """Undo `grow` as far as the disk lets it: what is left over does no harm."""
        for generation, files in enumerate(self.files):
            while len(files) > len(sizes):
                files.pop().close()
                with suppress(OSError):
                    self.file(generation, len(files)).unlink()
            for file, nbytes in zip(files, sizes, strict=True):
                with suppress(OSError):
                    file.resize(nbytes)

    def remove(self, arrays: int) -> None:
        """Remove the files, of a folder that could not be made."""
        for generation in range(2):
            for array in range(arrays):
                self.file(generation, array).unlink(missing_ok=True)
        (self.path / _MAKING).unlink(missing_ok=True)

    def file(self, generation: int, array: int) -> Path:
        """Return the path of the arrays of a number."""
        name = f"state{array}" if array else "params"
        return self.path / f"{name}.{generation}"

    def map(self, generation: int, array: int) -> NDArray[Any]:
        """Return the bytes of a file, which can't be written."""
        return np.memmap(self.file(generation, array), np.uint8, "r")

    def commit(self, record: dict[str, Any]) -> None:
        """Have a record count, and with it what it says of the files, which were flushed.

        Raises
        ------
        OSError
            The record could not be written. `is_committed` says which one is there.
        """
        self._check_place()
        with replacing(self.path / _RECORD) as file:
            file.write(_text(record).encode())
        self.record = record
        (self.path / _MAKING).unlink(missing_ok=True)

    def _check_place(self) -> None:
        """Refuse to write into another folder, which has come in the place of this one."""
        try:
            is_there = os.path.samestat((self.path / "lock").stat(), os.fstat(self._lock))
        except FileNotFoundError:
            is_there = False
        if not is_there:
            what = "the folder was moved or replaced while it was open; wanted it in its place"
            raise FileNotFoundError(errno.ENOENT, what, str(self.path))

    def is_of_this_process(self) -> bool:
        """Return whether this process has opened it: a forked child has files, but no folder."""
        return self._process == os.getpid()

    def is_committed(self, record: dict[str, Any]) -> bool:
        """Return whether a record is there, or none that can be read."""
        try:
            return (self.path / _RECORD).read_text() == _text(record)
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close all files, and let another optimizer have the folder."""
        for files in self.files:
            for file in files:
                file.close()
        self.files = []
        lock, self._lock = self._lock, -1
        if lock >= 0:
            # ImportError: at the end of the process, which gives the lock back itself.
            with suppress(OSError, ImportError):
                # A forked child, which has the lock too, does not take it away, nor keep it.
                if self.is_of_this_process():
                    _unlock(lock)
                os.close(lock)


def _unlock(lock: int) -> None:
    import fcntl

    fcntl.flock(lock, fcntl.LOCK_UN)


def _text(record: dict[str, Any]) -> str:
    return json.dumps({"kind": _KIND, "format": _FORMAT, **record})
