"""The bench: a step of Adam on arrays from small to large, against every peer installed.

All contestants take turns within one run. The modules, in the order in which they come into play:

- `instep.bench.contestants`: instep, the limit, and the formula in NumPy;
- `instep.bench.peers`: other libraries, an adapter each;
- `instep.bench.dicts`: the course's own loop, as it is in notebooks and by instep;
- `instep.bench.arrays`: what they step;
- `instep.bench.turns`: who is timed when;
- `instep.bench.measuring`: all settings, and the statistics;
- `instep.bench.report`: the tables, the JSON and the picture.

It needs the extra: ``pip install 'instep[bench]'``; the peers: ``pip install 'instep[peers]'``.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from instep.bench import report
from instep.bench.measuring import (
    Pace,
    Result,
    Setting,
    blas_threads,
    bytes_needed,
    contestants,
    measure,
    nets,
    sizes,
    taking_part,
)
from instep.threads import get_num_threads

__all__ = ["CAREFUL", "QUICK", "run"]

# After a turn the threads of OpenMP and XLA go on spinning: for some 0.3 ms they were seen to slow
# down the steps of others.
CAREFUL = Pace(
    turn_seconds=0.015, total_seconds=3.0, least_rounds=5, most_rounds=51, pause_seconds=0.002
)
QUICK = Pace(turn_seconds=0.001, total_seconds=0.1, least_rounds=2, most_rounds=5, pause_seconds=0)


def run(
    dtypes: Sequence[str],
    threads: Sequence[int] | None,
    max_size: int,
    pace: Pace,
    out: Path,
    json_out: Path | None,
    between: str = "nothing",
) -> None:
    """Measure, print the tables, draw the picture and write the JSON.

    Parameters
    ----------
    dtypes : sequence of {"float32", "float64"}
        Of the arrays; all sizes are measured for each, and a list of many small arrays.
    threads : sequence of int, optional
        Numbers of threads; all sizes are measured for each. By default 1 and as many as there are.
    max_size : int
        Elements of the largest array, 100 or more.
    pace : Pace
        How long to measure.
    out : Path
        Where to write the picture, a PNG.
    json_out : Path, optional
        Where to write all medians.
    between : {"nothing", "matmul"}, default "nothing"
        What is done between steps, untimed: a product of two matrices is done by NumPy, first with
        its BLAS on one thread, then on as many as it has. Pools that wait for work by spinning, as
        those of OpenMP do, and that of a BLAS, are in each other's way.

    Raises
    ------
    MemoryError
        The largest size takes more memory than is free. Nothing has been measured.
    """
    console = Console(highlight=False)
    all_threads = get_num_threads()
    products = dict.fromkeys((1, blas_threads())) if between == "matmul" else (None,)
    settings = [
        Setting(dtype, count, size, product)
        for dtype in dict.fromkeys(dtypes)
        for count in dict.fromkeys(threads or (1, all_threads))
        for product in products
        for size in sizes(max_size)
    ]
    if between == "nothing":
        settings += nets(dtypes)
    results: list[Result] = []
    able, missing = contestants(dtypes)
    _check_memory(
        max(
            bytes_needed(len(taking_part(able, s, all_threads)), s.dtype, s.size) for s in settings
        ),
        max_size,
    )
    machine = report.machine(able)
    console.print(report.opening(machine, able, missing), soft_wrap=True)
    console.print()

    progress = Progress(
        TextColumn("{task.description:60}" if between == "matmul" else "{task.description:34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        # No thread but this one while steps are timed.
        auto_refresh=False,
    )
    with progress:
        task = progress.add_task("", total=len(settings))
        for setting in settings:
            progress.update(task, description=report.title(setting), refresh=True)
            results += measure(able, setting, all_threads, pace)
            progress.update(task, advance=1, refresh=True)

    for table in report.tables(results):
        console.print()
        console.print(table)
    console.print()
    console.print(report.legend(able, all_threads))
    report.draw(results, machine, out)
    # As Text: what looks like markup in a file's name is none.
    console.print(Text(f"Time per element by size: {out}"), soft_wrap=True)
    if json_out is not None:
        json_out.write_text(json.dumps(report.as_json(results, machine, missing), indent=1) + "\n")
        console.print(Text(f"All medians: {json_out}"), soft_wrap=True)


def _check_memory(needed: int, max_size: int) -> None:
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{max_size:,} elements take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB "
            "are free: choose a smaller --max-size, or one --dtype"
        )
