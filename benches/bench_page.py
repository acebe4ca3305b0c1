"""Make docs/bench.md and its pictures of saved runs: python -m benches.bench_page RUN.json ...

The runs are those of ``python -m instep bench --json RUN.json`` on one machine, in as many pieces
as is convenient. They are kept together in docs/bench.json; without an argument the page is made of
that.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instep.bench import report
from instep.bench.measuring import Result, Setting

SETTING = ("dtype", "threads", "size", "blas_threads", "arrays", "in_dicts")
DOCS = Path(__file__).parents[1] / "docs"

INTRODUCTION = """\
# Against other libraries

This page shows the time of one step of Adam. All libraries take turns in one run, and each uses its
fastest way to step in place:

    python -m instep bench --dtype float32 --max-size 10000000 --json bench.json
    python -m benches.bench_page bench.json

The second command makes this page and its pictures. The medians are in `docs/bench.json`.

![Time per element over size, one line per library](bench.png)

The *memory limit* is a loop of instep's own that loads and stores the same arrays, with an addition
instead of Adam. Its time divided by instep's is the *share*: at 100% a step is as fast as memory
allows. A share over 100% is noise: nothing is faster than moving the bytes. The columns to the
right of it are other libraries' times divided by instep's: more than 1 is slower than instep, less
than 1 is faster.

## What to expect where

- **Small arrays**, up to some thousands of elements, are bound by the call: a microsecond for
  `Adam.step`. A list of arrays costs one call, and less than a tenth of a microsecond for each
  array.
- **Arrays that fit in a core's cache** are bound by arithmetic: one square root and one division
  for each element. float64 takes about twice as long as float32.
- **Large arrays** are bound by memory: instep moves each number once, and comes to 90 to 100 % of
  the limit. So do numba's loops, within a few percent. It matters where the system has put an
  array, so these are allocated four times. NumPy moves everything several times.
- **Two threads** in a loop of nothing but steps save time from some 30,000 elements on. They are
  about twice as fast as one from 100,000 to 3,000,000, where two cores also have two caches. A pool
  that keeps its threads awake, such as numba's, is a tenth faster around 100,000.
"""

BETWEEN = """\
## In a loop with other work

    python -m instep bench --between matmul --dtype float32 --max-size 1000000 --json between.json
    python -m benches.bench_page bench.json between.json

Between steps NumPy multiplies two matrices of 384 by 384, with its BLAS on one thread, then on all
of its threads. That time is not counted. The table has microseconds for a step in float32.

A pool that spins between steps, such as numba's or that of torch's OpenMP, can start at once while
the BLAS has one thread. If the BLAS has more threads, both want more cores than there are, and
single steps take milliseconds. instep's workers soon go to sleep, and a step uses several threads
only while that has saved time so far. Trying it takes a small part of the time.
All these libraries have their threads in one process here.

![The same with a matrix product between steps](between.png)
"""


def merged(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put runs of one machine together; of what is measured twice the later counts."""
    first = runs[0]
    found = {}
    for run in runs:
        same = all(run["machine"][key] == first["machine"][key] for key in ("cpu", "python"))
        if not same:
            raise ValueError("the runs are of two machines")
        for result in run["results"]:
            found[tuple(result[name] for name in (*SETTING, "contestant"))] = result
    versions = {k: v for run in runs for k, v in run["machine"]["versions"].items()}
    missing = {k: v for run in runs for k, v in run["missing"].items()}
    machine = {**first["machine"], "versions": versions}
    return {"machine": machine, "missing": missing, "results": list(found.values())}


