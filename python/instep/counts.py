"""How many steps of a host's optimizers instep did, and how many the host's own code."""

import operator
import sys
from typing import NamedTuple

__all__ = ["Count", "StepCounts"]


class StepCounts(NamedTuple):
    """How many steps of a host's optimizers were done in this process, and by which code.

    Parameters
    ----------
    native : int
        Steps by instep alone.
    host : int
        Steps that the host's code did, at least in part, for optimizers that instep was to step.
    """

    native: int
    host: int


class Count:
    """A count for which threads and forked processes need no lock: `next` can't be interrupted."""

    def __init__(self) -> None:
        self._left = iter(range(sys.maxsize))

    def add(self) -> None:
        """Count one more."""
        next(self._left)

    def so_far(self) -> int:
        """Return the count."""
        return sys.maxsize - operator.length_hint(self._left)
