"""An optimizer whose arrays are stepped chunk by chunk, each in buffers of its own."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instep._instep import BegunStep
from instep.groups import Group, Parameter
from instep.parts import PIECE, Asked, Elements, InParts, Norms, Part, in_parts, look, padded
from instep.ring import Region, blocks

if TYPE_CHECKING:
    from instep import _instep
from instep.state import live

__all__ = ["Chunk", "Chunked", "Looked", "chunked", "layout"]


class Chunk(NamedTuple):
    """Some parts of arrays, and where each of their files has them."""

    parts: list[Part]
    offset: int
    nbytes: int


class Looked(NamedTuple):
    """What is known of a step before its first chunk."""

    norms: Norms
    said: "list[_instep._Said]"


def layout(sizes: Sequence[int], itemsizes: Sequence[int], nbytes: int) -> list[Chunk]:
    """Cut arrays into chunks of about `nbytes`, or a piece.

    A chunk has a part of one array, or whole arrays: so those of an array are always stepped
    together, and what follows of it follows in the file.
    """
    found: list[Chunk] = []
    small: list[Part] = []
    used = offset = 0

    def add(parts: list[Part], size: int) -> None:
        nonlocal offset
        if parts:
            found.append(Chunk(parts, offset, blocks(size)))
            offset += blocks(size)

    for array, (size, itemsize) in enumerate(zip(sizes, itemsizes, strict=True)):
        if size * itemsize >= nbytes:
            add(small, used)
            small, used = [], 0
            step = max(1, nbytes // (PIECE * itemsize)) * PIECE
            for start in range(0, size, step):
                stop = min(size, start + step)
                add([Part(array, start, stop, 0)], (stop - start) * itemsize)
        elif size:
            if used + size * itemsize > nbytes:
                add(small, used)
                small, used = [], 0
            small.append(Part(array, 0, size, used))
            used += padded(size * itemsize)
    add(small, used)
    return found


class Chunked(InParts):
    """An optimizer that makes no state arrays: the code that steps its chunks passes them."""

    def _start(self, group: Group, parameter: Parameter) -> None:
        self.refuse_storage(parameter)

    def cut(self, nbytes: int) -> None:
        """Cut all arrays into chunks of about so many bytes, those of all their states together."""
        members = self._parameters
        most = max((len(group.states) for group in self._groups), default=0)
        self.arrays = 1 + most + (self._average is not None)
        self.find_elements()
        self.chunks = layout(
            [p.array.size for p in members],
            [p.array.itemsize for p in members],
            nbytes // self.arrays,
        )

    def arrays_of(self, parameter: Parameter) -> list[int]:
        """Return the numbers of the files that have a parameter, its states and its average."""
        states = len(self._groups[parameter.group].states)
        average = [] if self._average is None else [self.arrays - 1]
        return [*range(1 + states), *average]

    def states_of(self, parameter: Parameter) -> tuple[str, ...]:
        """Return the names of a parameter's states."""
        return self._groups[parameter.group].states

    def arrays_of_chunk(self, chunk: Chunk) -> list[int]:
        """Return the numbers of the files that have something of a chunk."""
        members = self._parameters
        every = (self.arrays_of(members[array]) for array in {part.array for part in chunk.parts})
        return sorted({number for numbers in every for number in numbers})

    def typed(self, part: Part, region: Region) -> NDArray[Any]:
        """Return the elements of a part in the bytes of one array of its chunk."""
        dtype = self._parameters[part.array].array.dtype
        return np.frombuffer(region, dtype, part.stop - part.start, part.at)

    def fill(self, chunk: Chunk, regions: list[Region]) -> None:
        """Put into a chunk what its arrays are at first."""
        for number in self.arrays_of_chunk(chunk):
            np.frombuffer(regions[number], np.uint8)[...] = 0
        for part in chunk.parts:
            parameter = self._parameters[part.array]
            values = self.elements[part.array].get(part.start, part.stop)
            group = self._groups[parameter.group]
            initial = [group.rule.initial(state, group.options) for state in group.states]
            average = [] if self._average is None else [None]
            for number, filled in zip(
                self.arrays_of(parameter), [None, *initial, *average], strict=True
            ):
                self.typed(part, regions[number])[...] = values if filled is None else filled

    def keep(self, chunk: Chunk, region: Region) -> None:
        """Copy the parameters of a chunk into its bytes."""
        for part in chunk.parts:
            values = self.elements[part.array].get(part.start, part.stop)
            self.typed(part, region)[...] = values

    def put_back(self, chunk: Chunk, region: Region) -> None:
        """Copy the parameters of a chunk from its bytes."""
        for part in chunk.parts:
            self.elements[part.array].put(part.start, part.stop, self.typed(part, region))

    def look(self, begun: BegunStep, asked: dict[str, Any]) -> int | Looked:
        """Take the norms of a step; or return the number of the first gradient that stops it."""
        pieces = begun.pieces
        total = sum(pieces)

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
        members = self._parameters
        parts = [part for part in chunk.parts if given[part.array] is not None]
        arrays: list[list[NDArray[Any]]] = []
        grads: list[NDArray[Any] | None] = []
        for part in parts:
            gradient, elements = given[part.array], self.elements[part.array]
            assert gradient is not None
            grads.append(gradient.get(part.start, part.stop))
            own = elements.get(part.start, part.stop)
            numbers = self.arrays_of(members[part.array])[1:]
            arrays.append([own, *(self.typed(part, regions[number]) for number in numbers)])
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


def chunked(rule: type[Any], params: Any, options: dict[str, Any], nbytes: int) -> Chunked:
    """Return an optimizer of a rule that is stepped in chunks of about so many bytes."""
    kind = in_parts(Chunked, rule)
    if "state" in options:
        raise TypeError("state was given; wanted none, as the folder has the states")
    whole: Chunked = kind(params, **options)
    whole.cut(nbytes)
    return whole
