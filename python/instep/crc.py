"""Checksums of a whole from those of its parts."""

from functools import lru_cache

__all__ = ["combined"]

# CRC-32's polynomial, its bits in reverse, as zlib has it.
_POLYNOMIAL = 0xEDB88320


def combined(first: int, second: int, nbytes: int) -> int:
    """Return the CRC-32 of some bytes followed by `nbytes` others, from those of both."""
    return _times(_shift(nbytes), first) ^ second


@lru_cache(maxsize=4096)
def _shift(nbytes: int) -> int:
    """Return x**(8 * nbytes), modulo the polynomial: what so many bytes multiply a checksum by."""
    power, square, exponent = 1 << 31, 1 << 30, 8 * nbytes
    while exponent:
        if exponent & 1:
            power = _times(square, power)
        square = _times(square, square)
        exponent >>= 1
    return power


def _times(a: int, b: int) -> int:
    """Multiply polynomials, modulo that of the checksum; the highest bit is the constant term."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product
