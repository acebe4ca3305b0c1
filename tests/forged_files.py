"""Checkpoints made by hand, with a right checksum, and what may be wrong in them."""

from pathlib import Path
from typing import Any

import instep
import numpy as np
from instep import Optimizer, checkpoint, safetensors
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def make() -> instep.NAdam:
    params = {"W": np.full((2, 2), 0.5), "b": np.ones(3)}
    return instep.NAdam(params, lr=0.1, average=0.9, groups={"b": {"eps": 1e-3}})


def save(path: Path) -> None:
    """Save an optimizer as `make` makes it, after some steps."""
    opt = make()
    for t in range(3):
        opt.step({"W": np.full((2, 2), 0.1 * t), "b": np.full(3, 1.0)})
    opt.save(path, params=True, extra={"epoch": 3})


def photograph(opt: Optimizer) -> tuple[Any, ...]:
    options = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    bits = [(a.dtype.str, a.shape, a.strides, a.tobytes()) for a in opt._arrays()]
    carried = [(dict(group.carried), dict(group.carried_at)) for group in opt._groups]
    return bits, opt.t, opt.average, options, carried


def parts_of(path: Path) -> tuple[Arrays, dict[str, str]]:
    arrays, texts = safetensors.read(path, lambda texts: None)
    del texts["crc32"]
    return arrays, texts


def forge(path: Path, arrays: Arrays, texts: dict[str, str]) -> None:
    texts = {**texts, "crc32": checkpoint._crc32(texts, arrays)}
    with path.open("wb") as file:
        safetensors.write(file, arrays, texts)


NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2**53, 2**63, 2**64, 10**400, -(10**400), 0.5, -0.5, 1e308, -0.0,
    "", "W", "b", "nadam", "\udc80", "x" * 1000, [], {}, [[]], [None], ["b"], {"a": 1}, [0.9, 0.9],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in what JSON says."""
    found = [path]
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


def mutated(value: Any, random: np.random.Generator) -> Any:
    """Put something nasty somewhere, take something away, or give something twice."""
    every = places(value)
    path = every[random.integers(len(every))]
    new = NASTY[random.integers(len(NASTY))]
    if not path:
        return new
    part = value
    for key in path[:-1]:
        part = part[key]
    choice = random.integers(3)
    if choice == 0:
        del part[path[-1]]
    elif choice == 1 and isinstance(part, list):
        part.append(part[path[-1]])
    else:
        part[path[-1]] = new
    return value
