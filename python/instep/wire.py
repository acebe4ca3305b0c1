"""The way of a step between ranks: gradients to their owners, parameters to all."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep.communicators import Communicator
from instep.parts import PIECE, Elements, Part, padded, typed
from instep.shard import Shard
from instep.storage import Stored

__all__ = ["Room", "Terms", "Wire"]

Sizes: TypeAlias = tuple[int, ...]
"""How many bytes an element of each array has; 0 where it has no gradient."""

Layout: TypeAlias = dict[tuple[int, int], tuple[list[Part], int]]
"""The parts of a chunk of a rank, as they travel, and how many bytes do."""

Terms: TypeAlias = list[list[NDArray[Any]]]
"""Of each part the arrays that are added, in order; none where there is no gradient."""


class Room:
    """The buffers of a rank: three buckets to send, two to receive, and sums that are kept."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.sent = [np.empty(0, np.uint8)] * 3
        self.received = [np.empty(0, np.uint8)] * 2
        self.kept = np.empty(0, np.uint8)
        # How parts travel, by what there is of each array and how many bytes its elements have.
        self._layouts: dict[Sizes, Layout] = {}
        # For the numbers of a gradient in 16 bits, while they are added.
        self.numbers = np.empty(PIECE, np.float32)

    def fit(self, shard: Shard) -> None:
        """Have room for the chunks of a shard."""
        ranks = range(self.ranks)
        sizes = [[nbytes for _, nbytes in shard.chunks[rank]] for rank in ranks]
        bucket = max(
            (sum(s[k] for s in sizes if k < len(s)) for k in range(shard.count)), default=0
        )
        received = self.ranks * max(sizes[shard.rank], default=0)
        if self.sent[0].size < bucket:
            self.sent = [_empty(bucket) for _ in range(3)]
        if self.received[0].size < received:
            self.received = [_empty(received) for _ in range(2)]

    def sums(self, shard: Shard, given: Sequence[Any]) -> Terms:
        """Return where the sums of the gradients of this rank's parts are kept."""
        own = shard.chunks[shard.rank]
        if self.kept.size < sum(nbytes for _, nbytes in own):
            self.kept = _empty(sum(nbytes for _, nbytes in own))
        sums: Terms = []
        start = 0
        for parts, nbytes in own:
            for part in parts:
                out = typed(part, self.kept[start:], shard.sum_dtypes[part.array])
                sums.append([] if given[part.array] is None else [out])
            start += nbytes
        return sums

    def layout(self, sizes: Sizes) -> Layout:
        """Return what is known of how parts travel, which is the same in most steps."""
        if sizes not in self._layouts and len(self._layouts) > 3:
            self._layouts.clear()
        return self._layouts.setdefault(sizes, {})


def _empty(nbytes: int) -> NDArray[Any]:
    """Return bytes that begin at a cache line."""
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start : start + nbytes]


