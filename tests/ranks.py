"""Ranks that are threads of one process, for tests of what ranks do: `run`."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bits import Array


class Post:
    """Where the threads leave what they send: it is read when the other side waits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent: dict[tuple[int, int, int], Array] = {}
        self.changed = threading.Condition()
        self.is_broken = False

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        assert self.changed.wait_for(lambda: is_so() or self.is_broken, 60)
        assert not self.is_broken


class Request:
    """What a rank has begun to send and to receive."""

    def __init__(self, owner: "ThreadRank", call: int, receive: Sequence[Array]) -> None:
        self._owner, self._call, self._receive = owner, call, receive
        self.missing = set(owner.others)

    def wait(self) -> None:
        post, rank = self._owner.post, self._owner.rank
        for other in self._owner.others:
            with post.changed:
                post.wait_until(partial(self._is_there, other))
                self.take()
        # As an engine may, which receives what has arrived whatever is waited for.
        self._owner.requests.remove(self)
        with post.changed:
            for request in self._owner.requests:
                request.take()
            own = [(self._call, rank, other) for other in self._owner.others]
            post.wait_until(lambda: not any(key in post.sent for key in own))

    def _is_there(self, other: int) -> bool:
        key = (self._call, other, self._owner.rank)
        return other not in self.missing or key in self._owner.post.sent

    def take(self) -> None:
        """Receive what is there."""
        post, rank = self._owner.post, self._owner.rank
        for other in sorted(self.missing):
            data = post.sent.pop((self._call, other, rank), None)
            if data is not None:
                assert data.size == self._receive[other].size, "as much as the other side expects"
                self._receive[other][...] = data
                self.missing.remove(other)
        post.changed.notify_all()


class ThreadRank:
    """A communicator of one of the threads."""

    def __init__(self, post: Post, rank: int) -> None:
        self.post, self.rank, self.size = post, rank, post.size
        self.others = [other for other in range(self.size) if other != rank]
        self.requests: list[Request] = []
        self._calls = 0

    def all_to_all(self, send: Sequence[Array], receive: Sequence[Array]) -> Request:
        post, request = self.post, Request(self, self._calls, receive)
        for other in self.others:
            # Nobody may look at it before it is there.
            receive[other][...] = 0xA5
        with post.changed:
            for other in self.others:
                post.sent[self._calls, self.rank, other] = send[other]
            post.changed.notify_all()
        self._calls += 1
        self.requests.append(request)
        return request

    def all_gather(self, buffers: Sequence[Array]) -> Request:
        return self.all_to_all([buffers[self.rank]] * self.size, buffers)


def run(size: int, call: Callable[[ThreadRank], Any]) -> list[Any]:
    """Return what a call returns on each of so many ranks."""
    post = Post(size)
    return _run(post, [partial(call, ThreadRank(post, rank)) for rank in range(size)])


def run_again(opts: Sequence[Any], call: Callable[[Any], Any]) -> list[Any]:
    """Return what a call returns of the optimizer of each rank, which one `run` has made."""
    return _run(opts[0].comm.post, [partial(call, opt) for opt in opts])


def _run(post: Post, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    size = len(calls)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def target(rank: int) -> None:
        try:
            results[rank] = calls[rank]()
        except BaseException as error:
            errors.append(error)
            with post.changed:
                post.is_broken = True
                post.changed.notify_all()

    threads = [threading.Thread(target=target, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    assert not post.sent
    return results
