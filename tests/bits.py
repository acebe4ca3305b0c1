"""Comparison of arrays to the bit, and arrays in every layout to compare."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# What makes an array of that shape and dtype in some memory layout, with room around its elements.
Layout = Callable[[tuple[int, ...], "np.dtype[Any]"], Array]


def assert_same_bits(actual: Array, wanted: Array, what: str = "array") -> None:
    """Fail if two arrays differ in dtype, shape, a bit of a number, or in where NaN is.

    The payload and the sign of NaN are not compared.
    """
    assert actual.dtype == wanted.dtype, f"{what}: {actual.dtype}, not {wanted.dtype}"
    assert actual.shape == wanted.shape, f"{what}: {actual.shape}, not {wanted.shape}"
    if actual.tobytes() == wanted.tobytes():
        return
    integers = np.dtype(f"i{actual.dtype.itemsize}")
    a, b = (np.ascontiguousarray(array).reshape(-1) for array in (actual, wanted))
    differ = (a.view(integers) != b.view(integers)) & ~(np.isnan(a) & np.isnan(b))
    places = np.flatnonzero(differ)
    if places.size:
        first = places[0]
        raise AssertionError(
            f"{what}: {places.size} of {a.size} elements differ, first at {first} (flat): "
            f"{float(a[first]).hex()}, not {float(b[first]).hex()}"
        )


def _spaced(count: int, dtype: "np.dtype[Any]", step: int, offset: int) -> Array:
    base = np.zeros(count * abs(step) + offset + 3, dtype)
    view = base[offset : offset + count * abs(step) : abs(step)]
    return view[::-1] if step < 0 else view


def dense(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    return _spaced(int(np.prod(shape)), dtype, 1, 1).reshape(shape)


def fortran(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    return dense(shape[::-1], dtype).transpose()


def every_second(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    return _every(2, shape, dtype)


def every_third_of_rows(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    base = dense((3 * shape[0], *shape[1:]), dtype) if shape else dense(shape, dtype)
    return base[::3] if shape else base


def backwards(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    return dense(shape, dtype)[(slice(None, None, -1),) * len(shape)]


def misaligned(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    count = int(np.prod(shape))
    raw = np.zeros(count * dtype.itemsize + 16, np.uint8)
    view: Array = raw[1 : 1 + count * dtype.itemsize].view(dtype).reshape(shape)
    assert not view.flags.aligned or count == 0
    return view


def columns_of_a_wider_array(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    return dense((*shape[:-1], shape[-1] + 5), dtype)[..., 2 : 2 + shape[-1]]


def axes_turned(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    """The last axis is the outermost in memory, the others keep their order."""
    return np.moveaxis(dense((shape[-1], *shape[:-1]), dtype), 0, -1)


def _every(step: int, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    if not shape:
        return dense(shape, dtype)
    return dense((*shape[:-1], step * shape[-1]), dtype)[..., ::step]


LAYOUTS: Sequence[Layout] = (
    dense,
    fortran,
    every_second,
    every_third_of_rows,
    backwards,
    misaligned,
    columns_of_a_wider_array,
    axes_turned,
)


def buffer_of(array: Array) -> Array:
    """Return all of the memory that a view was cut from, in its order."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.transpose(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))


def copy_with_buffer(array: Array) -> Array:
    """Return a view of the same layout into a copy of its whole buffer."""
    return copy_with_buffers([array])[0]


def copy_with_buffers(arrays: Sequence[Array]) -> list[Array]:
    """Return such views of several arrays; those of one buffer have one copy of it."""
    copies: dict[int, Array] = {}
    views = []
    for array in arrays:
        base = buffer_of(array)
        start = base.__array_interface__["data"][0]
        if start not in copies or not base.size:
            copies[start] = base.copy()
        # An empty one may lie outside of it.
        offset = array.__array_interface__["data"][0] - start if array.size else 0
        strides = array.strides if array.size else None
        views.append(np.ndarray(array.shape, array.dtype, copies[start], offset, strides))
    return views


def assert_same_buffers(actual: Array, wanted: Array, what: str = "array") -> None:
    """Fail if two views of one layout differ, or what lies between and around their elements."""
    if buffer_of(actual).tobytes() == buffer_of(wanted).tobytes():
        return
    assert_same_bits(actual, wanted, what)
    # What differs is the payload of a NaN, perhaps of another view's, or it is outside of the view.
    copy = copy_with_buffer(actual)
    copy[...] = wanted
    outside = f"{what}, memory outside of the view"
    assert_same_bits(buffer_of(copy), buffer_of(wanted), outside)


def named(kind: str) -> str:
    """What messages call something of a type of that name."""
    if kind == "NoneType":
        return "None"
    return f"an {kind}" if kind[0].lower() in "aeiou" or kind == "ndarray" else f"a {kind}"
