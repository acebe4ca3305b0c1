"""`instep.course` is bit-for-bit identical to the course code, and returns what it returns."""

import math
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal

import course_code
import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from course_code import Arrays
from instep import course, reference

# The layers of nets from the smallest, of one weight and one bias, to a million parameters.
NETS = {
    "2": [1, 1],
    "8": [3, 2],
    "30": [2, 5, 2, 1],
    "one wide layer": [300, 1],
    "a thousand": [30, 25, 10],
    "50 layers": [6] * 51,
    "40 thousand": [196, 180, 20, 1],
    "a million": [784, 1024, 186, 10],
}
SMALL = [5, 4, 3]


def steps_of(net: str) -> int:
    return 60 if net == "a million" else 300


def copies(arrays: Arrays) -> Arrays:
    return {key: array.copy() for key, array in arrays.items()}


def fresh_gradients(rng: np.random.Generator, parameters: Arrays, scale: float = 1.0) -> Arrays:
    """Gradients of every size: each array has its own, from far above to far below epsilon."""
    return {
        "d" + key: rng.standard_normal(array.shape).astype(array.dtype)
        * array.dtype.type(scale * 10.0 ** -(index % 12))
        for index, (key, array) in enumerate(parameters.items())
    }


def assert_same_dicts(actual: Arrays, wanted: Arrays, what: str) -> None:
    assert list(actual) == list(wanted)
    for key, array in actual.items():
        assert type(array) is np.ndarray
        assert_same_bits(array, wanted[key], f'{what}["{key}"]')


class Twins:
    """A net for the course code and the same net for instep, in dicts of their own."""

    def __init__(self, layers: list[int], dtype: type = np.float64) -> None:
        self.rng = np.random.default_rng(sum(layers))
        parameters = course_code.initialize_parameters(layers)
        self.course: Arrays = {key: array.astype(dtype) for key, array in parameters.items()}
        self.instep = copies(self.course)

    def gradients(self) -> Arrays:
        return fresh_gradients(self.rng, self.course)


every_net = pytest.mark.parametrize("net", NETS)


@every_net
def test_gradient_descent(net: str) -> None:
    twins = Twins(NETS[net])
    for t in range(1, steps_of(net) + 1):
        grads = twins.gradients()
        course_code.update_parameters_with_gd(twins.course, grads, 0.0075)
        course.update_parameters_with_gd(twins.instep, grads, 0.0075)
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")


@every_net
def test_momentum(net: str) -> None:
    twins = Twins(NETS[net])
    v = course.initialize_velocity(twins.instep)
    wanted_v = course_code.initialize_velocity(twins.course)
    for t in range(1, steps_of(net) + 1):
        grads = twins.gradients()
        course_code.update_parameters_with_momentum(twins.course, grads, wanted_v, 0.9, 0.01)
        course.update_parameters_with_momentum(twins.instep, grads, v, 0.9, 0.01)
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(v, wanted_v, f"v at t = {t}")


def test_swapped_beta_and_learning_rate_warn() -> None:
    twins = Twins([3, 2])
    grads, v = twins.gradients(), course.initialize_velocity(twins.instep)
    with pytest.warns(UserWarning, match=r"beta is 0.01 .* 0.9, as if they were swapped") as caught:
        course.update_parameters_with_momentum(twins.instep, grads, v, 0.01, 0.9)
    assert caught[0].filename == __file__
    for beta, learning_rate in ((0.9, 0.01), (0.0, 0.9), (0.1, 0.4), (0.05, 1.0)):
        course.update_parameters_with_momentum(twins.instep, grads, v, beta, learning_rate)


@every_net
def test_rmsprop(net: str) -> None:
    twins = Twins(NETS[net])
    s = course.initialize_rmsprop(twins.instep)
    wanted_s = course_code.initialize_rmsprop(twins.course)
    for t in range(1, steps_of(net) + 1):
        grads = twins.gradients()
        course_code.update_parameters_with_rmsprop(twins.course, grads, wanted_s)
        course.update_parameters_with_rmsprop(twins.instep, grads, s)
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(s, wanted_s, f"s at t = {t}")


