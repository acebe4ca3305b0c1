"""How the arrays of an optimizer go from files through a ring of buffers, and back."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

from instep.chunked import Chunked, Span
from instep.generations import Generations
from instep.partwise import Partwise
from instep.ring import Region, Ring, StateFile, Task
from instep.state import load_state_dict
from instep.undo import checksum
from instep.views import Views

__all__ = ["Look", "Streaming"]

Look: TypeAlias = Callable[[int, list[Region]], None]

Transfer: TypeAlias = Callable[[StateFile, Region, int], None]


class Streaming(Partwise[Chunked]):
    """An optimizer whose chunks are read, worked on and written, each in its turn.

    Of each chunk one of two generations of the files is valid; the record says which.
    """

    _folder: Generations
    _made: dict[str, Any]
    _ring: Ring
    # Of the parameters of each chunk, as the last step left them.
    _left: list[int]
    _generations: list[int]

    def _cut(self, own: Chunked, nbytes: int, batches: list[int]) -> None:
        """Cut all arrays into chunks, and make the ring for them."""
        own.cut(nbytes, batches)
        self._ring = Ring(own.arrays, own.chunk_bytes)
        self._left = [0] * len(own.chunks)
        self._generations = [0] * len(own.chunks)
        self._cuts: dict[str, Any] = {"chunk": nbytes, "batches": batches}

    def _create(self) -> None:
        own, folder = self._own, self._folder
        folder.open(own.sizes, is_new=True)
        record: dict[str, Any] | None = None
        try:
            self._fill(range(len(own.chunks)))
            record = self._record(own.said(), self._generations, self._left)
            folder.commit(record)
        except BaseException:
            if record is None or not folder.is_committed(record):
                folder.remove(own.arrays)
            raise

    def _fill(self, numbers: range) -> None:
        """Write what new chunks are at first, and flush it."""
        own = self._own

        def fill(number: int, regions: list[Region]) -> None:
            own.fill(own.chunks[number], regions)
            self._left[number] = checksum(own, own.chunks[number])

        self._stream(numbers, fill, reads=(), writes=range(own.arrays), step=0)
        self._flush([0] * len(numbers))

    def _resume(self, record: dict[str, Any]) -> None:
        own, folder = self._own, self._folder
        folder.open(own.sizes, is_new=False)
        self._generations = list(record["generations"])
        states: dict[str, Any] = {p.name: {} for p in own.members}
        load_state_dict(own, {**record["optimizer"], "state": states, "averages": {}})
        self._check_writable()
        self._put_back(list(range(len(own.chunks))))
        for number, has in enumerate(self._left):
            if has != record["checksums"][number]:
                file = folder.file(self._generations[number], 0)
                raise ValueError(
                    f"{file} is not what the last step wrote: it was changed, or the folder was "
                    "copied during a step; wanted the folder as an optimizer left it"
                )

    def _check_writable(self) -> None:
        for member in self._own.members:
            if not member.array.flags.writeable:
                raise ValueError(f"{member.describe(0)} is read-only; make it writable")

    def _record(
        self, said: dict[str, Any], generations: list[int], left: list[int]
    ) -> dict[str, Any]:
        return {
            **self._cuts,
            "made": self._made,
            "optimizer": said,
            "generations": generations,
            "checksums": left,
        }

    def _stream(
        self,
        numbers: range | list[int],
        work: Callable[[int, list[Region]], None],
        *,
        reads: range | tuple[()],
        writes: range | tuple[()],
        step: int = 1,
        looks: tuple[list[Look], list[Look]] = ([], []),
    ) -> None:
        """Have chunks read, worked on, and written, `step` generations on.

        `looks` has a look at each before and after that, while others are worked on.
        """
        before, after = looks

        def transfers(
            call: Transfer, number: int, arrays: range | tuple[()], generation: int
        ) -> list[Task]:
            files = self._folder.files[generation]
            return [
                partial(_transfer, call, files[array], array, span)
                for array, span in self._own.chunks[number].spans.items()
                if array in arrays
            ]

        def chunks() -> Iterator[tuple[int, list[Task], list[Task]]]:
            for number in numbers:
                generation = self._generations[number]
                read = transfers(StateFile.read, number, reads, generation)
                written = transfers(StateFile.write, number, writes, (generation + step) % 2)
                read += [partial(look, number) for look in before]
                written += [partial(look, number) for look in after]
                yield number, read, written

        self._ring.run(chunks(), work)

    def _flush(self, generations: list[int]) -> None:
        for generation in sorted(set(generations)):
            for file in self._folder.files[generation]:
                file.flush()

    def _views(self) -> Views:
        return Views(self._folder, self._own, self._generations)

    def _put_back(self, numbers: list[int]) -> None:
        """Put back the parameters of chunks, as the last step left them."""
        own = self._own

        def put(number: int, regions: list[Region]) -> None:
            own.put_back(own.chunks[number], regions[0])
            self._left[number] = checksum(own, own.chunks[number])

        self._stream(numbers, put, reads=range(1), writes=())


def _transfer(
    call: Transfer, file: StateFile, array: int, span: Span, regions: list[Region]
) -> None:
    call(file, regions[array][: span.nbytes], span.offset)
