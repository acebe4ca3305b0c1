"""Checks of arguments, with errors that name the argument, what it was and what was wanted."""

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "check_array",
    "check_flag",
    "check_integer",
    "check_keys",
    "check_like",
    "check_number",
    "kind_of",
]


def kind_of(thing: Any) -> str:
    """Return what errors call something: "None", "a list", "an int"."""
    kind = type(thing).__name__
    if thing is None:
        return "None"
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def check_number(name: str, number: Any, *, least: float = 0.0, below: float = math.inf) -> float:
    """Return a number as a float, if it is finite and ``least <= number < below``."""
    if type(number) is float and least <= number < below and number != -math.inf:
        return number
    if isinstance(number, bool) or not isinstance(number, Real):
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


def check_flag(name: str, flag: Any) -> bool:
    """Return a boolean as a bool: of a str, even ``"False"``, nobody knows what it means."""
    if not isinstance(flag, (bool, np.bool_)):
        raise TypeError(f"{name} is {flag!r} ({type(flag).__name__}); wanted True or False")
    return bool(flag)


def check_integer(name: str, number: int, *, least: int) -> None:
    """Check that a number is an integer, and not less than `least`."""
    # A timedelta64 is a NumPy integer by its type only.
    strange = isinstance(number, (bool, np.timedelta64))
    if strange or not isinstance(number, (int, np.integer)):
        kind = type(number).__name__
        raise TypeError(f"{name} is {number!r} ({kind}); wanted an integer")
    if number < least:
        raise ValueError(f"{name} is {number}; wanted {least} or more")


def check_array(name: str, array: Any) -> None:
    """Check that an array is one that a step can take as a parameter."""
    # The plain ones first: to look up np.ma is to import it.
    is_plain = type(array) is np.ndarray
    if not is_plain and (not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray)):
        hint = f": list({name})" if hasattr(array, "__next__") else ""
        raise TypeError(f"{name} is {kind_of(array)}; wanted a plain numpy.ndarray{hint}")
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(
            f"{name} has dtype {array.dtype}; wanted float32 or float64, in this machine's "
            f"byte order: pass {name}.astype(np.float32)"
        )


def check_like(name: str, array: Any, like: NDArray[Any]) -> None:
    """Check that an array is plain, and has the dtype and shape of another."""
    check_array(name, array)
    if array.dtype != like.dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; wanted {like.dtype}")
    if array.shape != like.shape:
        raise ValueError(f"{name} has shape {array.shape}; wanted {like.shape}")


def check_keys(name: str, mapping: Any, wanted: Iterable[object]) -> None:
    """Check that something is a dict that has the wanted keys and no others."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{name} is {kind_of(mapping)}; wanted a dict")
    known = dict.fromkeys(wanted)
    missing = [key for key in known if key not in mapping]
    unknown = [key for key in mapping if key not in known]
    wrong = [
        f"{what} {', '.join(map(repr, keys))}"
        for what, keys in (("lacks", missing), ("has the unknown", unknown))
        if keys
    ]
    if wrong:
        raise ValueError(f"{name} {' and '.join(wrong)}")