@every_net
@pytest.mark.parametrize("eps_mode", ["inside", "outside"])
def test_adam(net: str, eps_mode: Literal["inside", "outside"]) -> None:
    of_course = {
        "inside": course_code.update_parameters_with_adam,
        "outside": course_code.update_parameters_with_adam_outside,
    }[eps_mode]
    twins = Twins(NETS[net])
    v, s = course.initialize_adam(twins.instep)
    wanted_v, wanted_s = course_code.initialize_adam(twins.course)
    for t in range(1, steps_of(net) + 1):
        grads = twins.gradients()
        of_course(twins.course, grads, wanted_v, wanted_s, t)
        course.update_parameters_with_adam(twins.instep, grads, v, s, t, eps_mode=eps_mode)
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(v, wanted_v, f"v at t = {t}")
        assert_same_dicts(s, wanted_s, f"s at t = {t}")


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 1 - 1e-9])
@pytest.mark.parametrize("learning_rate", [0.0, 0.7, 3e-4, 10.0])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-3, 1e-30])
def test_other_hyper_parameters(beta: float, learning_rate: float, epsilon: float) -> None:
    gd, momentum, rmsprop, adam = (Twins([7, 9, 2]) for _ in range(4))
    v, (m, s), r = (
        course.initialize_velocity(momentum.instep),
        course.initialize_adam(adam.instep),
        course.initialize_rmsprop(rmsprop.instep),
    )
    wanted_v, (wanted_m, wanted_s), wanted_r = copies(v), (copies(m), copies(s)), copies(r)
    beta2 = 1 - (1 - beta) / 10
    for t in range(1, 31):
        grads = gd.gradients()
        course.update_parameters_with_gd(gd.instep, grads, learning_rate)
        course_code.update_parameters_with_gd(gd.course, grads, learning_rate)
        course.update_parameters_with_momentum(momentum.instep, grads, v, beta, learning_rate)
        course_code.update_parameters_with_momentum(
            momentum.course, grads, wanted_v, beta, learning_rate
        )
        course.update_parameters_with_rmsprop(
            rmsprop.instep, grads, r, learning_rate, beta, epsilon
        )
        course_code.update_parameters_with_rmsprop(
            rmsprop.course, grads, wanted_r, learning_rate, beta, epsilon
        )
        course.update_parameters_with_adam(
            adam.instep, grads, m, s, t, learning_rate, beta, beta2, epsilon
        )
        course_code.update_parameters_with_adam(
            adam.course, grads, wanted_m, wanted_s, t, learning_rate, beta, beta2, epsilon
        )
        for twins in (gd, momentum, rmsprop, adam):
            assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        for actual, wanted in ((v, wanted_v), (r, wanted_r), (m, wanted_m), (s, wanted_s)):
            assert_same_dicts(actual, wanted, f"state at t = {t}")


def test_the_defaults_are_the_course_s() -> None:
    """Keywords have the course's names, and numbers left out its values."""
    named, short = Twins(SMALL), Twins(SMALL)
    v, s = course.initialize_adam(named.instep)
    w, u = course.initialize_adam(short.instep)
    grads = named.gradients()
    course.update_parameters_with_adam(
        parameters=named.instep,
        grads=grads,
        v=v,
        s=s,
        t=2,
        learning_rate=0.01,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        eps_mode="inside",
        return_corrected=False,
    )
    course.update_parameters_with_adam(short.instep, grads, w, u, 2)
    assert_same_dicts(short.instep, named.instep, "Adam")
    r, q = course.initialize_rmsprop(named.instep), course.initialize_rmsprop(named.instep)
    course.update_parameters_with_rmsprop(
        parameters=named.instep,
        grads=grads,
        s=r,
        learning_rate=0.01,
        beta=0.9,
        epsilon=1e-8,
        eps_mode="inside",
    )
    course.update_parameters_with_rmsprop(short.instep, grads, q)
    assert_same_dicts(short.instep, named.instep, "RMSprop")


