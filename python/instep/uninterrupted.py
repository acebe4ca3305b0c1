"""Several changes with no room for an interrupt between them.

Python looks for signals between the instructions of its own code, not within what is compiled: as
long as one compiled function calls the next, Ctrl-C waits until the last has returned.
"""

from collections import deque
from collections.abc import Iterable
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["call_all", "copying"]


def call_all(calls: Iterable[partial[Any]]) -> None:
    """Call one after the other; each has to be of a compiled function, with ordinary arguments."""
    deque(map(methodcaller("__call__"), list(calls)), maxlen=0)


def copying(target: NDArray[Any], source: NDArray[Any]) -> partial[Any]:
    """Return the call that copies all elements; `np.copyto` has a part in Python."""
    return partial(np.ndarray.__setitem__, target, ..., source)
