"""Write the tables of a saved run as a page: python -m benches.figures RUN.json PAGE.md."""

import json
import sys
from pathlib import Path
from typing import Any

INTRODUCTIONS = {
    "figures": """\
# Figures

Written by `make figures`: medians of one run, in which what is compared takes turns.

- **Limit**: the same arrays loaded and stored with one addition each, the fastest that any rule
  with that many states could be. The ratio is the recipe's time over the limit's.
- **Added**: how much longer a step takes with an option; and how much longer if NumPy does the same
  after it. The ratio is NumPy's over instep's. `g.max()` is a read of the gradients, the least that
  a norm takes.
""",
    "layouts": """\
# Layouts

Written by `make layouts`: medians of one run on one thread, in which both take turns.

The aim is that no layout of arrays and no shape of a call is slower than the NumPy line that does
the same, such as `p -= lr*g` for SGD. The ratio is NumPy's time over instep's: below 1, instep is
slower.

A strided array is stepped without a copy of it. What is dense along some axes is stepped in place;
all else is gathered into tiles of a few thousand elements, stepped, and scattered back. Of rows in
any or in rising order none comes twice; "twice" are rows of which each comes two times, and is
summed first.

Two cases do not reach the aim yet: rows of a 1-D parameter, as a step first looks whether all rows
are there and none comes twice, and NumPy's line does not; and SGD over every second element.
""",
}


def are_numbers(rows: list[dict[str, str]]) -> list[bool]:
    """Return which columns of a table have numbers in them."""
    return [any(row[column].lstrip("-")[:1].isdigit() for row in rows) for column in rows[0]]


def page(run: dict[str, Any], introduction: str) -> str:
    """Return the page: a table for each title that rows were recorded under."""
    tables: dict[str, list[dict[str, str]]] = {}
    for benchmark in run["benchmarks"]:
        if row := benchmark["extra_info"].get("row"):
            tables.setdefault(row["title"], []).append(row["cells"])
    machine = run["machine_info"]
    instep = machine["instep"]
    parts = [
        introduction,
        f"{machine['cpu']['brand_raw']}; instep {instep['version']}, {instep['isa']}, "
        f"{instep['threads']} thread{'s' if instep['threads'] > 1 else ''}; "
        f"NumPy {instep['numpy']}; Python {machine['python_version']}.\n",
    ]
    for title, rows in tables.items():
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        lines = [list(rows[0]), ["---:" if number else "---" for number in are_numbers(rows)]]
        lines += [
            [
                cell if number else f"`{cell}`"
                for cell, number in zip(row.values(), are_numbers(rows), strict=True)
            ]
            for row in rows
        ]
        parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(page(json.loads(source.read_text()), INTRODUCTIONS[target.stem]))
    print(f"Wrote {target}")
