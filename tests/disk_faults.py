"""Faults of a disk: what writes, flushes and renames is killed or fails at a number."""

import contextlib
import errno
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

CALLS = ("pwritev", "fdatasync", "fsync", "posix_fallocate", "ftruncate", "replace")
READS = ("preadv",)


class Faults:
    """Counts the calls that change a disk, and does something at one of them."""

    def __init__(self, names: tuple[str, ...], at: int, act: Callable[..., Any]) -> None:
        self.names, self.at, self.act = names, at, act
        self.count = 0
        self.seen: list[str] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def installed(self) -> Iterator["Faults"]:
        """Have the calls counted."""
        places: list[tuple[Any, str]] = [
            (pathlib.Path, name) if name == "replace" else (os, name)
            for name in self.names
            if name == "replace" or hasattr(os, name)
        ]
        olds = [getattr(owner, name) for owner, name in places]
        for (owner, name), old in zip(places, olds, strict=True):
            setattr(owner, name, self._wrapped(name, old))
        try:
            yield self
        finally:
            for (owner, name), old in zip(places, olds, strict=True):
                setattr(owner, name, old)

    def _wrapped(self, name: str, old: Any) -> Any:
        def call(*args: Any) -> Any:
            with self._lock:
                number, self.count = self.count, self.count + 1
                self.seen.append(name)
            if number == self.at:
                return self.act(name, old, args)
            return old(*args)

        return call


def kill() -> None:
    """End this process as nothing else does."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after(_name: str, old: Any, args: tuple[Any, ...]) -> None:
    old(*args)
    kill()


def kill_halfway(name: str, old: Any, args: tuple[Any, ...]) -> None:
    """Write the first block of a write, and die."""
    if name == "pwritev":
        descriptor, (data,), offset = args
        old(descriptor, [data[:4096]], offset)
    kill()


def failing(number: int) -> Callable[..., Any]:
    """Return what fails with an error of the disk, after a part of a write."""

    def act(name: str, old: Any, args: tuple[Any, ...]) -> Any:
        if name == "pwritev":
            descriptor, (data,), offset = args
            old(descriptor, [data[:4096]], offset)
        raise OSError(number, os.strerror(number))

    return act


def failing_after(number: int) -> Callable[..., Any]:
    """Return what does its work, and then says that it failed."""

    def act(_name: str, old: Any, args: tuple[Any, ...]) -> Any:
        old(*args)
        raise OSError(number, os.strerror(number))

    return act


FULL = errno.ENOSPC
BROKEN = errno.EIO
