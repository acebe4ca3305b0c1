"""`instep.course.nnfs` against the book's formulas in NumPy, to the bit, and as a drop-in."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bits import Array, assert_same_bits, every_second, fortran
from instep.course import nnfs
from instep.demo import updates_nnfs

# For each class, numbers that are not its defaults.
NUMBERS: dict[str, dict[str, float]] = {
    "Optimizer_SGD": {"learning_rate": 0.013, "decay": 0.03, "momentum": 0.83},
    "Optimizer_Adagrad": {"learning_rate": 0.013, "decay": 0.03, "epsilon": 3e-6},
    "Optimizer_RMSprop": {"learning_rate": 0.013, "decay": 0.03, "epsilon": 3e-6, "rho": 0.87},
    "Optimizer_Adam": {
        "learning_rate": 0.013,
        "decay": 0.03,
        "epsilon": 3e-6,
        "beta_1": 0.83,
        "beta_2": 0.97,
    },
}
STATES = {
    "Optimizer_SGD": ("weight_momentums", "bias_momentums"),
    "Optimizer_Adagrad": ("weight_cache", "bias_cache"),
    "Optimizer_RMSprop": ("weight_cache", "bias_cache"),
    "Optimizer_Adam": ("weight_momentums", "weight_cache", "bias_momentums", "bias_cache"),
}
# Of them, numbers for which the book's own defaults stand.
WAYS = [
    *((name, numbers) for name, numbers in NUMBERS.items()),
    *((name, {}) for name in NUMBERS),
    ("Optimizer_SGD", {"learning_rate": 0.013, "decay": 0.03}),
    ("Optimizer_Adam", {"learning_rate": 0.013}),
]

every_class = pytest.mark.parametrize("name", NUMBERS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def layer_of(weights: Array, biases: Array) -> Any:
    return SimpleNamespace(weights=weights, biases=biases)


def fill_gradients(rng: np.random.Generator, *layers: Any) -> None:
    """Give twins the same gradients: numbers of very different sizes, and a few zeros."""
    for name in ("weights", "biases"):
        p = getattr(layers[0], name)
        values = rng.standard_normal(p.shape) * 10.0 ** rng.integers(-8, 2, p.shape)
        g = np.where(rng.random(p.shape) < 0.05, 0.0, values).astype(p.dtype)
        for layer in layers:
            setattr(layer, f"d{name}", g)


def assert_same_layers(actual: Any, wanted: Any, what: str) -> None:
    assert set(vars(actual)) == set(vars(wanted)), what
    for name, array in vars(wanted).items():
        assert_same_bits(getattr(actual, name), array, f"{name}, {what}")


def train(optimizer: Any, layers: list[Any]) -> None:
    optimizer.pre_update_params()
    for layer in layers:
        optimizer.update_params(layer)
    optimizer.post_update_params()


@pytest.mark.parametrize(("name", "numbers"), WAYS)
@every_dtype
def test_300_steps(name: str, numbers: dict[str, float], dtype: type) -> None:
    rng = np.random.default_rng(1)
    optimizer, book = getattr(nnfs, name)(**numbers), getattr(updates_nnfs, name)(**numbers)
    layers = [
        layer_of(rng.standard_normal(shape).astype(dtype), np.zeros((1, shape[1]), dtype))
        for shape in ((13, 17), (17, 3))
    ]
    arrays = [(layer.weights, layer.biases) for layer in layers]
    wanted = copy.deepcopy(layers)
    assert vars(optimizer) == vars(book)
    for step in range(300):
        for pair in zip(layers, wanted, strict=True):
            fill_gradients(rng, *pair)
        if step == 200:
            optimizer.learning_rate = book.learning_rate = 0.5 * book.learning_rate
        train(optimizer, layers)
        train(book, wanted)
        assert vars(optimizer) == vars(book), f"step {step}"
        for pair in zip(layers, wanted, strict=True):
            assert_same_layers(*pair, f"step {step}")
    for layer, (weights, biases) in zip(layers, arrays, strict=True):
        assert layer.weights is weights
        assert layer.biases is biases
        assert {array.dtype for array in vars(layer).values()} == {np.dtype(dtype)}


@every_class
def test_other_layouts(name: str) -> None:
    rng = np.random.default_rng(2)
    weights = fortran((6, 7), np.dtype(np.float64))
    layer = layer_of(weights, every_second((1, 7), np.dtype(np.float32)))
    wanted = layer_of(weights.copy(), layer.biases.copy())
    optimizer = getattr(nnfs, name)(**NUMBERS[name])
    book = getattr(updates_nnfs, name)(**NUMBERS[name])
    for _ in range(20):
        fill_gradients(rng, layer, wanted)
        train(optimizer, [layer])
        train(book, [wanted])
    assert_same_layers(layer, wanted, name)


@every_class
def test_states_are_written_in_place(name: str) -> None:
    layer = layer_of(np.ones((2, 3)), np.ones((1, 3)))
    layer.dweights, layer.dbiases = np.ones((2, 3)), np.ones((1, 3))
    optimizer = getattr(nnfs, name)(**NUMBERS[name])
    train(optimizer, [layer])
    kept = {state: getattr(layer, state) for state in STATES[name]}
    before = {state: array.copy() for state, array in kept.items()}
    layer.dweights, layer.dbiases = np.full((2, 3), 7.0), np.full((1, 3), 7.0)
    train(optimizer, [layer])
    for state, array in kept.items():
        assert getattr(layer, state) is array
        assert (array != before[state]).all()


def test_without_decay_the_current_rate_stays() -> None:
    """As in the book: whoever changes it has it."""
    optimizer = nnfs.Optimizer_SGD(0.1)
    optimizer.current_learning_rate = 0.5
    layer = layer_of(np.ones((1, 1)), np.ones((1, 1)))
    layer.dweights = layer.dbiases = np.ones((1, 1))
    train(optimizer, [layer])
    assert (layer.weights.item(), layer.biases.item()) == (0.5, 0.5)
    assert vars(layer).keys() == {"weights", "biases", "dweights", "dbiases"}


def test_a_rate_of_numpy_is_taken_as_a_float() -> None:
    """Under NumPy 2 the book's code computes steps in float64 here, and rounds them."""
    rng = np.random.default_rng(3)
    layer = layer_of(np.full((3, 4), 0.3, np.float32), np.zeros((1, 4), np.float32))
    wanted = copy.deepcopy(layer)
    optimizer = nnfs.Optimizer_Adam(np.float64(0.013), decay=np.float64(0.1))
    book = updates_nnfs.Optimizer_Adam(0.013, decay=0.1)
    for _ in range(30):
        fill_gradients(rng, layer, wanted)
        train(optimizer, [layer])
        train(book, [wanted])
    assert_same_layers(layer, wanted, "Adam")


