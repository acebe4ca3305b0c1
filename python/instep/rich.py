"""A bar for steps that take seconds, with rich.

The extra is ``rich``: ``pip install 'instep[rich]'``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["bar"]


@contextmanager
def bar(
    description: str = "step", *, console: Console | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for as long as a ``with`` block lasts.

    Parameters
    ----------
    description : str, default "step"
        The text before the bar.
    console : rich.console.Console, optional
        Where the bar is shown; by default on standard output.

    Yields
    ------
    callable
        Pass it to `instep.disk.Streamed.step` as `progress`, in any number of steps. The bar starts
        again with each.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import instep
    >>> from instep.disk import Streamed
    >>> from instep.rich import bar
    >>> params = {"W": np.ones(3)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Streamed(instep.Adam, params, folder=folder) as opt:
    ...         with bar("Adam") as progress:
    ...             result = opt.step({"W": np.ones(3)}, progress=progress)
    Adam ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 100% 0:00:00
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show
