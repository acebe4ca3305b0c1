"""Two problems trained in every storage: what fewer bytes cost in loss.

The digits are those of the demo. The text is of this project: its README and the pages in docs, of
which a network with one hidden layer guesses each character from the eight before it. `make
quality` prints the table.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import instep
import numpy as np
from instep.demo import digits
from instep.demo.storages import STORAGES, Storage, round_to_nearest, train
from numpy.typing import NDArray

Array = NDArray[Any]

ROOT = Path(__file__).parents[1]
CONTEXT, FEATURES, HIDDEN, BATCH = 8, 16, 128, 128


def text() -> tuple[Array, int]:
    """Return the characters of the text as numbers, and how many different ones there are."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    characters = np.array(list("".join(page.read_text("utf-8") for page in pages)))
    kinds, codes = np.unique(characters, return_inverse=True)
    return codes, len(kinds)


def start(kinds: int, seed: int) -> dict[str, Array]:
    """Return new weights."""
    rng = np.random.default_rng(seed)
    shapes = {
        "E": ((kinds, FEATURES), 0.5),
        "W1": ((CONTEXT * FEATURES, HIDDEN), (CONTEXT * FEATURES) ** -0.5),
        "b1": ((HIDDEN,), 0.0),
        "W2": ((HIDDEN, kinds), HIDDEN**-0.5),
        "b2": ((kinds,), 0.0),
    }
    return {
        name: (rng.standard_normal(shape) * scale).astype(np.float32)
        for name, (shape, scale) in shapes.items()
    }


def loss_and_gradients(
    weights: dict[str, Array], codes: Array, places: Array
) -> tuple[float, dict[str, Array]]:
    """Return the mean loss of guessing the characters at some places, and its gradients."""
    before = codes[places[:, None] - np.arange(CONTEXT, 0, -1)]
    x = weights["E"][before].reshape(len(places), -1)
    h = np.tanh(x @ weights["W1"] + weights["b1"])
    z = h @ weights["W2"] + weights["b2"]
    z -= z.max(axis=1, keepdims=True)
    odds = np.exp(z)
    odds /= odds.sum(axis=1, keepdims=True)
    rows, right = np.arange(len(places)), codes[places]
    loss = float(-np.log(odds[rows, right]).mean(dtype=float))
    odds[rows, right] -= 1
    odds /= len(places)
    dh = (odds @ weights["W2"].T) * (1 - h * h)
    features = np.zeros_like(weights["E"])
    dx = (dh @ weights["W1"].T).reshape(-1, FEATURES)
    np.add.at(features, before.ravel(), dx)
    grads = {
        "E": features,
        "W1": x.T @ dh,
        "b1": dh.sum(axis=0),
        "W2": h.T @ odds,
        "b2": odds.sum(axis=0),
    }
    return loss, grads


def train_on_text(storage: Storage, steps: int, seed: int) -> float:
    """Return the loss after so many steps, over 20,000 places of the text."""
    codes, kinds = text()
    params = {name: p.astype(storage.dtype) for name, p in start(kinds, seed).items()}
    rate = instep.schedules.Cosine(3e-3, 3e-5, steps=steps)
    opt = instep.AdamW(params, lr=rate, seed=seed, **storage.options)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        weights = {name: p.astype(np.float32) for name, p in params.items()}
        _, grads = loss_and_gradients(weights, codes, rng.integers(CONTEXT, len(codes), BATCH))
        opt.step({name: g.astype(storage.dtype) for name, g in grads.items()})
        round_to_nearest(storage, opt, params)
    weights = {name: p.astype(np.float32) for name, p in params.items()}
    places = np.random.default_rng(0).integers(CONTEXT, len(codes), 20_000)
    return loss_and_gradients(weights, codes, places)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="steps on the text")
    parser.add_argument("--epochs", type=int, default=40, help="epochs on the digits")
    arguments = parser.parse_args()
    data = digits.load(np.float32)
    plain: list[Array] = []
    print("| storage | text | digits |\n|---|---|---|")
    for storage in STORAGES:
        found = []
        for seed in range(arguments.seeds):
            on_digits = train(storage, data, (128, 64), arguments.epochs, seed).losses[-1]
            found.append((train_on_text(storage, arguments.steps, seed), on_digits))
            print(".", end="", file=sys.stderr, flush=True)
        losses = list(np.array(found).T)
        plain = plain or losses
        cells = [_cell(each, own) for each, own in zip(losses, plain, strict=True)]
        print(f"| {storage.name} | {' | '.join(cells)} |", flush=True)


def _cell(losses: Array, plain: Array) -> str:
    """Return the mean of what losses have more than the plain ones, and its spread."""
    more = losses - plain
    if not more.any():
        return f"{losses.mean():.4f}"
    return f"{more.mean():+.4f} ± {more.std(ddof=1):.4f}"


if __name__ == "__main__":
    main()
