"""How numbers are stored in fewer bytes, in plain NumPy. This defines what compiled steps do.

A step of arrays that are stored in fewer bytes loads float32 numbers from them, does what
`instep.reference` says with these, and stores the results:

1. The parameter, the gradient and the states are loaded, exactly: `from_bfloat16`, `from_split`.
2. `instep.reference.prepare`, the recipe and `instep.reference.average` are done in float32.
3. The new parameter and states are stored: `to_bfloat16` rounds stochastically, `to_split` loses
   nothing, and a float16 parameter is its float32 master's ``astype(np.float16)``.

The random numbers for rounding are a function of the seed, the step, the array and the index of the
element in it, see `noise`. So neither threads nor memory layouts nor the order of parameters change
a bit, and a run that is stopped and continued is bit-for-bit identical to one that never stopped.

A parameter is rounded with `noise` of a stream of its own, and states in bfloat16 with
`state_noise`. Two states share a random number, because the hash takes much of the time of a step
in cache. States in 8 bits, see `to_codes`, have `noise` of streams of their own.

Examples
--------
>>> import numpy as np
>>> from instep import codecs
>>> x = np.full(100_000, 1 + 2**-9, np.float32)
>>> random = codecs.noise(0, 1, codecs.stream("W", 0), np.arange(len(x)))
>>> rounded = codecs.from_bfloat16(codecs.to_bfloat16(x, random))
>>> np.unique(rounded)
array([1.       , 1.0078125], dtype=float32)
>>> bool(abs(rounded.mean(dtype=float) - x[0]) < 1e-4)
True
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "from_bfloat16",
    "from_codes",
    "from_split",
    "noise",
    "state_noise",
    "stream",
    "to_bfloat16",
    "to_codes",
    "to_split",
]

BLOCK = 256
"""How many numbers of 8 bits have an exponent in common."""

_MASK = 2**64 - 1


def stream(name: str, role: int) -> int:
    """Return the number of the stream of random numbers of an array.

    Parameters
    ----------
    name : str
        The name of the parameter, as in ``opt.state``.
    role : int
        0 for the parameter itself, 2 for its first state, 3 for the second, and so on.
    """
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) * 8 + role


def noise(seed: int, t: int, stream: int, places: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
    """Return a random number of 32 bits for each element.

    Parameters
    ----------
    seed : int
        The optimizer's own, at least 0 and less than 2**64.
    t : int
        The number of the step, counted from 1.
    stream : int
        The stream of the array, see `stream`.
    places : ndarray of int
        The places of the elements in their array, counted in C order from 0.

    Returns
    -------
    ndarray of uint32
        Of the shape of `places`.

    Notes
    -----
    ``mix`` is the finalizer of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom
    number generators*, 2014), and the rest a hash of 32 bits with a key of two words.
    """
    places = np.asarray(places).astype(np.uint64)
    start = _mix(_mix(_mix(seed + 0x9E3779B97F4A7C15) + t) + stream)
    found = np.empty(places.shape, np.uint32)
    high = places >> np.uint64(32)
    for each in np.unique(high):
        key = _mix(start + int(each))
        k0, k1 = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
        x = (places[high == each] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        x = (x ^ k0) * np.uint32(0x21F0AAAD)
        x ^= x >> np.uint32(15)
        with np.errstate(over="ignore"):
            x = (x + k1) * np.uint32(0xD35A2D97)
        found[high == each] = x ^ (x >> np.uint32(15))
    return found


def state_noise(
    seed: int, t: int, name: str, number: int, places: NDArray[np.integer[Any]]
) -> NDArray[np.uint32]:
    """Return the random numbers of a state, the first of its parameter being number 0.

    The second and the fourth state have the lower halves of the numbers of the state before.
    """
    random = noise(seed, t, stream(name, 2 + number - number % 2), places)
    return random << np.uint32(16) if number % 2 else random


def _mix(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def from_bfloat16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the exact numbers of bfloat16 bits, given as uint16 or as an array of that dtype."""
    return (_bits(bits, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(numbers: NDArray[np.float32], random: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Return the bfloat16 bits of numbers, rounded stochastically.

    The upper half of a random number is added to the bits that are cut off:
    ``(bits + (random >> 16)) >> 16``. So the mean of many roundings is the number. NaN stays NaN.
    """
    bits = _bits(numbers, np.uint32)
    rounded = np.where(np.isnan(numbers), bits | np.uint32(0x400000), bits + (random >> 16))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_split(high: NDArray[Any], low: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the exact float32 numbers of bfloat16 bits and of the bits that these lack."""
    upper = _bits(high, np.uint16).astype(np.uint32) << np.uint32(16)
    return (upper + low.astype(np.int32).view(np.uint32)).view(np.float32)


def to_split(numbers: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.int16]]:
    """Return the nearest bfloat16 bits of numbers, and the bits that these lack: nothing is lost.

    ``high = (bits + 0x8000) >> 16``, ``low = int16(bits)``. NaN stays NaN.
    """
    bits = _bits(numbers, np.uint32)
    rounded = np.where(np.isnan(numbers), bits | np.uint32(0x400000), bits + np.uint32(0x8000))
    low = (bits & np.uint32(0xFFFF)).astype(np.uint16).view(np.int16)
    return (rounded >> np.uint32(16)).astype(np.uint16), low


def from_codes(
    codes: NDArray[np.uint8], exponents: NDArray[np.uint8], *, signed: bool
) -> NDArray[np.float32]:
    """Return the numbers of 8-bit codes: exact.

    Parameters
    ----------
    codes : ndarray of uint8
        Those of the elements, of any shape.
    exponents : ndarray of uint8
        One for each block of 256 elements in C order.
    signed : bool
        Whether a code has a sign and 4 bits of exponent, or no sign and 5 bits.

    Returns
    -------
    ndarray of float32
        Of the shape of `codes`. All numbers of a block with the exponent 255 are NaN.
    """
    magnitude, span = _widths(signed)
    each = np.repeat(exponents.astype(np.int64), BLOCK)[: codes.size].reshape(codes.shape)
    code = np.array(codes, np.int64, order="C")
    bits = np.maximum(((code & magnitude) << 20) + ((each - span) << 23), 0)
    bits = np.where(code & magnitude, bits, 0) | (code & ~magnitude) << 24
    return np.where(each == 255, 0x7FC00000, bits).astype(np.uint32).view(np.float32)


def to_codes(
    numbers: NDArray[np.float32], random: NDArray[np.uint32], *, signed: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the 8-bit codes of numbers, rounded stochastically, and the exponents of the blocks.

    Parameters
    ----------
    numbers : ndarray of float32
        Of any shape.
    random : ndarray of uint32
        A random number for each, see `noise`.
    signed : bool
        Whether a code has a sign and 4 bits of exponent, or no sign and 5 bits. Without a sign,
        only 0 becomes 0.

    Returns
    -------
    codes : ndarray of uint8
        Of the shape of `numbers`.
    exponents : ndarray of uint8
        One for each block of 256 numbers in C order.

    Notes
    -----
    A code is a small float with 3 bits of fraction, below the exponent that its block has:

    - ``E = min((max(|bits|) + 0xfffff) >> 23, 255)``; 255 is for blocks with NaN, infinity or
      numbers above 3.19e38, which become NaN as a whole.
    - ``q = clip((|bits| - ((E - span) << 23) + (random >> 12)) >> 20, 0, most)``, with ``span`` 15
      and ``most`` 127 for codes with a sign, which is their upper bit, and 31 and 255 for others.
    - Without a sign, ``max(q, |bits| != 0)``.
    """
    magnitude, span = _widths(signed)
    bits = _bits(numbers, np.uint32).ravel().astype(np.int64)
    largest = np.zeros(-(-bits.size // BLOCK) * BLOCK, np.int64)
    largest[: bits.size] = bits & 0x7FFFFFFF
    largest = largest.reshape(-1, BLOCK).max(axis=1)
    exponents = np.minimum((largest + 0xFFFFF) >> 23, 255)
    base = np.repeat((exponents - span) << 23, BLOCK)[: bits.size]
    cut = np.asarray(random).ravel().astype(np.int64) >> 12
    codes = np.clip(((bits & 0x7FFFFFFF) - base + cut) >> 20, 0, magnitude)
    if signed:
        codes |= bits >> 31 << 7
    else:
        codes = np.maximum(codes, bits & 0x7FFFFFFF != 0)
    return codes.astype(np.uint8).reshape(numbers.shape), exponents.astype(np.uint8)


def _widths(signed: bool) -> tuple[int, int]:
    """Return the largest code without its sign, and the largest exponent that it has."""
    return (0x7F, 15) if signed else (0xFF, 31)


def _bits(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return the bits of each element, in a new array."""
    return np.array(array, order="C").view(dtype)
