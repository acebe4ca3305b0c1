"""The part of an optimizer that one rank holds: all parameters, and the state of its share."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep._instep import BegunStep, StepResult
from instep.groups import Group, Parameter
from instep.parts import Asked, Elements, InParts, Part, axes_in_memory, in_parts
from instep.shards import chunks, shares
from instep.tree import Tree

__all__ = ["Shard", "shard_of", "shard_with"]

_FLOAT32 = np.dtype(np.float32)


class Shard(InParts):
    """An optimizer that has the states of its share alone, as arrays of one dimension.

    Its own stepper checks whole gradients. Another one steps the parts of this rank, chunk by
    chunk. Groups, masks, names and options are those of the whole optimizer.
    """

    rank: int
    ranks: int
    bucket_bytes: int

    def _begin_sharing(self, place: tuple[int, int, int]) -> None:
        self.rank, self.ranks, self.bucket_bytes = place
        self.loads = [0] * self.ranks
        self.owned: dict[str, list[tuple[int, int]]] = {}
        self.parts: list[Part] = []
        self.chunks: list[list[tuple[list[Part], int]]] = [[] for _ in range(self.ranks)]
        self._own: list[NDArray[Any]] = []

    @property
    def count(self) -> int:
        """The number of chunks of the rank that has most."""
        return max(map(len, self.chunks))

    def options_said(self) -> dict[str, Any]:
        """Return what has to be the same on all ranks: options, and counts of steps."""
        groups = [
            {name: "a callable" if callable(o) else o for name, o in group.own_options().items()}
            for group in self._groups
        ]
        members = self._parameters
        return {
            "param_groups": groups,
            "the groups of parameters": [p.group for p in members],
            "weight_decay_mask": [p.decays for p in members],
            "freeze": [p.is_frozen for p in members],
            "average": self._average,
            "zero_grads": self.zero_grads,
            **self._storage.options(),
            "seed": self._stepper.seed,
            "t": self.t,
            "skips": self.skips,
        }

    def arrays_said(self, first: int = 0) -> dict[str, Any]:
        """Return what has to be the same of the parameters from a number on."""
        said: dict[str, Any] = {}
        pairs = zip(self._parameters, self.elements, strict=True)
        for parameter, elements in itertools.islice(pairs, first, None):
            array, name = parameter.array, parameter.describe(0)
            said |= {
                f"the dtype of {name}": array.dtype.name,
                f"the shape of {name}": array.shape,
                f"the strides of {name}": array.strides,
                f"the checksum of {name}": elements.checksum(0, array.size),
            }
        return said

    def _add(
        self, tree: Tree, params: Any, groups: list[tuple[str, dict[str, Any], list[Parameter]]]
    ) -> None:
        place = {path: number for number, path in enumerate(tree.paths)}
        members = sorted((p for *_, own in groups for p in own), key=lambda p: place[p.path])
        loads = list(self.loads)
        owned = shares([p.array.size for p in members], loads)
        self.owned |= {p.name: bounds for p, bounds in zip(members, owned, strict=True)}
        super()._add(tree, params, groups)
        self.loads = loads

    def _start(self, group: Group, parameter: Parameter) -> None:
        self.refuse_codes(parameter)
        start, stop = self.owned[parameter.name][self.rank]
        whole, stored = parameter.array, parameter.stored
        if stored is not None:
            stored = stored.part(start, whole, axes_in_memory(whole))
        array = np.array(Elements(whole, whole).get(start, stop))
        own = Parameter(parameter.name, parameter.path, array, stored)
        super()._start(group, own)
        parameter.states, parameter.average = own.states, own.average

    def cut(self) -> None:
        """Cut all shares into chunks, and show this rank's parts to a stepper of their own."""
        members = self._parameters
        self.labels = [p.describe(1) for p in members]
        self.sum_dtypes = [p.array.dtype if p.stored is None else _FLOAT32 for p in members]
        sizes = [dtype.itemsize for dtype in self.sum_dtypes]
        self.find_elements()
        self.chunks = [
            chunks(
                [self.owned[p.name][rank] for p in members], sizes, self.bucket_bytes // self.ranks
            )
            for rank in range(self.ranks)
        ]
        self.parts = [part for parts, _ in self.chunks[self.rank] for part in parts]
        self._own, arrays = [], []
        for number, start, stop, _ in self.parts:
            parameter, elements = members[number], self.elements[number]
            # A copy where they are not one run: it is made anew in each step.
            self._own.append(elements.get(start, stop))
            first = self.owned[parameter.name][self.rank][0]
            beside = parameter.arrays()[1:]
            arrays.append([self._own[-1], *(a[start - first : stop - first] for a in beside)])
        self._parts = self.stepper_of(self.parts, arrays)
        self.give_counts()

    def chunk_bytes(self, k: int) -> int:
        """Return the bytes of the sums of a chunk of this rank; 0 after the last."""
        own = self.chunks[self.rank]
        return own[k][1] if k < len(own) else 0

    def parts_of(self, k: int) -> range:
        """Return the numbers of the parts of a chunk of this rank."""
        counts = [len(parts) for parts, _ in self.chunks[self.rank]]
        return range(sum(counts[:k]), sum(counts[: k + 1]))

    def take_in(self, numbers: range) -> None:
        """Copy what is not one run of memory to where it is stepped."""
        for number in numbers:
            part = self.parts[number]
            if not self.elements[part.array].is_dense:
                self._own[number][...] = self.elements[part.array].get(part.start, part.stop)

    def put_out(self, numbers: range) -> None:
        """Copy it back."""
        for number in numbers:
            part = self.parts[number]
            if not self.elements[part.array].is_dense:
                self.elements[part.array].put(part.start, part.stop, self._own[number])

    def begin_parts(self, terms: list[list[NDArray[Any]]], asked: dict[str, Any]) -> BegunStep:
        """Begin the step of this rank's parts with gradients that are the sums of some arrays."""
        grads = [own[0] if own else None for own in terms]
        addends = [own[1:] for own in terms]
        return _Blamed(self, self.parts).begin(self._parts, grads, asked, addends)

    def blaming(self, what: str, begun: BegunStep) -> StepResult:
        """Skip a step, or raise an error that says what is to blame."""
        self._blamed = what
        try:
            return begun.skip(0)
        finally:
            self._blamed = ""

    _blamed = ""

    def take_counts(self) -> None:
        """Take over what the stepper of the parts has counted."""
        self._stepper.t, self._stepper.skips = self._parts.t, self._parts.skips

    def give_counts(self) -> None:
        """Have the stepper of the parts go on from here."""
        self._parts.t, self._parts.skips = self._stepper.t, self._stepper.skips
        self._parts.seed = self._stepper.seed

    @property
    def averages_are_in(self) -> bool:
        """Whether the parameters hold their averages."""
        return self._parts.averages_are_in

    def refuse_averages(self) -> None:
        """Refuse to copy, save or load while the parameters hold their averages."""
        if self.averages_are_in:
            raise RuntimeError("the state was copied, saved or loaded within averaged()")

    def swap(self, enter: bool) -> None:
        """Swap the parameters of this rank's share with their averages."""
        everything = range(len(self.parts))
        self.take_in(everything)
        self._parts.swap_averages(_Blamed(self, self.parts), 1, enter)
        self.put_out(everything)


class _Blamed(Asked):
    """What asks about the parts, and names something else while that is to blame."""

    _whole: Shard

    def _describe(self, number: int, role: int) -> str:
        return self._whole._blamed or super()._describe(number, role)


def shard_of(
    rule: type[Any], params: Any, options: dict[str, Any], place: tuple[int, int, int]
) -> Shard:
    """Return a shard of a rule; `place` is the rank, the number of ranks and the bucket's bytes."""
    kind = in_parts(Shard, rule)
    shard: Shard = kind.__new__(kind)
    shard._begin_sharing(place)
    shard.__init__(params, **options)  # type: ignore[misc]
    shard.cut()
    return shard


def shard_with(shard: Shard, group: Any) -> Shard:
    """Return a shard with one group more, as `InParts.with_group`."""
    grown: Shard = shard.with_group(group)
    grown.cut()
    return grown
