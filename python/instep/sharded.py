"""Optimizers whose state is split over ranks: the steps of `instep.mpi.Sharded`.

Every rank holds all parameters, and the state of its share: ZeRO, stage 1.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep import shard_checkpoint
from instep._instep import BegunStep, StepResult
from instep.arguments import Nonfinite
from instep.checks import check_integer
from instep.communicators import Communicator, agree, exchange
from instep.parts import PIECE, look
from instep.partwise import Partwise
from instep.shard import Shard, shard_of, shard_with
from instep.state import checked_state
from instep.wire import Room, Terms, Wire

__all__ = ["Sharded"]


class Sharded(Partwise[Shard]):
    """An optimizer whose state is split over ranks.

    Every rank makes it with the same arguments, and the same parameters to the bit. A step takes
    each rank's own gradients, and does **what one process would do with their sum**, added in the
    order of the ranks. All parameters and states are bit-for-bit identical, for any number of
    ranks.

    Parameters
    ----------
    rule : type
        The optimizer's class, such as `instep.AdamW`.
    params : tree of ndarray, or list of groups
        As for the class, in all dtypes. **Steps write them in place**, on every rank.
    comm : Communicator
        The ranks.
    bucket_bytes : int
        How many bytes are sent at a time at most; more if that is less than 32,768 elements for
        each rank. Buffers take up to 5 times as much.
    **options
        The options of the rule and those of every optimizer, without states in 8 bits.

    Attributes
    ----------
    comm : Communicator
        The ranks.
    param_groups, state, averages, freeze, zero_grads, t, skips
        As in the class, but `state` and `averages` have only this rank's share: arrays of one
        dimension, with the elements in the range `owned`, in the order of the parameter's memory.

    Raises
    ------
    TypeError, ValueError
        What the class raises on any rank; parameters or options that are not the same on all ranks.
        All ranks raise the error. It has the number of the rank, or says what differs.
    """

    def __init__(
        self,
        rule: type[Any],
        params: Any,
        *,
        comm: Communicator,
        bucket_bytes: int,
        **options: Any,
    ) -> None:
        self.comm = comm

        def make() -> tuple[Shard, object]:
            check_integer("bucket_bytes", bucket_bytes, least=1)
            shard = shard_of(rule, params, options, (comm.rank, comm.size, bucket_bytes))
            said = {"rule": type(shard).__name__, "bucket_bytes": bucket_bytes}
            return shard, {**said, **shard.options_said(), **shard.arrays_said()}

        self._own = agree(comm, make)
        self._room = Room(comm.size)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group of parameters on all ranks; their state starts now.

        Parameters
        ----------
        group : dict
            As for `instep.Optimizer.add_param_group`, the same on all ranks. What ranks hold
            already stays where it is, and the new parameters even out the shares.

        Raises
        ------
        TypeError, ValueError
            What it raises there, on any rank; parameters or options that differ from those of
            another rank. All ranks raise the error, and nothing has changed on any.
        RuntimeError
            A call within `averaged`.
        """
        own = self._own

        def grow() -> tuple[Shard, object]:
            if own.averages_are_in:
                raise RuntimeError("add_param_group was called within averaged()")
            grown = shard_with(own, group)
            return grown, {**grown.options_said(), **grown.arrays_said(len(own.members))}

        self._own = agree(self.comm, grow)

    @property
    def state(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The state arrays of this rank's share, by the parameter's name and their own."""
        return self._own.state

    @property
    def averages(self) -> Any:
        """The averages of this rank's share, in the structure of the parameters."""
        return self._own.averages

    @property
    def owned(self) -> dict[str, tuple[int, int]]:
        """From which element to which this rank holds the state, by the parameter's name."""
        rank = self.comm.rank
        return {p.name: self._own.owned[p.name][rank] for p in self._own.members}

    def __repr__(self) -> str:
        """Show the optimizer, and which rank this is."""
        return f"Sharded(rank {self.comm.rank} of {self.comm.size}, {self._own!r})"

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
    ) -> StepResult:
        """Do one step with the sum of all ranks' gradients, in place on every rank.

        Parameters
        ----------
        grads : tree of ndarray
            This rank's own, as for `instep.Optimizer.step`, without `Rows`. A gradient that is
            None on one rank must be None on all, and its dtype must be the same. Those of 16 bits
            are added as float32.
        lr, grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips
            As there, for the sum of the gradients; they must be the same on all ranks. For the
            mean of the gradients, pass ``grad_scale=1 / comm.size``.

        Returns
        -------
        StepResult
            As there, the same on all ranks.

        Raises
        ------
        TypeError, ValueError, KeyError, RuntimeError
            What `instep.Optimizer.step` raises on any rank; arguments, options or kinds of
            gradients that are not the same on all ranks. All ranks raise the error. It has the
            number of the first rank that is wrong, or says what differs between which ranks.
        FloatingPointError
            With ``nonfinite="raise"``, or one more than `max_skips`; with the number of the first
            rank whose own gradient has NaN or Inf.

        Notes
        -----
        A call that raises an error has changed nothing on any rank. If a rank dies, MPI has to
        report it.
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
        shard, room = self._own, self._room
        looks = max_norm is not None or max_array_norm is not None or nonfinite != "propagate"

        grads_of = [grads]

        def begin() -> tuple[tuple[tuple[Any, ...], BegunStep, Wire, Terms | None], object]:
            grads_of[0] = self._before(grads_of[0])
            given = shard.check(grads_of[0])
            shard.refuse_rows(grads_of[0], "all ranks would need the same rows")
            wire = Wire(self.comm, shard, room, given)
            sums = room.sums(shard, given) if looks else None
            begun = shard.begin_parts(wire.terms() if sums is None else sums, asked)
            if begun.needs_norms and sums is None:
                sums = room.sums(shard, given)
                begun = shard.begin_parts(sums, asked)
            kinds = [None if g is None else g.dtype.name for g in given]
            grads_said = dict(zip(shard.labels, kinds, strict=True))
            said = {**asked, **grads_said, **shard.options_said(), "the learning rate": begun.lr}
            return (given, begun, wire, sums), said

        given, begun, wire, sums = agree(self.comm, begin)
        if sums is not None:
            wire.reduce_all(sums)
            bad = self._look(begun, asked, given)
            if bad is not None:
                return self._end(self._skip(begun, bad, given), given)
        firsts = [0, *np.cumsum(begun.pieces).tolist()]

        def step(k: int) -> None:
            numbers = shard.parts_of(k)
            shard.take_in(numbers)
            begun.step(firsts[numbers.start], firsts[numbers.stop])
            shard.put_out(numbers)

        wire.step(step, is_reduced=sums is not None)
        return self._end(begun.commit(), given)

    def _end(self, result: StepResult, given: Sequence[Any]) -> StepResult:
        self._own.take_counts()
        return super()._end(result, given)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of this rank's share of the state; see `instep.Optimizer.state_dict`."""
        return self._own.state_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        """Continue from what `state_dict` returned on this rank, with as many ranks.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            What `instep.Optimizer.load_state_dict` raises, on any rank; counts or options that are
            not the same on all ranks. All ranks raise the error, and nothing has changed on any.
        """
        shard = self._own

        def check() -> tuple[Callable[[], None], object]:
            shard.refuse_averages()
            write = checked_state(shard, state_dict)
            shares = ("state", "averages")
            return write, {key: v for key, v in state_dict.items() if key not in shares}

        agree(self.comm, check)()
        shard.give_counts()

    def save(
        self, path: str | os.PathLike[str], *, params: bool = False, extra: Any = None
    ) -> None:
        """Save the state of all ranks to one file; see `instep.Optimizer.save`.

        It is the file that one process would save, to the byte, on a file system that all ranks
        see. Each rank writes its share, and no rank has all of it.

        Parameters
        ----------
        path : str or path
            The file, the same on all ranks.
        params, extra
            As there, and the same on all ranks.

        Raises
        ------
        OSError, TypeError, ValueError, RuntimeError
            What it raises there, on any rank. All ranks raise the error, with the number of the
            rank, and the old file is intact.
        """
        shard_checkpoint.save(self.comm, self._own, path, params=params, extra=extra)

    def load(self, path: str | os.PathLike[str], *, params: bool = True) -> Any:
        """Continue from a file of any number of ranks or one process: see `instep.Optimizer.load`.

        Each rank reads its share of the states, and for the checksum a part of the rest.

        Parameters
        ----------
        path : str or path
            The file, the same on all ranks.
        params : bool, default True
            Whether to load the parameters too, where the file has them.

        Returns
        -------
        object
            The `extra` that was saved.

        Raises
        ------
        OSError, TypeError, ValueError, RuntimeError
            What it raises there, on any rank. All ranks raise the error, and nothing has changed
            on any.
        """
        return shard_checkpoint.load(self.comm, self._own, path, params=params)

    def _look(self, begun: BegunStep, asked: dict[str, Any], given: Sequence[Any]) -> int | None:
        """Give norms to a step; return the number of the first gradient that stops it."""
        shard = self._own

        def squares(of_params: bool) -> list[list[float]]:
            return self._squares(begun, given, of_params=of_params)

        def first_nonfinite() -> int | None:
            part = begun.first_nonfinite(0, sum(begun.pieces))
            none = len(shard.members)
            own = np.array([none if part is None else shard.parts[part].array], np.int64)
            first = min(int(each[0]) for each in exchange(self.comm, own, [1] * self.comm.size))
            return first if first < none else None

        norms = look(begun, asked, squares, first_nonfinite)
        if isinstance(norms, int):
            return norms
        norms.give(begun, asked, shard.parts)
        return None

    def _squares(
        self, begun: BegunStep, given: Sequence[Any], *, of_params: bool = False
    ) -> list[list[float]]:
        """Return the sums of squares of the pieces of each array, whoever made them."""
        shard = self._own
        if of_params:
            shard.take_in(range(len(shard.parts)))
        own = begun.sums_of_squares(0, sum(begun.pieces), of_params=of_params)
        order = [
            [
                (part.array, start)
                for parts, _ in shard.chunks[rank]
                for part in parts
                if given[part.array] is not None
                for start in range(part.start, part.stop, PIECE)
            ]
            for rank in range(self.comm.size)
        ]
        every = exchange(self.comm, np.array(own, np.float64), [len(places) for places in order])
        found = {
            place: float(square)
            for places, squares in zip(order, every, strict=True)
            for place, square in zip(places, squares, strict=True)
        }
        squares: list[list[float]] = [[] for _ in shard.members]
        for array, start in sorted(found):
            squares[array].append(found[array, start])
        return squares

    def _skip(self, begun: BegunStep, bad: int, given: Sequence[Any]) -> StepResult:
        """Skip a step because of a gradient, or raise on all ranks, naming the first."""
        own = given[bad]
        stored = self._own.members[bad].stored
        is_own = np.array([not np.isfinite(own if stored is None else stored.numbers(own)).all()])
        flags = exchange(self.comm, is_own, [1] * self.comm.size)
        rank = next((rank for rank, flag in enumerate(flags) if flag[0]), None)
        who = "the sum of all ranks" if rank is None else f"rank {rank}"
        return self._own.blaming(f"{who}: {self._own.members[bad].describe(1)}", begun)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages into the arrays of the parameters, and the parameters back at the end.

        As `instep.Optimizer.averaged`, on all ranks: each sends the averages of its share to all.

        Raises
        ------
        ValueError, RuntimeError
            What it raises there, on any rank. All ranks raise the error.
        """
        self._swap(True)
        try:
            yield
        finally:
            self._swap(False)

    def _swap(self, enter: bool) -> None:
        shard = self._own

        def check() -> tuple[None, object]:
            shard._require_averages()
            if enter == shard.averages_are_in:
                raise RuntimeError("averaged() was entered within averaged()")
            for member in shard.members:
                if not member.array.flags.writeable:
                    raise ValueError(f"{member.describe(0)} is read-only; make it writable")
            return None, {"t": shard.t, "whether averaged() begins": enter}

        agree(self.comm, check)
        shard.swap(enter)
        wire = Wire(self.comm, shard, self._room, [p.array for p in shard.members])
        wire.step(lambda k: None, is_reduced=True)
