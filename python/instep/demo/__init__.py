"""The demo: one network, trained twice per rule, with bit-for-bit identical results.

It trains the course's network on scanned digits, with gradient descent, momentum, RMSprop and Adam;
each rule once with the update loop of the notebooks and once with instep; or with the rules of
another course or book or of scikit-learn, in its format. The modules, in the order
in which they come into play:

- `instep.demo.digits`: the data;
- `instep.demo.network`: forward and backward pass, in NumPy;
- `instep.demo.updates_numpy`: the update loop that a notebook has; `updates_cs231n`,
  `updates_dlfs` and `updates_nnfs`: those of the other formats; `rules_sklearn`: scikit-learn's,
  which has them itself;
- `instep.demo.training`: both runs of a rule, batch by batch in turn, compared to the bit;
- `instep.demo.report`: the table and the picture.

It needs the extra: ``pip install 'instep[demo]'``.
"""

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from threadpoolctl import threadpool_limits

from instep.configuration import config
from instep.demo import digits, report
from instep.demo.training import HOSTS, Rule, train_twice

__all__ = ["HOST_NAMES", "rules_of", "run"]

HOST_NAMES = {
    "course": "the deep-learning course",
    "cs231n": "CS231n",
    "dlfs": "Deep Learning from Scratch",
    "nnfs": "Neural Networks from Scratch",
    "sklearn": "scikit-learn's perceptrons",
}


def rules_of(host: str) -> tuple[Rule, ...]:
    """Return the rules of a host; scikit-learn's need it to be installed.

    Parameters
    ----------
    host : str
        One of `HOST_NAMES`.

    Returns
    -------
    rules : tuple of Rule
        In the order in which the demo trains them.

    Raises
    ------
    ModuleNotFoundError
        The host is not installed.
    """
    if host == "sklearn":
        return tuple(importlib.import_module("instep.demo.rules_sklearn").RULES)
    return HOSTS[host]


def run(
    hidden: Sequence[int],
    epochs: int,
    dtype: Literal["float32", "float64"],
    out: Path,
    host: Literal["course", "cs231n", "dlfs", "nnfs", "sklearn"] = "course",
) -> bool:
    """Train, print the table and draw the picture.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    epochs : int
        Passes over the data.
    dtype : {"float32", "float64"}
        Of data, weights and state.
    out : Path
        Where to write the picture, a PNG.
    host : {"course", "cs231n", "dlfs", "nnfs", "sklearn"}, default "course"
        Whose rules, in whose format.

    Returns
    -------
    identical : bool
        Whether instep was bit-for-bit identical to the NumPy loop, for every rule.
    """
    rules = rules_of(host)
    console = Console(highlight=False)
    data = digits.load(dtype)
    layers = "-".join(map(str, (len(data.X_train), *hidden, len(data.Y_train))))
    here = config()
    console.print(
        f"Training a {layers} network on {data.X_train.shape[1]:,} digits, {dtype}, "
        f"twice per rule,\nin the format of {HOST_NAMES[host]}.\n"
        f"instep {here['version']} ({here['isa']}), NumPy {here['numpy']}.\n"
    )

    comparisons = []
    progress = Progress(
        TextColumn("{task.description:16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
    )
    # No thread but this one, be it for the bars or in NumPy's matrix products, where threads go on
    # spinning after their work is done: they would disturb the updates that are timed.
    with threadpool_limits(1), progress:
        tasks = [progress.add_task(rule.name, start=False, total=epochs) for rule in rules]
        for rule, task in zip(rules, tasks, strict=True):
            progress.start_task(task)
            advance = partial(progress.update, task, advance=1, refresh=True)
            comparisons.append(train_twice(rule, data, hidden, epochs, advance))

    console.print()
    console.print(report.table(comparisons))
    console.print()
    console.print(report.verdict(comparisons))
    report.draw(comparisons, f"{layers} network on digits, {dtype}", out)
    # As Text: what looks like markup in a file's name is none.
    console.print(Text(f"Loss curves and update times: {out}"), soft_wrap=True)
    return not any(comparison.differing for comparison in comparisons)
