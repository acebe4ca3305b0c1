"""Write the tables of a saved run as a page: python -m benches.figures RUN.json PAGE.md."""

import json
import sys
from pathlib import Path
from typing import Any

INTRODUCTIONS = {
    "figures": """\
# Figures

`make figures` writes this page. All numbers are medians of one run, in which the things compared
take turns.

- **Limit** is the memory limit: a loop that loads and stores the same arrays with one addition
  each. No rule with that many states can be faster. The ratio is the recipe's time divided by the
  limit's.
- **Added** is how much longer a step takes with an option, and how much longer if NumPy does the
  same after the step. The ratio is NumPy's time divided by instep's. `g.max()` reads the gradients
  once, which is the least that a norm needs.
""",
    "layouts": """\
# Layouts

`make layouts` writes this page. All numbers are medians of one run on one thread, in which instep
and NumPy take turns.

The aim: with every layout of the arrays, instep is at least as fast as the NumPy line that does the
same, such as `p -= lr*g` for SGD. The ratio is NumPy's time divided by instep's. Below 1, instep is
slower.

A strided array is stepped without a copy of the whole. Parts that are dense along some axes are
stepped in place. Everything else is gathered into tiles of a few thousand elements, stepped, and
scattered back. In the lines with rows in any order or in rising order, each row comes once. In
those with "twice", each row comes two times, and its gradients are summed first.

The closest cases are all SGD: rows of a 1-D parameter, where a step first checks that all rows
exist and that none comes twice; columns of a matrix with other gradients at each step; and every
second element of a vector. They take as long as NumPy's line, within what differs from one run to
the next (ratios of 0.97 to 1.12).
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
