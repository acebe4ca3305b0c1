"""The arrays that are stepped: ordinary numbers, and still so after any number of steps."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["check_ordinary", "draw"]

Array = NDArray[Any]


def draw(size: int, dtype: DTypeLike) -> tuple[Array, Array]:
    """Draw a parameter and its gradient, always the same.

    Parameters
    ----------
    size : int
        Elements of each.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    p, g : ndarray
        From 0 to 1, and from 0.5 to 1.5. With a gradient that stays and is not near zero, no state
        decays towards zero: a processor may take many times longer for subnormal numbers.
    """
    generator = np.random.default_rng(0)
    p, g = (generator.random(size).astype(dtype) for _ in range(2))
    g += 0.5
    return p, g


def check_ordinary(what: str, *arrays: Array) -> None:
    """Check that no number is infinite, NaN or subnormal.

    Parameters
    ----------
    what : str
        What the message begins with.
    *arrays : ndarray
        The numbers. Only read.

    Raises
    ------
    FloatingPointError
        One is.
    """
    for array in arrays:
        sizes = np.abs(array)
        subnormal = (sizes > 0) & (sizes < np.finfo(array.dtype).tiny)
        if not np.isfinite(sizes).all() or subnormal.any():
            raise FloatingPointError(f"{what} has come to numbers that are not ordinary")
