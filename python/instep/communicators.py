"""What ranks say to each other: the protocol of a communicator, and errors that all have."""

import builtins
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Communicator", "Request", "agree", "exchange"]

T = TypeVar("T")

# So much of a value is shown where it is not the same on all ranks.
_LONG = 80


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


def agree(comm: Communicator, call: Callable[[], tuple[T, object]]) -> T:
    """Return what a call returns, once it has returned on all ranks; or raise on all of them.

    The call returns its value, and a dict of what has to be the same on all ranks, or None. The
    dict and what is in it are compared by their `repr`.

    Raises
    ------
    Exception
        That of the first rank that raised one, with its number in front.
    ValueError
        Something is not the same on all ranks; the message says what, and on which of them.
    """
    text = said = b""
    same: object = None
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
    heads[8:] = np.frombuffer(_digest(said), np.uint8)
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
    if len({head.tobytes() for head in all_heads}) > 1:
        raise ValueError(_difference(comm, same))
    return value  # type: ignore[return-value]


def _digest(said: bytes) -> bytes:
    return hashlib.blake2b(said, digest_size=16).digest()


def _difference(comm: Communicator, same: object) -> str:
    """Return what differs between ranks, as all of them say it."""
    own = json.dumps(dict(_named("", same))).encode()
    length = np.array([len(own)], np.int64)
    lengths = [int(each[0]) for each in exchange(comm, length, [1] * comm.size)]
    texts = exchange(comm, np.frombuffer(own, np.uint8).copy(), lengths)
    all_said = [json.loads(text.tobytes()) for text in texts]
    for name in {name: None for said in all_said for name in said}:
        ranks: dict[str, list[str]] = {}
        for rank, said in enumerate(all_said):
            ranks.setdefault(said.get(name, "missing"), []).append(str(rank))
        if len(ranks) > 1:
            values = [
                f"{text.partition(chr(0))[0]} on rank{'s' * (len(on) > 1)} {', '.join(on)}"
                for text, on in ranks.items()
            ]
            return f"{name} differs: {'; '.join(values)}; wanted the same on all ranks"
    return "ranks have other arguments; wanted the same on all"


def _named(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield everything within dicts and lists by its name; what is long is cut, with a digest."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _named(f"{name}[{key!r}]" if name else str(key), item)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _named(f"{name}[{number}]", item)
    else:
        text = repr(value)
        if len(text) > _LONG:
            digest = _digest(text.encode("utf-8", "backslashreplace")).hex()
            text = f"{text[:_LONG]}...\0{digest}"
        yield name, text
