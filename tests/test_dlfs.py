"""`instep.course.dlfs` against the books' formulas in NumPy, to the bit, and as a drop-in."""

import copy
import math
from typing import Any

import numpy as np
import pytest
from bits import Array, assert_same_bits, every_second, fortran
from instep.course import dlfs
from instep.demo import updates_dlfs

# For each class, numbers that are not its defaults.
NUMBERS: dict[str, dict[str, float]] = {
    "SGD": {"lr": 0.013},
    "Momentum": {"lr": 0.013, "momentum": 0.83},
    "Nesterov": {"lr": 0.013, "momentum": 0.83},
    "AdaGrad": {"lr": 0.013},
    "RMSprop": {"lr": 0.013, "decay_rate": 0.87},
    "Adam": {"lr": 0.013, "beta1": 0.83, "beta2": 0.97},
}
STATES = {
    "SGD": (),
    "Momentum": ("v",),
    "Nesterov": ("v",),
    "AdaGrad": ("h",),
    "RMSprop": ("h",),
    "Adam": ("m", "v"),
}
KEYS = ("W1", "b1", "W2", "b2")
SHAPES = ((13, 17), (17,), (17, 3), ())

every_class = pytest.mark.parametrize("name", NUMBERS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
both_volumes = pytest.mark.parametrize("kind", [dict, list])


def collection(kind: type, arrays: list[Array]) -> Any:
    return dict(zip(KEYS, arrays, strict=False)) if kind is dict else arrays


def listed(arrays: Any) -> list[Array]:
    return list(arrays.values()) if isinstance(arrays, dict) else list(arrays)


def gradients(rng: np.random.Generator, params: Any) -> list[Array]:
    """Numbers of very different sizes, and a few zeros."""
    made = []
    for p in listed(params):
        values = rng.standard_normal(p.shape) * 10.0 ** rng.integers(-8, 2, p.shape)
        made.append(np.where(rng.random(p.shape) < 0.05, 0.0, values).astype(p.dtype))
    return made


def assert_same(actual: Any, wanted: Any, what: str) -> None:
    """Fail if parameters or states differ in their kind, keys or bits."""
    assert type(actual) is type(wanted), what
    if isinstance(wanted, dict):
        assert list(actual) == list(wanted), what
    assert len(actual) == len(wanted), what
    for i, (a, w) in enumerate(zip(listed(actual), listed(wanted), strict=True)):
        assert_same_bits(np.asarray(a), np.asarray(w), f"{what}, array {i}")


def assert_same_optimizers(actual: Any, wanted: Any, what: str) -> None:
    assert set(vars(actual)) == set(vars(wanted))
    for attribute, value in vars(wanted).items():
        if isinstance(value, (dict, list)):
            assert_same(getattr(actual, attribute), value, f"{attribute}, {what}")
        else:
            assert getattr(actual, attribute) == value, f"{attribute}, {what}"


@every_class
@every_dtype
@both_volumes
@pytest.mark.parametrize("defaults", [False, True], ids=["other numbers", "defaults"])
def test_300_steps(name: str, dtype: type, kind: type, defaults: bool) -> None:
    rng = np.random.default_rng(1)
    numbers = {} if defaults else NUMBERS[name]
    optimizer = getattr(dlfs, name)(**numbers)
    books = getattr(updates_dlfs, name)(**numbers)
    arrays: list[Array] = [np.array(rng.standard_normal(shape), dtype) for shape in SHAPES]
    params = collection(kind, arrays)
    wanted = collection(kind, [array.copy() for array in arrays])
    assert_same_optimizers(optimizer, books, "before")
    for step in range(300):
        grads = collection(kind, gradients(rng, params))
        if step == 200:
            optimizer.lr = books.lr = 0.5 * books.lr
        optimizer.update(params, grads)
        books.update(wanted, grads)
        assert_same(params, wanted, f"params, step {step}")
        assert_same_optimizers(optimizer, books, f"step {step}")
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert all(p is array for p, array in zip(listed(params), arrays, strict=True))


def test_the_order_of_nesterov_s_steps_is_that_of_the_volume() -> None:
    by_name, by_place, g = {"W": np.ones(4)}, [np.ones(4)], np.full(4, 0.5)
    dlfs.Nesterov(0.1).update(by_name, {"W": g})
    dlfs.Nesterov(0.1).update(by_place, [g])
    # p - (1 + 0.9)*0.1*g, and 0.9**2 times the new velocity, -0.1*g, added to it.
    np.testing.assert_allclose(by_name["W"], 1 - 1.9 * 0.1 * 0.5)
    np.testing.assert_allclose(by_place[0], 1 - 1.9 * 0.1 * 0.5 - 0.81 * 0.1 * 0.5)


@every_class
@both_volumes
def test_parameters_of_several_dtypes_and_layouts(name: str, kind: type) -> None:
    rng = np.random.default_rng(2)
    arrays: list[Array] = [np.ones(5, np.float32), fortran((6, 7), np.dtype(np.float64))]
    arrays += [every_second((6, 7), np.dtype(np.float32))]
    params = collection(kind, arrays)
    wanted = collection(kind, [array.copy() for array in arrays])
    optimizer = getattr(dlfs, name)(**NUMBERS[name])
    books = getattr(updates_dlfs, name)(**NUMBERS[name])
    for _ in range(20):
        grads = collection(kind, gradients(rng, params))
        optimizer.update(params, grads)
        books.update(wanted, grads)
    assert_same(params, wanted, "params")
    assert_same_optimizers(optimizer, books, "after")


@every_class
def test_other_keys_of_the_gradients_are_ignored(name: str) -> None:
    params, grads = {"W": np.ones(3)}, {"dx": "anything", "W": np.ones(3)}
    optimizer = getattr(dlfs, name)()
    optimizer.update(params, grads)
    assert (params["W"] != 1.0).all()


@every_class
@both_volumes
def test_states_are_written_in_place(name: str, kind: type) -> None:
    params = collection(kind, [np.ones(3), np.ones(2)])
    optimizer = getattr(dlfs, name)()
    optimizer.update(params, collection(kind, [np.ones(3), np.ones(2)]))
    kept = {state: getattr(optimizer, state) for state in STATES[name]}
    arrays = {state: listed(value) for state, value in kept.items()}
    before = copy.deepcopy(arrays)
    optimizer.update(params, collection(kind, [np.full(3, 7.0), np.full(2, 7.0)]))
    for state, value in kept.items():
        assert getattr(optimizer, state) is value
        for array, now, then in zip(arrays[state], listed(value), before[state], strict=True):
            assert array is now
            assert (array != then).all()


def test_a_rate_of_numpy_is_taken_as_a_float() -> None:
    """Under NumPy 2 the books' code computes steps in float64 here, and rounds them."""
    params, wanted = [np.full(9, 0.3, np.float32)], [np.full(9, 0.3, np.float32)]
    grads = [np.linspace(-1, 1, 9, dtype=np.float32)]
    optimizer, books = dlfs.RMSprop(np.float64(0.013)), updates_dlfs.RMSprop(0.013)
    for _ in range(30):
        optimizer.update(params, grads)
        books.update(wanted, grads)
        assert_same(params, wanted, "params")


def test_what_is_exported_is_what_the_books_have() -> None:
    assert sorted(dlfs.__all__) == sorted(NUMBERS)


# What is refused: nothing changes, be it an array or an attribute.


def assert_refused(
    optimizer: Any, kind: type[Exception], message: str, params: Any, grads: Any
) -> None:
    before = repr((params, grads, vars(optimizer)))
    identities = dict(vars(optimizer))
    with pytest.raises(kind) as info:
        optimizer.update(params, grads)
    assert message in str(info.value)
    assert repr((params, grads, vars(optimizer))) == before
    assert all(getattr(optimizer, key) is value for key, value in identities.items())


@every_class
def test_bad_numbers(name: str) -> None:
    new = getattr(dlfs, name)
    for attribute in NUMBERS[name]:
        bad: list[tuple[type[Exception], Any]] = [
            *((ValueError, number) for number in (-0.1, math.nan, math.inf)),
            *((TypeError, nonsense) for nonsense in ("0.1", None, True)),
        ]
        bad += [] if attribute == "lr" else [(ValueError, 1.0)]
        for kind, number in bad:
            message = f"{attribute} is {number!r}"
            with pytest.raises(kind, match=rf"^{message}"):
                new(**{attribute: number})
            optimizer = new()
            setattr(optimizer, attribute, number)
            assert_refused(optimizer, kind, message, [np.ones(2)], [np.ones(2)])


@pytest.mark.parametrize(("count", "kind"), [(-1, ValueError), (2.0, TypeError)])
def test_a_bad_count(count: Any, kind: type[Exception]) -> None:
    optimizer = dlfs.Adam()
    optimizer.iter = count
    assert_refused(optimizer, kind, f"iter is {count}", [np.ones(2)], [np.ones(2)])


@every_class
@pytest.mark.parametrize("begun", [False, True], ids=["first update", "later"])
def test_bad_arrays(name: str, begun: bool) -> None:
    optimizer = getattr(dlfs, name)(**NUMBERS[name])
    if begun:
        optimizer.update({"W": np.ones(3), "b": np.ones(2)}, {"W": np.ones(3), "b": np.ones(2)})
    read_only, shared = np.ones(2), np.ones(2)
    read_only.flags.writeable = False
    w = np.ones(3)
    for kind, message, b, db in (
        (TypeError, 'params["b"] is a float', -7.0, np.ones(2)),
        (TypeError, 'grads["b"] is a float', np.ones(2), -7.0),
        (TypeError, 'params["b"] has dtype int64', np.ones(2, np.int64), np.ones(2)),
        (TypeError, 'grads["b"] has dtype float32', np.ones(2), np.ones(2, np.float32)),
        (ValueError, 'grads["b"] has shape (3,)', np.ones(2), np.ones(3)),
        (ValueError, 'params["b"] is read-only', read_only, np.ones(2)),
        (ValueError, "shares memory with", shared, shared),
    ):
        params, grads = {"W": w, "b": b}, {"W": np.ones(3), "b": db}
        assert_refused(optimizer, kind, message, params, grads)


@every_class
def test_bad_collections(name: str) -> None:
    new = getattr(dlfs, name)
    a = np.ones(2)
    g = np.ones(2)
    assert_refused(new(), TypeError, "params is an ndarray; wanted a dict or a list", a, g)
    assert_refused(new(), TypeError, "grads is a list; wanted a dict", {"W": a}, [g])
    assert_refused(new(), TypeError, "grads is a dict; wanted a list", [a], {"W": g})
    assert_refused(new(), ValueError, "grads has 2 arrays; wanted 1", [a], [g, g])
    assert_refused(new(), KeyError, 'grads["W"] is missing', {"W": a}, {"dW": g})
    for state in STATES[name]:
        optimizer = new()
        optimizer.update({"W": a}, {"W": g})
        later = {"W": a, "b": np.ones(2)}, {"W": g, "b": g}
        assert_refused(optimizer, KeyError, f'{state}["b"] is missing', *later)
        assert_refused(optimizer, TypeError, f"{state} is a dict; wanted a list", [a], [g])
        break