def by_reference(
    name: str, parameters: Arrays, grads: Arrays, *states: Arrays, **hypers: float
) -> None:
    """Do a step of `instep.reference` on dicts, rebinding their arrays."""
    for key, p in parameters.items():
        olds = (state["d" + key] for state in states)
        parameters[key], *new = getattr(reference, name)(p, grads["d" + key], *olds, **hypers)
        for state, array in zip(states, new, strict=True):
            state["d" + key] = array


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps_mode", ["inside", "outside", "hat", "scaled"])
def test_all_eps_modes_of_adam(eps_mode: course.AdamMode, dtype: type) -> None:
    twins = Twins([40, 30, 5], dtype)
    v, s = course.initialize_adam(twins.instep)
    wanted_v, wanted_s = copies(v), copies(s)
    hypers = {"lr": 0.003, "beta1": 0.8, "beta2": 0.99, "eps": 1e-6}
    for t in range(1, 301):
        grads = twins.gradients()
        course.update_parameters_with_adam(
            twins.instep, grads, v, s, t, *hypers.values(), eps_mode=eps_mode
        )
        powers = {
            "beta1_power": float(np.power(hypers["beta1"], t)),
            "beta2_power": float(np.power(hypers["beta2"], t)),
        }
        by_reference(
            f"adam_{eps_mode}", twins.course, grads, wanted_v, wanted_s, **hypers, **powers
        )
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(v, wanted_v, f"v at t = {t}")
        assert_same_dicts(s, wanted_s, f"s at t = {t}")
    assert all(array.dtype == dtype for array in twins.instep.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps_mode", ["inside", "outside"])
def test_both_eps_modes_of_rmsprop(eps_mode: Literal["inside", "outside"], dtype: type) -> None:
    twins = Twins([40, 30, 5], dtype)
    s = course.initialize_rmsprop(twins.instep)
    wanted_s = copies(s)
    for t in range(1, 301):
        grads = twins.gradients()
        course.update_parameters_with_rmsprop(
            twins.instep, grads, s, 0.003, 0.8, 1e-6, eps_mode=eps_mode
        )
        by_reference(
            f"rmsprop_{eps_mode}", twins.course, grads, wanted_s, lr=0.003, beta=0.8, eps=1e-6
        )
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(s, wanted_s, f"s at t = {t}")


def test_float32_stays_float32() -> None:
    """The course code turns it into float64 under NumPy 2; the reference in float32 is the rule."""
    gd, momentum = Twins([40, 30, 5], np.float32), Twins([40, 30, 5], np.float32)
    v = course.initialize_velocity(momentum.instep)
    wanted_v = copies(v)
    for t in range(1, 101):
        grads = gd.gradients()
        course.update_parameters_with_gd(gd.instep, grads, 0.1)
        by_reference("gradient_descent", gd.course, grads, lr=0.1)
        course.update_parameters_with_momentum(momentum.instep, grads, v, 0.9, 0.1)
        by_reference("momentum_ema", momentum.course, grads, wanted_v, lr=0.1, beta=0.9)
        for twins in (gd, momentum):
            assert all(array.dtype == np.float32 for array in twins.instep.values())
            assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(v, wanted_v, f"v at t = {t}")


def test_every_parameter_may_have_its_own_dtype_and_layout() -> None:
    twins = Twins([40, 30, 5, 6])
    for arrays in (twins.course, twins.instep):
        arrays["W1"] = arrays["W1"].astype(np.float32)
        arrays["b3"] = arrays["b3"].astype(np.float32)
        arrays["W2"] = np.asfortranarray(arrays["W2"])
        arrays["b2"] = np.repeat(arrays["b2"], 2, axis=0)[::2]
    v, s = course.initialize_adam(twins.instep)
    assert [v["d" + key].dtype for key in twins.instep] == [
        array.dtype for array in twins.instep.values()
    ]
    wanted_v, wanted_s = copies(v), copies(s)
    for t in range(1, 21):
        grads = twins.gradients()
        course.update_parameters_with_adam(twins.instep, grads, v, s, t)
        hypers = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
        powers = {f"beta{i}_power": float(np.power(hypers[f"beta{i}"], t)) for i in (1, 2)}
        by_reference("adam_inside", twins.course, grads, wanted_v, wanted_s, **hypers, **powers)
    assert_same_dicts(twins.instep, twins.course, "parameters")
    assert_same_dicts(v, wanted_v, "v")
    assert_same_dicts(s, wanted_s, "s")


def test_the_very_dicts_and_arrays_are_returned() -> None:
    parameters = Twins(SMALL).instep
    grads = fresh_gradients(np.random.default_rng(0), parameters)
    v, s = course.initialize_adam(parameters)
    dicts = (parameters, grads, v, s)
    arrays = [dict(arrays) for arrays in dicts]
    kept = [copies(arrays) for arrays in dicts]

    def assert_untouched(returned: Any, wanted: tuple[Arrays, ...]) -> None:
        assert type(returned) is tuple
        assert len(returned) == len(wanted)
        assert all(a is b for a, b in zip(returned, wanted, strict=True))
        for now, before in zip(dicts, arrays, strict=True):
            assert list(now) == list(before)
            assert all(now[key] is before[key] for key in before)

    assert course.update_parameters_with_gd(parameters, grads, 0.1) is parameters
    assert_untouched(
        course.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1), (parameters, v)
    )
    assert_untouched(course.update_parameters_with_rmsprop(parameters, grads, s), (parameters, s))
    assert_untouched(
        course.update_parameters_with_adam(parameters, grads, v, s, 1), (parameters, v, s)
    )
    five = course.update_parameters_with_adam(parameters, grads, v, s, 1, return_corrected=True)
    assert len(five) == 5
    assert_untouched(five[:3], (parameters, v, s))
    # Written in place, and the gradients not at all.
    assert_same_dicts(grads, kept[1], "grads")
    for now, before in zip((parameters, v, s), (kept[0], kept[2], kept[3]), strict=True):
        assert all((now[key] != before[key]).all() for key in before)


