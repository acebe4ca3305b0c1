"""Checkpoints of optimizers in folders: the files of `instep.checkpoint`, never all in memory."""

import os
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep import checkpoint, safetensors
from instep.checks import check_flag
from instep.chunked import Chunked
from instep.files import path_name
from instep.loaded_state import Loaded, checked
from instep.safetensors import Place
from instep.state import arrays_of

__all__ = ["read", "save"]


def save(
    own: Chunked,
    state_dict: dict[str, Any],
    path: str | os.PathLike[str],
    *,
    params: bool,
    extra: Any,
) -> None:
    """Write a state dict into a file, with the parameters if `params`."""
    check_flag("params", params)
    text = checkpoint.text_of(extra)
    if params:
        own._refuse_detached()
    checkpoint.write(path, state_dict, arrays_of(own.members) if params else {}, text)


def read(own: Chunked, path: str | os.PathLike[str], *, params: bool) -> tuple[Loaded, bool, Any]:
    """Check a file; return what it has, whether with parameters, and the caller's own JSON."""
    check_flag("params", params)
    name = path_name(path)
    places, texts = safetensors.places(path, lambda texts: checkpoint.check_texts(name, texts))
    arrays = {key: _mapped(path, place) for key, place in places.items()}
    described = {key: (array.dtype, array.shape) for key, array in arrays.items()}
    crc = texts.pop("crc32", None)
    if crc != checkpoint.checksum(
        texts, described, lambda key, crc: zlib.crc32(arrays[key].data, crc)
    ):
        raise checkpoint.corrupt(name)
    state_dict, own_params, extra = checkpoint.from_file(name, texts, arrays)
    loads = bool(own_params) and params
    try:
        return checked(own, state_dict, own_params if loads else None), loads, extra
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None


def _mapped(path: str | os.PathLike[str], place: Place) -> NDArray[Any]:
    if not place.size:
        return np.empty(place.shape, place.dtype)
    flat = np.memmap(path, np.uint8, "r", place.start, (place.nbytes,))
    return np.asarray(flat).view(place.dtype).reshape(place.shape)
