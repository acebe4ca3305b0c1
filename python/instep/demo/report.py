"""What the demo shows: the table and the picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from rich import box
from rich.table import Table
from rich.text import Text

from instep.demo.training import Comparison

# From the palette of Okabe and Ito, which color-blind readers can tell apart.
RULE_COLORS = ("#000000", "#E69F00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9")
NUMPY_COLOR, INSTEP_COLOR = "#999999", "#D55E00"


def table(comparisons: Sequence[Comparison]) -> Table:
    """Make the table, a row for each rule.

    Parameters
    ----------
    comparisons : sequence of Comparison
        The two runs of each rule.

    Returns
    -------
    table : rich.table.Table
        Where the two runs of a rule have the same loss or accuracy, it is there once.
    """
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    made.add_column("rule", no_wrap=True)
    made.add_column("loss", justify="right")
    made.add_column("held-out\naccuracy", justify="right")
    made.add_column("updates,\nNumPy", justify="right")
    made.add_column("updates,\ninstep", justify="right")
    made.add_column("speed-up", justify="right")
    made.add_column("identical\nbits", justify="center")
    for pair in comparisons:
        made.add_row(
            pair.rule,
            _once(f"{pair.numpy.losses[-1]:#.3g}", f"{pair.instep.losses[-1]:#.3g}"),
            _once(f"{pair.numpy.accuracy:.1%}", f"{pair.instep.accuracy:.1%}"),
            f"{1000 * pair.numpy.seconds:.1f} ms",
            f"{1000 * pair.instep.seconds:.1f} ms",
            f"{pair.speed_up:.1f}x",
            "[red]NO[/]" if pair.differing else "[green]yes[/]",
        )
    return made


def verdict(comparisons: Sequence[Comparison]) -> Text:
    """Say whether all arrays are bit-for-bit identical, and if not, which ones differ.

    Parameters
    ----------
    comparisons : sequence of Comparison
        The two runs of each rule.

    Returns
    -------
    text : rich.text.Text
        One line if all is well, else one for each rule that differs.
    """
    lines = [
        f"{pair.rule}: different bits in {', '.join(pair.differing)}"
        for pair in comparisons
        if pair.differing
    ]
    if lines:
        return Text("\n".join(lines), "red")
    return Text("Weights and optimizer states are identical to the bit.", "green")


def draw(comparisons: Sequence[Comparison], subject: str, out: Path) -> None:
    """Draw the loss curves and the update times.

    Parameters
    ----------
    comparisons : sequence of Comparison
        The two runs of each rule.
    subject : str
        What was trained.
    out : Path
        Where to write the PNG.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    outcome = "different" if any(pair.differing for pair in comparisons) else "identical"
    figure.suptitle(f"{subject}: {outcome} bits from NumPy and instep", fontsize=16)
    left, right = figure.subplots(1, 2)
    _draw_losses(left, comparisons)
    _draw_times(right, comparisons)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=11)
    figure.savefig(out, format="png", dpi=150)


def _draw_losses(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    for pair, color in zip(comparisons, RULE_COLORS, strict=False):
        epochs = range(1, len(pair.numpy.losses) + 1)
        axes.plot(epochs, pair.numpy.losses, color=color, linewidth=6, alpha=0.3)
        axes.plot(epochs, pair.instep.losses, ".-", color=color, linewidth=1.5, label=pair.rule)
    axes.set_title("Training loss: NumPy (wide line), instep (thin line)", fontsize=13)
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel("mean cross-entropy", fontsize=12)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=12)


def _draw_times(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    places = np.arange(len(comparisons))
    width = 0.38
    numpy_times = [1000 * pair.numpy.seconds for pair in comparisons]
    instep_times = [1000 * pair.instep.seconds for pair in comparisons]
    axes.bar(places - width / 2, numpy_times, width, color=NUMPY_COLOR, label="NumPy loop")
    bars = axes.bar(places + width / 2, instep_times, width, color=INSTEP_COLOR, label="instep")
    ratios = [f"{pair.speed_up:.1f}x" for pair in comparisons]
    axes.bar_label(bars, ratios, padding=3, fontsize=13, fontweight="bold", color=INSTEP_COLOR)
    axes.set_title("Time in updates", fontsize=13)
    axes.set_xticks(places, [pair.rule for pair in comparisons])
    axes.set_ylabel("milliseconds, all epochs", fontsize=12)
    axes.legend(frameon=False, fontsize=12)


def _once(numpy: str, instep: str) -> str:
    return numpy if numpy == instep else f"{numpy}\n{instep}"