@pytest.mark.parametrize("net", ["2", "30", "a thousand", "50 layers"])
def test_corrected_moments(net: str) -> None:
    twins = Twins(NETS[net])
    v, s = course.initialize_adam(twins.instep)
    wanted_v, wanted_s = course_code.initialize_adam(twins.course)
    seen: list[Arrays] = []
    for t in range(1, 301):
        grads = twins.gradients()
        *_, v_corrected, s_corrected = course.update_parameters_with_adam(
            twins.instep, grads, v, s, t, return_corrected=True
        )
        *_, wanted_vc, wanted_sc = course_code.update_parameters_with_adam(
            twins.course, grads, wanted_v, wanted_s, t
        )
        assert_same_dicts(v_corrected, wanted_vc, f"v_corrected at t = {t}")
        assert_same_dicts(s_corrected, wanted_sc, f"s_corrected at t = {t}")
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        for key in v:
            for corrected in (v_corrected, s_corrected):
                assert not np.shares_memory(corrected[key], v[key])
                assert not np.shares_memory(corrected[key], s[key])
        seen += [v_corrected, s_corrected]
    assert len({id(arrays) for arrays in seen}) == len(seen)


@pytest.mark.parametrize("eps_mode", ["inside", "outside", "hat", "scaled"])
def test_corrected_moments_in_float32_and_any_layout(eps_mode: course.AdamMode) -> None:
    parameters: Arrays = {
        "W1": np.asfortranarray(np.ones((3, 4), np.float32)),
        "b1": np.ones((6, 2))[::2, ::-1],
        "W2": np.array(1.0, np.float32),
        "b2": np.ones((0, 3)),
    }
    grads = fresh_gradients(np.random.default_rng(1), parameters)
    grads["dW2"] = np.array(2.0, np.float32)
    v, s = course.initialize_adam(parameters)
    for t in (1, 2, 7):
        *_, v_corrected, s_corrected = course.update_parameters_with_adam(
            parameters, grads, v, s, t, eps_mode=eps_mode, return_corrected=True
        )
        assert list(v_corrected) == list(s_corrected) == ["dW1", "db1", "dW2", "db2"]
        for corrected, state, beta in ((v_corrected, v, 0.9), (s_corrected, s, 0.999)):
            for key, array in corrected.items():
                c = array.dtype.type(1 - np.power(beta, t))
                assert type(array) is np.ndarray
                assert_same_bits(array, np.asarray(state[key] / c), key)


