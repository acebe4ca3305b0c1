"""The steps of `instep.torch` against torch's own, as a table in Markdown.

In the environment of `make torch-host`: ``python -m benches.torch_host``. All contestants of a row
step in turn and have the same tensors and states, so that what else the machine does slows all
alike, and so does where arrays happen to lie in memory; the figure is the ratio of medians. With
``--close`` it prints instead how far the parameters are from those of torch's default after 100
steps.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import instep.torch
import torch

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "1 x 100": [(100,)],
    "1 x 10,000": [(100, 100)],
    "1 x 100,000": [(100, 1000)],
    "1 x 1,000,000": [(1000, 1000)],
    "1 x 10,000,000": [(10_000, 1000)],
    "150 x 100": [(100,)] * 150,
    "150 x 1,000": [(10, 100)] * 150,
    "150 x 100,000": [(100, 1000)] * 150,
}
OPTIONS: dict[str, dict[str, float]] = {
    "Adam": {},
    "AdamW": {},
    "SGD": {"momentum": 0.9},
    "RMSprop": {},
    "NAdam": {},
    "RAdam": {},
    "Adamax": {},
    "Adagrad": {},
    "Adadelta": {},
}
FUSED = ("Adam", "AdamW", "SGD", "Adagrad")


def stepping(name: str, shapes: list[tuple[int, ...]]) -> list[Callable[[], None]]:
    """Return the steps of instep, torch's default and fused, over the same tensors and states."""
    params = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    host = getattr(torch.optim, name)
    options = {"lr": 1e-4, **OPTIONS[name]}
    own = getattr(instep.torch, name)(params, **options)
    others = [host(params, **options)]
    if name in FUSED:
        others.append(host(params, **options, fused=True))
    for other in others:
        other.state = own.state
    steps = [optimizer.step for optimizer in (own, *others)]
    for step in steps * 2:
        step()
    return steps


def medians(steps: list[Callable[[], None]], seconds: float) -> list[float]:
    times: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 7:
        for own, step in zip(times, steps, strict=True):
            begun = time.perf_counter()
            step()
            own.append(time.perf_counter() - begun)
    return [median(own) for own in times]


def path(kind: type, dtype: torch.dtype, **options: Any) -> Any:
    """Return 100,000 parameters after 100 noisy steps down a hill."""
    torch.manual_seed(5)
    p = torch.randn(100_000, dtype=dtype, requires_grad=True)
    optimizer = kind([p], lr=1e-2, weight_decay=1e-2, **options)
    for _ in range(100):
        p.grad = p.detach() + torch.randn_like(p.detach())
        optimizer.step()
    return p.detach()


def print_distances() -> None:
    print(
        "| optimizer | dtype | instep: equal bits | median, ulp | 99.9 %, ulp | largest, of 1 ",
        end="",
    )
    print("| fused: equal bits | median | 99.9 % | largest |")
    print("|---|---|" + "--:|" * 8)
    for name in OPTIONS:
        for dtype in (torch.float32, torch.float64):
            host = getattr(torch.optim, name)
            wanted = path(host, dtype, **OPTIONS[name])
            others = [path(getattr(instep.torch, name), dtype, **OPTIONS[name])]
            if name in FUSED:
                others.append(path(host, dtype, **OPTIONS[name], fused=True))
            cells = []
            for other in others:
                error = (other - wanted).abs()
                ulp = torch.nextafter(wanted.abs(), torch.tensor(torch.inf, dtype=dtype))
                ulps = error / (ulp - wanted.abs())
                cells.append(f"{100 * (error == 0).double().mean():.0f} %")
                cells += [f"{ulps.quantile(q):.0f}" for q in (0.5, 0.999)]
                cells.append(f"{error.max():.0e}")
            cells += ["-"] * (8 - len(cells))
            print(f"| {name} | {str(dtype)[6:]} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--only", nargs="*", default=list(OPTIONS), help="names of optimizers")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--close", action="store_true", help="how close to torch, not how fast")
    arguments = parser.parse_args()
    if arguments.close:
        print_distances()
        return
    # Whatever the other benches run on.
    instep.set_num_threads(torch.get_num_threads())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32\n")
    print(
        "| optimizer | tensors | instep, µs | default, µs | fused, µs "
        "| default / instep | fused / instep |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in arguments.only:
        for shape in arguments.shapes:
            steps = stepping(name, SHAPES[shape])
            own, *others = medians(steps, arguments.seconds)
            cells = [f"{1e6 * own:,.0f}"]
            cells += [f"{1e6 * other:,.0f}" for other in others] + ["-"] * (2 - len(others))
            cells += [f"{other / own:.2f}" for other in others] + ["-"] * (2 - len(others))
            print(f"| {name} | {shape} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
