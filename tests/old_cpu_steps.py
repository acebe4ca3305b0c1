"""Steps on another CPU: `python old_cpu_steps.py given results` reads the one, writes the other.

What is compared there are optimizers with `instep.reference`, both on that CPU. The results are for
whoever wrote what is given to compare with what the reference gives elsewhere.
"""

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bits
import instep
import numpy as np
from bits import Array
from instep import _instep
from optimizer_model import MODES, Pair


def laid_out(arrays: Sequence[Array], layouts: Sequence[str]) -> tuple[Array, ...]:
    """Copy arrays into the layouts of these names."""
    copies = []
    for array, layout in zip(arrays, layouts, strict=True):
        copy = getattr(bits, layout)(array.shape, array.dtype)
        copy[...] = array
        copies.append(copy)
    return tuple(copies)


def step_recipe(
    name: str,
    hypers_of_steps: list[tuple[float, ...]],
    layouts: list[str],
    given: list[Array],
    grads_of_steps: list[list[Array]],
) -> list[list[Array]]:
    """Return the parameters after all steps, and each state, of zeros at first."""
    recipe = _instep.Recipe(name)
    params = laid_out(given, layouts)
    zeros = [np.zeros_like(p) for p in given]
    states = tuple(laid_out(zeros, layouts) for _ in recipe.states)
    for hypers, grads in zip(hypers_of_steps, grads_of_steps, strict=True):
        recipe.step(hypers, params, laid_out(grads, layouts), states, "{} {} {}".format)
    return [list(params), *map(list, states)]


def step_adamw(
    options: dict[str, Any],
    max_norm: float,
    layouts: list[str],
    given: list[Array],
    grads_of_steps: list[list[Array]],
) -> tuple[list[float | None], list[list[Array]]]:
    """Return the norm at each step; the parameters, averages and states after all."""
    params = laid_out(given, layouts)
    opt = instep.AdamW(params, **options)
    norms = [
        opt.step(laid_out(grads, layouts), max_norm=max_norm).grad_norm for grads in grads_of_steps
    ]
    states = [list(states.values()) for states in opt.state.values()]
    return norms, [list(params), list(opt.averages), *map(list, zip(*states, strict=True))]


def compare_optimizers() -> None:
    """Compare every mode of every optimizer with its model, clipping and averages included."""
    rng = np.random.default_rng(0)
    for rule, mode in MODES:
        shapes = [(65, 3), (), (0,), (130,)]
        params = [np.asarray(rng.standard_normal(s), d) for d in "fd" for s in shapes]
        pair = Pair(rule, [(params, {**mode, "weight_decay": 0.03})], average=0.9)
        for _ in range(3):
            grads = [np.asarray(rng.standard_normal(p.shape), p.dtype) for p in params]
            pair.step([grads], max_norm=0.5)


if __name__ == "__main__":
    path, results = map(Path, sys.argv[1:])
    compare_optimizers()
    recipes, optimizers = pickle.loads(path.read_bytes())
    done = [step_recipe(*given) for given in recipes], [step_adamw(*given) for given in optimizers]
    results.write_bytes(pickle.dumps(done))