def test_corrected_moments_that_overflow_are_infinite_without_a_word() -> None:
    """Nothing may fail after the step, whatever NumPy is told to do about overflow."""
    parameters: Arrays = {"W1": np.ones((1, 2)), "b1": np.ones((1, 1))}
    grads: Arrays = {"dW1": np.array([[np.nan, 1.0]]), "db1": np.ones((1, 1))}
    v, s = course.initialize_adam(parameters)
    v["db1"][...] = 1e308
    s["dW1"][...] = np.inf
    with np.errstate(all="raise"):
        *_, v_corrected, s_corrected = course.update_parameters_with_adam(
            parameters, grads, v, s, 1, return_corrected=True
        )
    assert np.isposinf(v_corrected["db1"]).all()
    assert np.isnan(s_corrected["dW1"][0, 0])
    assert np.isposinf(s_corrected["dW1"][0, 1])


def test_other_keys_are_not_looked_at() -> None:
    """The course's backward pass leaves dA1 and dZ1 among the gradients."""

    class Untouchable:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    clean, cluttered = Twins(SMALL), Twins(SMALL)
    grads = clean.gradients()
    strays: dict[Any, Any] = {"dA1": object(), "dZ9": None, "dW": Untouchable(), 7: Untouchable()}
    all_grads: Arrays = {"dA0": object(), **grads, **strays}  # type: ignore[dict-item]
    v, s = course.initialize_adam(clean.instep)
    full_v, full_s = {**strays, **copies(v)}, {**copies(s), **strays}
    course.update_parameters_with_gd(clean.instep, grads, 0.1)
    course.update_parameters_with_gd(cluttered.instep, all_grads, 0.1)
    course.update_parameters_with_momentum(clean.instep, grads, v, 0.9, 0.1)
    course.update_parameters_with_momentum(cluttered.instep, all_grads, full_v, 0.9, 0.1)
    course.update_parameters_with_rmsprop(clean.instep, grads, s)
    course.update_parameters_with_rmsprop(cluttered.instep, all_grads, full_s)
    for corrected in (False, True):
        course.update_parameters_with_adam(clean.instep, grads, v, s, 3)
        returned = course.update_parameters_with_adam(
            cluttered.instep, all_grads, full_v, full_s, 3, return_corrected=corrected
        )
        assert all(list(arrays) == ["dW1", "db1", "dW2", "db2"] for arrays in returned[3:])
    assert_same_dicts(cluttered.instep, clean.instep, "parameters")
    for full, plain in ((full_v, v), (full_s, s)):
        assert_same_dicts({key: full[key] for key in plain}, plain, "state")
        assert all(full[key] is stray for key, stray in strays.items())


def test_the_order_of_keys_does_not_matter() -> None:
    straight, mixed = Twins(SMALL), Twins(SMALL)
    grads = straight.gradients()
    turned = dict(reversed(mixed.instep.items()))
    v, s = course.initialize_adam(straight.instep)
    w, u = course.initialize_adam(turned)
    course.update_parameters_with_adam(straight.instep, grads, v, s, 1)
    course.update_parameters_with_adam(turned, dict(sorted(grads.items())), w, u, 1)
    assert list(turned) == ["b2", "W2", "b1", "W1"]
    assert list(w) == ["dW1", "db1", "dW2", "db2"]
    for key, array in straight.instep.items():
        assert_same_bits(turned[key], array, key)