def test_what_is_exported_is_what_the_book_has() -> None:
    assert sorted(nnfs.__all__) == sorted(NUMBERS)


# What is refused: nothing changes, be it an array or an attribute.


def assert_refused(optimizer: Any, kind: type[Exception], message: str, layer: Any) -> None:
    before = repr((vars(optimizer), layer))
    identities = dict(vars(layer))
    with pytest.raises(kind) as info:
        optimizer.update_params(layer)
    assert message in str(info.value)
    assert repr((vars(optimizer), layer)) == before
    assert all(getattr(layer, key) is value for key, value in identities.items())


def good_layer() -> Any:
    layer = layer_of(np.ones((2, 3)), np.ones((1, 3)))
    layer.dweights, layer.dbiases = np.ones((2, 3)), np.ones((1, 3))
    return layer


@every_class
def test_bad_numbers(name: str) -> None:
    new = getattr(nnfs, name)
    for attribute in NUMBERS[name]:
        bad: list[tuple[type[Exception], Any]] = [
            *((ValueError, number) for number in (-0.1, math.nan, math.inf)),
            *((TypeError, nonsense) for nonsense in ("0.1", None, True)),
        ]
        bad += [(ValueError, 1.0)] if attribute in ("momentum", "rho", "beta_1", "beta_2") else []
        for kind, number in bad:
            with pytest.raises(kind, match=rf"^{attribute} is {number!r}"):
                new(**{attribute: number})
            optimizer = new(decay=0.1)
            changed = "current_learning_rate" if attribute == "learning_rate" else attribute
            setattr(optimizer, changed, number)
            if attribute == "decay":
                with pytest.raises(kind, match=rf"^decay is {number!r}"):
                    optimizer.pre_update_params()
            else:
                assert_refused(optimizer, kind, f"{changed} is {number!r}", good_layer())