class Wire:
    """The way of one step: chunks of gradients to their owners, chunks of parameters to all."""

    def __init__(self, comm: Communicator, shard: Shard, room: Room, given: Sequence[Any]) -> None:
        self.comm, self.shard, self.room = comm, shard, room
        room.fit(shard)
        self.grads = [
            None if g is None else Elements(g, member.array)
            for g, member in zip(given, shard.members, strict=True)
        ]
        pairs = [
            (0, 0) if g is None else (g.dtype.itemsize, own.dtype.itemsize)
            for g, own in zip(self.grads, shard.elements, strict=True)
        ]
        own_sizes = tuple(own for _, own in pairs)
        self._layouts = room.layout(tuple(g for g, _ in pairs)), room.layout(own_sizes)

    def step(self, step: Callable[[int], None], *, is_reduced: bool) -> None:
        """Step every chunk: while one is stepped, the next one is on the wire."""
        count = self.shard.count
        reducing = None if is_reduced or not count else self._reduce(0)
        gathering: list[Callable[[], None]] = []
        for k in range(count):
            if len(gathering) > 1:
                gathering.pop(0)()
            finish, reducing = reducing, None
            if not is_reduced and k + 1 < count:
                reducing = self._reduce(k + 1)
            if finish is not None:
                finish()
            if self.shard.chunk_bytes(k):
                step(k)
            gathering.append(self._gather(k))
        for finish in gathering:
            finish()

    def reduce_all(self, sums: Terms) -> None:
        """Make the sums of this rank's share where they are kept."""
        outs = (out for kept in sums for out in kept)
        finish: Callable[[], None] | None = None
        count = self.shard.count
        for k in range(count + 1):
            started = self._reduce(k) if k < count else None
            if finish is not None:
                finish()
                for terms in self._terms(k - 1):
                    self._add(terms, next(outs))
            finish = started

    def terms(self) -> Terms:
        """Return what is added for each of this rank's parts, which is there when it is stepped."""
        found: Terms = []
        for k, (parts, _) in enumerate(self.shard.chunks[self.comm.rank]):
            rest = iter(self._terms(k))
            found += [[] if self.grads[part.array] is None else next(rest) for part in parts]
        return found

    def _terms(self, k: int) -> Terms:
        """Return what is added for each part of this rank's chunk that has a gradient."""
        rank, grads = self.comm.rank, self.grads
        parts, _ = self._parts(k, rank, grads)
        sources = self._received(k)
        sources[rank] = self._place(grads, parts, self._regions(k, grads)[rank])
        terms: Terms = []
        for part in parts:
            of = grads[part.array]
            assert of is not None
            terms.append([typed(part, source, of.dtype) for source in sources])
        return terms

    def _received(self, k: int) -> list[NDArray[Any]]:
        """Return where the gradients of each rank for this rank's part of a chunk arrive."""
        rank = self.comm.rank
        slot, nbytes = self.shard.chunk_bytes(k), self._parts(k, rank, self.grads)[1]
        ring = self.room.received[k % 2]
        return [ring[q * slot : q * slot + nbytes] for q in range(self.comm.size)]

    def _parts(
        self, k: int, rank: int, elements: Sequence[Elements | None]
    ) -> tuple[list[Part], int]:
        """Return the parts of a chunk that have gradients, as they travel, and how many bytes do.

        One that travels alone needs no padding: most are sent from where they are.
        """
        known = self._layouts[0 if elements is self.grads else 1]
        if (k, rank) not in known:
            parts, end = [], 0
            for part in self._chunk(k, rank):
                of = elements[part.array]
                assert of is not None
                start = padded(end)
                end = start + (part.stop - part.start) * of.dtype.itemsize
                parts.append(part._replace(at=start))
            known[k, rank] = parts, end
        return known[k, rank]

    def _chunk(self, k: int, rank: int) -> list[Part]:
        own = self.shard.chunks[rank]
        parts = own[k][0] if k < len(own) else []
        return [part for part in parts if self.grads[part.array] is not None]

    def _regions(self, k: int, elements: Sequence[Elements | None]) -> list[NDArray[Any]]:
        """Return where each rank's part of a chunk is packed."""
        buffer, at, regions = self.room.sent[k % 3], 0, []
        for rank in range(self.comm.size):
            nbytes = self._parts(k, rank, elements)[1]
            regions.append(buffer[at : at + nbytes])
            at += padded(nbytes)
        return regions

    def _place(
        self, elements: Sequence[Elements | None], parts: Sequence[Part], region: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the bytes of some parts: where they are, if that is one run, else a region."""
        if len(parts) == 1:
            (part,) = parts
            of = elements[part.array]
            assert of is not None
            if of.is_dense:
                return of.get(part.start, part.stop).view(np.uint8)
        return region

    def _packed(
        self, elements: Sequence[Elements | None], parts: Sequence[Part], region: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the bytes of some parts, which are copied to a region if they are not one run."""
        place = self._place(elements, parts, region)
        if place is region:
            for part in parts:
                of = elements[part.array]
                assert of is not None
                typed(part, region, of.dtype)[...] = of.get(part.start, part.stop)
        return place

    def _reduce(self, k: int) -> Callable[[], None]:
        """Send gradients to their owners; what is returned waits for those of this rank."""
        grads = self.grads
        send = [
            self._packed(grads, self._parts(k, other, grads)[0], region)
            for other, region in enumerate(self._regions(k, grads))
        ]
        return self.comm.all_to_all(send, self._received(k)).wait

    def _add(self, sources: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Add arrays in their order: those in 16 bits as float32."""
        first, *others = sources
        if first.dtype == out.dtype:
            if not others:
                out[...] = first
            for number, other in enumerate(others):
                np.add(out if number else first, other, out=out)
            return
        for start in range(0, out.size, PIECE):
            block = out[start : start + PIECE]
            Stored.load(first[start : start + PIECE], block)
            numbers = self.room.numbers[: block.size]
            for other in others:
                Stored.load(other[start : start + PIECE], numbers)
                block += numbers

    def _gather(self, k: int) -> Callable[[], None]:
        """Send this rank's parameters to all; what is returned waits, and unpacks theirs."""
        buffers, unpacked = [], []
        elements = self.shard.elements
        for rank, region in enumerate(self._regions(k, elements)):
            parts = self._parts(k, rank, elements)[0]
            is_there = len(parts) == 1 and elements[parts[0].array].is_dense
            if rank == self.comm.rank or is_there:
                buffers.append(self._packed(elements, parts, region))
            else:
                unpacked += [(part, region) for part in parts]
                buffers.append(region)
        request = self.comm.all_gather(buffers)

        def finish() -> None:
            request.wait()
            for part, region in unpacked:
                of = elements[part.array]
                of.put(part.start, part.stop, typed(part, region, of.dtype))

        return finish