def test_a_net_without_layers() -> None:
    assert course.update_parameters_with_gd({}, {}, 0.1) == {}
    assert course.update_parameters_with_momentum({}, {}, {}, 0.9, 0.1) == ({}, {})
    assert course.update_parameters_with_rmsprop({}, {}, {}) == ({}, {})
    assert course.initialize_adam({}) == ({}, {})
    five = course.update_parameters_with_adam({}, {}, {}, {}, 1, return_corrected=True)
    assert five == ({}, {}, {}, {}, {})


@pytest.mark.parametrize("layers", [[1, 1], SMALL, [6] * 51], ids=len)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_states(layers: list[int], dtype: type) -> None:
    parameters = Twins(layers, dtype).instep
    kept = copies(parameters)
    states = [
        course.initialize_velocity(parameters),
        course.initialize_rmsprop(parameters),
        *course.initialize_adam(parameters),
    ]
    wanted = course_code.initialize_velocity(parameters)
    arrays = [array for state in states for array in state.values()]
    for state in states:
        assert type(state) is dict
        assert_same_dicts(state, wanted, "state")
        assert all(array.dtype == dtype and array.flags.writeable for array in state.values())
    arrays += parameters.values()
    spans = sorted((array.__array_interface__["data"][0], array.nbytes) for array in arrays)
    for (start, size), (after, _) in pairwise(spans):
        assert start + size <= after
    assert_same_dicts(parameters, kept, "parameters")


def test_initial_states_follow_the_parameter_s_memory() -> None:
    parameters: Arrays = {
        "W1": np.ones((3, 4), order="F"),
        "b1": np.array(1.0, np.float32),
        "W2": np.ones((4, 3)).T[:, ::2],
        "b2": np.ones((0, 2)),
        "W3": np.lib.stride_tricks.as_strided(np.ones(1), (3, 2), (0, 0)),
        "b3": np.ones(4).view(Subclass),
    }
    v, s = course.initialize_adam(parameters)
    for state in (v, s):
        for key, array in parameters.items():
            zeros = state["d" + key]
            assert type(zeros) is np.ndarray
            assert_same_bits(zeros, np.zeros(array.shape, array.dtype), key)
        assert state["dW1"].flags.f_contiguous
        assert state["dW2"].flags.f_contiguous


class Subclass(np.ndarray[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("examples", "size"),
    [(148, 64), (128, 64), (64, 64), (63, 64), (65, 64), (1, 1), (5, 1), (10, 3), (7, 100), (0, 4)],
)
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_mini_batches(examples: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, examples)).astype(np.float32)
    Y = rng.integers(0, 2, (1, examples))
    kept = X.copy(), Y.copy()
    wanted = course_code.random_mini_batches(X, Y, size, seed)
    after = np.random.random(3)
    actual = course.random_mini_batches(X, Y, size, seed)
    assert (np.random.random(3) == after).all()
    assert type(actual) is list
    assert len(actual) == len(wanted) == math.ceil(examples / size)
    for batch, wanted_batch in zip(actual, wanted, strict=True):
        assert type(batch) is tuple
        for array, wanted_array in zip(batch, wanted_batch, strict=True):
            assert array.dtype == wanted_array.dtype
            assert array.shape == wanted_array.shape
            assert (array == wanted_array).all()
            assert not np.shares_memory(array, X)
            assert not np.shares_memory(array, Y)
    assert (kept[0] == X).all()
    assert (kept[1] == Y).all()


def test_mini_batches_by_default_and_with_many_rows_of_labels() -> None:
    X, Y = np.arange(1000.0).reshape(5, 200), np.arange(600).reshape(3, 200)
    actual, wanted = course.random_mini_batches(X, Y), course_code.random_mini_batches(X, Y)
    assert [x.shape for x, _ in actual] == [(5, 64), (5, 64), (5, 64), (5, 8)]
    for (x, y), (wanted_x, wanted_y) in zip(actual, wanted, strict=True):
        assert (x == wanted_x).all()
        assert (y == wanted_y).all()


