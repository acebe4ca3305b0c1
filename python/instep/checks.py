"""Checks of arguments, with errors that name the argument, what it was and what was wanted."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "check_array",
    "check_betas",
    "check_dtype",
    "check_flag",
    "check_integer",
    "check_json",
    "check_keys",
    "check_like",
    "check_mode",
    "check_number",
    "check_numbers",
    "check_plain",
    "is_masked",
    "kind_of",
    "no_option",
    "wanted_options",
]


def kind_of(thing: Any) -> str:
    """Return what errors call something: "None", "a list", "an int"."""
    kind = type(thing).__name__
    if thing is None:
        return "None"
    # "an ndarray", as it is spoken.
    return f"{'an' if kind[0].lower() in 'aeiou' or kind == 'ndarray' else 'a'} {kind}"


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


def check_numbers(name: str, numbers: Any, count: int, *, below: float) -> tuple[float, ...]:
    """Return several numbers as floats, if each is finite and ``0 <= number < below``."""
    if isinstance(numbers, Iterator):
        # Its numbers would be gone at the first step.
        raise TypeError(f"{name} is {kind_of(numbers)}; wanted a tuple or list: tuple({name})")
    try:
        given = tuple(numbers)
    except TypeError:
        given = ()
    if len(given) != count:
        words = {2: "two", 3: "three"}
        raise ValueError(f"{name} is {numbers!r}; wanted {words.get(count, count)} numbers")
    pairs = enumerate(given)
    return tuple(check_number(f"{name}[{i}]", number, below=below) for i, number in pairs)


def check_betas(betas: Any, count: int = 2) -> tuple[float, ...]:
    """Return decays of averages as floats, if each is in [0, 1)."""
    return check_numbers("betas", betas, count, below=1.0)


def check_mode(name: str, mode: Any, modes: Sequence[Any]) -> None:
    """Check that an option is one of some words, or True or False."""
    # 1 is equal to True, and no mode is a number.
    is_number = isinstance(mode, Real) and not isinstance(mode, bool)
    if is_number or mode not in modes:
        raise ValueError(f"{name} is {mode!r}; wanted one of {', '.join(map(repr, modes))}")


def check_flag(name: str, flag: Any) -> bool:
    """Return a boolean as a bool. Refuse all else: a str like ``"False"`` would count as true."""
    if not isinstance(flag, (bool, np.bool_)):
        raise TypeError(f"{name} is {flag!r} ({type(flag).__name__}); wanted True or False")
    return bool(flag)


def check_integer(name: str, number: int, *, least: int) -> None:
    """Check that a number is an integer, and not less than `least`."""
    # By its type, a timedelta64 is a NumPy integer.
    strange = isinstance(number, (bool, np.timedelta64))
    if strange or not isinstance(number, (int, np.integer)):
        kind = type(number).__name__
        raise TypeError(f"{name} is {number!r} ({kind}); wanted an integer")
    if number < least:
        raise ValueError(f"{name} is {number}; wanted {least} or more")


def check_array(name: str, array: Any) -> None:
    """Check that an array is one that every step can take as a parameter."""
    check_plain(name, array)
    check_dtype(name, array)


def check_plain(name: str, array: Any) -> None:
    """Check that something is a plain array: a step would ignore what a subclass adds."""
    if not isinstance(array, np.ndarray) or is_masked(array):
        hint = f": list({name})" if hasattr(array, "__next__") else ""
        raise TypeError(f"{name} is {kind_of(array)}; wanted a plain numpy.ndarray{hint}")


def is_masked(array: NDArray[Any]) -> bool:
    """Whether an array is one with a mask."""
    # Without an import, which takes long, and which a fork could leave unfinished.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    return isinstance(array, masked)


def check_dtype(name: str, array: NDArray[Any]) -> None:
    """Check that an array is of float32 or float64, as this machine has them."""
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        options = {"uint16": ', or give bits="bfloat16"', "float16": ', or give master="float32"'}
        raise TypeError(
            f"{name} has dtype {array.dtype}; wanted float32 or float64, in this machine's "
            f"byte order: pass {name}.astype(np.float32){options.get(str(array.dtype), '')}"
        )


def check_like(name: str, array: Any, like: NDArray[Any]) -> None:
    """Check that an array is plain, and has the dtype and shape of another."""
    check_plain(name, array)
    if array.dtype != like.dtype:
        if like.dtype in (np.float32, np.float64):
            check_dtype(name, array)
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


def no_option(function: str, option: str, known: Iterable[str]) -> TypeError:
    """Return the error for an option that a class or function does not have."""
    return TypeError(f"{function} has no option {option!r}{wanted_options(option, known)}")


def wanted_options(option: object, known: Iterable[str]) -> str:
    """Return what the error for an unknown option says of those that there are."""
    # Not at the top: the import takes longer than that of all of instep's checks.
    from difflib import get_close_matches

    names = list(known)
    meant = [name for name in names if option in _ELSEWHERE.get(name, ())]
    meant = meant or get_close_matches(str(option), names, 1)
    hint = f"; did you mean {meant[0]}?" if meant else ""
    return f"; wanted {', '.join(names)}{hint}"


# What other libraries call options.
_ELSEWHERE = {
    "lr": ("learning_rate", "learn_rate", "rate", "step_size"),
    "betas": ("beta", "beta1", "beta2", "beta_1", "beta_2", "b1", "b2"),
    "alpha": ("rho", "beta", "decay_rate"),
    "eps": ("epsilon",),
    "weight_decay": ("decay", "wd", "l2", "L2"),
    "average": ("ema", "use_ema", "ema_momentum"),
}


def check_json(name: str, value: Any) -> None:
    """Check that Python can write a value as JSON and read it back."""
    _check_json(name, value, ())


def _check_json(name: str, value: Any, path: tuple[Any, ...]) -> None:
    def where() -> str:
        return name + "".join(f"[{key!r}]" for key in path)

    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(
                f"{where()} is {value!r}, which JSON does not have; wanted a finite number, or None"
            )
    elif isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            has, wanted = f"{value.bit_length():,}", f"{_MOST_BITS:,}"
            raise ValueError(f"{where()} has {has} bits; wanted {wanted} at most")
    elif isinstance(value, (dict, list, tuple)):
        if len(path) == _MOST_DEPTH:
            raise ValueError(f"{name} is nested more than {_MOST_DEPTH} times, or holds itself")
        items: Iterable[tuple[Any, Any]] = enumerate(value)
        if isinstance(value, dict):
            items = value.items()
        for key, inner in items:
            if isinstance(value, dict) and not isinstance(key, str):
                raise TypeError(f"{where()} has the key {key!r}, {kind_of(key)}; wanted a str")
            _check_json(name, inner, (*path, key))
    elif value is not None and not isinstance(value, str):
        remedy = ""
        if isinstance(value, (np.ndarray, np.generic)):
            remedy = f": pass {where()}.tolist()"
        elif isinstance(value, (set, frozenset)):
            remedy = f": pass sorted({where()})"
        raise TypeError(
            f"{where()} is {kind_of(value)}; wanted None, a bool, an int, a float, a str, or a "
            f"list or dict of such{remedy}"
        )


_MOST_BITS = 8192
_MOST_DEPTH = 100
