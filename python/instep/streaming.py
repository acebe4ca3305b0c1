"""How the arrays of an optimizer go from files through a ring of buffers, and back."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from instep._instep import BegunStep, StepResult
from instep.chunked import Chunked, Span
from instep.folder_views import Views
from instep.generations import Generations
from instep.loaded_state import Loaded
from instep.mapped import maps_of, sequential
from instep.parts import Elements
from instep.partwise import Partwise
from instep.ring import Region, Ring, StateFile, Task
from instep.state import load_state_dict
from instep.undo import Undo, checksum

__all__ = ["Streaming"]

Look: TypeAlias = Callable[[int, list[Region]], None]

Transfer: TypeAlias = Callable[[StateFile, Region, int], None]


class Streaming(Partwise[Chunked]):
    """An optimizer whose chunks are read, worked on and written, each in its turn.

    Of each chunk one of two generations of the files is valid; the record says which.
    """

    _made: dict[str, Any]
    _ring: Ring
    # Of the parameters of each chunk, as the last step left them.
    _left: list[int]
    _generations: list[int]

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._turn = threading.RLock()
        self._is_stepping = False
        self._broken: BaseException | None = None
        # What to put back, within averaged().
        self._averaged: Undo | None = None
        self._folder = Generations(folder)

    @property
    def folder(self) -> str:
        """The path of the folder."""
        return str(self._folder.path)

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

    def _enter_averages(self) -> None:
        own = self._own
        own._require_averages()
        with self._reading():
            self._check_not_averaged("averaged")
            self._check_writable()
            undo = Undo(own, self._left, self.folder)
            found: dict[int, int] = {}

            def look(number: int, _: list[Region]) -> None:
                found[number] = checksum(own, own.chunks[number])

            def put(number: int, regions: list[Region]) -> None:
                undo.note(number, found.pop(number))
                own.put_averages(own.chunks[number], regions[1])

            self._broken = RuntimeError("it was interrupted")
            try:
                numbers = range(len(own.chunks))
                self._stream(numbers, put, reads=range(1, 2), writes=(), looks=([look], []))
            except BaseException as error:
                self._broken = error
                self._put_back(undo.put_back())
                self._broken = None
                undo.close()
                raise
            self._averaged, self._broken = undo, None

    def _leave_averages(self) -> None:
        with self._reading():
            undo, self._averaged = self._averaged, None
            assert undo is not None
            self._broken = RuntimeError("it was interrupted")
            try:
                self._put_back(undo.put_back())
            except BaseException as error:
                self._broken = error
                raise
            finally:
                undo.close()
            self._broken = None

    def _check_not_averaged(self, what: str) -> None:
        if self._averaged is not None:
            raise RuntimeError(f"{what} was called within averaged()")

    def _take(self, loaded: Loaded, *, params: bool) -> None:
        """Write what was loaded to the folder, and the parameters back to memory if `params`."""
        own, numbers = self._own, list(range(len(self._own.chunks)))
        left, before = list(self._left), own.said()
        generations = [1 - generation for generation in self._generations]
        states: dict[str, Any] = {p.name: {} for p in own.members}

        def fill(number: int, regions: list[Region]) -> None:
            left[number] = loaded.fill(number, regions)

        record: dict[str, Any] | None = None
        self._broken = RuntimeError("it was interrupted")
        try:
            self._stream(numbers, fill, reads=(), writes=range(own.arrays))
            self._flush(generations)
            loaded.write()
            record = self._record(own.said(), generations, left)
            self._folder.commit(record)
        except BaseException as error:
            self._broken = error
            if record is None or not self._folder.is_committed(record):
                load_state_dict(own, {**before, "state": states, "averages": {}})
                self._broken = None
            raise
        self._generations, self._left = generations, left
        if params:
            try:
                self._put_back(numbers)
            except BaseException as error:
                self._broken = error
                raise
        self._broken = None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._turn:
            self._check_open()
            yield

    def _check_open(self) -> None:
        if self._is_stepping:
            raise RuntimeError("a step is under way; wait until it has returned")
        if not self._folder.is_of_this_process():
            raise RuntimeError(
                f"{self.folder} is open in the process that this one was forked from, and only one "
                "can step it; use the optimizer there"
            )
        if self._broken is not None:
            raise RuntimeError(
                f"an earlier step was ended by {self._broken!r} at a moment in which what is in "
                "memory may not be what is in the folder; close this optimizer and open the folder "
                "again"
            ) from self._broken
        if not self._folder.files:
            raise RuntimeError("the folder was closed; open it again")

    def _step(
        self,
        grads: Any,
        asked: dict[str, Any],
        progress: Callable[[int, int], object] | None,
    ) -> StepResult:
        own = self._own
        grads = self._before(grads)
        own.refuse_rows(grads, "a step reads and writes all states of a parameter")
        begun = own.begin(grads, **asked)
        given = own.check(grads)
        with sequential(maps_of([*given, *(member.array for member in own.members)])):
            return self._stream_step(begun, given, asked, progress)

    def _stream_step(
        self,
        begun: BegunStep,
        given: tuple[Any, ...],
        asked: dict[str, Any],
        progress: Callable[[int, int], object] | None,
    ) -> StepResult:
        own = self._own
        looked = own.look(begun, asked)
        if isinstance(looked, int):
            return self._end(self._skip(begun, looked), given)
        elements = [
            None if g is None else Elements(g, member.array)
            for g, member in zip(given, own.members, strict=True)
        ]
        numbers = [
            number
            for number, chunk in enumerate(own.chunks)
            if any(given[part.array] is not None for part in chunk.parts)
        ]
        total = sum(p.stop - p.start for number in numbers for p in own.chunks[number].parts)
        generations, left, done = list(self._generations), list(self._left), 0
        for number in numbers:
            generations[number] = 1 - generations[number]
        record = self._record(own.said_after(looked), generations, left)
        undo = Undo(own, self._left, self.folder)
        found: dict[int, int] = {}

        def look_before(number: int, _: list[Region]) -> None:
            found[number] = checksum(own, own.chunks[number])

        def look_after(number: int, _: list[Region]) -> None:
            left[number] = checksum(own, own.chunks[number])

        def step(number: int, regions: list[Region]) -> None:
            nonlocal done
            chunk = own.chunks[number]
            undo.note(number, found.pop(number))
            own.step_chunk(chunk, regions, elements, looked, asked)
            done += sum(part.stop - part.start for part in chunk.parts)
            if progress is not None:
                progress(done, total)

        # Until it is known what is in memory and in the folder, whatever comes in between.
        self._broken = RuntimeError("it was interrupted")
        try:
            self._stream(
                numbers,
                step,
                reads=range(1, own.arrays),
                writes=range(own.arrays),
                looks=([look_before], [look_after]),
            )
            self._flush([generations[number] for number in numbers])
            self._folder.commit(record)
        except BaseException as error:
            self._broken = error
            if not self._folder.is_committed(record):
                self._put_back(undo.put_back())
                self._broken = None
            raise
        finally:
            undo.close()
        self._generations, self._left = generations, left
        result = begun.commit()
        self._broken = None
        return self._end(result, given)

    def _skip(self, begun: BegunStep, bad: int) -> StepResult:
        own = self._own
        result = begun.skip(bad)
        record = self._record(own.said(), self._generations, self._left)
        try:
            self._folder.commit(record)
        except BaseException as error:
            if self._folder.is_committed(record):
                self._broken = error
            own._stepper.skips -= 1
            raise
        return result


def _transfer(
    call: Transfer, file: StateFile, array: int, span: Span, regions: list[Region]
) -> None:
    call(file, regions[array][: span.nbytes], span.offset)
