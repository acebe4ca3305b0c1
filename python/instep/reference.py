"""Every recipe in plain NumPy: the definition of what the compiled steps compute.

A recipe is a rule together with the order in which its IEEE operations are done. The functions
here take the arrays of one parameter and the hyper-parameters, and return new arrays; the compiled
recipe of the same name writes the same bits in place, for float32 and float64. They are written to
be read and to be compared with, not to be fast.

Hyper-parameters are Python floats. What is derived from them is computed in float64 and then
rounded once to the dtype of the arrays. The powers ``beta1**t`` and ``beta2**t`` are arguments,
because their last bit depends on how they are computed: `instep.course` takes them from
``np.power``, as the course code does.

Each function takes the parameter ``p``, its gradient ``g`` and its state arrays, all of one shape
and dtype, and returns ``(p, *state)``, new. NaN and Inf propagate as in any NumPy expression.

Examples
--------
>>> import numpy as np
>>> from instep import reference
>>> p, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
>>> reference.gradient_descent(p, g, lr=0.1)
(array([0.95, 2.05]),)
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "adam_hat",
    "adam_inside",
    "adam_outside",
    "adam_scaled",
    "gradient_descent",
    "momentum_ema",
    "rmsprop_inside",
    "rmsprop_outside",
]

Array = NDArray[Any]


def gradient_descent(p: Array, g: Array, *, lr: float) -> tuple[Array]:
    """Gradient descent: ``p = p - lr*g``."""
    f = p.dtype.type
    return (p - f(lr) * g,)


def momentum_ema(p: Array, g: Array, m: Array, *, lr: float, beta: float) -> tuple[Array, Array]:
    """Momentum as a moving average, without bias correction: ``p = p - lr*m``."""
    f = p.dtype.type
    m = f(beta) * m + f(1 - beta) * g
    return p - f(lr) * m, m


def rmsprop_inside(
    p: Array, g: Array, v: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array]:
    """RMSprop with eps inside the root: ``p = p - lr*(g / sqrt(v + eps))``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    return p - f(lr) * (g / np.sqrt(v + f(eps))), v


def rmsprop_outside(
    p: Array, g: Array, v: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array]:
    """RMSprop with eps outside the root: ``p = p - lr*(g / (sqrt(v) + eps))``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    return p - f(lr) * (g / (np.sqrt(v) + f(eps))), v


def _moments(g: Array, m: Array, v: Array, beta1: float, beta2: float) -> tuple[Array, Array]:
    f = g.dtype.type
    m = f(beta1) * m + f(1 - beta1) * g
    v = f(beta2) * v + f(1 - beta2) * (g * g)
    return m, v


def adam_inside(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array]:
    """Adam with eps inside the root: ``p = p - (lr*(m/c1)) / sqrt(v/c2 + eps)``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    c1, c2 = f(1 - beta1_power), f(1 - beta2_power)
    return p - (f(lr) * (m / c1)) / np.sqrt(v / c2 + f(eps)), m, v


def adam_outside(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array]:
    """Adam with eps outside the root: ``p = p - (lr*(m/c1)) / (sqrt(v/c2) + eps)``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    c1, c2 = f(1 - beta1_power), f(1 - beta2_power)
    return p - (f(lr) * (m / c1)) / (np.sqrt(v / c2) + f(eps)), m, v


def adam_hat(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array]:
    """Adam with the correction in the learning rate: ``p = p - (a*m) / (sqrt(v) + eps)``.

    ``a = lr*sqrt(c2)/c1``.
    """
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v) + f(eps)), m, v


def adam_scaled(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array]:
    """`adam_hat` with ``eps*sqrt(c2)`` for ``eps``: algebraically `adam_outside`."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v) + f(eps * math.sqrt(1 - beta2_power))), m, v
