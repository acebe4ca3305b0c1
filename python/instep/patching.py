"""Patches of a host's classes: permanent, or within blocks that may be nested and overlap."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Patch"]


class Patch:
    """A patch, and everyone who wants it on.

    Parameters
    ----------
    put : callable
        Called with True to put the patch on, and with False to take it off, alternately.
    """

    def __init__(self, put: Callable[[bool], None]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._for_good = False
        self._blocks = 0
        self._is_on = False

    def set(self, *, for_good: bool) -> None:
        """Put the patch on until further notice, or take it off. Running blocks keep it."""
        with self._lock:
            self._for_good = for_good
            self._apply()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Keep the patch on within a ``with`` block."""
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
