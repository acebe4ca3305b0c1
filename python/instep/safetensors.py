"""Files in the safetensors format: named arrays and texts, nothing of which is run.

A file is the length of its header in 8 bytes, the header in JSON, and the length of the arrays
one after the other, in C order. The header has, for each array, ``dtype``, ``shape`` and
``data_offsets``, and the texts as ``__metadata__``. Integers and elements are little-endian.

Read strictly: whatever the format does not allow, and arrays of other dtypes, are refused.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from instep.files import check_regular

__all__ = ["parse", "read", "write"]

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAMES = {dtype.itemsize: name for name, dtype in _DTYPES.items()}
_MOST_HEADER = 100_000_000  # what other readers of the format take


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
    """Write arrays and texts into a file.

    Raises
    ------
    ValueError
        Names and texts that take more than the format allows.
    """
    # The wider first, so that every array begins at a multiple of its itemsize.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.itemsize],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER:
        raise ValueError(
            f"names and texts take {len(text):,} bytes; a safetensors file has room for "
            f"{_MOST_HEADER:,}"
        )
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for _, array in ordered:
        file.write(np.asarray(array, array.dtype.newbyteorder("<"), order="C").data)


def read(
    path: str | os.PathLike[str], check: Callable[[dict[str, str]], None]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays and the texts of a file.

    `check` is called with the texts before anything else is looked at, and may raise.

    Raises
    ------
    OSError
        A path to something else than a regular file, or that can't be read.
    ValueError
        A file that is truncated, corrupt or of another format.
    """
    check_regular(path, "a regular file")
    with Path(path).open("rb") as file:
        try:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            _require(8 + length <= size and length <= _MOST_HEADER, "the length of its header")
            header = parse(file.read(length))
            _require(isinstance(header, dict), "its header")
            texts = header.pop("__metadata__", {})
            _require(_is_like(texts, dict, str), "its metadata")
        except ValueError as error:
            raise _broken(path, error) from None
        check(texts)
        try:
            arrays = _read_arrays(file, header, size - 8 - length)
        except ValueError as error:
            raise _broken(path, error) from None
    return arrays, texts


def parse(text: bytes | str) -> Any:
    """Return what a JSON text says.

    Raises
    ------
    ValueError
        A text that is no JSON, is nested too deeply, or has a key twice.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _read_arrays(file: BinaryIO, header: dict[str, Any], size: int) -> dict[str, NDArray[Any]]:
    """Return the arrays that lie from here on, one after the other."""
    places = []
    for name, entry in header.items():
        _require(_is_like(entry, dict) and set(entry) == _ENTRY, repr(name))
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        _require(_is_like(dtype, str) and dtype in _DTYPES, f"the dtype of {name!r}")
        is_shape = _is_like(shape, list, int) and len(shape) <= 32
        _require(is_shape and all(0 <= n < 2**48 for n in shape), f"the shape of {name!r}")
        _require(_is_like(offsets, list, int) and len(offsets) == 2, f"the place of {name!r}")
        places.append((*offsets, name, _DTYPES[dtype], shape))
    arrays: dict[str, NDArray[Any]] = {}
    expected = 0
    for begin, end, name, dtype, shape in sorted(places, key=lambda place: place[:2]):
        nbytes = math.prod(shape) * dtype.itemsize
        _require(begin == expected and end == begin + nbytes <= size, f"the place of {name!r}")
        array = np.empty(shape, dtype)
        read = file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        _require(read == nbytes, f"the length of {name!r}")
        arrays[name] = array.astype(dtype.newbyteorder("="), copy=False)
        expected = end
    _require(expected == size, "its end")
    return arrays


_ENTRY = {"dtype", "shape", "data_offsets"}


def _is_like(thing: Any, kind: type[Any], of: type[Any] | None = None) -> bool:
    """Return whether something is of a kind, and what is in it of another."""
    if type(thing) is not kind:
        return False
    inner: Iterable[Any] = thing.values() if kind is dict else thing
    return of is None or all(type(one) is of for one in inner)


def _require(met: bool, what: str) -> None:
    if not met:
        raise ValueError(f"{what} is wrong")


def _broken(path: str | os.PathLike[str], error: ValueError) -> ValueError:
    what = "is truncated, corrupt or no safetensors file"
    return ValueError(f"{os.fspath(path)} {what}: {error}")
