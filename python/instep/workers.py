"""Threads that do tasks, and that an interrupt of the thread that waits for them can't hang.

The locks of `threading` and `concurrent.futures` are taken in Python: an interrupt between taking
and giving back leaves them taken for ever. Those of `queue.SimpleQueue` are taken in C.
"""

import _thread
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeAlias

__all__ = ["Batch", "Workers", "end"]

_Work: TypeAlias = Callable[[], object]


class Batch:
    """Tasks that are waited for together."""

    def __init__(self, count: int) -> None:
        self._count = count
        # Of each task that has ended what it raised, if anything.
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()

    @property
    def is_done(self) -> bool:
        """Whether all have ended."""
        return self._ended.qsize() == self._count

    def add(self, error: BaseException | None) -> None:
        """Say that a task has ended, and with what."""
        self._ended.put(error)

    def wait(self) -> None:
        """Wait for all, once; raise what the first to fail raised."""
        for _ in range(self._count):
            error = self._ended.get()
            if error is not None:
                raise error


class Workers:
    """So many threads, from `start` to `end`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tasks: SimpleQueue[tuple[_Work, Batch] | None] = SimpleQueue()
        self._started = 0
        self._ended: list[None] = []
        self._is_stopped = False

    def start(self) -> None:
        """Start the threads."""
        for _ in range(self._count):
            _thread.start_new_thread(self._run, ())
            self._started += 1

    def submit(self, tasks: Sequence[_Work]) -> Batch:
        """Have tasks done, in any order."""
        batch = Batch(len(tasks))
        for task in tasks:
            self._tasks.put((task, batch))
        return batch

    def stop(self) -> None:
        """Have the threads end after the task at hand."""
        self._is_stopped = True
        self._tasks.put(None)

    @property
    def are_ended(self) -> bool:
        """Whether no thread does anything any more."""
        return len(self._ended) >= self._started

    def _run(self) -> None:
        while (given := self._tasks.get()) is not None and not self._is_stopped:
            task, batch = given
            error = None
            try:
                task()
            except BaseException as raised:
                error = raised
            batch.add(error)
        # For the next thread.
        self._tasks.put(None)
        self._ended.append(None)


def end(*workers: Workers) -> None:
    """Return when no thread does anything any more, without the tasks that have not begun.

    An interrupt is raised only then: what comes next uses the same buffers.
    """
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            for each in workers:
                each.stop()
            while not all(each.are_ended for each in workers):
                time.sleep(1e-4)
            break
        except KeyboardInterrupt as raised:
            interrupt = raised
    if interrupt is not None:
        raise interrupt
