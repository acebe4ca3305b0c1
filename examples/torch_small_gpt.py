"""A small GPT that learns characters, trained by torch's AdamW and by instep's.

It trains the same network twice on this machine's CPU, from the same seed, and prints how long the
optimizer's steps took and how close the two runs are.

    pip install 'instep[torch]'
    python examples/torch_small_gpt.py
"""

import argparse
import inspect
import time
from statistics import median
from typing import Any

import instep.torch
import torch
from torch import nn
from torch.nn import functional

CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 64, 128, 4, 4, 8
# Something that is on every machine with torch.
TEXT = inspect.getsource(torch.optim.Optimizer)
LETTERS = sorted(set(TEXT))


class GPT(nn.Module):
    """Embeddings, layers of attention, and the next character's scores."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), WIDTH)
        self.places = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.scores = nn.Linear(WIDTH, len(LETTERS))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, text: Any) -> Any:
        """Return the scores of the character after each."""
        x = self.letters(text) + self.places.weight
        return self.scores(self.layers(x, mask=self.mask, is_causal=True))


def train(kind: type, steps: int) -> tuple[list[float], list[float]]:
    """Return the losses, and how long each step of the optimizer took."""
    torch.manual_seed(0)
    data = torch.tensor([LETTERS.index(letter) for letter in TEXT])
    model = GPT()
    optimizer = kind(model.parameters(), lr=1e-3, weight_decay=0.1)
    losses, times = [], []
    for _ in range(steps):
        starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,)).tolist()
        x = torch.stack([data[start : start + CONTEXT] for start in starts])
        y = torch.stack([data[start + 1 : start + CONTEXT + 1] for start in starts])
        loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        begun = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - begun)
        losses.append(loss.item())
    return losses, times


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    theirs, their_times = train(torch.optim.AdamW, steps)
    before = instep.torch.step_counts()
    ours, our_times = train(instep.torch.AdamW, steps)
    native = instep.torch.step_counts().native - before.native
    print(
        f"loss: {theirs[0]:.3f} at first, {theirs[-1]:.6f} with torch, {ours[-1]:.6f} with instep"
    )
    apart = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    print(f"{native} of {steps} steps by instep; losses at most {apart:.0e} apart, relatively")
    mine, torchs = median(our_times), median(their_times)
    print(
        f"a step of AdamW: {1e3 * torchs:.2f} ms with torch, {1e3 * mine:.2f} ms with instep, "
        f"{torchs / mine:.1f} times as fast"
    )


if __name__ == "__main__":
    main()
