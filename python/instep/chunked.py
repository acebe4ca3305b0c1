"""An optimizer whose arrays are stepped chunk by chunk, each in buffers of its own."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instep import codecs
from instep._instep import BegunStep
from instep.groups import Group, Parameter
from instep.parts import (
    PIECE,
    Asked,
    Elements,
    InParts,
    Norms,
    Part,
    axes_in_memory,
    in_parts,
    look,
    padded,
    typed,
)
from instep.ring import Region, blocks

if TYPE_CHECKING:
    from instep import _instep
from instep.state import live

__all__ = ["Chunk", "Chunked", "Looked", "Span", "chunked", "layout"]

_FLOAT32 = np.dtype(np.float32)


class Span(NamedTuple):
    """Where a file has a chunk, and each part in that; None if it has nothing of a part."""

    offset: int
    nbytes: int
    at: list[int | None]


class Chunk(NamedTuple):
    """Some parts of arrays, and where each file has them, by the number of the file."""

    parts: list[Part]
    spans: dict[int, Span]


class Looked(NamedTuple):
    """What is known of a step before its first chunk."""

    norms: Norms
    said: "list[_instep._Said]"


def layout(
    sizes: Sequence[int],
    itemsizes: Sequence[dict[int, int]],
    nbytes: int,
    ends: dict[int, int],
    first: int = 0,
) -> list[Chunk]:
    """Cut arrays into chunks of which each file has about `nbytes`, or a piece.

    A chunk has a part of one array, or whole arrays. So all parts of an array are always stepped
    together, and in each file they follow each other.

    Parameters
    ----------
    sizes : sequence of int
        The numbers of elements of the arrays.
    itemsizes : sequence of dict
        For each of them, the bytes of an element by the number of the file.
    nbytes : int
        The bytes of a chunk in a file.
    ends : dict
        Where each file ends so far. **Updated.**
    first : int
        The number of the first array.
    """
    found: list[Chunk] = []
    small: list[Part] = []
    used: dict[int, int] = {}

    def add(parts: list[Part]) -> None:
        if not parts:
            return
        spans = {}
        for file in sorted({file for part in parts for file in itemsizes[part.array - first]}):
            size, at = 0, []
            for part in parts:
                itemsize = itemsizes[part.array - first].get(file)
                at.append(None if itemsize is None else size)
                size += padded((part.stop - part.start) * (itemsize or 0))
            spans[file] = Span(ends.get(file, 0), blocks(size), at)
            ends[file] = ends.get(file, 0) + blocks(size)
        found.append(Chunk(parts, spans))

    for array, (size, own) in enumerate(zip(sizes, itemsizes, strict=True), first):
        widest = max(own.values())
        if size * widest >= nbytes:
            add(small)
            small, used = [], {}
            step = max(1, nbytes // (PIECE * widest)) * PIECE
            for start in range(0, size, step):
                add([Part(array, start, min(size, start + step), 0)])
        elif size:
            more = {file: used.get(file, 0) + padded(size * n) for file, n in own.items()}
            if max(more.values()) > nbytes:
                add(small)
                small, used = [], {}
                more = {file: padded(size * n) for file, n in own.items()}
            small.append(Part(array, 0, size, 0))
            used |= more
    add(small)
    return found


class Chunked(InParts):
    """An optimizer that makes no state arrays: the code that steps its chunks passes them.

    File 0 has the parameters, file 1 the averages if there are any, and the next ones the states.
    """

    def _start(self, group: Group, parameter: Parameter) -> None:
        self.refuse_codes(parameter)

    @property
    def first_state(self) -> int:
        """The number of the file that has the first states."""
        return 1 + (self._average is not None)

    def count_arrays(self) -> int:
        """Return how many files there are."""
        most = max((len(self.states_of(p)) for p in self._parameters), default=0)
        return self.first_state + most

    def cut(self, nbytes: int, batches: Sequence[int]) -> None:
        """Cut all arrays into chunks of which each file has about so many bytes.

        `batches` has how many parameters are cut together, which share chunks.
        """
        members = self._parameters
        self.arrays = self.count_arrays()
        self.find_elements()
        self.files = [self.files_of(p) for p in members]
        self.ends: dict[int, int] = {}
        self.chunks: list[Chunk] = []
        first = 0
        for count in batches:
            batch = members[first : first + count]
            itemsizes = [
                {file: dtype.itemsize for file, dtype in files.items()}
                for files in self.files[first : first + count]
            ]
            sizes = [p.array.size for p in batch]
            self.chunks += layout(sizes, itemsizes, nbytes, self.ends, first)
            first += count

    @property
    def sizes(self) -> list[int]:
        """How many bytes each file has."""
        return [self.ends.get(file, 0) for file in range(self.arrays)]

    @property
    def chunk_bytes(self) -> int:
        """How many bytes of a file a chunk has at most."""
        return max((s.nbytes for chunk in self.chunks for s in chunk.spans.values()), default=0)

    def files_of(self, parameter: Parameter) -> dict[int, np.dtype[Any]]:
        """Return the dtypes of a parameter, its states and its average, by their files."""
        own, stored = parameter.array.dtype, parameter.stored
        count = len(self._groups[parameter.group].states)
        dtypes = [own] * count if stored is None else stored.dtypes(count)
        average = {} if self._average is None else {1: own if stored is None else _FLOAT32}
        return {0: own, **dict(enumerate(dtypes, self.first_state)), **average}

    def states_of(self, parameter: Parameter) -> tuple[str, ...]:
        """Return the names of a parameter's states, in the order of their files."""
        beside = () if parameter.stored is None else parameter.stored.beside_names
        return (*self._groups[parameter.group].states, *beside)

    def typed(self, chunk: Chunk, number: int, file: int, region: Region) -> NDArray[Any]:
        """Return the elements of a part, by its number, in the bytes of its chunk in a file."""
        part, at = chunk.parts[number], chunk.spans[file].at[number]
        assert at is not None
        dtype = self.files[part.array][file]
        return typed(part._replace(at=at), np.frombuffer(region, np.uint8), dtype)

    def fill(self, chunk: Chunk, regions: list[Region]) -> None:
        """Put into a chunk what its arrays are at first."""
        for file, span in chunk.spans.items():
            np.frombuffer(regions[file], np.uint8, span.nbytes)[...] = 0
        for number, part in enumerate(chunk.parts):
            parameter = self._parameters[part.array]
            values = self.elements[part.array].get(part.start, part.stop)
            files = self.files[part.array]
            for file, initial in zip(files, self._initial(parameter, part, values), strict=True):
                self.typed(chunk, number, file, regions[file])[...] = initial

    def _initial(self, parameter: Parameter, part: Part, values: NDArray[Any]) -> list[Any]:
        """Return what there is of a part at first, in the order of `files_of`."""
        group, stored = self._groups[parameter.group], parameter.stored
        initial: list[Any] = [group.rule.initial(state, group.options) for state in group.states]
        if stored is None:
            states = [values if filled is None else filled for filled in initial]
            average = values
        else:
            part_of = stored.part(part.start, parameter.array, axes_in_memory(parameter.array))
            average = stored.numbers(values)
            states = [
                part_of.state(values, average if filled is None else filled, n, self._stepper.seed)
                for n, filled in enumerate(initial)
            ]
            states += part_of.beside(values).values()
        return [values, *states, *([] if self._average is None else [average])]

    def keep(self, chunk: Chunk, region: Region) -> None:
        """Copy the parameters of a chunk into its bytes."""
        for number, part in enumerate(chunk.parts):
            values = self.elements[part.array].get(part.start, part.stop)
            self.typed(chunk, number, 0, region)[...] = values

    def put_back(self, chunk: Chunk, region: Region) -> None:
        """Copy the parameters of a chunk from its bytes."""
        for number, part in enumerate(chunk.parts):
            values = self.typed(chunk, number, 0, region)
            self.elements[part.array].put(part.start, part.stop, values)

    def put_averages(self, chunk: Chunk, region: Region) -> None:
        """Copy the averages of a chunk from its bytes into the parameters; bfloat16 to nearest."""
        for number, part in enumerate(chunk.parts):
            values = self.typed(chunk, number, 1, region)
            array = self._parameters[part.array].array
            if array.dtype.itemsize == 2:
                values = codecs.to_split(values)[0].view(array.dtype)
            self.elements[part.array].put(part.start, part.stop, values)

    def look(self, begun: BegunStep, asked: dict[str, Any]) -> int | Looked:
        """Take the norms of a step; or return the number of the first gradient that stops it."""
        pieces = begun.pieces
        total = sum(pieces)
        if begun.needs_norms and any(p.stored and p.stored.master for p in self._parameters):
            raise TypeError(
                "the rule asks for norms of parameters, whose numbers are in the folder because of "
                "master; wanted another rule, or parameters without master"
            )

        def squares(of_params: bool) -> list[list[float]]:
            every = iter(begun.sums_of_squares(0, total, of_params=of_params))
            return [list(itertools.islice(every, count)) for count in pieces]

        norms = look(begun, asked, squares, lambda: begun.first_nonfinite(0, total))
        if isinstance(norms, int):
            return norms
        t = self.t + 1
        rates = enumerate(begun.lr)
        said = [self._groups[number].prepare(rate, t, self._average) for number, rate in rates]
        return Looked(norms, said)

    def step_chunk(
        self,
        chunk: Chunk,
        regions: list[Region],
        given: Sequence[Elements | None],
        looked: Looked,
        asked: dict[str, Any],
    ) -> None:
        """Step a chunk, parameters and states in place, and the new parameters in its bytes too."""
        parts: list[Part] = []
        arrays: list[list[NDArray[Any]]] = []
        grads: list[NDArray[Any] | None] = []
        for number, part in enumerate(chunk.parts):
            gradient = given[part.array]
            if gradient is None:
                continue
            parts.append(part)
            grads.append(gradient.get(part.start, part.stop))
            own = self.elements[part.array].get(part.start, part.stop)
            files = [file for file in self.files[part.array] if file]
            beside = [self.typed(chunk, number, file, regions[file]) for file in files]
            arrays.append([own, *beside])
        asks = _Looked(self, parts, looked)
        begun = asks.begin(self.stepper_of(parts, arrays), grads, {**asked, "lr": None})
        if looked.norms.of_all is not None:
            begun.clip(looked.norms.of_all)
        looked.norms.give(begun, asked, parts)
        begun.step(0, sum(begun.pieces))
        for part, (own, *_) in zip(parts, arrays, strict=True):
            if not self.elements[part.array].is_dense:
                self.elements[part.array].put(part.start, part.stop, own)
        self.keep(chunk, regions[0])

    def said(self) -> dict[str, Any]:
        """Return all that the next steps depend on but for the arrays, as JSON has it."""
        whole = live(self)[0]
        return {key: value for key, value in whole.items() if key not in ("state", "averages")}

    def said_after(self, looked: Looked) -> dict[str, Any]:
        """Return what `said` will be after a step."""
        said = self.said()
        for entry, (*_, updates) in zip(said["groups"], looked.said, strict=True):
            entry.pop("carried", None)
            if updates:
                entry["carried"] = dict(updates[0][1])
        return {**said, "t": said["t"] + 1, "skips": 0}


class _Looked(Asked):
    """What knows the numbers of a step already."""

    def __init__(self, whole: Chunked, parts: list[Part], looked: Looked) -> None:
        super().__init__(whole, parts)
        self._looked = looked
        self._prepare = self._known

    def _known(self, group: int, lr: float | None, t: int) -> "_instep._Said":
        work, rate, lasts, _ = self._looked.said[group]
        return work, rate, lasts, []


def chunked(rule: type[Any], params: Any, options: dict[str, Any]) -> Chunked:
    """Return an optimizer of a rule that is stepped in chunks, once it is cut."""
    kind = in_parts(Chunked, rule)
    if "state" in options:
        raise TypeError("state was given; wanted none, as the folder has the states")
    whole: Chunked = kind(params, **options)
    return whole
