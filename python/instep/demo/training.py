"""One rule trained twice, batch by batch in turn: with the NumPy update loop and with instep."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import instep
from instep.course import Arrays, cs231n, dlfs, nnfs, random_mini_batches
from instep.demo import updates_cs231n, updates_dlfs, updates_nnfs, updates_numpy
from instep.demo.digits import Digits
from instep.demo.network import accuracy, backward, forward, initialize_parameters_he

# What a rule keeps: arrays, in whatever containers and objects its format has.
State: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """An update rule, as its format calls it; `code` is one of the two modules in `codes`."""

    name: str
    initialize: Callable[[ModuleType, Arrays], State]
    update: Callable[..., tuple[Any, ...]]
    codes: tuple[ModuleType, ModuleType] = (updates_numpy, instep)


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


def _of_cs231n(name: str, function: str, **numbers: float) -> Rule:
    """Return a rule with a config for each parameter, and a call for each."""

    def initialize(code: ModuleType, parameters: Arrays) -> State:
        return {"configs": {key: dict(numbers) for key in parameters}}

    def update(code: ModuleType, parameters: Arrays, grads: Arrays, t: int, configs: State) -> Any:
        rule = getattr(code, function)
        for key, w in parameters.items():
            parameters[key], configs[key] = rule(w, grads["d" + key], configs[key])
        return parameters, configs

    return Rule(name, initialize, update, (updates_cs231n, cs231n))


def _of_dlfs(name: str, optimizer: str, **numbers: float) -> Rule:
    """Return a rule with one call for all parameters."""

    def initialize(code: ModuleType, parameters: Arrays) -> State:
        return {"optimizer": getattr(code, optimizer)(**numbers)}

    def update(code: ModuleType, parameters: Arrays, grads: Arrays, t: int, optimizer: Any) -> Any:
        optimizer.update(parameters, {key: grads["d" + key] for key in parameters})
        return parameters, optimizer

    return Rule(name, initialize, update, (updates_dlfs, dlfs))


def _of_nnfs(name: str, optimizer: str, **numbers: float) -> Rule:
    """Return a rule with a call for each layer, one before and one after."""

    def initialize(code: ModuleType, parameters: Arrays) -> State:
        layers = [
            SimpleNamespace(weights=parameters[f"W{number}"], biases=parameters[f"b{number}"])
            for number in range(1, len(parameters) // 2 + 1)
        ]
        return {"optimizer": getattr(code, optimizer)(**numbers), "layers": layers}

    def update(
        code: ModuleType, parameters: Arrays, grads: Arrays, t: int, optimizer: Any, layers: Any
    ) -> Any:
        optimizer.pre_update_params()
        for number, layer in enumerate(layers, start=1):
            layer.dweights, layer.dbiases = grads[f"dW{number}"], grads[f"db{number}"]
            optimizer.update_params(layer)
        optimizer.post_update_params()
        return parameters, optimizer, layers

    return Rule(name, initialize, update, (updates_nnfs, nnfs))


# The rules by the format of the code that they come from.
HOSTS: dict[str, tuple[Rule, ...]] = {
    "course": RULES,
    "cs231n": (
        _of_cs231n("sgd", "sgd", learning_rate=0.1),
        _of_cs231n("sgd_momentum", "sgd_momentum", learning_rate=0.03),
        _of_cs231n("rmsprop", "rmsprop", learning_rate=0.001),
        _of_cs231n("adam", "adam", learning_rate=0.001),
    ),
    "dlfs": (
        _of_dlfs("SGD", "SGD", lr=0.1),
        _of_dlfs("Momentum", "Momentum", lr=0.03),
        _of_dlfs("Nesterov", "Nesterov", lr=0.03),
        _of_dlfs("AdaGrad", "AdaGrad", lr=0.01),
        _of_dlfs("RMSprop", "RMSprop", lr=0.001),
        _of_dlfs("Adam", "Adam", lr=0.001),
    ),
    "nnfs": (
        _of_nnfs("SGD", "Optimizer_SGD", learning_rate=0.1, decay=1e-4),
        _of_nnfs("SGD, momentum", "Optimizer_SGD", learning_rate=0.03, momentum=0.9),
        _of_nnfs("Adagrad", "Optimizer_Adagrad", learning_rate=0.01),
        _of_nnfs("RMSprop", "Optimizer_RMSprop", learning_rate=0.001),
        _of_nnfs("Adam", "Optimizer_Adam", learning_rate=0.001, decay=1e-4),
    ),
}


@dataclass
class Run:
    """A training run: its weights, optimizer state, loss of each epoch and seconds in updates."""

    code: ModuleType
    parameters: Arrays
    state: State
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
    runs = [_start(rule, code, digits, hidden, seed) for code in rule.codes]
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
    arrays, others = (
        dict(_arrays_in({"parameters": r.parameters, **r.state})) for r in (one, other)
    )
    return [
        name for name, a in arrays.items() if name not in others or not _same_bits(a, others[name])
    ]


def _arrays_in(things: Any, name: str = "") -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Yield the arrays in dicts, lists and objects, each with a name as one would type it."""
    if isinstance(things, np.ndarray):
        yield name, things
    elif isinstance(things, dict):
        for key, thing in things.items():
            yield from _arrays_in(thing, f'{name}["{key}"]' if name else key)
    elif isinstance(things, list):
        for index, thing in enumerate(things):
            yield from _arrays_in(thing, f"{name}[{index}]")
    elif hasattr(things, "__dict__"):
        for key, thing in vars(things).items():
            yield from _arrays_in(thing, f"{name}.{key}")


def _same_bits(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    if a.dtype != b.dtype:
        return False
    bits = f"u{a.itemsize}"
    # As integers: 0.0 and -0.0 would be equal, NaN and NaN would not.
    return np.array_equal(a.view(bits), b.view(bits))
