"""Store the paths of torch's optimizers, for `test_peers.py`."""

import json
import math
from pathlib import Path
from typing import Any

import torch

ADAM = {"lr": 0.02, "betas": (0.85, 0.95), "eps": 1e-3}
RMSPROP = {"lr": 0.02, "alpha": 0.85, "eps": 1e-3, "weight_decay": 0.03}
# Of a row: the optimizer and its options.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.05, "weight_decay": 0.03}),
    "sgd, momentum": ("SGD", {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.03}),
    "sgd, dampening": ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    "sgd, nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "maximize": True}),
    "adam": ("Adam", {**ADAM, "weight_decay": 0.03}),
    "adam, amsgrad": ("Adam", {**ADAM, "amsgrad": True, "maximize": True}),
    "adamw": ("AdamW", {**ADAM, "weight_decay": 0.3}),
    "adamw, amsgrad": ("AdamW", {**ADAM, "weight_decay": 0.3, "amsgrad": True}),
    "rmsprop": ("RMSprop", RMSPROP),
    "rmsprop, momentum": ("RMSprop", {**RMSPROP, "momentum": 0.7}),
    "rmsprop, centered": ("RMSprop", {**RMSPROP, "centered": True}),
    "rmsprop, centered, momentum": ("RMSprop", {**RMSPROP, "centered": True, "momentum": 0.7}),
    "nadam": ("NAdam", {**ADAM, "momentum_decay": 0.01, "weight_decay": 0.03}),
    "nadam, decoupled": (
        "NAdam",
        {**ADAM, "weight_decay": 0.3, "decoupled_weight_decay": True},
    ),
    "radam": ("RAdam", {**ADAM, "weight_decay": 0.03}),
    "radam, decoupled": (
        "RAdam",
        {**ADAM, "weight_decay": 0.3, "decoupled_weight_decay": True},
    ),
    "adamax": ("Adamax", {**ADAM, "weight_decay": 0.03}),
    "adagrad": (
        "Adagrad",
        {"lr": 0.2, "lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3},
    ),
    "adadelta": ("Adadelta", {"lr": 0.7, "rho": 0.85, "eps": 1e-3, "weight_decay": 0.03}),
}
START = [1.0, -2.0, 0.5, 0.03]
STEPS = 50
STORED = (1, 2, 3, 7, 20, STEPS)
STORED_IN = Path(__file__).with_name("optimizers_torch.json")


def trajectories() -> str:
    """Return what is stored, computed by the torch that is installed."""
    # So that what torch keeps beside the tensors is of float64, too.
    torch.set_default_dtype(torch.float64)
    grads = [
        [math.sin(1.7 * t + place) * 2.0 ** (place - 1) for place in range(len(START))]
        for t in range(1, STEPS + 1)
    ]
    rows = []
    for name, (kind, options) in ROWS.items():
        p = torch.tensor(START, requires_grad=True)
        optimizer = getattr(torch.optim, kind)([p], **options)
        path = {}
        for t, g in enumerate(grads, start=1):
            p.grad = torch.tensor(g)
            optimizer.step()
            if t in STORED:
                path[str(t)] = p.tolist()
        row = {"class": kind, "options": options, "path": path}
        rows.append(f"{json.dumps(name)}: {json.dumps(row)}")
    version = torch.__version__.partition("+")[0]
    head = f'{{"torch": "{version}", "start": {START},\n"grads": {json.dumps(grads)},\n'
    return head + '"optimizers": {\n' + ",\n".join(rows) + "\n}}\n"


def main() -> None:
    STORED_IN.write_text(trajectories())


if __name__ == "__main__":
    main()
