"""Optimizers whose state is larger than memory: it is in files, which steps read and write.

Whenever the program ends, the folder has the parameters and all states of one moment between two
steps. So it is the checkpoint.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep._instep import BegunStep, StepResult
from instep.checks import check_integer
from instep.chunked import Chunked, chunked
from instep.generations import Generations
from instep.manifest import check_manifest, manifest
from instep.mapped import maps_of, sequential
from instep.optimizer import Nonfinite
from instep.parts import Elements, axes_in_memory
from instep.partwise import Partwise
from instep.ring import Region, Ring, StateFile, Task
from instep.state import load_state_dict
from instep.undo import Undo, checksum

__all__ = ["Streamed"]

Look: TypeAlias = Callable[[int, list[Region]], None]

Transfer: TypeAlias = Callable[[StateFile, Region, int], None]


class Streamed(Partwise[Chunked]):
    """An optimizer whose states are in files, which a step reads and writes chunk by chunk.

    There are two generations of the files. A step reads states from one, without the page cache,
    and writes them to the other, together with the new parameters. Then it replaces a record that
    says which generation is valid. It needs memory only for a ring of buffers, however large the
    states are. All parameters and states are bit-for-bit identical to those of the rule's own
    class.

    Parameters
    ----------
    rule : type
        The optimizer's class, such as `instep.AdamW`.
    params : tree of ndarray, or list of groups
        As for the class, of float32 and float64, in memory or as `numpy.memmap`. **Steps write them
        in place.** If the folder has an optimizer, **they are overwritten with its parameters.**
    folder : str or path
        Where the files are. It is made if it does not exist.
    chunk : int, default 16 MiB
        About how many bytes are read at a time, of parameters and states together; of each array
        at least 32,768 elements. The ring has room for 6 chunks. A folder keeps the chunk size of
        its first use.
    **options
        The options of the rule and those of every optimizer, without `state` and 16 bits.

    Attributes
    ----------
    param_groups, freeze, zero_grads, t, skips
        As in the class.

    Raises
    ------
    TypeError, ValueError
        What the class raises; a folder of another rule, of parameters with other names, shapes,
        dtypes or layouts, or one that was made with other options.
    OSError
        Files can't be made or read, or the disk is too small for both generations; BlockingIOError
        if another optimizer has the folder open.

    Notes
    -----
    **All or nothing.** If the program is killed at any point, or the machine loses power, the
    folder opens as it was before a step or after it, never in between. A step that raises an error
    has changed nothing: parameters that it stepped are put back, with all changes that the program
    made since the last step.

    **What it costs.** Twice the space of parameters and states on the disk, all of it reserved when
    the folder is made. A step writes the new parameters in addition to the states, and makes two
    flushes of the disk and a rename.

    If a program changes parameters between two steps, the next step writes the change to the
    folder. Parameters that get no gradient are not read or written, except those that share a chunk
    with others.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import instep
    >>> from instep.disk import Streamed
    >>> folder = tempfile.TemporaryDirectory()
    >>> params = {"W": np.ones((2, 3)), "b": np.zeros(3)}
    >>> with Streamed(instep.Adam, params, folder=folder.name, lr=0.1) as opt:
    ...     result = opt.step({"W": np.ones((2, 3)), "b": np.ones(3)})
    ...     opt.state["b"]["m"].round(3)
    array([0.1, 0.1, 0.1])

    Another process continues from there:

    >>> params = {"W": np.empty((2, 3)), "b": np.empty(3)}
    >>> with Streamed(instep.Adam, params, folder=folder.name, lr=0.1) as opt:
    ...     opt.t, params["b"].round(3)
    (1, array([-0.1, -0.1, -0.1]))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        rule: type[Any],
        params: Any,
        *,
        folder: str | os.PathLike[str],
        chunk: int = 16 << 20,
        **options: Any,
    ) -> None:
        check_integer("chunk", chunk, least=1)
        self._turn = threading.RLock()
        self._is_stepping = False
        self._broken: BaseException | None = None
        self._folder = Generations(folder)
        try:
            record = self._folder.record
            nbytes = chunk if record is None else record["chunk"]
            self._own = chunked(rule, params, options, nbytes)
            self._made = manifest(self._own)
            chunks = self._own.chunks
            self._ring = Ring(self._own.arrays, max((c.nbytes for c in chunks), default=0))
            # Of the parameters of each chunk, as the last step left them.
            self._left = [0] * len(chunks)
            self._generations = [0] * len(chunks)
            if record is None:
                self._create(chunk)
            else:
                self._resume(record)
        except BaseException:
            self._folder.close()
            raise

    def _create(self, chunk: int) -> None:
        own, folder = self._own, self._folder
        folder.open(own.arrays, self._file_bytes(), is_new=True)

        def fill(number: int, regions: list[Region]) -> None:
            own.fill(own.chunks[number], regions)
            self._left[number] = checksum(own, own.chunks[number])

        record = self._record(own.said(), self._generations, chunk)
        try:
            self._stream(range(len(own.chunks)), fill, reads=(), writes=range(own.arrays), step=0)
            self._flush([0] * len(own.chunks))
            folder.commit(record)
        except BaseException:
            if not folder.is_committed(record):
                folder.remove(own.arrays)
            raise

    def _resume(self, record: dict[str, Any]) -> None:
        own, folder = self._own, self._folder
        check_manifest(str(folder.path), record["made"], self._made)
        folder.open(own.arrays, self._file_bytes(), is_new=False)
        self._generations = list(record["generations"])
        states: dict[str, Any] = {p.name: {} for p in own.members}
        load_state_dict(own, {**record["optimizer"], "state": states, "averages": {}})
        for member in own.members:
            if not member.array.flags.writeable:
                raise ValueError(f"{member.describe(0)} is read-only; make it writable")
        self._put_back(list(range(len(own.chunks))))

    def _record(
        self, said: dict[str, Any], generations: list[int], chunk: int | None = None
    ) -> dict[str, Any]:
        record = self._folder.record
        if chunk is None:
            assert record is not None
            chunk = record["chunk"]
        return {
            "chunk": int(chunk),
            "made": self._made if record is None else record["made"],
            "optimizer": said,
            "generations": generations,
        }

    def _file_bytes(self) -> int:
        return sum(chunk.nbytes for chunk in self._own.chunks)

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
            chunk = self._own.chunks[number]
            files = self._folder.files[generation]
            return [
                partial(_transfer, call, files[array], array, chunk.offset)
                for array in self._own.arrays_of_chunk(chunk)
                if array in arrays
            ]

        def chunks() -> Iterator[tuple[int, int, list[Task], list[Task]]]:
            for number in numbers:
                generation = self._generations[number]
                read = transfers(StateFile.read, number, reads, generation)
                written = transfers(StateFile.write, number, writes, (generation + step) % 2)
                read += [partial(look, number) for look in before]
                written += [partial(look, number) for look in after]
                yield number, self._own.chunks[number].nbytes, read, written

        self._ring.run(chunks(), work)

    def _flush(self, generations: list[int]) -> None:
        for generation in sorted(set(generations)):
            for file in self._folder.files[generation]:
                file.flush()

    @property
    def folder(self) -> str:
        """The path of the folder."""
        return str(self._folder.path)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of the ring of buffers."""
        return self._ring.nbytes

    @property
    def state(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The state arrays by the parameter's name and their own, as memory maps of the files.

        They are read-only, and show this moment: the step after the next overwrites their files, so
        get them again after each step.
        """
        with self._reading():
            maps: dict[tuple[int, int], NDArray[Any]] = {}
            return {
                p.name: {
                    state: self._view(number, array, maps)
                    for array, state in enumerate(self._own.states_of(p), 1)
                }
                for number, p in enumerate(self._own.members)
            }

    @property
    def averages(self) -> Any:
        """The moving averages in the structure of the parameters, as `state` shows arrays.

        Raises
        ------
        ValueError
            An optimizer that was made without ``average``.
        """
        self._own._require_averages()
        with self._reading():
            maps: dict[tuple[int, int], NDArray[Any]] = {}
            last = self._own.arrays - 1
            return self._own._build(
                self._view(number, last, maps) for number in range(len(self._own.members))
            )

    def _view(
        self, number: int, array: int, maps: dict[tuple[int, int], NDArray[Any]]
    ) -> NDArray[Any]:
        """Return an array of a parameter as a map of its file, in the layout of the parameter."""
        like = self._own.members[number].array
        start = next(
            (
                (chunk.offset + part.at, self._generations[at])
                for at, chunk in enumerate(self._own.chunks)
                for part in chunk.parts
                if part.array == number
            ),
            None,
        )
        if start is None:
            empty = np.empty(like.shape, like.dtype)
            empty.flags.writeable = False
            return empty
        offset, generation = start
        if (generation, array) not in maps:
            maps[generation, array] = self._folder.map(generation, array)
        flat = maps[generation, array][offset : offset + like.nbytes].view(like.dtype)
        axes = axes_in_memory(like)
        return flat.reshape([like.shape[axis] for axis in axes]).transpose(np.argsort(axes))

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

    def __repr__(self) -> str:
        """Show the optimizer, and where its files are."""
        return f"Streamed({self.folder!r}, {self._own!r})"

    def step(
        self,
        grads: Any,
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        max_array_norm: float | None = None,
        max_value: float | None = None,
        nonfinite: Nonfinite = "propagate",
        max_skips: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> StepResult:
        """Do one step, parameters in place, states in the folder.

        Parameters
        ----------
        grads : tree of ndarray
            As for `instep.Optimizer.step`, without `Rows`; they may be `numpy.memmap`.
        lr, grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips
            As there.
        progress : callable, optional
            Called after each chunk with the number of elements done and the number of all elements
            of the step. If it raises an error, the step ends and has changed nothing.
            `instep.rich.bar` makes such a callable.

        Returns
        -------
        StepResult
            As there. When the call returns, the step is on the disk.

        Raises
        ------
        TypeError, ValueError, KeyError, FloatingPointError
            What `instep.Optimizer.step` raises.
        OSError
            A file could not be read or written; the disk is full. Nothing has changed, and you can
            do the step again once the cause is gone. But if the disk fails while parameters are put
            back, or at the end of the step, all later calls raise: open the folder again.
        RuntimeError
            A step within another one, such as in `progress`; a folder that was closed, or that must
            be opened again; a forked process, where only the parent can step.

        Notes
        -----
        An interrupt (Ctrl-C) puts the parameters back, too. If it comes at the very end, when the
        step is in the folder already, or while parameters are put back, all later calls raise: open
        the folder again.
        """
        asked: dict[str, Any] = {
            "lr": lr,
            "grad_scale": grad_scale,
            "max_norm": max_norm,
            "max_array_norm": max_array_norm,
            "max_value": max_value,
            "nonfinite": nonfinite,
            "max_skips": max_skips,
        }
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is {progress!r}; wanted a callable of two integers")
        with self._turn:
            self._check_open()
            self._is_stepping = True
            try:
                return self._step(grads, asked, progress)
            finally:
                self._is_stepping = False

    def _step(
        self,
        grads: Any,
        asked: dict[str, Any],
        progress: Callable[[int, int], object] | None,
    ) -> StepResult:
        own = self._own
        grads = self._before(grads)
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
        record = self._record(own.said_after(looked), generations)
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

    def _put_back(self, numbers: list[int]) -> None:
        """Put back the parameters of chunks, as the last step left them."""
        own = self._own

        def put(number: int, regions: list[Region]) -> None:
            own.put_back(own.chunks[number], regions[0])
            self._left[number] = checksum(own, own.chunks[number])

        self._stream(numbers, put, reads=range(1), writes=())

    def _skip(self, begun: BegunStep, bad: int) -> StepResult:
        own = self._own
        result = begun.skip(bad)
        record = self._record(own.said(), self._generations)
        try:
            self._folder.commit(record)
        except BaseException as error:
            if self._folder.is_committed(record):
                self._broken = error
            own._stepper.skips -= 1
            raise
        return result

    def close(self) -> None:
        """Close the files, and let others open the folder. The parameters stay as they are."""
        with self._turn:
            if self._is_stepping:
                raise RuntimeError("a step is under way; wait until it has returned")
            self._folder.close()

    def __enter__(self) -> "Streamed":
        """Return the optimizer, which is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close it, if it was made."""
        with suppress(AttributeError):
            self._folder.close()

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Refuse to be copied or pickled: two that write one folder would break it."""
        raise TypeError("a Streamed optimizer can't be copied; open its folder in another process")


def _transfer(
    call: Transfer, file: StateFile, array: int, offset: int, regions: list[Region]
) -> None:
    call(file, regions[array], offset)
