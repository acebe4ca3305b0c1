"""Patches of a host's classes: on for good, or within blocks that may be nested and overlap."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Patch"]


class Patch:
    """A patch, and who wants it.

    Parameters
    ----------
    put : callable
        Called with True to put the patch on, with False to take it off; never twice with the same.
    """

    def __init__(self, put: Callable[[bool], None]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._for_good = False
        self._blocks = 0
        self._is_on = False

    def set(self, *, for_good: bool) -> None:
        """Want it until told otherwise, or no more. Blocks that are at work keep it."""
        with self._lock:
            self._for_good = for_good
            self._apply()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Want it within a ``with`` block."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, blocks: int) -> None:
        with self._lock:
            self._blocks += blocks
            self._apply()

    def _apply(self) -> None:
        wanted = self._for_good or self._blocks > 0
        if wanted is not self._is_on:
            self._put(wanted)
            self._is_on = wanted
