"""What ranks say to each other: the protocol of a communicator, and errors that all have."""

import builtins
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Communicator", "Request", "agree", "exchange"]

T = TypeVar("T")


class Request(Protocol):
    """Something that is on its way."""

    def wait(self) -> None:
        """Return when all that is received is there, and all that is sent may be changed."""


class Communicator(Protocol):
    """Ranks that exchange bytes: what `Sharded` needs of an engine.

    Buffers are one-dimensional arrays of uint8, one for each rank, of any length; a length of 0
    means that nothing is sent, and both sides know it. Both methods return at once, and are called
    by all ranks in the same order.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def all_to_all(self, send: Sequence[NDArray[Any]], receive: Sequence[NDArray[Any]]) -> Request:
        """Send each rank its own buffer, and receive one of each; this rank's are not used."""

    def all_gather(self, buffers: Sequence[NDArray[Any]]) -> Request:
        """Send this rank's buffer to all, and receive theirs into those of their numbers."""


def exchange(comm: Communicator, own: NDArray[Any], counts: Sequence[int]) -> list[NDArray[Any]]:
    """Return the arrays of all ranks, which have so many elements."""
    arrays = [np.empty(count, own.dtype) for count in counts]
    arrays[comm.rank] = own
    comm.all_gather([array.view(np.uint8) for array in arrays]).wait()
    return arrays


def agree(comm: Communicator, call: Callable[[], tuple[T, object]], what: str) -> T:
    """Return what a call returns, once it has returned on all ranks; or raise on all of them.

    The call returns its value, and what has to be the same on all ranks, whose `repr` is compared.

    Raises
    ------
    Exception
        That of the first rank that raised one, with its number in front.
    ValueError
        Ranks did not say the same.
    """
    text = said = b""
    error = value = None
    try:
        value, same = call()
        said = repr(same).encode("utf-8", "backslashreplace")
    except Exception as raised:
        error = raised
        message = raised.args[0] if len(raised.args) == 1 else str(raised)
        text = f"{type(raised).__name__} {message}".encode("utf-8", "backslashreplace")
    heads = np.empty(24, np.uint8)
    heads[:8] = np.array([len(text)], np.int64).view(np.uint8)
    heads[8:] = np.frombuffer(hashlib.blake2b(said, digest_size=16).digest(), np.uint8)
    all_heads = exchange(comm, heads, [24] * comm.size)
    lengths = [int(head[:8].view(np.int64)[0]) for head in all_heads]
    if any(lengths):
        texts = exchange(comm, np.frombuffer(text, np.uint8).copy(), lengths)
        rank = next(rank for rank, length in enumerate(lengths) if length)
        kind, _, message = texts[rank].tobytes().decode().partition(" ")
        named = getattr(builtins, kind, RuntimeError)
        # Some take more than a message.
        is_plain = isinstance(named, type) and issubclass(named, Exception)
        is_plain = is_plain and not issubclass(named, UnicodeError) and "Group" not in kind
        cause = error if rank == comm.rank else None
        raised_here = named if is_plain else RuntimeError
        raise raised_here(f"rank {rank}: {message}") from cause
    for rank, head in enumerate(all_heads):
        if head[8:].tobytes() != all_heads[0][8:].tobytes():
            raise ValueError(f"rank {rank} has other {what} than rank 0; wanted the same on all")
    return value  # type: ignore[return-value]
