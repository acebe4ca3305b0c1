"""Files in the safetensors format, by the library of that name: named arrays and texts."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instep.files import check_regular

try:
    from safetensors import SafetensorError, safe_open
except ImportError:
    raise ImportError(
        "save and load take the package safetensors: pip install 'instep[checkpoint]'"
    ) from None

__all__ = ["Place", "header", "parse", "places", "read", "write"]

# What the library takes.
_MOST_HEADER = 100_000_000

_KINDS = {"f": "F", "i": "I", "u": "U", "b": "BOOL", "c": "C"}


class Place(NamedTuple):
    """Where an array is in a file: its bytes are in C order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize


def header(
    arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], texts: Mapping[str, str]
) -> tuple[bytes, dict[str, Place]]:
    """Return the first bytes of a file with such arrays and texts, and where each array is then.

    Raises
    ------
    ValueError
        Names and texts that take more than the format allows.
    """
    said: dict[str, Any] = {"__metadata__": dict(texts)}
    starts, start = {}, 0
    # The widest first, so that each begins where its dtype can.
    for name in sorted(arrays, key=lambda name: (-arrays[name][0].itemsize, name)):
        dtype, shape = arrays[name]
        stop = start + math.prod(shape) * dtype.itemsize
        said[name] = {"dtype": _name(dtype), "shape": shape, "data_offsets": [start, stop]}
        starts[name], start = start, stop
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER:
        raise ValueError(
            f"names and texts take too much room: {len(text):,} bytes; wanted {_MOST_HEADER:,} at "
            "most"
        )
    first = 8 + len(text)
    found = {name: Place(*arrays[name], first + start) for name, start in starts.items()}
    return len(text).to_bytes(8, "little") + text, found


def _name(dtype: np.dtype[Any]) -> str:
    kind = _KINDS[dtype.kind]
    return kind if kind == "BOOL" else f"{kind}{8 * dtype.itemsize}"


def places(
    path: str | os.PathLike[str], check: Callable[[dict[str, str]], None]
) -> tuple[dict[str, Place], dict[str, str]]:
    """Return where the arrays of a file are, and its texts, without reading the arrays.

    It is as `read`.
    """
    with _opened(path, check) as (file, texts):
        with Path(path).open("rb") as first:
            start = 8 + int.from_bytes(first.read(8), "little")
        found = {}
        # One after the other, without gaps: the library has looked.
        for name in file.offset_keys():
            array = file.get_slice(name)
            found[name] = Place(_dtype(array.get_dtype()), tuple(array.get_shape()), start)
            start += found[name].nbytes
        return found, texts


def _dtype(name: str) -> np.dtype[Any]:
    if name == "BOOL":
        return np.dtype(np.bool_)
    kinds = {kind: letter for letter, kind in _KINDS.items()}
    if name[0] not in kinds or not name[1:].isdecimal():
        raise ValueError(f"it has an array of {name}")
    return np.dtype(f"<{kinds[name[0]]}{int(name[1:]) // 8}")


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
    """Write arrays, in C order, and texts into a file.

    Raises
    ------
    ValueError
        Names and texts that take more than the format allows.
    """
    first, found = header({name: (a.dtype, a.shape) for name, a in arrays.items()}, texts)
    file.write(first)
    for name in found:
        file.write(np.asarray(arrays[name], order="C").reshape(-1).view(np.uint8).data)


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
    with _opened(path, check) as (file, texts):
        return file.get_tensors(), texts


@contextmanager
def _opened(
    path: str | os.PathLike[str], check: Callable[[dict[str, str]], None]
) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a file with the library, whose errors are those of a file that is broken."""
    check_regular(path, "a regular file")
    Path(path).open("rb").close()  # for the usual errors of a file that is not there
    try:
        opened: Any = safe_open(os.fspath(path), framework="numpy", backend="pread")
        file = opened.__enter__()
        texts = file.metadata() or {}
    except SafetensorError as error:
        raise _broken(path, error) from None
    with opened:
        check(texts)
        try:
            yield file, texts
        except (SafetensorError, ValueError) as error:
            raise _broken(path, error) from None


def _broken(path: str | os.PathLike[str], error: Exception) -> ValueError:
    what = "is truncated, corrupt or no safetensors file"
    return ValueError(f"{os.fspath(path)} {what}: {error}")


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
