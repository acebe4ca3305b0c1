"""Several changes with no room for an interrupt between them.

Python looks for signals between the instructions of its own code, not within what is compiled: as
long as one compiled function calls the next, Ctrl-C waits until the last has returned.
"""

from collections import deque
from collections.abc import Iterable
from functools import partial
from operator import methodcaller
from typing import Any

__all__ = ["call_all"]


def call_all(calls: Iterable[partial[Any]]) -> None:
    """Call one after the other; each has to be of a compiled function, with ordinary arguments."""
    deque(map(methodcaller("__call__"), list(calls)), maxlen=0)
