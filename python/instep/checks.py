"""Checks of arguments, with errors that name the argument, what it was and what was wanted."""

import math
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["check_array", "check_integer", "check_number"]


def check_number(name: str, number: Any, *, least: float = 0.0, below: float = math.inf) -> float:
    """Return a number as a float, if it is finite and ``least <= number < below``."""
    if type(number) is not float and not isinstance(number, Real):
        kind = type(number).__name__
        raise TypeError(f"{name} is {number!r} ({kind}); wanted a number")
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if least <= value < below and math.isfinite(value):
        return value
    if below < math.inf:
        wanted = f"{least:g} <= {name} < {below:g}"
    elif least == 0.0:
        wanted = "a finite number that is not negative"
    else:
        wanted = "a finite number"
    raise ValueError(f"{name} is {number!r}; wanted {wanted}")


def check_integer(name: str, number: int, *, least: int) -> None:
    """Check that a number is an integer, and not less than `least`."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        kind = type(number).__name__
        raise TypeError(f"{name} is {number!r} ({kind}); wanted an integer")
    if number < least:
        raise ValueError(f"{name} is {number}; wanted {least} or more")


def check_array(name: str, array: Any) -> None:
    """Check that an array is one that a step can take as a parameter."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        kind = type(array).__name__
        raise TypeError(f"{name} is a {kind}; wanted a plain numpy.ndarray")
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(
            f"{name} has dtype {array.dtype.str}; wanted float32 or float64, in this machine's "
            "byte order"
        )
