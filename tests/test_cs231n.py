"""`instep.course.cs231n` against the course's formulas in NumPy, to the bit, and as a drop-in."""

import copy
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from bits import Array, assert_same_bits, every_second, fortran
from instep.course import cs231n
from instep.demo import updates_cs231n

Rule = Callable[..., tuple[Array, dict[str, Any]]]

# For each rule, numbers that are not its defaults.
NUMBERS: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 0.013},
    "sgd_momentum": {"learning_rate": 0.013, "momentum": 0.83},
    "rmsprop": {"learning_rate": 0.013, "decay_rate": 0.87, "epsilon": 3e-6},
    "adam": {"learning_rate": 0.013, "beta1": 0.83, "beta2": 0.97, "epsilon": 3e-6},
}
STATES = {"sgd": (), "sgd_momentum": ("velocity",), "rmsprop": ("cache",), "adam": ("m", "v")}

every_rule = pytest.mark.parametrize("name", NUMBERS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def of(module: Any, name: str) -> Rule:
    rule: Rule = getattr(module, name)
    return rule


def assert_same_configs(actual: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    assert set(actual) == set(wanted), what
    for key, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert_same_bits(actual[key], value, f'{what}: config["{key}"]')
        else:
            assert actual[key] == value, f'{what}: config["{key}"]'


def gradient(rng: np.random.Generator, like: Array) -> Array:
    """Numbers of very different sizes, and a few zeros."""
    values = rng.standard_normal(like.shape) * 10.0 ** rng.integers(-8, 2, like.shape)
    return np.where(rng.random(like.shape) < 0.05, 0.0, values).astype(like.dtype)


@every_rule
@every_dtype
@pytest.mark.parametrize("defaults", [False, True], ids=["other numbers", "defaults"])
def test_300_steps(name: str, dtype: type, defaults: bool) -> None:
    rng = np.random.default_rng(1)
    for shape in ((13, 31), (2, 3, 5), ()):
        w: Array = np.array(rng.standard_normal(shape), dtype)
        wanted_w = w.copy()
        config = None if defaults else dict(NUMBERS[name])
        wanted_config = copy.copy(config)
        for step in range(300):
            dw = gradient(rng, w)
            w, config = of(cs231n, name)(w, dw, config)
            wanted_w, wanted_config = of(updates_cs231n, name)(wanted_w, dw, wanted_config)
            what = f"{shape}, step {step}"
            assert_same_bits(np.asarray(w), np.asarray(wanted_w, dtype), what)
            assert_same_configs(config, wanted_config, what)


@every_rule
@every_dtype
def test_other_layouts(name: str, dtype: type) -> None:
    rng = np.random.default_rng(2)
    for layout in (fortran, every_second):
        w = layout((9, 14), np.dtype(dtype))
        w[...] = rng.standard_normal(w.shape)
        wanted_w = w.copy()
        config, wanted_config = dict(NUMBERS[name]), dict(NUMBERS[name])
        for _ in range(20):
            dw = gradient(rng, w)
            of(cs231n, name)(w, dw, config)
            wanted_w, _ = of(updates_cs231n, name)(wanted_w, dw, wanted_config)
        assert_same_bits(w, wanted_w)
        assert_same_configs(config, wanted_config, name)


@every_rule
def test_arrays_and_config_are_those_passed_in(name: str) -> None:
    w, dw, config = np.ones(5), np.full(5, 0.5), dict(NUMBERS[name])
    for state in STATES[name]:
        config[state] = np.full(5, 0.3)
    config["mine"] = "kept"
    kept = dict(config)
    before, dw_before = w.copy(), dw.copy()
    next_w, next_config = of(cs231n, name)(w, dw, config)
    assert next_w is w
    assert next_config is config
    assert (w != before).all()
    assert_same_bits(dw, dw_before)
    assert set(config) == set(kept) | ({"t"} if name == "adam" else set())
    for key, value in kept.items():
        assert config[key] is value
    for state in STATES[name]:
        assert (config[state] != 0.3).all()


@every_rule
def test_a_new_state_is_like_the_parameter(name: str) -> None:
    w = np.asfortranarray(np.ones((3, 4), np.float32))
    _, config = of(cs231n, name)(w, np.ones_like(w))
    for state in STATES[name]:
        assert config[state].dtype == np.float32
        assert config[state].flags.f_contiguous


@every_rule
def test_numbers_of_numpy_are_taken_as_floats(name: str) -> None:
    """Under NumPy 2 the course's code makes float64 of float32 here; instep does not."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal(50).astype(np.float32)
    wanted_w = w.copy()
    config = {key: np.float64(number) for key, number in NUMBERS[name].items()}
    wanted_config = dict(NUMBERS[name])
    for _ in range(30):
        dw = gradient(rng, w)
        of(cs231n, name)(w, dw, config)
        wanted_w, _ = of(updates_cs231n, name)(wanted_w, dw, wanted_config)
        assert w.dtype == np.float32
        assert_same_bits(w, wanted_w)


def test_a_solver_s_loop() -> None:
    """Each parameter has a config of its own, a copy of one; best parameters are copied."""
    rng = np.random.default_rng(4)
    params = {key: rng.standard_normal((6, 5)) for key in ("W1", "b1", "W2", "b2")}
    wanted = {key: array.copy() for key, array in params.items()}
    configs = {key: dict(NUMBERS["adam"]) for key in params}
    wanted_configs = {key: dict(NUMBERS["adam"]) for key in params}
    for _ in range(50):
        grads = {key: gradient(rng, array) for key, array in params.items()}
        for key, w in params.items():
            params[key], configs[key] = cs231n.adam(w, grads[key], configs[key])
            wanted[key], wanted_configs[key] = updates_cs231n.adam(
                wanted[key], grads[key], wanted_configs[key]
            )
    for key in params:
        assert_same_bits(params[key], wanted[key], key)
        assert_same_configs(configs[key], wanted_configs[key], key)


# The inputs of the course's notebook, four by five, and the first and last of the numbers that it
# expects.
def line(first: str, last: str) -> list[Decimal]:
    start, stop = Decimal(first), Decimal(last)
    return [start + (stop - start) * i / 19 for i in range(20)]


def as_array(numbers: list[Decimal]) -> Array:
    return np.array([float(number) for number in numbers]).reshape(4, 5)


def rel_error(x: Array, y: Array) -> float:
    """As the notebook measures it."""
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))))


W, DW = line("-0.4", "0.6"), line("-0.6", "0.4")


def test_sgd_momentum_of_the_notebook() -> None:
    velocity = line("0.6", "0.9")
    wanted_velocity = [
        v * Decimal("0.9") - Decimal("0.001") * dw for v, dw in zip(velocity, DW, strict=True)
    ]
    wanted_w = [w + v for w, v in zip(W, wanted_velocity, strict=True)]
    config: dict[str, Any] = {"learning_rate": 1e-3, "velocity": as_array(velocity)}
    next_w, config = cs231n.sgd_momentum(as_array(W), as_array(DW), config)
    assert rel_error(next_w, as_array(wanted_w)) < 1e-13
    assert rel_error(config["velocity"], as_array(wanted_velocity)) < 1e-13
    np.testing.assert_allclose(next_w[[0, -1], [1, -2]], [0.20738947, 1.34281053], rtol=1e-7)
    np.testing.assert_allclose(config["velocity"][[0, -1], [1, -2]], [0.55475789, 0.79544211])


def test_rmsprop_of_the_notebook() -> None:
    cache = line("0.6", "0.9")
    wanted_cache = [
        c * Decimal("0.99") + Decimal("0.01") * dw * dw for c, dw in zip(cache, DW, strict=True)
    ]
    wanted_w = [
        w - Decimal("0.01") * dw / (c.sqrt() + Decimal("1e-8"))
        for w, dw, c in zip(W, DW, wanted_cache, strict=True)
    ]
    config: dict[str, Any] = {"learning_rate": 1e-2, "cache": as_array(cache)}
    next_w, config = cs231n.rmsprop(as_array(W), as_array(DW), config)
    assert rel_error(next_w, as_array(wanted_w)) < 1e-13
    assert rel_error(config["cache"], as_array(wanted_cache)) < 1e-13
    np.testing.assert_allclose(next_w[[0, -1], [0, -1]], [-0.39223849, 0.59576619], rtol=1e-7)
    np.testing.assert_allclose(config["cache"][[0, -1], [0, -1]], [0.5976, 0.8926], rtol=1e-7)


def test_adam_of_the_notebook() -> None:
    """`t` is 5, and counted before it is used."""
    m, v, beta1, beta2 = line("0.6", "0.9"), line("0.7", "0.5"), Decimal("0.9"), Decimal("0.999")
    wanted_m = [beta1 * x + (1 - beta1) * dw for x, dw in zip(m, DW, strict=True)]
    wanted_v = [beta2 * x + (1 - beta2) * dw * dw for x, dw in zip(v, DW, strict=True)]
    wanted_w = [
        w - Decimal("0.01") * x / (1 - beta1**6) / ((y / (1 - beta2**6)).sqrt() + Decimal("1e-8"))
        for w, x, y in zip(W, wanted_m, wanted_v, strict=True)
    ]
    config: dict[str, Any] = {"learning_rate": 1e-2, "m": as_array(m), "v": as_array(v), "t": 5}
    next_w, config = cs231n.adam(as_array(W), as_array(DW), config)
    assert rel_error(next_w, as_array(wanted_w)) < 1e-12
    assert rel_error(config["m"], as_array(wanted_m)) < 1e-13
    assert rel_error(config["v"], as_array(wanted_v)) < 1e-13
    assert config["t"] == 6
    np.testing.assert_allclose(next_w[[0, -1], [0, -1]], [-0.40094747, 0.59801459], rtol=1e-7)
    np.testing.assert_allclose(config["v"][[0, -1], [0, -1]], [0.69966, 0.49966], rtol=1e-7)


# What is refused: nothing changes, be it an array or the config.


def assert_refused(
    name: str, kind: type[Exception], message: str, w: Any, dw: Any, config: Any
) -> None:
    before = copy.deepcopy((w, dw, config))
    identities = dict(config) if isinstance(config, dict) else {}
    with pytest.raises(kind) as info:
        of(cs231n, name)(w, dw, config)
    assert message in str(info.value)
    assert repr((w, dw, config)) == repr(before)
    if isinstance(config, dict):
        assert list(config) == list(identities)
        assert all(config[key] is value for key, value in identities.items())


@every_rule
def test_bad_numbers(name: str) -> None:
    w, dw = np.ones(3), np.ones(3)
    for key in NUMBERS[name]:
        for number in (-0.1, math.nan, math.inf):
            message = f'config["{key}"] is {number}; wanted'
            assert_refused(name, ValueError, message, w, dw, {key: number})
        for nonsense in ("0.1", None, True):
            message = f'config["{key}"] is {nonsense!r}'
            assert_refused(name, TypeError, message, w, dw, {key: nonsense})
        if key in ("momentum", "decay_rate", "beta1", "beta2"):
            assert_refused(name, ValueError, f'config["{key}"] is 1', w, dw, {key: 1})


@pytest.mark.parametrize(("t", "kind"), [(-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_bad_t(t: Any, kind: type[Exception]) -> None:
    assert_refused("adam", kind, f'config["t"] is {t}', np.ones(3), np.ones(3), {"t": t})


@every_rule
def test_bad_arrays(name: str) -> None:
    config = NUMBERS[name]
    read_only = np.ones(3)
    read_only.flags.writeable = False
    shared = np.ones(3)
    for kind, message, w, dw in (
        (TypeError, "w is a list", [1.0], np.ones(1)),
        (TypeError, "dw is a list", np.ones(1), [1.0]),
        (TypeError, "w has dtype int64", np.ones(3, np.int64), np.ones(3)),
        (TypeError, "dw has dtype float32", np.ones(3), np.ones(3, np.float32)),
        (ValueError, "dw has shape (2,)", np.ones(3), np.ones(2)),
        (ValueError, "w is read-only", read_only, np.ones(3)),
        (ValueError, "dw", shared, shared),
    ):
        assert_refused(name, kind, message, w, dw, dict(config))
        assert_refused(name, kind, message, w, dw, {})
    for state in STATES[name]:
        for kind, value in (
            (TypeError, [0.0] * 3),
            (TypeError, np.zeros(3, np.float32)),
            (ValueError, np.zeros(2)),
            (ValueError, read_only),
        ):
            bad = {**config, state: value}
            assert_refused(name, kind, f'config["{state}"]', np.ones(3), np.ones(3), bad)


@every_rule
def test_a_config_that_is_no_dict(name: str) -> None:
    message = "config is a list; wanted a dict or None"
    assert_refused(name, TypeError, message, np.ones(3), np.ones(3), [("learning_rate", 0.1)])
