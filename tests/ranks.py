"""Ranks that are threads of one process, for tests of what ranks do: `run`."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bits import Array


class Post:
    """Where the threads leave what they send: it is read when the other side waits for it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent: dict[tuple[int, int, int], Array] = {}
        self.changed = threading.Condition()
        self.is_broken = False

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        assert self.changed.wait_for(lambda: is_so() or self.is_broken, 60)
        assert not self.is_broken


class Waits:
    def __init__(self, wait: Callable[[], None]) -> None:
        self.wait = wait


class ThreadRank:
    """A communicator of one of the threads."""

    def __init__(self, post: Post, rank: int) -> None:
        self._post, self.rank, self.size = post, rank, post.size
        self._calls = 0

    def all_to_all(self, send: Sequence[Array], receive: Sequence[Array]) -> Waits:
        post, call = self._post, self._calls
        self._calls += 1
        others = [rank for rank in range(self.size) if rank != self.rank]
        for other in others:
            # Nobody may look at it before it is there.
            receive[other][...] = 0xA5
        with post.changed:
            for other in others:
                post.sent[call, self.rank, other] = send[other]
            post.changed.notify_all()

        def wait() -> None:
            for other in others:
                key = (call, other, self.rank)
                with post.changed:
                    post.wait_until(partial(post.sent.__contains__, key))
                    data = post.sent[key]
                    assert data.size == receive[other].size, "as much as the other side expects"
                    receive[other][...] = data
                    del post.sent[key]
                    post.changed.notify_all()
            with post.changed:
                own = [(call, self.rank, other) for other in others]
                post.wait_until(lambda: not any(key in post.sent for key in own))

        return Waits(wait)

    def all_gather(self, buffers: Sequence[Array]) -> Waits:
        return self.all_to_all([buffers[self.rank]] * self.size, buffers)


def run(size: int, call: Callable[[ThreadRank], Any]) -> list[Any]:
    """Return what a call returns on each of so many ranks."""
    post = Post(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def target(rank: int) -> None:
        try:
            results[rank] = call(ThreadRank(post, rank))
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
