"""One rule trained twice, batch by batch in turn: with the NumPy update loop and with instep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

import instep
from instep.course import Arrays, random_mini_batches
from instep.demo import updates_numpy
from instep.demo.digits import Digits
from instep.demo.network import accuracy, backward, forward, initialize_parameters_he


@dataclass(frozen=True)
class Rule:
    """An update rule, as a notebook calls it; `code` is instep or the NumPy functions."""

    name: str
    initialize: Callable[[ModuleType, Arrays], dict[str, Arrays]]
    update: Callable[..., tuple[Arrays, ...]]


RULES = (
    Rule(
        "gradient descent",
        lambda code, parameters: {},
        lambda code, parameters, grads, t: (
            code.update_parameters_with_gd(parameters, grads, learning_rate=0.1),
        ),
    ),
    Rule(
        "momentum",
        lambda code, parameters: {"v": code.initialize_velocity(parameters)},
        lambda code, parameters, grads, t, v: code.update_parameters_with_momentum(
            parameters, grads, v, beta=0.9, learning_rate=0.3
        ),
    ),
    Rule(
        "RMSprop",
        lambda code, parameters: {"s": code.initialize_rmsprop(parameters)},
        lambda code, parameters, grads, t, s: code.update_parameters_with_rmsprop(
            parameters, grads, s, learning_rate=0.001
        ),
    ),
    Rule(
        "Adam",
        lambda code, parameters: dict(zip("vs", code.initialize_adam(parameters), strict=True)),
        lambda code, parameters, grads, t, v, s: code.update_parameters_with_adam(
            parameters, grads, v, s, t, learning_rate=0.001
        ),
    ),
)


@dataclass
class Run:
    """A training run: its weights, optimizer state, loss of each epoch and seconds in updates."""

    code: ModuleType
    parameters: Arrays
    state: dict[str, Arrays]
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    accuracy: float = 0.0

    def step(self, rule: Rule, X: NDArray[np.floating], Y: NDArray[np.floating], t: int) -> float:
        """Do one mini-batch, and return its loss. Only the update is timed."""
        loss, grads = backward(self.parameters, forward(self.parameters, X), Y)
        start = perf_counter()
        updated = rule.update(self.code, self.parameters, grads, t, **self.state)
        self.seconds += perf_counter() - start
        self.parameters, *states = updated
        self.state = dict(zip(self.state, states, strict=True))
        return loss


@dataclass(frozen=True)
class Comparison:
    """The two runs of one rule, and the names of the arrays in which they differ."""

    rule: str
    numpy: Run
    instep: Run
    differing: list[str]

    @property
    def speed_up(self) -> float:
        """How many times faster instep's updates were."""
        return self.numpy.seconds / self.instep.seconds


def train_twice(
    rule: Rule,
    digits: Digits,
    hidden: Sequence[int],
    epochs: int,
    after_epoch: Callable[[], None] = lambda: None,
    *,
    mini_batch_size: int = 64,
    seed: int = 10,
) -> Comparison:
    """Train a network with the NumPy update loop, and one with instep, from the same weights.

    Parameters
    ----------
    rule : Rule
        What updates the weights.
    digits : Digits
        The data.
    hidden : sequence of int
        Units of each hidden layer.
    epochs : int
        Passes over the data.
    after_epoch : callable, optional
        Called after every epoch.
    mini_batch_size : int, default 64
        Examples per step.
    seed : int, default 10
        Seed of the initial weights and, one more with every epoch, of the mini-batches.

    Returns
    -------
    comparison : Comparison
        The two runs.
    """
    runs = [_start(rule, code, digits, hidden, seed) for code in (updates_numpy, instep)]
    numpy_run, instep_run = runs
    m = digits.X_train.shape[1]
    t = 0
    for _ in range(epochs):
        seed = seed + 1
        for run in runs:
            run.losses.append(0.0)
        for X, Y in random_mini_batches(digits.X_train, digits.Y_train, mini_batch_size, seed):
            t = t + 1
            # Side by side, so that both see the same machine; now one goes first, now the other.
            for run in runs if t % 2 else reversed(runs):
                run.losses[-1] += run.step(rule, X, Y, t) * X.shape[1] / m
        after_epoch()

    for run in runs:
        run.accuracy = accuracy(run.parameters, digits.X_held_out, digits.Y_held_out)
    return Comparison(rule.name, numpy_run, instep_run, differing_arrays(numpy_run, instep_run))


def _start(rule: Rule, code: ModuleType, digits: Digits, hidden: Sequence[int], seed: int) -> Run:
    layer_dims = [len(digits.X_train), *hidden, len(digits.Y_train)]
    parameters = initialize_parameters_he(layer_dims, digits.X_train.dtype, seed)
    return Run(code, parameters, rule.initialize(code, parameters))


def differing_arrays(one: Run, other: Run) -> list[str]:
    """Return the names of the arrays, weights and state, in which two runs differ in any bit.

    Parameters
    ----------
    one, other : Run
        Two runs of the same rule and network.

    Returns
    -------
    names : list of str
        Such as ``parameters["W1"]``.
    """
    dicts = {"parameters": (one.parameters, other.parameters)}
    dicts |= {name: (state, other.state[name]) for name, state in one.state.items()}
    return [
        f'{name}["{key}"]'
        for name, (arrays, others) in dicts.items()
        for key, array in arrays.items()
        if not _same_bits(array, others[key])
    ]


def _same_bits(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    if a.dtype != b.dtype:
        return False
    bits = f"u{a.itemsize}"
    # As integers: 0.0 and -0.0 would be equal, NaN and NaN would not.
    return np.array_equal(a.view(bits), b.view(bits))
