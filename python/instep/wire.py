"""The way of a step between ranks: gradients to their owners, parameters to all."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep.communicators import Communicator
from instep.parts import PIECE, Elements, Part, padded, typed
from instep.shard import Shard
from instep.storage import Stored

__all__ = ["Room", "Wire"]

Sizes: TypeAlias = tuple[int, ...]
"""How many bytes an element of each array has; 0 where it has no gradient."""

Layout: TypeAlias = dict[tuple[int, int], tuple[list[Part], int]]
"""The parts of a chunk of a rank, as they travel, and how many bytes do."""


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

    def gradients(
        self, shard: Shard, given: Sequence[NDArray[Any] | None], *, keeps: bool
    ) -> list[NDArray[Any] | None]:
        """Return where the sums of the gradients of this rank's parts will be.

        That is in room that is kept, or in a slot of what is received: over what another rank has
        sent, if that has the same layout, else in this rank's own slot.
        """
        self.fit(shard)
        own = shard.chunks[shard.rank]
        if keeps and self.kept.size < sum(nbytes for _, nbytes in own):
            self.kept = _empty(sum(nbytes for _, nbytes in own))
        self._places = []
        start = 0
        other = (1 if shard.rank == 0 else 0) if self.ranks > 1 else 0
        is_like = [
            g is not None and g.dtype.itemsize == dtype.itemsize
            for g, dtype in zip(given, shard.sum_dtypes, strict=True)
        ]
        for k, (parts, nbytes) in enumerate(own):
            slot = other if all(is_like[part.array] for part in parts) else shard.rank
            ring = self.received[k % 2][slot * nbytes : (slot + 1) * nbytes]
            self._places.append(self.kept[start : start + nbytes] if keeps else ring)
            start += nbytes
        return [
            None
            if given[part.array] is None
            else typed(part, self._places[k], shard.sum_dtypes[part.array])
            for k, (parts, _) in enumerate(own)
            for part in parts
        ]

    def layout(self, sizes: Sizes) -> Layout:
        """Return what is known of how parts travel, which is the same in most steps."""
        if sizes not in self._layouts and len(self._layouts) > 3:
            self._layouts.clear()
        return self._layouts.setdefault(sizes, {})

    def sum_of(self, k: int) -> NDArray[Any]:
        """Return the bytes in which the sums of a chunk are made."""
        return self._places[k]


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

    def reduce_all(self) -> None:
        """Make all sums of this rank's share, in room that is kept."""
        finish: Callable[[], None] | None = None
        for k in range(self.shard.count):
            started = self._reduce(k)
            if finish is not None:
                finish()
            finish = started
        if finish is not None:
            finish()

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

    def _packed(
        self, elements: Sequence[Elements | None], parts: Sequence[Part], region: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the bytes of some parts: where they are, if that is one run, else in a region."""
        for part in parts:
            of = elements[part.array]
            assert of is not None
            if len(parts) == 1 and of.is_dense:
                return of.get(part.start, part.stop).view(np.uint8)
            typed(part, region, of.dtype)[...] = of.get(part.start, part.stop)
        return region

    def _reduce(self, k: int) -> Callable[[], None]:
        """Send gradients to their owners; what is returned waits, and sums this rank's."""
        comm, rank, grads = self.comm, self.comm.rank, self.grads
        send = [
            self._packed(grads, self._parts(k, other, grads)[0], region)
            for other, region in enumerate(self._regions(k, grads))
        ]
        wire, nbytes = self._parts(k, rank, grads)
        ring, slot = self.room.received[k % 2], self.shard.chunk_bytes(k)
        receive = [ring[q * slot : q * slot + nbytes] for q in range(comm.size)]
        request = comm.all_to_all(send, receive)

        def finish() -> None:
            request.wait()
            sources = [send[q] if q == rank else receive[q] for q in range(comm.size)]
            for part, at in zip(self._chunk(k, rank), wire, strict=True):
                of = grads[part.array]
                assert of is not None
                out = typed(part, self.room.sum_of(k), self.shard.sum_dtypes[part.array])
                self._add([typed(at, source, of.dtype) for source in sources], out)

        return finish

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