@pytest.mark.parametrize("size", [np.int64(64), np.int8(64), np.uint8(64)], ids=repr)
def test_the_size_of_mini_batches_may_be_a_numpy_integer(size: Any) -> None:
    X, Y = np.arange(600.0).reshape(2, 300), np.arange(300).reshape(1, 300)
    actual = course.random_mini_batches(X, Y, size, 1)
    wanted = course_code.random_mini_batches(X, Y, 64, 1)
    assert [x.tolist() for x, _ in actual] == [x.tolist() for x, _ in wanted]
    assert [y.tolist() for _, y in actual] == [y.tolist() for _, y in wanted]


@pytest.mark.parametrize("decay_rate", [0, 1, 0.3, 1e-7])
@pytest.mark.parametrize("learning_rate0", [0.0, 0.1, 0.5, 1, 1e-300])
def test_decay_of_the_learning_rate(learning_rate0: float, decay_rate: float) -> None:
    for epoch in (*range(5), 999, 1000, 1001, 1999, 2000, 123_456, 2.5, np.int64(3000)):
        actual = course.update_lr(learning_rate0, epoch, decay_rate)
        wanted = course_code.update_lr(learning_rate0, epoch, decay_rate)
        assert actual == wanted
        actual = course.schedule_lr_decay(learning_rate0, epoch, decay_rate)
        assert actual == course_code.schedule_lr_decay(learning_rate0, epoch, decay_rate)
        for interval in (1, 3, 1000, 0.5):
            actual = course.schedule_lr_decay(learning_rate0, epoch, decay_rate, interval)
            wanted = course_code.schedule_lr_decay(learning_rate0, epoch, decay_rate, interval)
            assert actual == wanted


BETAS = (
    *(0.0, 5e-324, 1e-300, 0.001, 0.1, 0.25, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999),
    *(1 - 2.0**-k for k in range(10, 54, 3)),
    1 - 2.0**-53,
)


def times() -> Iterator[int]:
    yield from range(1, 400)
    yield from (500, 1_000, 4_095, 4_096, 10_007, 65_536, 10**6, 2**31 - 1, 2**31, 2**53, 2**62)


def test_the_powers_have_the_bits_of_the_course_s() -> None:
    """`np.power(beta, t)` of two scalars, `t` an int, as the course code calls it."""
    rng = np.random.default_rng(0)
    update = course.deep_learning.updates._ADAM["inside"]
    pairs = [(a, b) for a in BETAS for b in (0.999, BETAS[-1], 0.5)]
    pairs += [(1 - x, 1 - y) for x, y in 10.0 ** rng.uniform(-6, 0, (200, 2))]
    for beta1, beta2 in pairs:
        for t in times():
            *_, power1, power2 = update.hypers(t, 0.01, beta1, beta2, 1e-8)
            wanted = float(np.power(beta1, t)), float(np.power(beta2, t))
            assert (power1, power2) == wanted, f"betas {beta1!r} and {beta2!r} at t = {t}"
            # The bias corrections are divisors.
            assert power1 < 1.0
            assert power2 < 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_have_the_same_bits_however_they_are_typed(dtype: type) -> None:
    """But for `np.power(g, 2)` before NumPy 2.2, which is off in the last bit with AVX-512."""
    rng = np.random.default_rng(0)
    for n in (1, 7, 100, 100_000):
        g: Array = (rng.standard_normal(n) * 10.0 ** rng.integers(-15, 15, n)).astype(dtype)
        assert_same_bits(g**2, g * g)
        assert_same_bits(np.square(g), g * g)
        powers = np.power(g, 2)
        if tuple(map(int, np.__version__.split(".")[:2])) >= (2, 2):
            assert_same_bits(powers, g * g)
        np.testing.assert_array_max_ulp(powers, g * g, 1)


