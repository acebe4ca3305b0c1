"""Checkpoints of optimizers that are split over ranks: one file, which all ranks write and read.

The file is that of `instep.checkpoint`, with elements in C order. Each rank writes what it has to
its place in the file. If an array has another order in memory, ranks first send each other the
elements of a window of the file, which one of them writes.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep import checkpoint, safetensors
from instep.checks import check_flag
from instep.communicators import Communicator, agree, exchange
from instep.crc import combined
from instep.files import path_name, replacing
from instep.groups import Parameter
from instep.parts import axes_in_memory
from instep.safetensors import Place
from instep.shard import Shard
from instep.state import arrays_of, checked_state, live
from instep.storage import as_bits

__all__ = ["load", "save"]

# So many elements at a time, where their order has to be changed.
_WINDOW = 1 << 18

_BLOCK = 1 << 20


def save(
    comm: Communicator, shard: Shard, path: str | os.PathLike[str], *, params: bool, extra: Any
) -> None:
    """Write the state of all ranks into one file, and the parameters if `params`."""

    def describe() -> tuple[Any, object]:
        check_flag("params", params)
        text = checkpoint.text_of(extra)
        if params:
            shard._refuse_detached()
        shard.refuse_averages()
        state_dict, parameters = live(shard)
        own = _owners(shard)
        arrays, texts = checkpoint.content(
            state_dict, arrays_of(parameters) if params else {}, text
        )
        arrays = {key: as_bits(array) for key, array in arrays.items()}
        # Each array's bytes by its key; the shape of a share is that of its parameter.
        kinds = _keys(own, params=params)
        described = {
            key: (array.dtype, own[kinds[key][1]].array.shape) for key, array in arrays.items()
        }
        target = os.path.realpath(path_name(path))
        said = {"path": target, "params": params, **texts}
        return (arrays, texts, kinds, described, own), said

    arrays, texts, kinds, described, own = agree(comm, describe)
    _, places = safetensors.header(described, {**texts, "crc32": "0" * 8})
    with ExitStack() as stack:
        # Rank 0 makes the file, and puts it in its place.
        def create() -> tuple[Any, None]:
            return (stack.enter_context(replacing(path)) if comm.rank == 0 else None), None

        file = agree(comm, create)
        temporary = _told(comm, file)

        writer = agree(comm, lambda: (_Writer(temporary), None))
        with writer:
            for number, key in enumerate(sorted(places)):
                array, member = arrays[key], own[kinds[key][1]]
                if kinds[key][0]:
                    blocks = _of_all(comm, array, places[key])
                else:
                    blocks = _of_shares(comm, shard, array, member, places[key])
                for start, values in blocks:
                    writer.write(number, places[key], start, values)
            agree(comm, writer.finish)
        crcs = _crcs(comm, writer.rows)

        def end() -> tuple[None, None]:
            if comm.rank == 0:
                keys = sorted(places)
                crc = checkpoint.checksum(
                    texts, described, lambda key, crc: _extended(crc, crcs.get(keys.index(key), []))
                )
                file.write(safetensors.header(described, {**texts, "crc32": crc})[0])
                stack.close()
            return None, None

        agree(comm, end)


def _owners(shard: Shard) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in shard.members}


def _keys(own: Mapping[str, Parameter], *, params: bool) -> dict[str, tuple[bool, str]]:
    """Return, for each key of a file, whether every rank has all of it, and whose it is."""
    found: dict[str, tuple[bool, str]] = {}
    for name, parameter in own.items():
        one: dict[str, Any] = {"state": {name: parameter.states}, "averages": {}}
        if parameter.average is not None:
            one["averages"] = {name: parameter.average}
        found |= dict.fromkeys(checkpoint.content(one, {}, None)[0], (False, name))
        if params:
            none: dict[str, Any] = {"state": {}, "averages": {}}
            found |= dict.fromkeys(checkpoint.content(none, {name: None}, None)[0], (True, name))
    return found


def _told(comm: Communicator, file: Any) -> Path:
    """Return the path of rank 0's file, on all ranks."""
    name = os.fsencode(file.name) if file is not None else b""
    length = np.array([len(name)], np.int64)
    lengths = exchange(comm, length, [1] * comm.size)
    counts = [int(each[0]) for each in lengths]
    names = exchange(comm, np.frombuffer(name, np.uint8).copy(), counts)
    return Path(os.fsdecode(names[0].tobytes()))


