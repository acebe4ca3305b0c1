"""Locks that nobody else holds when the process forks.

A child has only the thread that forked. A lock that another thread holds at that moment would never
be released in it, and what the lock guards may be half done. So a fork waits for those threads.
"""

import os
import threading
import weakref
from functools import partial
from typing import TypeAlias

from instep.uninterrupted import call_all

__all__ = ["Lock", "new_lock"]

Lock: TypeAlias = "threading.RLock"

_locks: "weakref.WeakSet[Lock]" = weakref.WeakSet()
_forking: Lock = threading.RLock()
_held: list[Lock] = []


def new_lock() -> Lock:
    """Return a lock that is held, while the process forks, by the thread that does.

    That thread may hold it before: it can be taken again.
    """
    lock = threading.RLock()
    with _forking:
        _locks.add(lock)
    return lock


def _before() -> None:
    interrupts = _take(_forking)
    for lock in list(_locks):
        interrupts += _take(lock)
    if interrupts:
        # The fork can't be called off: Python prints this and goes on.
        raise interrupts[0]


def _take(lock: Lock) -> list[BaseException]:
    """Take a lock whatever signals come; return what their handlers raised."""
    raised: list[BaseException] = []
    while True:
        try:
            call_all([partial(lock.acquire), partial(_held.append, lock)])
        except BaseException as error:
            raised.append(error)
        if lock in _held:
            return raised


def _after() -> None:
    call_all([*(partial(lock.release) for lock in reversed(_held)), partial(_held.clear)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
