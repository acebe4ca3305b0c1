"""The way of a step between ranks: gradients to their owners, parameters to all."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep.communicators import Communicator
from instep.parts import Elements, Part, padded
from instep.shard import Shard

__all__ = ["Room", "Wire"]


class Room:
    """The buffers of a rank: three buckets to send, two to receive, and kept gradients."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.sent = [np.empty(0, np.uint8)] * 3
        self.received = [np.empty(0, np.uint8)] * 2
        self.kept = np.empty(0, np.uint8)

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
        self, shard: Shard, are_there: Sequence[bool], *, keeps: bool
    ) -> list[NDArray[Any] | None]:
        """Return where the sums of the gradients of this rank's parts will be."""
        self.fit(shard)
        own = shard.chunks[shard.rank]
        if keeps and self.kept.size < sum(nbytes for _, nbytes in own):
            self.kept = _empty(sum(nbytes for _, nbytes in own))
        self._places = []
        start = 0
        for k, (_, nbytes) in enumerate(own):
            ring = self.received[k % 2][shard.rank * nbytes : (shard.rank + 1) * nbytes]
            self._places.append(self.kept[start : start + nbytes] if keeps else ring)
            start += nbytes
        return [
            shard.typed(part, self._places[k]) if are_there[part.array] else None
            for k, (parts, _) in enumerate(own)
            for part in parts
        ]

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

    def _parts(self, k: int, rank: int) -> tuple[list[Part], list[Part], int]:
        """Return the parts of a chunk that have gradients, as they travel, and how many bytes do.

        One that travels alone needs no padding: most are sent from where they are.
        """
        own = self.shard.chunks[rank]
        parts, nbytes = own[k] if k < len(own) else ([], 0)
        there = [part for part in parts if self.grads[part.array] is not None]
        if len(there) == 1:
            return there, [there[0]._replace(at=0)], self.shard.nbytes(there[0])
        return there, there, nbytes if there else 0

    def _regions(self, k: int) -> list[NDArray[Any]]:
        """Return where each rank's part of a chunk is packed."""
        buffer, at, regions = self.room.sent[k % 3], 0, []
        for rank in range(self.comm.size):
            nbytes = self._parts(k, rank)[2]
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
            self.shard.typed(part, region)[...] = of.get(part.start, part.stop)
        return region

    def _reduce(self, k: int) -> Callable[[], None]:
        """Send gradients to their owners; what is returned waits, and sums this rank's."""
        comm, rank = self.comm, self.comm.rank
        send = [
            self._packed(self.grads, self._parts(k, other)[1], region)
            for other, region in enumerate(self._regions(k))
        ]
        parts, wire, nbytes = self._parts(k, rank)
        ring, slot = self.room.received[k % 2], self.shard.chunk_bytes(k)
        receive = [ring[q * slot : q * slot + nbytes] for q in range(comm.size)]
        request = comm.all_to_all(send, receive)

        def finish() -> None:
            request.wait()
            sources = [send[q] if q == rank else receive[q] for q in range(comm.size)]
            for part, at in zip(parts, wire, strict=True):
                out = self.shard.typed(part, self.room.sum_of(k))
                first, *others = [self.shard.typed(at, source) for source in sources]
                if not others:
                    out[...] = first
                for number, other in enumerate(others):
                    np.add(out if number else first, other, out=out)

        return finish

    def _gather(self, k: int) -> Callable[[], None]:
        """Send this rank's parameters to all; what is returned waits, and unpacks theirs."""
        buffers, unpacked = [], []
        elements = self.shard.elements
        for rank, region in enumerate(self._regions(k)):
            parts = self._parts(k, rank)[1]
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
                values = self.shard.typed(part, region)
                elements[part.array].put(part.start, part.stop, values)

        return finish
