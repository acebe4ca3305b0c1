"""The network trained in fewer bytes: what each storage costs in loss and accuracy.

The passes are float32 in all of them; what differs is how parameters and states of AdamW are
stored between steps. Two rows are what instep does not do: bfloat16 rounded to nearest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import instep
from instep.course import Arrays, random_mini_batches
from instep.demo import digits
from instep.demo.network import accuracy, backward, forward, initialize_parameters_he
from instep.ml_dtypes import BFLOAT16

__all__ = ["STORAGES", "Storage", "round_to_nearest", "run", "train"]

MINI_BATCH = 64


@dataclass(frozen=True)
class Storage:
    """A way to store what a step reads and writes."""

    name: str
    dtype: Any = np.float32
    options: dict[str, Any] = field(default_factory=dict)
    #: What is rounded to the nearest bfloat16 after every step, by NumPy.
    nearest: Sequence[str] = ()


STORAGES = (
    Storage("float32"),
    Storage("bfloat16 to nearest", nearest=("p",)),
    Storage("all bfloat16 to nearest", nearest=("p", "m", "v")),
    Storage("bfloat16", BFLOAT16),
    Storage("bfloat16, split", BFLOAT16, {"master": "split"}),
    Storage("bfloat16 states", options={"state_dtype": "bfloat16"}),
    Storage("all bfloat16", BFLOAT16, {"state_dtype": "bfloat16"}),
    Storage("split, bfloat16 states", BFLOAT16, {"master": "split", "state_dtype": "bfloat16"}),
    Storage("8-bit states", options={"state_dtype": "8bit"}),
    Storage("bfloat16, 8-bit states", BFLOAT16, {"state_dtype": "8bit"}),
    Storage("float16, master", np.float16, {"master": "float32"}),
)


@dataclass
class Trained:
    """What became of the network in one storage, with one seed."""

    losses: list[float]
    accuracy: float
    #: Of an element of a parameter and its states.
    bytes: float


def train(
    storage: Storage, data: digits.Digits, hidden: Sequence[int], epochs: int, seed: int
) -> Trained:
    """Train the network once, with AdamW.

    Parameters
    ----------
    storage : Storage
        How parameters and states are stored.
    data : Digits
        In float32.
    hidden : sequence of int
        Units of each hidden layer.
    epochs : int
        Passes over the data.
    seed : int
        Of weights, mini-batches and rounding.
    """
    layers = [len(data.X_train), *hidden, len(data.Y_train)]
    start = initialize_parameters_he(layers, np.float32, seed)
    params = {name: array.astype(storage.dtype) for name, array in start.items()}
    opt = instep.AdamW(params, lr=0.001, seed=seed, **storage.options)
    losses = []
    for epoch in range(epochs):
        total = 0.0
        batches = random_mini_batches(data.X_train, data.Y_train, MINI_BATCH, seed + epoch)
        for X, Y in batches:
            weights: Arrays = {name: p.astype(np.float32) for name, p in params.items()}
            loss, grads = backward(weights, forward(weights, X), Y)
            opt.step({name: grads[f"d{name}"].astype(storage.dtype) for name in params})
            round_to_nearest(storage, opt, params)
            total += loss * X.shape[1] / data.X_train.shape[1]
        losses.append(total)
    weights = {name: p.astype(np.float32) for name, p in params.items()}
    # To nearest they are float32 arrays here, and would be bfloat16 ones.
    one = "W1"
    arrays = {"p": params[one], **opt.state[one]}
    sizes = [2 if name in storage.nearest else array.itemsize for name, array in arrays.items()]
    held_out = accuracy(weights, data.X_held_out, data.Y_held_out)
    return Trained(losses, held_out, sum(sizes))


def round_to_nearest(
    storage: Storage, opt: instep.Optimizer, params: dict[str, NDArray[Any]]
) -> None:
    """Round, after a step, what the storage has in bfloat16 to nearest."""
    for name, p in params.items():
        arrays = {"p": p, **opt.state[name]}
        for each in storage.nearest:
            arrays[each][...] = arrays[each].astype(BFLOAT16)


def run(
    hidden: Sequence[int],
    epochs: int,
    seeds: int,
    out: Path,
    after_run: Callable[[], None] = lambda: None,
) -> None:
    """Train in every storage with several seeds, print the table and draw the picture.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    epochs : int
        Passes over the data.
    seeds : int
        How many seeds; 0 is the first.
    out : Path
        Where to write the picture, a PNG.
    after_run : callable, optional
        Called after each training.
    """
    console = Console(highlight=False)
    data = digits.load(np.float32)
    layers = "-".join(map(str, (len(data.X_train), *hidden, len(data.Y_train))))
    console.print(
        f"Training a {layers} network on {data.X_train.shape[1]:,} digits with AdamW, {epochs} "
        f"epochs, {seeds} seeds,\nin {len(STORAGES)} ways to store parameters and states.\n"
    )
    found: dict[str, list[Trained]] = {}
    for storage in STORAGES:
        found[storage.name] = []
        for seed in range(seeds):
            found[storage.name].append(train(storage, data, hidden, epochs, seed))
            after_run()
    console.print(_table(found))
    _draw(found, f"{layers} network on digits, mean of {seeds} seeds", out)
    console.print()
    console.print(Text(f"Loss curves: {out}"), soft_wrap=True)


def _table(found: dict[str, list[Trained]]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    made.add_column("storage", no_wrap=True)
    made.add_column("bytes", justify="right")
    made.add_column("final loss", justify="right")
    made.add_column("minus that of\nfloat32", justify="right")
    made.add_column("held-out\naccuracy", justify="right")
    plain = np.array([each.losses[-1] for each in found[STORAGES[0].name]])
    for name, runs in found.items():
        last = np.array([each.losses[-1] for each in runs])
        more = last - plain
        spread = f" ± {more.std(ddof=1):.5f}" if len(more) > 1 and more.any() else ""
        made.add_row(
            name,
            f"{runs[0].bytes:g}",
            f"{last.mean():.5f}",
            f"{more.mean():+.5f}{spread}" if more.any() else "0",
            f"{np.mean([each.accuracy for each in runs]):.1%}",
        )
    return made


def _draw(found: dict[str, list[Trained]], subject: str, out: Path) -> None:
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in found.items():
        losses = np.mean([each.losses for each in runs], axis=0)
        style = ":" if "nearest" in name else "-"
        axes.plot(range(1, len(losses) + 1), losses, style, label=name)
    axes.set_title(subject, fontsize=14)
    axes.set_xlabel("epoch", fontsize=12)
    axes.set_ylabel("training loss", fontsize=12)
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=10)
    figure.savefig(out, format="png", dpi=150)
