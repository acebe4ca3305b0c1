"""Files in the safetensors format, by the library of that name: named arrays and texts."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from instep.files import check_regular

try:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save
except ImportError:
    raise ImportError(
        "save and load take the package safetensors: pip install 'instep[checkpoint]'"
    ) from None

__all__ = ["parse", "read", "write"]


def write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
    """Write arrays, in C order, and texts into a file.

    Raises
    ------
    ValueError
        Names and texts that take more than the format allows.
    """
    try:
        # The library writes the memory behind an array as if it were dense and in C order.
        dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        file.write(save(dense, dict(texts)))
    except SafetensorError as error:
        raise ValueError(f"names and texts take too much room: {error}") from None


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
            return file.get_tensors(), texts
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