def results_of(run: dict[str, Any]) -> list[Result]:
    """Return the results of a saved run."""
    return [
        Result(Setting(*(r[name] for name in SETTING)), r["contestant"], r["rounds"], r["seconds"])
        for r in run["results"]
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table, the first row its head, numbers to the right."""
    ruler = ["---" if index == len(rows[0]) - 1 else "---:" for index in range(len(rows[0]))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], ruler, *rows[1:]))


def ratio(number: float) -> str:
    """Return two digits, or all those before the point."""
    return f"{number:.2g}" if number < 99.5 else f"{number:,.0f}"


def by_size(results: Sequence[Result]) -> str:
    """Return the table of a dtype and number of threads: a row for each size."""
    others = dict.fromkeys(r.contestant for r in results)
    for name in ("instep", "limit"):
        del others[name]
    rows = [["elements", "ns per element", "share of the memory limit", *others, "fastest"]]
    for size in dict.fromkeys(r.setting.size for r in results):
        found = {r.contestant: r for r in results if r.setting.size == size}
        ours = found["instep"]
        limit = found.pop("limit")
        ratios = [
            ratio(found[name].seconds / ours.seconds) if name in found else "" for name in others
        ]
        share = f"{limit.seconds / ours.seconds:.0%}"
        fastest = min(found, key=lambda name: found[name].seconds)
        rows.append([f"{size:,}", f"{ours.ns_per_element:.3g}", share, *ratios, fastest])
    return table(rows)


def of_nets(results: Sequence[Result]) -> str:
    """Return the table of lists and dicts: a row for each contestant."""
    ours = next(r for r in results if r.contestant == "instep")
    rows = [["µs per step", "ns per array", "over instep's", "of"]]
    arrays = 6 if ours.setting.in_dicts else ours.setting.arrays
    for r in sorted(results, key=lambda r: r.seconds):
        each = f"{1e9 * r.seconds / arrays:,.0f}"
        over = ratio(r.seconds / ours.seconds)
        rows.append([f"{1e6 * r.seconds:,.1f}", each, over, r.contestant])
    return table(rows)


def between(results: Sequence[Result]) -> str:
    """Return the table of steps between products: a row for each size and BLAS."""
    columns = list(dict.fromkeys((r.contestant, r.setting.threads) for r in results))
    most = max(threads for _, threads in columns)
    shown = [
        (name, threads)
        for name, threads in columns
        if name == "instep" or (threads == most and name not in ("limit", "instep, eps inside"))
    ]
    shown.sort(key=lambda column: column[0] != "instep")
    heads = [f"{name}, {threads}" for name, threads in shown]
    rows = [["elements", "BLAS threads", *heads, "fastest"]]
    places = dict.fromkeys((r.setting.size, r.setting.blas_threads) for r in results)
    for size, blas in sorted(places):
        found = {
            (r.contestant, r.setting.threads): r.seconds
            for r in results
            if (r.setting.size, r.setting.blas_threads) == (size, blas)
        }
        cells = [f"{1e6 * found[column]:,.3g}" if column in found else "" for column in shown]
        fastest = min((c for c in shown if c in found), key=found.__getitem__)
        rows.append([f"{size:,}", str(blas), *cells, f"{fastest[0]}, {fastest[1]}"])
    return table(rows)


def page(run: dict[str, Any]) -> str:
    """Return the page."""
    machine, results = run["machine"], results_of(run)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        INTRODUCTION,
        f"{machine['cpu']}, {machine['instep']['isa']}; {machine['system']}; "
        f"Python {machine['python']}; {versions}.\n",
    ]
    if run["missing"]:
        parts.append(f"Not there: {', '.join(run['missing'])}.\n")
    single = [r for r in results if r.setting.arrays == 1 and not r.setting.in_dicts]
    plain = [r for r in single if r.setting.blas_threads is None]
    nets = [r for r in results if r not in single]
    for words in dict.fromkeys(report.title(r.setting, with_size=False) for r in plain):
        these = [r for r in plain if report.title(r.setting, with_size=False) == words]
        parts += [f"## {words}\n", by_size(these)]
    for words in dict.fromkeys(report.title(r.setting) for r in nets):
        these = [r for r in nets if report.title(r.setting) == words]
        parts += [f"## {words}\n", of_nets(these)]
    products = [r for r in single if r.setting.blas_threads is not None]
    if products:
        parts += [BETWEEN, between([r for r in products if r.setting.size >= 1000])]
    return "\n".join(parts)


def main(files: Sequence[str]) -> None:
    """Make the page and the pictures."""
    saved = DOCS / "bench.json"
    if files:
        run = merged([json.loads(Path(file).read_text()) for file in files])
        saved.write_text(json.dumps(run, indent=1) + "\n")
    run = json.loads(saved.read_text())
    (DOCS / "bench.md").write_text(page(run))
    results = results_of(run)
    for name, are_products in (("bench", False), ("between", True)):
        these = [r for r in results if (r.setting.blas_threads is not None) == are_products]
        if these:
            report.draw(these, run["machine"], DOCS / f"{name}.png")
    print("Wrote docs/bench.md")


if __name__ == "__main__":
    main(sys.argv[1:])
