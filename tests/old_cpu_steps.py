"""Steps on another CPU: `python old_cpu_steps.py work results` reads the one and writes the other.

What is compared there are optimizers with `instep.reference`, both on that CPU. The results are for
whoever wrote the work to compare with what the reference gives elsewhere.
"""

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import bits
import numpy as np
from bits import Array
from instep import _instep
from optimizer_model import MODES, Pair


@dataclass
class Work:
    """Steps of one recipe over several parameters, as `_instep.step` takes them."""

    recipe: str
    hypers: list[tuple[float, ...]]
    """For each step."""
    extras: tuple[float, float, float]
    """Sign, weight decay and shrinking."""
    grad_scale: float
    max_norm: float
    decay: float
    layouts: list[str]
    """For each parameter, by the name in `bits`."""
    params: list[Array]
    grads: list[list[Array]]
    """For each step, of each parameter."""


# The norm at each step; parameters, averages, and each state at the end.
Result = tuple[list[float | None], list[list[Array]]]


def run(work: Work) -> Result:
    recipe = _instep.Recipe(work.recipe)

    def laid_out(arrays: list[Array]) -> tuple[Array, ...]:
        new = []
        for layout, values in zip(work.layouts, arrays, strict=True):
            array = getattr(bits, layout)(values.shape, values.dtype)
            array[...] = values
            new.append(array)
        return tuple(new)

    params, averages = laid_out(work.params), laid_out(work.params)
    zeros = [np.zeros_like(p) for p in work.params]
    states = tuple(laid_out(zeros) for _ in recipe.states)
    norms = []
    for hypers, grads in zip(work.hypers, work.grads, strict=True):
        kept = (work.decay, averages)
        group = (recipe, hypers, work.extras, params, laid_out(grads), states, kept)
        norm, _ = _instep.step(
            (group,), "{} {} {}".format, work.grad_scale, work.max_norm, "raise", False
        )
        norms.append(norm)
    return norms, [list(arrays) for arrays in (params, averages, *states)]


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
    works, results = map(Path, sys.argv[1:])
    compare_optimizers()
    results.write_bytes(pickle.dumps([run(work) for work in pickle.loads(works.read_bytes())]))
