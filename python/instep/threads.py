"""How many threads a step may run on.

A step runs on one thread if it has less than 64 KiB of parameters, counting all arrays of the call.
From 16 MiB on, it runs on as many as it may. In between it uses several threads where instep has
measured that this saves time. That depends on how soon other threads can help: at once in a loop of
steps, where they wait for the next step for at most 0.2 ms before they sleep, and late if other
work uses their cores. The results are bit-for-bit identical for any number of threads.

A step computes in the floating-point mode of the calling thread, as NumPy does. If that is not the
default, for example after ``torch.set_flush_denormal(True)``, the step runs on that thread alone.

The threads block all signals, so that these go to the program's own threads.

If threadpoolctl is installed, ``threadpoolctl.threadpool_limits`` limits steps too, as the user API
``"instep"``.
"""

import contextlib
import sys
from collections.abc import Iterator

from instep import _instep
from instep.checks import check_integer

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]


def get_num_threads() -> int:
    """Return the most threads that a step runs on, the calling one included.

    Returns
    -------
    count : int
        What `set_num_threads` has set, or else the environment variable ``INSTEP_NUM_THREADS``, or
        else as many threads as the process may run at a time, by its affinity mask and by its
        cgroup's quota, when `instep` is imported.

    Examples
    --------
    >>> import instep
    >>> instep.get_num_threads() >= 1
    True
    """
    return _instep.get_num_threads()


def set_num_threads(count: int) -> None:
    """Set the most threads that a step runs on, for the whole process.

    Parameters
    ----------
    count : int
        1 or more, the calling thread included. More threads than the process may run at a time
        make no step faster.

    Raises
    ------
    TypeError
        A count that is not an integer.
    ValueError
        A count of less than 1.

    Examples
    --------
    >>> import instep
    >>> before = instep.get_num_threads()
    >>> instep.set_num_threads(1)
    >>> instep.get_num_threads()
    1
    >>> instep.set_num_threads(before)
    """
    check_integer("count", count, least=1)
    _instep.set_num_threads(min(count, sys.maxsize))


@contextlib.contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Set the most threads that a step runs on, until the end of the block.

    Parameters
    ----------
    count : int
        As for `set_num_threads`: for the whole process, with all its threads.

    Raises
    ------
    TypeError
        A count that is not an integer.
    ValueError
        A count of less than 1.

    Examples
    --------
    >>> import instep
    >>> with instep.num_threads(1):
    ...     instep.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def _register() -> None:
    """Show the threads to threadpoolctl."""
    from threadpoolctl import LibController, register

    class Controller(LibController):  # type: ignore[misc]
        user_api = "instep"
        internal_api = "instep"
        filename_prefixes = ("_instep.",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> str:
            return _instep.config()["version"]

    register(Controller)


# Missing, or older than 3.2.
with contextlib.suppress(ImportError):
    _register()