@every_class
@pytest.mark.parametrize(("count", "kind"), [(-1, ValueError), (2.0, TypeError)])
def test_a_bad_count(name: str, count: Any, kind: type[Exception]) -> None:
    optimizer = getattr(nnfs, name)(decay=0.1)
    optimizer.iterations = count
    before = dict(vars(optimizer))
    for call in (optimizer.pre_update_params, optimizer.post_update_params):
        with pytest.raises(kind, match=rf"^iterations is {count}"):
            call()
        assert vars(optimizer) == before
    if name == "Optimizer_Adam":
        assert_refused(optimizer, kind, f"iterations is {count}", good_layer())


@every_class
@pytest.mark.parametrize("begun", [False, True], ids=["first update", "later"])
def test_bad_arrays(name: str, begun: bool) -> None:
    optimizer = getattr(nnfs, name)(**NUMBERS[name])
    read_only, shared = np.ones((1, 3)), np.ones((1, 3))
    read_only.flags.writeable = False
    for kind, message, changes in (
        (TypeError, "layer.biases is a list", {"biases": [0.0]}),
        (TypeError, "layer.dbiases is a list", {"dbiases": [0.0]}),
        (TypeError, "layer.biases has dtype int64", {"biases": np.ones((1, 3), np.int64)}),
        (TypeError, "layer.dbiases has dtype", {"dbiases": np.ones((1, 3), np.float32)}),
        (ValueError, "layer.dweights has shape (3, 2)", {"dweights": np.ones((3, 2))}),
        (ValueError, "layer.biases is read-only", {"biases": read_only}),
        (ValueError, "shares memory with", {"biases": shared, "dbiases": shared}),
        (TypeError, f"layer.{STATES[name][0]}", {STATES[name][0]: 0.0}),
        (ValueError, f"layer.{STATES[name][-1]}", {STATES[name][-1]: np.ones(3)}),
    ):
        layer = good_layer()
        if begun:
            optimizer.update_params(layer)
        for attribute, value in changes.items():
            setattr(layer, attribute, value)
        assert_refused(optimizer, kind, message, layer)


@every_class
@pytest.mark.parametrize("attribute", ["weights", "biases", "dweights", "dbiases"])
def test_a_layer_without_an_array(name: str, attribute: str) -> None:
    layer = good_layer()
    delattr(layer, attribute)
    assert_refused(getattr(nnfs, name)(), AttributeError, attribute, layer)


def test_a_layer_that_takes_no_state() -> None:
    class Slots:
        __slots__ = ("biases", "dbiases", "dweights", "weight_momentums", "weights")

    layer: Any = Slots()
    layer.weights, layer.biases = np.ones((1, 1)), np.ones((1, 1))
    layer.dweights = layer.dbiases = np.ones((1, 1))
    with pytest.raises(AttributeError, match="bias_momentums"):
        nnfs.Optimizer_SGD(0.1, momentum=0.9).update_params(layer)
    assert not hasattr(layer, "weight_momentums")
    assert layer.weights.item() == 1.0
