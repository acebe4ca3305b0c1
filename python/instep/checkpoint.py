r"""Checkpoints: the state of an optimizer as a dict, and that dict as a file.

Call `Optimizer.state_dict`, `load_state_dict`, `save` and `load`; this page says how they store
things. A file is in the safetensors format, which other tools read too. Its tensors are

- ``state/<name>/<state>``: a state array of the parameter of that name,
- ``averages/<name>``: the moving average of a parameter, if there is one,
- ``params/<name>``: the parameter itself, if it was saved too.

bfloat16 arrays are stored as uint16 with the same bits, because not every reader has the dtype.

In these names, a backslash is doubled, and a lone surrogate, which UTF-8 lacks, is ``\udc80``. The
metadata are JSON texts: ``kind``, then ``format``, ``rule``, ``t``, ``average`` and ``groups`` as
in the dict, ``extra`` if the caller gave any, and ``crc32``, the checksum of all the rest.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep import safetensors
from instep.checks import check_flag, check_json
from instep.files import path_name, replacing
from instep.state import HasState, arrays_of, check_format, copied, live, load_state_dict
from instep.storage import as_bits

__all__ = [
    "check_texts",
    "checksum",
    "content",
    "corrupt",
    "from_file",
    "load",
    "read",
    "save",
    "text_of",
    "write",
]

_KIND = json.dumps("state of an instep optimizer")

_MOST_EXTRA = 2**24


def save(
    optimizer: HasState, path: str | os.PathLike[str], *, params: bool = False, extra: Any = None
) -> None:
    """Write the state of an optimizer into a file, with its parameters if `params`."""
    check_flag("params", params)
    extra_text = text_of(extra)
    if params:
        optimizer._refuse_detached()
    stepper = optimizer._stepper
    before = stepper.changes
    if stepper.averages_are_in:
        raise RuntimeError("the state was copied, saved or loaded within averaged()")
    # Written without a copy. If a step came in between, a copy is written instead.
    own, parameters = live(optimizer)
    arrays = arrays_of(parameters) if params else {}
    if not write(path, own, arrays, extra_text, lambda: stepper.changes == before):
        own, parameters = copied(optimizer, params=params)
        write(path, own, arrays_of(parameters) if params else {}, extra_text)


def text_of(extra: Any) -> str | None:
    """Return as JSON what the caller wants to save too."""
    if extra is None:
        return None
    check_json("extra", extra)
    text = json.dumps(extra)
    if len(text) > _MOST_EXTRA:
        raise ValueError(
            f"extra takes {len(text):,} bytes as JSON; wanted {_MOST_EXTRA:,} at most: put large "
            "things into a file of their own"
        )
    return text


def load(optimizer: HasState, path: str | os.PathLike[str], *, params: bool = True) -> Any:
    """Continue from the state that was saved to a file; return the caller's own JSON."""
    check_flag("params", params)
    loaded, own, extra = read(path)
    try:
        load_state_dict(optimizer, loaded, own if own and params else None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    return extra


def write(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Any],
    params: Mapping[str, NDArray[Any]],
    extra: str | None = None,
    is_whole: Callable[[], bool] = lambda: True,
) -> bool:
    """Write a state dict, parameters and a JSON text into a file, which is replaced as a whole.

    Returns whether it did. It did not if `is_whole` returns False after everything is written.
    """
    arrays, texts = content(state_dict, params, extra)
    arrays = {key: as_bits(array) for key, array in arrays.items()}
    texts["crc32"] = _crc32(texts, arrays)
    try:
        with replacing(path) as file:
            safetensors.write(file, arrays, texts)
            if not is_whole():
                raise _ChangedError
    except _ChangedError:
        return False
    return True


def content(
    state_dict: Mapping[str, Any], params: Mapping[str, Any], extra: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arrays of a file by their keys, and its texts except the checksum."""
    arrays = {f"params/{_escape(name)}": array for name, array in params.items()}
    arrays |= {f"averages/{_escape(name)}": a for name, a in state_dict["averages"].items()}
    for name, states in state_dict["state"].items():
        arrays |= {f"state/{_escape(name)}/{state}": array for state, array in states.items()}
    others = {key: value for key, value in state_dict.items() if key not in ("state", "averages")}
    texts = {"kind": _KIND} | {key: json.dumps(value) for key, value in others.items()}
    if extra is not None:
        texts["extra"] = extra
    return arrays, texts


class _ChangedError(Exception):
    """The arrays were changed while they were written."""


def read(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], Any]:
    """Return what is in a file: a state dict, parameters or nothing, and the caller's own JSON."""
    name = path_name(path)
    arrays, texts = safetensors.read(path, lambda texts: check_texts(name, texts))
    if texts.pop("crc32", None) != _crc32(texts, arrays):
        raise corrupt(name)
    return from_file(name, texts, arrays)


def check_texts(name: str, texts: Mapping[str, str]) -> None:
    """Check that the texts of a file are those of a state, in a format that is known here."""
    if texts.get("kind") != _KIND:
        raise ValueError(f"{name} is a safetensors file, but instep did not save it")
    try:
        version = safetensors.parse(texts.get("format", ""))
    except ValueError:
        version = None
    check_format(name, version)


def corrupt(name: str) -> ValueError:
    """Return the error for a file with a wrong checksum."""
    return ValueError(f"{name} is corrupt: its checksum does not match its content")


def from_file(
    name: str, texts: dict[str, str], arrays: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return what the parts of a file say: a state dict, parameters, and the caller's own JSON."""
    try:
        return _from_file(texts, arrays)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{name} has content that instep does not write") from None


def _from_file(
    texts: dict[str, str], arrays: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return what the parts of a file say."""
    state_dict = {key: safetensors.parse(text) for key, text in texts.items() if key != "kind"}
    # Neither too deep nor too large for a reader.
    check_json("metadata", state_dict)
    extra = state_dict.pop("extra", None)
    names = {_escape(name): name for group in state_dict["groups"] for name in group["names"]}
    state: dict[str, dict[str, Any]] = {name: {} for name in names.values()}
    averages: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for key, array in arrays.items():
        kind, _, name = key.partition("/")
        if kind == "state":
            name, _, of = name.rpartition("/")
            state[names[name]][of] = array
        else:
            {"averages": averages, "params": params}[kind][names[name]] = array
    return {**state_dict, "state": state, "averages": averages}, params, extra


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode()


def checksum(
    metadata: Mapping[str, str],
    arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    extend: Callable[[str, int], int],
) -> str:
    """Return a checksum of everything in a file: the format itself has none.

    `extend` is called with the key of an array and the CRC-32 of what comes before. It returns the
    CRC-32 of both.
    """
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for key, (dtype, shape) in sorted(arrays.items()):
        crc = zlib.crc32(f"{key} {dtype} {shape} ".encode("utf-8", "surrogatepass"), crc)
        crc = extend(key, crc)
    return f"{crc:08x}"


def _crc32(metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> str:
    described = {key: (array.dtype, array.shape) for key, array in arrays.items()}

    def extend(key: str, crc: int) -> int:
        # A copy of one that is not dense and in C order, but never of all of them at once.
        return zlib.crc32(np.asarray(arrays[key], order="C").data, crc)

    return checksum(metadata, described, extend)
