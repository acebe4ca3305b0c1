"""A step of Adam on one large array, stored in fewer bytes: all ways take turns within one run.

torch and bitsandbytes take part where they are installed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any, Literal

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

import instep
from instep.bench.storage_peers import PEERS, Peer
from instep.configuration import config
from instep.ml_dtypes import BFLOAT16
from instep.threads import get_num_threads, set_num_threads

__all__ = ["STORAGES", "Storage", "measure", "run"]


@dataclass(frozen=True)
class Storage:
    """A way to store what a step reads and writes."""

    name: str
    #: What a step reads and writes of an element.
    bytes: int
    dtype: Any = np.float32
    options: dict[str, Any] = field(default_factory=dict)
    #: That of the gradient, if it is another one.
    gradient: Any = None
    order: Literal["C", "F"] = "C"


STORAGES = (
    Storage("float32", 28),
    Storage("bfloat16", 22, BFLOAT16),
    Storage("bfloat16 states", 20, options={"state_dtype": "bfloat16"}),
    Storage("all bfloat16", 14, BFLOAT16, {"state_dtype": "bfloat16"}),
    Storage("split", 26, BFLOAT16, {"master": "split"}),
    Storage("split, bfloat16 states", 18, BFLOAT16, {"master": "split", "state_dtype": "bfloat16"}),
    Storage("8-bit states", 16, options={"state_dtype": "8bit"}),
    Storage("bfloat16, 8-bit states", 10, BFLOAT16, {"state_dtype": "8bit"}),
    Storage("bfloat16, float32 gradients", 24, BFLOAT16, gradient=np.float32),
    Storage("bfloat16, Fortran order", 22, BFLOAT16, order="F"),
)


def measure(
    storages: Sequence[Storage | Peer], size: int, threads: int, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of every step, by storage.

    Parameters
    ----------
    storages : sequence of Storage or Peer
        Each does a step in every round, but for one that says that it takes long.
    size : int
        Elements of the array.
    threads : int
        Of the steps.
    rounds : int
        How often, after a first time that does not count.
    """
    before = get_num_threads()
    set_num_threads(threads)
    try:
        steps = {storage.name: _step(storage, size, threads) for storage in storages}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        most = {each.name: each.most for each in storages if isinstance(each, Peer) and each.most}
        for number in track(range(rounds + 1), f"{threads} threads", transient=True):
            for name, step in steps.items():
                if number > most.get(name, rounds):
                    continue
                start = perf_counter()
                step()
                if number:
                    seconds[name].append(perf_counter() - start)
        return seconds
    finally:
        set_num_threads(before)


def _step(storage: Storage | Peer, size: int, threads: int) -> Callable[[], object]:
    """Return what does the next step."""
    # Of two axes, so that memory may have them in either order.
    rows = 1000 if size % 1000 == 0 else 1
    values = np.linspace(-0.05, 0.05, 1001, dtype=np.float32)
    numbers = np.resize(values, size).reshape(rows, -1)
    if isinstance(storage, Peer):
        return storage.step(numbers, threads)
    p = numbers.astype(storage.dtype, storage.order)
    g = {"p": numbers.astype(storage.gradient or storage.dtype, storage.order)}
    optimizer = instep.Adam({"p": p}, **storage.options)
    return lambda: optimizer.step(g)


def run(size: int, threads: Sequence[int] | None, rounds: int) -> None:
    """Measure, and print a table for each number of threads.

    Parameters
    ----------
    size : int
        Elements of the array.
    threads : sequence of int, optional
        Numbers of threads; by default 1 and as many as there are.
    rounds : int
        Steps of each.

    Raises
    ------
    MemoryError
        All arrays together take more memory than is free. Nothing has been measured.
    """
    console = Console(highlight=False)
    peers = [peer for peer in PEERS if peer.is_installed()]
    missing = dict.fromkeys(peer.package for peer in PEERS if peer not in peers)
    storages: list[Storage | Peer] = [*STORAGES, *peers]
    needed, free = 20 * size * (len(storages) + 1), psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{size:,} elements take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            "free: choose a smaller --max-size"
        )
    here = config()
    console.print(
        f"A step of Adam on {size:,} elements, median of {rounds}, all taking turns.\n"
        f"instep {here['version']} ({here['isa']}), NumPy {here['numpy']}."
        + (f" Not installed: {', '.join(missing)}." if missing else "")
    )
    for count in dict.fromkeys(threads or (1, get_num_threads())):
        found = measure(storages, size, count, rounds)
        plain = median(found["float32"])
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column(f"{count} thread{'s' * (count > 1)}", no_wrap=True)
        table.add_column("bytes\nmoved", justify="right")
        table.add_column("ns an\nelement", justify="right")
        table.add_column("times as\nfast", justify="right")
        for storage in storages:
            middle = median(found[storage.name])
            ratio = f"{plain / middle:.2f}"
            table.add_row(storage.name, str(storage.bytes), f"{middle / size * 1e9:.3f}", ratio)
        console.print()
        console.print(table)
