"""Draw the ratios of a saved run: python -m benches.plot_course RUN.json PICTURE.png."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

TITLES = {"gd": "gradient descent", "momentum": "momentum", "rmsprop": "RMSprop", "adam": "Adam"}
# Told apart without red and green, and by the markers alone.
STYLES = {
    "gd": ("#777777", "s"),
    "momentum": ("#009e73", "^"),
    "rmsprop": ("#d55e00", "D"),
    "adam": ("#0072b2", "o"),
}


def plot(run: dict[str, Any], picture: Path) -> None:
    ratios: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for benchmark in run["benchmarks"]:
        params, extra = benchmark["params"] or {}, benchmark["extra_info"]
        if "net" in params and params["contestant"] == "instep":
            line = ratios.setdefault((params["dtype"], params["rule"]), [])
            line.append((extra["parameters"], extra["ratio"]))
    dtypes = sorted({dtype for dtype, _ in ratios})

    figure, axes = plt.subplots(
        1, len(dtypes), figsize=(11, 5), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, dtype in zip(axes[0], dtypes, strict=True):
        for rule, title in TITLES.items():
            color, marker = STYLES[rule]
            panel.plot(
                *zip(*sorted(ratios[dtype, rule]), strict=True),
                color=color,
                marker=marker,
                label=title,
            )
        panel.axhline(1, color="black", linewidth=1, linestyle=":")
        panel.set(title=dtype, xscale="log", yscale="log", xlabel="parameters of the net")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    axes[0, 0].set_ylabel("times faster than the NumPy loop")
    axes[0, -1].legend(frameon=False)
    versions = run["machine_info"]["instep"]
    figure.suptitle(
        f"instep {versions['version']} ({versions['isa']}, {versions['threads']} thread) against "
        f"the course's loop in NumPy {versions['numpy']}"
    )
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    plot(json.loads(source.read_text()), target)
    print(f"Drew {target}")
