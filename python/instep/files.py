"""Files that are replaced as a whole, or stay as they were."""

import errno
import os
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from instep.checks import kind_of

__all__ = ["check_regular", "flush_folder", "path_name", "replacing"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def path_name(path: str | os.PathLike[str]) -> str:
    """Return a path as a str.

    Raises
    ------
    TypeError
        Something that is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is {kind_of(path)}; wanted a str or a pathlib.Path")
    return os.fspath(path)


def check_regular(path: str | os.PathLike[str], wanted: str) -> None:
    """Check that a path leads to a regular file.

    Raises
    ------
    OSError
        There is no file, its links go in a circle, or it is not a regular file.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode):
        return
    kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
    error = IsADirectoryError if stat.S_ISDIR(mode) else OSError
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise error(number, f"it is {kind}; wanted {wanted}", os.fspath(path))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a new file to write, which takes the place of `path` once it is whole and on disk.

    If writing raises an error, or the process is killed, the old file stays. A link stays too: the
    file that it leads to is replaced. A process that is killed leaves an unfinished file, which the
    next call with the same path removes. Several may replace the same path at once: the last one
    stays.

    Raises
    ------
    OSError
        `path` is neither a regular file nor new, or can't be written.
    """
    target = Path(os.path.realpath(path_name(path)))
    with suppress(FileNotFoundError):
        check_regular(path, "a regular file or a new one")
    target.parent.stat()  # so that the error names the folder, and not the temporary file
    # Names of any length are allowed, as long as that of the target is.
    prefix = f".instep-{zlib.crc32(os.fsencode(target.name)):08x}-"
    _clear(target.parent, prefix)
    file, temporary = _create(target.parent, prefix)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(target.parent)


def _create(folder: Path, prefix: str) -> tuple[BinaryIO, Path]:
    """Create a temporary file, locked for as long as it is open."""
    while True:
        temporary = folder / f"{prefix}{secrets.token_hex(8)}.tmp"
        file = temporary.open("xb")
        try:
            if _is_mine(temporary, file.fileno()):
                return file, temporary
        except BaseException:
            temporary.unlink(missing_ok=True)
            file.close()
            raise
        file.close()


def _is_mine(temporary: Path, descriptor: int) -> bool:
    """Lock a temporary file, unless another has just taken it for one that was left over."""
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    except OSError:
        return True  # The file system has no locks, so nobody clears anything.
    return temporary.exists()


def _clear(folder: Path, prefix: str) -> None:
    """Remove temporary files that nobody writes any more: their locks ended with their process."""
    try:
        left = [path for path in folder.iterdir() if path.name.startswith(prefix)]
    except OSError:  # It may be written to, but not listed.
        return
    for path in left:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _lock(descriptor)
                path.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file, or raise an error at once if it is locked or can't be locked."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def flush_folder(folder: Path) -> None:
    """Write the names of the files in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
