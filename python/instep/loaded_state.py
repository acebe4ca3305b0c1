"""The state that an optimizer in a folder continues from: checked, then written by chunks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from instep.chunked import Chunked
from instep.parts import Elements
from instep.state import checked_state, pairs

__all__ = ["Loaded", "checked"]


class Loaded:
    """The state to continue from: all arrays, and a callable that writes the rest."""

    def __init__(
        self, own: Chunked, arrays: list[dict[int, Elements]], write: Callable[[], None]
    ) -> None:
        self._own, self._arrays = own, arrays
        self.write = write

    def fill(self, number: int, regions: list[Any]) -> int:
        """Write the loaded part of a chunk into its bytes; return its parameters' checksum."""
        chunk, crc = self._own.chunks[number], 0
        for file, span in chunk.spans.items():
            np.frombuffer(regions[file], np.uint8, span.nbytes)[...] = 0
        for place, part in enumerate(chunk.parts):
            arrays = self._arrays[part.array]
            crc = arrays[0].checksum(part.start, part.stop, crc)
            for file, elements in arrays.items():
                values = elements.get(part.start, part.stop)
                self._own.typed(chunk, place, file, regions[file])[...] = values
        return crc


def checked(
    own: Chunked, state_dict: Any, params: Mapping[str, NDArray[Any]] | None = None
) -> Loaded:
    """Check all of a state dict, and of parameters if given."""
    members, has_averages = own.members, own.average is not None
    states: dict[str, Any] = {p.name: {} for p in members}
    nothing = {"state": states, "averages": {}}
    is_dict = isinstance(state_dict, Mapping)
    write = checked_state(own, {**state_dict, **nothing} if is_dict else state_dict)
    for key in nothing:
        if key not in state_dict:
            raise ValueError(f"state_dict lacks {key!r}")
    arrays = [{0: Elements(p.array, p.array)} for p in members]
    likes: dict[str, dict[str, Any]] = {"state": states, "averages": {}, "params": {}}
    places: dict[int, tuple[int, int]] = {}
    for number, p in enumerate(members):
        files = own.files[number]
        wanted = {file: _like(p.array.shape, dtype) for file, dtype in files.items()}
        places |= {id(like): (number, file) for file, like in wanted.items()}
        names = own.states_of(p)
        likes["state"][p.name] = {s: wanted[f] for f, s in enumerate(names, own.first_state)}
        if has_averages:
            likes["averages"][p.name] = wanted[1]
        likes["params"][p.name] = wanted[0]
    given = [("state", state_dict["state"]), ("averages", state_dict["averages"])]
    if params is not None:
        own._refuse_detached()
        given.append(("params", params))
    for name, of in given:
        for _, like, array in pairs(name, likes[name], of):
            number, file = places[id(like)]
            arrays[number][file] = Elements(array, members[number].array)
    return Loaded(own, arrays, write)


def _like(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of a shape that takes no memory."""
    return as_strided(np.empty((), dtype), shape, (0,) * len(shape))
