"""New state arrays for a parameter."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep.checks import check_array

__all__ = ["plain", "zeros_for"]


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as a plain ndarray: a subclass may divide in its own way, or refuse."""
    return np.ndarray.view(array, np.ndarray)


def zeros_for(name: str, parameter: Any) -> NDArray[Any]:
    """Make zeros of a parameter's shape, dtype and memory order, if a step can take it."""
    check_array(name, parameter)
    return np.zeros_like(plain(parameter))
