"""Locks that nobody holds when the process forks.

A child has only the thread that forked. A lock that another thread holds at that moment would never
be released in it, and what the lock guards may be half done. So a fork waits for those threads.
"""

import os
import threading
import weakref

__all__ = ["new_lock"]

_locks: "weakref.WeakSet[threading.Lock]" = weakref.WeakSet()
_forking = threading.Lock()
_held: "list[threading.Lock]" = []


def new_lock() -> threading.Lock:
    """Return a lock that is held, while the process forks, by the thread that does.

    A thread must not fork while it holds one.
    """
    lock = threading.Lock()
    with _forking:
        _locks.add(lock)
    return lock


def _before() -> None:
    _forking.acquire()
    for lock in _locks:
        lock.acquire()
        _held.append(lock)


def _after() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
