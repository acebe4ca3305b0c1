"""The reference computes the formulas: against Python floats, and against many digits."""

import math
import struct
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep import _instep, reference

Numbers = dict[str, float]
Rounding = Callable[[float], float]


def double(x: float) -> float:
    return x


def single(x: float) -> float:
    """Round to float32. Rounding each float64 result again gives the bits of float32 operations."""
    rounded: float = struct.unpack("f", struct.pack("f", x))[0]
    return rounded


def moments(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, float]:
    m = r(r(r(c["beta1"]) * x["m"]) + r(r(1 - c["beta1"]) * x["g"]))
    v = r(r(r(c["beta2"]) * x["v"]) + r(r(1 - c["beta2"]) * r(x["g"] * x["g"])))
    return m, v


def gradient_descent(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    return (r(x["p"] - r(r(c["lr"]) * x["g"])),)


def momentum_ema(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m = r(r(r(c["beta"]) * x["m"]) + r(r(1 - c["beta"]) * x["g"]))
    return r(x["p"] - r(r(c["lr"]) * m)), m


def rmsprop_inside(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    v = r(r(r(c["beta"]) * x["v"]) + r(r(1 - c["beta"]) * r(x["g"] * x["g"])))
    root = r(math.sqrt(r(v + r(c["eps"]))))
    return r(x["p"] - r(r(c["lr"]) * r(x["g"] / root))), v


def rmsprop_outside(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    v = r(r(r(c["beta"]) * x["v"]) + r(r(1 - c["beta"]) * r(x["g"] * x["g"])))
    root = r(r(math.sqrt(v)) + r(c["eps"]))
    return r(x["p"] - r(r(c["lr"]) * r(x["g"] / root))), v


def adam_inside(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m, v = moments(r, x, c)
    mc, vc = r(m / r(1 - c["beta1_power"])), r(v / r(1 - c["beta2_power"]))
    return r(x["p"] - r(r(r(c["lr"]) * mc) / r(math.sqrt(r(vc + r(c["eps"])))))), m, v


def adam_outside(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m, v = moments(r, x, c)
    mc, vc = r(m / r(1 - c["beta1_power"])), r(v / r(1 - c["beta2_power"]))
    return r(x["p"] - r(r(r(c["lr"]) * mc) / r(r(math.sqrt(vc)) + r(c["eps"])))), m, v


def adam_hat(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m, v = moments(r, x, c)
    a = c["lr"] * math.sqrt(1 - c["beta2_power"]) / (1 - c["beta1_power"])
    return r(x["p"] - r(r(r(a) * m) / r(r(math.sqrt(v)) + r(c["eps"])))), m, v


def adam_scaled(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m, v = moments(r, x, c)
    a = c["lr"] * math.sqrt(1 - c["beta2_power"]) / (1 - c["beta1_power"])
    eps = c["eps"] * math.sqrt(1 - c["beta2_power"])
    return r(x["p"] - r(r(r(a) * m) / r(r(math.sqrt(v)) + r(eps)))), m, v


def momentum_dlfs_nesterov(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    ahead = r(x["p"] + r(r(c["momentum"] * c["momentum"]) * x["m"]))
    m = r(r(r(c["momentum"]) * x["m"]) - r(r(c["lr"]) * x["g"]))
    return r(ahead - r(r((1 + c["momentum"]) * c["lr"]) * x["g"])), m


def momentum_dlfs2_nesterov(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m = r(r(r(c["momentum"]) * x["m"]) - r(r(c["lr"]) * x["g"]))
    ahead = r(x["p"] + r(r(c["momentum"] * c["momentum"]) * m))
    return r(ahead - r(r((1 + c["momentum"]) * c["lr"]) * x["g"])), m


def rmsprop_outside_numerator_first(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    v = r(r(r(c["beta"]) * x["v"]) + r(r(1 - c["beta"]) * r(x["g"] * x["g"])))
    root = r(r(math.sqrt(v)) + r(c["eps"]))
    return r(x["p"] - r(r(r(c["lr"]) * x["g"]) / root)), v


def rmsprop_dlfs(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    v = r(r(r(c["beta"]) * x["v"]) + r(r(r(1 - c["beta"]) * x["g"]) * x["g"]))
    root = r(r(math.sqrt(v)) + r(c["eps"]))
    return r(x["p"] - r(r(r(c["lr"]) * x["g"]) / root)), v


def adam_hat_wide(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m, v = moments(r, x, c)
    a = c["lr"] * math.sqrt(1 - c["beta2_power"]) / (1 - c["beta1_power"])
    return r(x["p"] - (a * m) / r(r(math.sqrt(v)) + r(c["eps"]))), m, v


def adam_dlfs(r: Rounding, x: Numbers, c: Numbers) -> tuple[float, ...]:
    m = r(x["m"] + r(r(1 - c["beta1"]) * r(x["g"] - x["m"])))
    v = r(x["v"] + r(r(1 - c["beta2"]) * r(r(x["g"] * x["g"]) - x["v"])))
    a = c["lr"] * math.sqrt(1 - c["beta2_power"]) / (1 - c["beta1_power"])
    return r(x["p"] - (a * m) / r(r(math.sqrt(v)) + r(c["eps"]))), m, v


IN_ORDER = {
    function.__name__: function
    for function in (
        gradient_descent,
        momentum_ema,
        rmsprop_inside,
        rmsprop_outside,
        adam_inside,
        adam_outside,
        adam_hat,
        adam_scaled,
        momentum_dlfs_nesterov,
        momentum_dlfs2_nesterov,
        rmsprop_outside_numerator_first,
        rmsprop_dlfs,
        adam_hat_wide,
        adam_dlfs,
    )
}

# The same rules as textbooks print them, for exact arithmetic. C1 and C2 are 1 - beta**t.
AS_PRINTED: dict[str, Callable[[Any], Any]] = {
    "gradient_descent": lambda x: x.p - x.lr * x.g,
    "momentum_ema": lambda x: x.p - x.lr * x.new("m", x.beta),
    "rmsprop_inside": lambda x: x.p - x.lr * x.g / (x.new("v", x.beta) + x.eps).sqrt(),
    "rmsprop_outside": lambda x: x.p - x.lr * x.g / (x.new("v", x.beta).sqrt() + x.eps),
    "adam_inside": lambda x: (
        x.p - x.lr * x.new("m", x.beta1) / x.c1 / (x.new("v", x.beta2) / x.c2 + x.eps).sqrt()
    ),
    "adam_outside": lambda x: (
        x.p - x.lr * x.new("m", x.beta1) / x.c1 / ((x.new("v", x.beta2) / x.c2).sqrt() + x.eps)
    ),
    "adam_hat": lambda x: (
        x.p - x.lr * x.c2.sqrt() / x.c1 * x.new("m", x.beta1) / (x.new("v", x.beta2).sqrt() + x.eps)
    ),
    # Algebraically Kingma and Ba's first algorithm.
    "adam_scaled": lambda x: (
        x.p - x.lr * x.new("m", x.beta1) / x.c1 / ((x.new("v", x.beta2) / x.c2).sqrt() + x.eps)
    ),
}

HYPERS = {"lr": 0.013, "beta": 0.87, "beta1": 0.91, "beta2": 0.997, "eps": 1e-3}


def arguments(name: str, t: int, dtype: type) -> tuple[dict[str, Array], Numbers]:
    """Arrays by their names and hyper-parameters by theirs, as the function takes them."""
    rng = np.random.default_rng(t)
    function = getattr(reference, name)
    hypers = {key: HYPERS.get(key, 0.3) for key in keywords(function)}
    for key in hypers:
        if key.endswith("_power"):
            hypers[key] = HYPERS[key.removesuffix("_power")] ** t
    arrays: dict[str, Array] = {}
    for role in function.__code__.co_varnames[: function.__code__.co_argcount]:
        values = rng.standard_normal(200) * 10.0 ** rng.integers(-5, 3, 200)
        arrays[role] = (values if role in ("p", "g", "m", "g_mean") else np.abs(values)).astype(
            dtype
        )
    return arrays, hypers


def keywords(function: Any) -> tuple[str, ...]:
    code = function.__code__
    names: tuple[str, ...] = code.co_varnames[
        code.co_argcount : code.co_argcount + code.co_kwonlyargcount
    ]
    return names


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", IN_ORDER)
def test_the_order_of_operations(name: str, dtype: type) -> None:
    rounding = single if dtype is np.float32 else double
    for t in (1, 2, 10, 1_000):
        arrays, hypers = arguments(name, t, dtype)
        kept = {role: array.copy() for role, array in arrays.items()}
        new = getattr(reference, name)(*arrays.values(), **hypers)
        columns = zip(*(array.tolist() for array in arrays.values()), strict=True)
        rows = [dict(zip(arrays, column, strict=True)) for column in columns]
        wanted = [IN_ORDER[name](rounding, row, hypers) for row in rows]
        assert type(new) is tuple
        for role, array, numbers in zip(
            [role for role in arrays if role != "g"], new, zip(*wanted, strict=True), strict=True
        ):
            assert_same_bits(array, np.array(numbers, dtype), role)
            assert not any(np.shares_memory(array, old) for old in arrays.values())
        for role, array in arrays.items():
            assert_same_bits(array, kept[role], f"argument {role}")


class Exact:
    """The numbers of one element with many digits, under their names."""

    def __init__(self, numbers: Numbers, t: int) -> None:
        for name, number in numbers.items():
            setattr(self, name, Decimal(number))
        self.c1 = 1 - Decimal(HYPERS["beta1"]) ** t
        self.c2 = 1 - Decimal(HYPERS["beta2"]) ** t
        self.moments = {"m": self.g, "v": self.g * self.g}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def new(self, moment: str, beta: Decimal) -> Decimal:
        old: Decimal = getattr(self, moment)
        return beta * old + (1 - beta) * Decimal(self.moments[moment])


@pytest.mark.parametrize("name", AS_PRINTED)
def test_the_formula(name: str) -> None:
    """Within a few roundings of what the formula gives in exact arithmetic."""
    with localcontext() as context:
        context.prec = 60
        for t in (1, 2, 10, 1_000):
            arrays, hypers = arguments(name, t, np.float64)
            p, *_ = getattr(reference, name)(*arrays.values(), **hypers)
            for index, actual in enumerate(p):
                row = {role: float(array[index]) for role, array in arrays.items()}
                wanted = AS_PRINTED[name](Exact({**row, **hypers}, t))
                step = abs(wanted - Decimal(row["p"]))
                # The powers of beta are rounded before they are taken from one.
                tolerance = abs(wanted) * Decimal(2) ** -52 + step * Decimal(2) ** -38
                assert abs(Decimal(float(actual)) - wanted) <= tolerance


@pytest.mark.parametrize("name", _instep.recipes())
def test_new_arrays_of_the_dtype_and_shape_are_returned(name: str) -> None:
    for dtype in (np.float32, np.float64):
        for shape in ((), (1,), (0,), (2, 3)):
            arrays, hypers = arguments(name, 2, dtype)
            shaped = [np.ones(shape, dtype) for _ in arrays]
            new = getattr(reference, name)(*shaped, **hypers)
            assert len(new) == len(shaped) - 1
            assert all(array.dtype == dtype and array.shape == shape for array in new)