@pytest.mark.parametrize("t", [1, 2, 10, 999])
def test_t_may_be_a_numpy_integer(t: int) -> None:
    wanted = Twins(SMALL)
    v, s = course.initialize_adam(wanted.instep)
    grads = wanted.gradients()
    course.update_parameters_with_adam(wanted.instep, grads, v, s, t)
    for kind in (np.int16, np.int32, np.int64, np.uint16, np.uint64):
        twins = Twins(SMALL)
        v, s = course.initialize_adam(twins.instep)
        number: Any = kind(t)
        course.update_parameters_with_adam(twins.instep, grads, v, s, number)
        assert_same_dicts(twins.instep, wanted.instep, kind.__name__)


def test_nan_and_infinity_go_where_numpy_lets_them() -> None:
    twins = Twins([20, 30, 5])
    v, s = course.initialize_adam(twins.instep)
    wanted_v, wanted_s = course_code.initialize_adam(twins.course)
    for t in range(1, 6):
        grads = twins.gradients()
        grads["dW1"][t, 3 * t] = np.nan
        grads["dW1"][2 * t, t] = np.inf
        grads["db2"][0, 0] = -np.inf
        course.update_parameters_with_adam(twins.instep, grads, v, s, t)
        with np.errstate(invalid="ignore"):
            course_code.update_parameters_with_adam(twins.course, grads, wanted_v, wanted_s, t)
        assert_same_dicts(twins.instep, twins.course, f"parameters at t = {t}")
        assert_same_dicts(v, wanted_v, "v")
        assert_same_dicts(s, wanted_s, "s")
    assert 5 <= np.isnan(twins.instep["W1"]).sum() < 20


def test_every_name_is_at_the_top_level() -> None:
    assert set(course.__all__) <= set(instep.__all__)
    for name in course.__all__:
        assert getattr(instep, name) is getattr(course, name)
    assert sorted(course.__all__) == [
        "initialize_adam",
        "initialize_rmsprop",
        "initialize_velocity",
        "random_mini_batches",
        "schedule_lr_decay",
        "update_lr",
        "update_parameters_with_adam",
        "update_parameters_with_gd",
        "update_parameters_with_momentum",
        "update_parameters_with_rmsprop",
    ]


@pytest.mark.parametrize("name", course.__all__)
def test_docstrings_say_what_is_written(name: str) -> None:
    """Whoever reads the help of an update function is warned of arrays that change."""
    function: Callable[..., Any] = getattr(course, name)
    text = function.__doc__ or ""
    assert "Parameters\n" in text
    assert "Returns\n" in text
    assert "Raises\n" in text
    if name.startswith("update_parameters"):
        assert "in place" in text
        assert "**Written in place.**" in text
        assert "Warnings\n" in text


def test_two_threads_may_step_two_nets() -> None:
    """Large enough that the interpreter lock is released during the sweep."""
    nets = [Twins([300, 200, 10]) for _ in range(2)]
    gradients = [[twins.gradients() for _ in range(4)] for twins in nets]
    states = [course.initialize_adam(twins.instep) for twins in nets]
    failures: list[BaseException] = []
    start = threading.Barrier(2)

    def work(index: int) -> None:
        try:
            start.wait(60)
            for t in range(1, 101):
                grads = gradients[index][t % 4]
                course.update_parameters_with_adam(nets[index].instep, grads, *states[index], t)
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for twins, grads, (v, s) in zip(nets, gradients, states, strict=True):
        wanted_v, wanted_s = course_code.initialize_adam(twins.course)
        for t in range(1, 101):
            course_code.update_parameters_with_adam(
                twins.course, grads[t % 4], wanted_v, wanted_s, t
            )
        assert_same_dicts(twins.instep, twins.course, "parameters")
        assert_same_dicts(v, wanted_v, "v")
        assert_same_dicts(s, wanted_s, "s")
