"""Optimizers whose state is larger than memory: it is in files, which steps read and write.

Whenever the program ends, the folder has the parameters and all states of one moment between two
steps. So it is the checkpoint.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from numpy.typing import NDArray

from instep._instep import StepResult
from instep.arguments import Nonfinite
from instep.checks import check_integer
from instep.chunked import Chunked, chunked
from instep.loaded_state import checked
from instep.manifest import check_manifest, grown, manifest
from instep.streaming import Streaming

__all__ = ["Streamed"]


class Streamed(Streaming):
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
        As for the class, in all dtypes, in memory or as `numpy.memmap`. **Steps write them
        in place.** If the folder has an optimizer, **they are overwritten with its parameters.**
    folder : str or path
        Where the files are. It is made if it does not exist.
    chunk : int, default 16 MiB
        About how many bytes are read at a time, of parameters and states together; of each array
        at least 32,768 elements. The ring has room for 6 chunks. A folder keeps the chunk size of
        its first use.
    **options
        The options of the rule and those of every optimizer, without `state` and states in 8 bits.

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
        # What is refused here leaves no folder.
        self._own = own = chunked(rule, params, options)
        self._made = manifest(own)
        super().__init__(folder)
        try:
            record = self._folder.record
            if record is None:
                self._cut(own, max(1, chunk // own.count_arrays()), [len(own.members)])
                self._create()
            else:
                check_manifest(str(self._folder.path), record["made"], self._made)
                self._made = record["made"]
                self._cut(own, record["chunk"], record["batches"])
                self._resume(record)
        except BaseException:
            self._folder.close()
            raise

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group of parameters; their state starts now, and is in the folder at once.

        Parameters
        ----------
        group : dict
            As for `instep.Optimizer.add_param_group`. To open the folder again, give all groups in
            the list of parameters.

        Raises
        ------
        TypeError, ValueError
            What it raises there.
        OSError
            A file could not be written; the disk is full. Nothing has changed, nor has the folder.
        RuntimeError
            A call within `averaged`, or as for `step`.

        Notes
        -----
        If the program is killed here, the folder has all of the group or nothing of it.
        """
        with self._reading():
            self._check_not_averaged("add_param_group")
            own, cuts = self._own, self._cuts
            new: Chunked = own.with_group(group)
            before = own, cuts, self._made, self._ring, self._left, self._generations
            count = len(new.members) - len(own.members)
            self._own, self._made = new, grown(self._made, new)
            self._cut(new, cuts["chunk"], [*cuts["batches"], count])
            self._left[: len(before[4])] = before[4]
            self._generations[: len(before[5])] = before[5]
            record: dict[str, Any] | None = None
            try:
                self._folder.grow(new.sizes)
                self._fill(range(len(own.chunks), len(new.chunks)))
                record = self._record(new.said(), self._generations, self._left)
                self._folder.commit(record)
            except BaseException as error:
                if record is not None and self._folder.is_committed(record):
                    self._broken = error
                else:
                    own, self._cuts, self._made, self._ring, self._left, self._generations = before
                    self._own = own
                    self._folder.shrink(own.sizes)
                raise

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
            return self._views().states()

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
            return self._own._build(self._views().averages())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages into the arrays of the parameters, and the parameters back at the end.

        As `instep.Optimizer.averaged`. The averages are read from the folder at the beginning, and
        the parameters at the end, with all changes that the program made since the last step. What
        changes within the block is lost.

        Raises
        ------
        ValueError
            An optimizer that was made without ``average``; a parameter that is read-only.
        OSError
            A file could not be read. At the beginning nothing has changed; at the end all later
            calls raise: open the folder again.
        RuntimeError
            A call within another one, or as for `step`.
        """
        self._enter_averages()
        try:
            yield
        finally:
            self._leave_averages()

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
            self._check_not_averaged("step")
            self._is_stepping = True
            try:
                return self._step(grads, asked, progress)
            finally:
                self._is_stepping = False

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next steps depend on, without a copy of the arrays.

        Returns
        -------
        dict
            As that of `instep.Optimizer.state_dict`, but its arrays are those of `state` and
            `averages`: read-only memory maps of this moment. So give it to another optimizer, or
            copy it, before the step after the next.

        Raises
        ------
        RuntimeError
            A call within `averaged`, or as for `step`.
        """
        with self._reading():
            self._check_not_averaged("state_dict")
            own, views = self._own, self._views()
            averages = {}
            if own.average is not None:
                names = [p.name for p in own.members]
                averages = dict(zip(names, views.averages(), strict=True))
            return {**own.said(), "state": views.states(), "averages": averages}

    def load_state_dict(self, state_dict: Any) -> None:
        """Continue from where another optimizer was, in memory or in a folder.

        The arrays are written to the folder, chunk by chunk: it takes no more memory than a step.

        Parameters
        ----------
        state_dict : dict
            As for `instep.Optimizer.load_state_dict`. Its arrays may be memory maps.

        Raises
        ------
        TypeError, ValueError
            What it raises there.
        OSError
            A file could not be written. Nothing has changed, nor has the folder.
        RuntimeError
            A call within `averaged`, or as for `step`.
        """
        with self._reading():
            self._check_not_averaged("load_state_dict")
            self._take(checked(self._own, state_dict), params=False)

    def save(
        self, path: str | os.PathLike[str], *, params: bool = False, extra: Any = None
    ) -> None:
        """Save the state to one file, which `instep.Optimizer.load` reads too.

        The folder is a checkpoint already. The file is for other machines, for ranks, or for a
        moment that is to be kept.

        Parameters
        ----------
        path, params, extra
            As for `instep.Optimizer.save`.

        Raises
        ------
        OSError, TypeError, ValueError, ImportError
            What it raises there.
        RuntimeError
            A call within `averaged`, or as for `step`.

        Notes
        -----
        Arrays go from the folder to the file without a copy in memory; those that are not in C
        order are copied one at a time.
        """
        with self._reading():
            state_dict = self.state_dict()
            from instep import disk_checkpoint

            disk_checkpoint.save(self._own, state_dict, path, params=params, extra=extra)

    def load(self, path: str | os.PathLike[str], *, params: bool = True) -> Any:
        """Continue from a file that `save` of any optimizer wrote: in memory, in files, over ranks.

        As `load_state_dict`, with the parameters in the file.

        Parameters
        ----------
        path, params
            As for `instep.Optimizer.load`.

        Returns
        -------
        object
            The `extra` that was saved.

        Raises
        ------
        OSError, ValueError, ImportError
            What it raises there; a file of the folder could not be written. Nothing has changed.
        RuntimeError
            A call within `averaged`, or as for `step`.
        """
        with self._reading():
            self._check_not_averaged("load")
            from instep import disk_checkpoint

            loaded, has_params, extra = disk_checkpoint.read(self._own, path, params=params)
            if has_params:
                self._check_writable()
            self._take(loaded, params=has_params)
            return extra

    def close(self) -> None:
        """Close the files, and let others open the folder. The parameters stay as they are."""
        with self._turn:
            if self._is_stepping:
                raise RuntimeError("a step is under way; wait until it has returned")
            self._check_not_averaged("close")
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