class _Writer:
    """Writes blocks of arrays, with their checksums; an error is kept, so that no rank waits."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._error: OSError | None = None
        # Of each block: the number of the array, its first element, its bytes, their checksum.
        self.rows: list[tuple[int, int, int, int]] = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, number: int, place: Place, start: int, values: NDArray[Any]) -> None:
        data = values.view(np.uint8).data
        self.rows.append((number, start, len(data), zlib.crc32(data)))
        at = place.start + start * values.itemsize
        try:
            while len(data) and self._error is None:
                done = os.pwrite(self._file.fileno(), data, at)
                data, at = data[done:], at + done
        except OSError as error:
            self._error = error

    def finish(self) -> tuple[None, None]:
        if self._error is not None:
            raise self._error
        os.fsync(self._file.fileno())
        return None, None


def _of_all(
    comm: Communicator, array: NDArray[Any], place: Place
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield this rank's part of an array that all ranks have, block by block."""
    first, last = (place.size * rank // comm.size for rank in (comm.rank, comm.rank + 1))
    for start in range(first, last, _WINDOW):
        yield start, array.flat[start : min(last, start + _WINDOW)]


def _of_shares(
    comm: Communicator, shard: Shard, share: NDArray[Any], member: Parameter, place: Place
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield what this rank writes of an array that is split over ranks, block by block."""
    owned = shard.owned[member.name]
    own_first, own_last = owned[comm.rank]
    axes = _axes(member.array)
    if axes is None:
        if own_last > own_first:
            yield own_first, share
        return
    step = _WINDOW * comm.size
    for start in range(0, place.size, step):
        windows = []
        for rank in range(comm.size):
            first = min(place.size, start + rank * _WINDOW)
            windows.append((first, min(place.size, first + _WINDOW)))
        send = []
        for first, last in windows:
            there = _in_memory(place.shape, axes, first, last)
            mine = there[(there >= own_first) & (there < own_last)]
            send.append(share[mine - own_first].view(np.uint8))
        first, last = windows[comm.rank]
        there = _in_memory(place.shape, axes, first, last)
        masks = [(there >= begin) & (there < end) for begin, end in owned]
        received = [np.empty(np.count_nonzero(mask), share.dtype) for mask in masks]
        comm.all_to_all(send, [values.view(np.uint8) for values in received]).wait()
        received[comm.rank] = send[comm.rank].view(share.dtype)
        window = np.empty(last - first, share.dtype)
        for mask, values in zip(masks, received, strict=True):
            window[mask] = values
        if last > first:
            yield first, window


def _axes(array: NDArray[Any]) -> list[int] | None:
    """Return the axes from outermost to innermost in memory; None if that is C's order."""
    axes = axes_in_memory(array)
    long = [axis for axis in axes if array.shape[axis] > 1]
    return None if long == sorted(long) else axes


def _in_memory(
    shape: tuple[int, ...], axes: list[int], first: int, last: int
) -> NDArray[np.integer[Any]]:
    """Return the numbers in memory's order of elements from and to others in C's order."""
    if first == last:
        return np.empty(0, np.intp)
    places = np.unravel_index(np.arange(first, last), shape)
    return np.asarray(
        np.ravel_multi_index([places[a] for a in axes], [shape[a] for a in axes]), np.intp
    )


def _crcs(
    comm: Communicator, rows: list[tuple[int, int, int, int]]
) -> dict[int, list[tuple[int, int, int]]]:
    """Return the checksums of all ranks' blocks, for each array in order."""
    own = np.array(rows, np.int64).reshape(-1)
    counts = [int(n[0]) for n in exchange(comm, np.array([own.size]), [1] * comm.size)]
    found: dict[int, list[tuple[int, int, int]]] = {}
    for of_rank in exchange(comm, own, counts):
        for number, *block in of_rank.reshape(-1, 4).tolist():
            found.setdefault(number, []).append((block[0], block[1], block[2]))
    return {number: sorted(blocks) for number, blocks in found.items()}


def _extended(crc: int, blocks: list[tuple[int, int, int]]) -> int:
    for _, nbytes, own in blocks:
        crc = combined(crc, own, nbytes)
    return crc


def load(comm: Communicator, shard: Shard, path: str | os.PathLike[str], *, params: bool) -> Any:
    """Continue from a file; return the caller's own JSON."""
    name = path_name(path)

    def look() -> tuple[Any, object]:
        shard.refuse_averages()
        check_flag("params", params)
        found = safetensors.places(path, lambda texts: checkpoint.check_texts(name, texts))
        return found, {"params": params, "the file": dict(sorted(found[1].items()))}

    places, texts = agree(comm, look)
    keys = sorted(places)

    def check() -> tuple[Any, None]:
        rows = []
        with Path(path).open("rb", buffering=0) as file:
            for number, key in enumerate(keys):
                nbytes = places[key].nbytes
                first, last = (nbytes * r // comm.size for r in (comm.rank, comm.rank + 1))
                for start in range(first, last, _BLOCK):
                    data = np.empty(min(_BLOCK, last - start), np.uint8)
                    _fill(file, data, places[key].start + start)
                    rows.append((number, start, data.size, zlib.crc32(data.data)))
        return rows, None

    crcs = _crcs(comm, agree(comm, check))

    def read() -> tuple[tuple[Callable[[], None], Any], None]:
        said = dict(texts)
        described = {key: (place.dtype, place.shape) for key, place in places.items()}
        crc = said.pop("crc32", None)
        numbers = {key: number for number, key in enumerate(keys)}
        if crc != checkpoint.checksum(
            said, described, lambda key, crc: _extended(crc, crcs.get(numbers[key], []))
        ):
            raise checkpoint.corrupt(name)
        state_dict, own_params, extra = checkpoint.from_file(name, said, places)
        members = _owners(shard)
        with Path(path).open("rb", buffering=0) as file:
            for of, states in state_dict["state"].items():
                member = members.get(of)
                for state in states:
                    own = None if member is None else member.states.get(state)
                    label = f'state["{of}"]["{state}"]'
                    states[state] = _share(file, shard, member, own, states[state], label)
            for of, place in state_dict["averages"].items():
                member = members.get(of)
                own = None if member is None else member.average
                label = f'averages["{of}"]'
                state_dict["averages"][of] = _share(file, shard, member, own, place, label)
            loads = bool(own_params) and params
            whole = {of: _whole(file, place) for of, place in own_params.items() if loads}
        try:
            write = checked_state(shard, state_dict, whole if loads else None)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from None
        return (write, extra), None

    write, extra = agree(comm, read)
    write()
    shard.give_counts()
    return extra


def _fill(file: Any, data: NDArray[Any], at: int) -> None:
    """Read bytes from a place of a file."""
    left = data.view(np.uint8).data
    while len(left):
        done = os.preadv(file.fileno(), [left], at)
        if not done:
            raise ValueError(f"{file.name} is truncated, corrupt or no safetensors file: it ended")
        left, at = left[done:], at + done


def _share(
    file: Any,
    shard: Shard,
    member: Parameter | None,
    own: NDArray[Any] | None,
    place: Place,
    label: str,
) -> NDArray[Any]:
    """Return what a file has for this rank's share of an array, which is `own`."""
    if member is None or own is None:
        # What comes next says that there is no such parameter or state.
        return np.empty(0, place.dtype)
    array, dtype = member.array, as_bits(own).dtype
    if (place.dtype, place.shape) != (dtype, array.shape):
        raise ValueError(
            f"{file.name}: {label} has the shape {place.shape} and the dtype {place.dtype}; wanted "
            f"{array.shape} and {dtype}"
        )
    first, last = shard.owned[member.name][shard.rank]
    share = np.empty(last - first, place.dtype)
    axes = _axes(array)
    if axes is None:
        _fill(file, share, place.start + first * place.dtype.itemsize)
        return share
    for start in range(0, place.size, _WINDOW):
        stop = min(place.size, start + _WINDOW)
        there = _in_memory(place.shape, axes, start, stop)
        mask = (there >= first) & (there < last)
        if mask.any():
            window = np.empty(stop - start, place.dtype)
            _fill(file, window, place.start + start * place.dtype.itemsize)
            share[there[mask] - first] = window[mask]
    return share


def _whole(file: Any, place: Place) -> NDArray[Any]:
    whole = np.empty(place.shape, place.dtype)
    _fill(file, whole.reshape(-1), place.start)
    return whole
