"""An optimizer whose arrays are stepped chunk by chunk, each in buffers of its own."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instep import _instep
from instep.groups import Group, Parameter
from instep.optimizer import BegunStep, Optimizer
from instep.ring import Region, blocks
from instep.shards import PIECE, Elements, Part, padded, root
from instep.state import live

__all__ = ["Chunk", "Chunked", "Looked", "chunked", "layout"]


class Chunk(NamedTuple):
    """Some parts of arrays, and where each of their files has them."""

    parts: list[Part]
    offset: int
    nbytes: int


class Looked(NamedTuple):
    """What is known of a step before its first chunk."""

    rates: list[float]
    norm: float | None
    of_grads: list[float] | None
    of_params: list[float] | None
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


class Chunked(Optimizer):
    """An optimizer that makes no state arrays: the code that steps its chunks passes them.

    Its own stepper checks whole gradients, takes norms, and counts.
    """

    @property
    def members(self) -> list[Parameter]:
        """The parameters, in order."""
        return self._parameters

    def _start(self, group: Group, parameter: Parameter) -> None:
        if parameter.stored is not None:
            raise TypeError(
                f"{parameter.describe(0)} or its states are stored in 16 bits; wanted float32 or "
                "float64, as they are: files of 16 bits are not there yet"
            )

    def _stepped(self, parameter: Parameter) -> list[NDArray[Any]]:
        return [parameter.array]

    def cut(self, nbytes: int) -> None:
        """Cut all arrays into chunks of about so many bytes, those of all their states together."""
        members = self._parameters
        most = max((len(group.states) for group in self._groups), default=0)
        self.arrays = 1 + most + (self._average is not None)
        self.elements = [Elements(p.array, p.array) for p in members]
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
        norm = None
        if asked["max_norm"] is not None:
            norm = root(begun.sums_of_squares(0, total))
            after = begun.clip(norm)
        if asked["nonfinite"] != "propagate" and not (norm is not None and math.isfinite(after)):
            bad = begun.first_nonfinite(0, total)
            if bad is not None:
                return bad
        of_grads = of_params = None
        if asked["max_array_norm"] is not None or begun.needs_norms:
            of_grads = _each(begun.sums_of_squares(0, total), pieces)
        if begun.needs_norms:
            of_params = _each(begun.sums_of_squares(0, total, of_params=True), pieces)
        t = self.t + 1
        said = [
            self._groups[number].prepare(rate, t, self._average)
            for number, rate in enumerate(begun.lr)
        ]
        return Looked(begun.lr, norm, of_grads, of_params, said)

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
        arrays, grads = [], []
        for part in parts:
            gradient, elements = given[part.array], self.elements[part.array]
            assert gradient is not None
            grads.append(gradient.get(part.start, part.stop))
            own = elements.get(part.start, part.stop)
            numbers = self.arrays_of(members[part.array])[1:]
            arrays.append([own, *(self.typed(part, regions[number]) for number in numbers)])
        stepper = _instep.Stepper(False, self.t)
        for group in self._groups:
            stepper.add_group(group.options)
        works = [(members[part.array].group, members[part.array].decays) for part in parts]
        owns = [own for own, *_ in arrays]
        stepper.add_parameters([None] * len(parts), owns, arrays, works, [None] * len(parts))
        begun = stepper.begin(_Parts(self, parts, looked), grads, *_arguments(asked))
        if looked.norm is not None:
            begun.clip(looked.norm)
        if looked.of_grads is not None:
            of_grads = [looked.of_grads[part.array] for part in parts]
            if asked["max_array_norm"] is not None:
                begun.clip_each(of_grads)
            if looked.of_params is not None:
                begun.set_norms([looked.of_params[part.array] for part in parts], of_grads)
        begun.step(0, sum(begun.pieces))
        for part, own in zip(parts, owns, strict=True):
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


def _arguments(asked: dict[str, Any]) -> tuple[Any, ...]:
    names = ("grad_scale", "max_norm", "max_array_norm", "max_value", "nonfinite", "max_skips")
    return (None, *(asked[name] for name in names))


def _each(squares: list[float], pieces: list[int]) -> list[float]:
    """Return the norm of each array from the sums of squares of all pieces."""
    remaining = iter(squares)
    return [root([next(remaining) for _ in range(count)]) for count in pieces]


class _Parts:
    """What the stepper of a chunk asks about it."""

    def __init__(self, whole: Chunked, parts: list[Part], looked: Looked) -> None:
        self._whole, self._of, self._looked = whole, parts, looked
        self._refuse_detached = whole._refuse_detached

    def _prepare(self, group: int, lr: float | None, t: int) -> "_instep._Said":
        work, rate, lasts, _ = self._looked.said[group]
        return work, rate, lasts, []

    def _describe(self, number: int, role: int) -> str:
        return self._whole.members[self._of[number].array].describe(role)


def chunked(rule: type[Any], params: Any, options: dict[str, Any], nbytes: int) -> Chunked:
    """Return an optimizer of a rule that is stepped in chunks of about so many bytes."""
    if not (isinstance(rule, type) and issubclass(rule, Optimizer)):
        raise TypeError(f"rule is {rule!r}; wanted an optimizer's class, such as instep.AdamW")
    if "state" in options:
        raise TypeError("state was given; wanted none, as the folder has the states")
    # Of its name, which errors and files have.
    kind: Any = type(rule.__name__, (Chunked, rule), {})
    whole: Chunked = kind(params, **options)
    whole.cut(nbytes)
    return whole
