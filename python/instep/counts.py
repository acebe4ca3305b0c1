"""How many steps of a host's optimizers were done by instep, and how many by the host's code."""

import operator
import sys
from typing import NamedTuple

__all__ = ["Count", "StepCounts"]


class StepCounts(NamedTuple):
    """How many steps of a host's optimizers were done in this process, and by whom.

    Parameters
    ----------
    native : int
        Steps by instep alone.
    host : int
        Steps of which the host's code did a part or all, of optimizers that instep was to step.
    """

    native: int
    host: int


class Count:
    """A count that threads and forked processes need no lock for: `next` can't be interrupted."""

    def __init__(self) -> None:
        self._left = iter(range(sys.maxsize))

    def add(self) -> None:
        """Count one more."""
        next(self._left)

    def so_far(self) -> int:
        """Return how many were counted."""
        return sys.maxsize - operator.length_hint(self._left)
