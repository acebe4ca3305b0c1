"""What the bench shows: the tables, the JSON and the picture."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import cpuinfo
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich import box
from rich.table import Table
from rich.text import Text

from instep.bench.contestants import OURS, Contestant, Instep, Limit
from instep.bench.measuring import Result, Setting
from instep.bench.peers import PEERS
from instep.configuration import config

__all__ = ["as_json", "draw", "legend", "machine", "opening", "tables", "title"]

# From the palette of Okabe and Ito, which color-blind readers can tell apart; and markers.
STYLES = {
    "instep": ("#D55E00", "o"),
    "instep, eps inside": ("#E69F00", "o"),
    "limit": ("#000000", ""),
    "NumPy": ("#999999", "s"),
    "torch, fused": ("#CC79A7", "^"),
    "torch, foreach": ("#CC79A7", "v"),
    "numba": ("#009E73", "D"),
    "numexpr": ("#56B4E9", "X"),
    "JAX, optax": ("#0072B2", "P"),
    "Thinc": ("#7A5C00", "*"),
}


def machine(able: Sequence[type[Contestant]]) -> dict[str, Any]:
    """Describe what is measured, and on what.

    Parameters
    ----------
    able : sequence of type
        The contestants.

    Returns
    -------
    machine : dict
        ``"cpu"``, its name; ``"system"`` and ``"python"``; ``"instep"``, as `instep.config` has it;
        ``"versions"`` of the contestants' packages.
    """
    packages = dict.fromkeys(package for one in able for package in one.packages)
    return {
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", "unknown CPU"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "instep": config(),
        "versions": {package: version(package) for package in packages},
    }


def opening(
    machine: dict[str, Any], able: Sequence[type[Contestant]], missing: dict[str, str]
) -> Text:
    """Say what is going to be measured, and what is not.

    Parameters
    ----------
    machine : dict
        What `machine` returned.
    able : sequence of type
        The contestants.
    missing : dict of str
        Why others don't take part, by their names.

    Returns
    -------
    text : rich.text.Text
        Some lines.
    """
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"A step of Adam on one array, {len(able)} contestants taking turns.",
        f"{machine['cpu']}; {machine['instep']['isa']}; {versions}.",
        *(f"Missing: {name} ({reason})" for name, reason in missing.items()),
    ]
    if missing:
        lines.append("Most peers come with: pip install 'instep[peers]'")
    return Text("\n".join(lines))


def title(setting: Setting, *, with_size: bool = True) -> str:
    """Return a setting in words.

    Parameters
    ----------
    setting : Setting
        The setting.
    with_size : bool, default True
        Whether to name its size.

    Returns
    -------
    title : str
        Such as "float32, 1 thread, 1,000 elements".
    """
    words = f"{setting.dtype}, {setting.threads} thread{'s' if setting.threads > 1 else ''}"
    if setting.in_dicts:
        return f"{words}, the course's dict loop, {setting.size:,} weights"
    if setting.arrays > 1:
        return f"{words}, a list of {setting.arrays} arrays of {setting.size:,}"
    if with_size:
        words += f", {setting.size:,} elements"
    if setting.blas_threads is not None:
        words += f", after a product on {setting.blas_threads}"
    return words


def tables(results: Sequence[Result]) -> Iterator[Table]:
    """Make a table for each dtype and number of threads.

    Parameters
    ----------
    results : sequence of Result
        Those of a setting next to each other, and sizes of a dtype and number of threads.

    Yields
    ------
    table : rich.table.Table
        A row for each size and contestant.
    """
    for words, group in groupby(results, lambda result: title(result.setting, with_size=False)):
        made = Table(title=words, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        made.add_column("elements", justify="right")
        made.add_column("contestant", no_wrap=True)
        made.add_column("ns per\nelement", justify="right")
        made.add_column("GB/s", justify="right")
        made.add_column("ratio to\ninstep", justify="right")
        made.add_column("share of\nmemory limit", justify="right")
        made.add_column("", no_wrap=True)
        for size, iterator in groupby(group, lambda result: result.setting.size):
            found = {result.contestant: result for result in iterator}
            ours, limit = found[Instep.name], found.get(Limit.name)
            fastest = _fastest(found)
            for name, result in found.items():
                made.add_row(
                    f"{size:,}" if result is ours else "",
                    name,
                    _three_digits(result.ns_per_element),
                    f"{result.gigabytes_per_second:.1f}",
                    f"{result.seconds / ours.seconds:.2f}",
                    f"{limit.seconds / result.seconds:.0%}" if limit else "",
                    "fastest" if name == fastest else "",
                    style="bold" if result is ours else "",
                )
            made.add_section()
        yield made


def _fastest(found: Mapping[str, Result]) -> str:
    """Return who was fastest at a size."""
    others = (name for name in found if name != Limit.name)
    return min(others, key=lambda name: found[name].seconds)


def legend(able: Sequence[type[Contestant]], all_threads: int) -> Text:
    """Explain what the tables do not.

    Parameters
    ----------
    able : sequence of type
        The contestants.
    all_threads : int
        How many threads there are.

    Returns
    -------
    text : rich.text.Text
        A line for each thing.
    """
    lines = [
        "ratio to instep: the time divided by instep's; share of memory limit: the limit's time "
        "divided by that. More than 100 % is noise.",
        "GB/s: the bytes that Adam has to move (read p, g, m and v, write p, m and v); what a "
        "library moves besides these is not counted.",
        "limit: instep's loop moves the same bytes, with an addition instead of Adam.",
        "fastest: of all but the limit at that size.",
        "after a product on n: NumPy multiplies matrices on n threads before every step; that is "
        "not counted.",
        "the course's dict loop: the rest of a training step comes before each step, and is not "
        "counted; NumPy is the loop as it is in the notebooks.",
        "NumPy and Thinc always run on one thread.",
    ]
    lines += [
        f"{one.name}: its threads can't be chosen while it runs; measured with {all_threads} only."
        for one in able
        if one.needs_all_threads
    ]
    return Text("\n".join(lines))


def as_json(
    results: Sequence[Result], machine: dict[str, Any], missing: dict[str, str]
) -> dict[str, Any]:
    """Return all of it as JSON has it.

    Parameters
    ----------
    results : sequence of Result
        The results.
    machine : dict
        What `machine` returned.
    missing : dict of str
        Why others took no part, by their names.

    Returns
    -------
    run : dict
        ``"machine"``, ``"missing"`` and ``"results"``: a dict for each, with ``"seconds"``, the
        median time of a step.
    """
    return {
        "machine": machine,
        "missing": missing,
        "results": [
            {
                "dtype": result.setting.dtype,
                "threads": result.setting.threads,
                "size": result.setting.size,
                "arrays": result.setting.arrays,
                "in_dicts": result.setting.in_dicts,
                "blas_threads": result.setting.blas_threads,
                "contestant": result.contestant,
                "rounds": result.rounds,
                "seconds": result.seconds,
                "ns_per_element": result.ns_per_element,
                "gigabytes_per_second": result.gigabytes_per_second,
            }
            for result in results
        ],
    }


def draw(results: Sequence[Result], machine: dict[str, Any], out: Path) -> None:
    """Draw the time per element over the size.

    Parameters
    ----------
    results : sequence of Result
        The results.
    machine : dict
        What `machine` returned.
    out : Path
        Where to write the PNG, of single arrays: a row for each dtype, a column for each number of
        threads, and of threads of a product between steps.
    """
    results = [r for r in results if r.setting.arrays == 1 and not r.setting.in_dicts]
    dtypes = list(dict.fromkeys(result.setting.dtype for result in results))
    columns = list(
        dict.fromkeys((result.setting.threads, result.setting.blas_threads) for result in results)
    )
    figure = Figure(figsize=(5 * len(columns) + 2.5, 4 * len(dtypes) + 1), layout="constrained")
    panels = figure.subplots(len(dtypes), len(columns), sharex=True, sharey=True, squeeze=False)
    names = [one.name for one in (*OURS, *PEERS)]
    for row, dtype in zip(panels, dtypes, strict=True):
        for axes, column in zip(row, columns, strict=True):
            here = [
                result
                for result in results
                if (result.setting.dtype, result.setting.threads, result.setting.blas_threads)
                == (dtype, *column)
            ]
            axes.set_title(title(here[0].setting, with_size=False), fontsize=13)
            for name in names:
                points = [(r.setting.size, r.ns_per_element) for r in here if r.contestant == name]
                if points:
                    color, marker = STYLES[name]
                    axes.plot(
                        *zip(*points, strict=True),
                        color=color,
                        marker=marker,
                        markersize=6 if marker == "*" else 4.5,
                        linestyle="--" if name == Limit.name else "-",
                        linewidth=2.5 if name == Instep.name else 1.3,
                        zorder=3 if name == Instep.name else 2,
                        label=name,
                    )
            axes.set(xscale="log", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1,)))
            axes.yaxis.set_major_formatter("{x:,g}")
            axes.xaxis.set_major_formatter(FuncFormatter(_short))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(alpha=0.3)
            axes.grid(alpha=0.15, which="minor")
            axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("elements of the array", fontsize=12)
    for axes in panels[:, 0]:
        axes.set_ylabel("nanoseconds per element", fontsize=12)
    # Every line once, whichever panels it is in; from the slowest of all to the fastest.
    lines = {line.get_label(): line for axes in panels.flat for line in axes.get_lines()}
    last = {name: r.ns_per_element for name in names for r in results if r.contestant == name}
    order = sorted(lines, key=lambda name: -last[str(name)])
    figure.legend([lines[name] for name in order], order, loc="outside right center", frameon=False)
    figure.suptitle(
        f"One step of Adam: instep {machine['instep']['version']} "
        f"({machine['instep']['isa']}) and its peers\n{machine['cpu']}",
        fontsize=14,
    )
    figure.savefig(out, format="png", dpi=150)


def _three_digits(number: float) -> str:
    """Return a number with three digits, or all those before the point."""
    places = next(places for places, least in enumerate((100, 10, 1, 0)) if number >= least)
    return f"{number:,.{places}f}"


def _short(number: float, _place: int | None) -> str:
    """Return 1,000 as 1k and 1,000,000 as 1M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"
