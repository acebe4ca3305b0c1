"""Every recipe in plain NumPy: the definition of what the compiled steps compute.

A recipe is a rule together with the order in which its IEEE operations are done. The functions
here take the arrays of one parameter and the hyper-parameters, and return new arrays. The compiled
recipe of the same name writes bit-for-bit identical results in place, for float32 and float64. The
functions are here to be read and to be compared with, not to be fast.

Hyper-parameters are Python floats. What is derived from them is computed in float64 and then
rounded once to the dtype of the arrays. What depends on the number ``t`` of the step is an argument
itself. ``beta1_power`` and ``beta2_power`` are ``beta1**t`` and ``beta2**t``, whose last bit
depends on how they are computed: `instep.course` takes them from ``np.power``, as the course code
does. In the formulas, ``c1 = 1 - beta1_power`` and ``c2 = 1 - beta2_power``.

The function of a recipe takes the parameter ``p``, its gradient ``g`` and its state arrays, all of
one shape and dtype, and returns ``(p, *state)``, new. NaN and Inf propagate as in any NumPy
expression.

What an optimizer does around the recipe has its definitions here too: with `gradient_norm` and
`clip_factor` the scale of a step is found, `prepare` comes before the recipe and `average` after
it. A step of an optimizer is, for every parameter,

1. ``p, g = prepare(p, g, scale=scale, weight_decay=weight_decay, shrink=shrink)``, where ``scale``
   is the step's ``grad_scale``, times the clipping factor if the norm is too large, times -1 to
   maximize; and ``shrink`` is ``1 - lr*weight_decay`` where weight decay is decoupled
2. ``p, *state = recipe(p, g, *state, ...)``
3. ``a = average(a, p, decay=decay)``, where an average is kept

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
    "adabelief",
    "adadelta",
    "adagrad_inside",
    "adagrad_inside_numerator_first",
    "adagrad_outside",
    "adagrad_outside_numerator_first",
    "adam_dlfs",
    "adam_hat",
    "adam_hat_amsgrad",
    "adam_hat_wide",
    "adam_inside",
    "adam_inside_amsgrad",
    "adam_inside_amsgrad_corrected",
    "adam_outside",
    "adam_outside_amsgrad",
    "adam_outside_amsgrad_corrected",
    "adam_scaled",
    "adam_scaled_amsgrad",
    "adam_scaled_amsgrad_corrected",
    "adamax_inside",
    "adamax_outside",
    "adamw_schedule_free",
    "adan",
    "adan_proximal",
    "ademamix",
    "asgd",
    "average",
    "clip_factor",
    "gradient_descent",
    "gradient_norm",
    "irprop_minus",
    "lion",
    "momentum_dlfs2_nesterov",
    "momentum_dlfs_nesterov",
    "momentum_ema",
    "momentum_heavy_ball",
    "momentum_heavy_ball_nesterov",
    "momentum_lr_inside",
    "momentum_lr_inside_nesterov",
    "nadam",
    "prepare",
    "radam",
    "radam_unrectified",
    "rmsprop_dlfs",
    "rmsprop_inside",
    "rmsprop_inside_centered",
    "rmsprop_inside_centered_momentum",
    "rmsprop_inside_centered_momentum_lr_inside",
    "rmsprop_inside_momentum",
    "rmsprop_inside_momentum_lr_inside",
    "rmsprop_inside_numerator_first",
    "rmsprop_outside",
    "rmsprop_outside_centered",
    "rmsprop_outside_centered_momentum",
    "rmsprop_outside_centered_momentum_lr_inside",
    "rmsprop_outside_momentum",
    "rmsprop_outside_momentum_lr_inside",
    "rmsprop_outside_numerator_first",
    "rprop_minus",
    "sgd_schedule_free",
    "signum",
    "yogi",
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


def momentum_heavy_ball(
    p: Array, g: Array, m: Array, *, lr: float, momentum: float, rest: float
) -> tuple[Array, Array]:
    """Momentum as a decaying sum, ``m = momentum*m + rest*g``: ``p = p - lr*m``."""
    f = p.dtype.type
    m = f(momentum) * m + f(rest) * g
    return p - f(lr) * m, m


def momentum_heavy_ball_nesterov(
    p: Array, g: Array, m: Array, *, lr: float, momentum: float, rest: float
) -> tuple[Array, Array]:
    """Nesterov's form of `momentum_heavy_ball`: ``p = p - lr*(g + momentum*m)``."""
    f = p.dtype.type
    m = f(momentum) * m + f(rest) * g
    return p - f(lr) * (g + f(momentum) * m), m


def momentum_lr_inside(
    p: Array, g: Array, m: Array, *, lr: float, momentum: float
) -> tuple[Array, Array]:
    """Momentum as a sum of steps, ``m = momentum*m - lr*g``: ``p = p + m``."""
    f = p.dtype.type
    m = f(momentum) * m - f(lr) * g
    return p + m, m


def momentum_lr_inside_nesterov(
    p: Array, g: Array, m: Array, *, lr: float, momentum: float
) -> tuple[Array, Array]:
    """Nesterov's form of `momentum_lr_inside`: ``p = p + (momentum*m - lr*g)``."""
    f = p.dtype.type
    m = f(momentum) * m - f(lr) * g
    return p + (f(momentum) * m - f(lr) * g), m


def momentum_dlfs_nesterov(
    p: Array, g: Array, m: Array, *, lr: float, momentum: float
) -> tuple[Array, Array]:
    """`momentum_lr_inside_nesterov`, multiplied out: ``p = p + momentum**2*m - (1+momentum)*lr*g``.

    The parameter update takes the old ``m``.
    """
    f = p.dtype.type
    p = (p + f(momentum * momentum) * m) - f((1 + momentum) * lr) * g
    return p, f(momentum) * m - f(lr) * g


def momentum_dlfs2_nesterov(
    p: Array, g: Array, m: Array, *, lr: float, momentum: float
) -> tuple[Array, Array]:
    """`momentum_dlfs_nesterov`, but the parameter update takes the new ``m``."""
    f = p.dtype.type
    m = f(momentum) * m - f(lr) * g
    return (p + f(momentum * momentum) * m) - f((1 + momentum) * lr) * g, m


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


def rmsprop_inside_numerator_first(
    p: Array, g: Array, v: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array]:
    """`rmsprop_inside` in another order: ``p = p - (lr*g) / sqrt(v + eps)``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    return p - (f(lr) * g) / np.sqrt(v + f(eps)), v


def rmsprop_outside_numerator_first(
    p: Array, g: Array, v: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array]:
    """`rmsprop_outside` in another order: ``p = p - (lr*g) / (sqrt(v) + eps)``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    return p - (f(lr) * g) / (np.sqrt(v) + f(eps)), v


def rmsprop_dlfs(
    p: Array, g: Array, v: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array]:
    """`rmsprop_outside_numerator_first` with ``v = beta*v + ((1-beta)*g)*g``."""
    f = p.dtype.type
    v = f(beta) * v + (f(1 - beta) * g) * g
    return p - (f(lr) * g) / (np.sqrt(v) + f(eps)), v


def _variance(g: Array, v: Array, g_mean: Array, beta: float) -> tuple[Array, Array, Array]:
    f = g.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    g_mean = f(beta) * g_mean + f(1 - beta) * g
    return np.maximum(v - g_mean * g_mean, f(0)), v, g_mean


def rmsprop_inside_centered(
    p: Array, g: Array, v: Array, g_mean: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array, Array]:
    """`rmsprop_inside` by the variance: ``p = p - lr*(g / sqrt(d + eps))``.

    ``d = maximum(v - g_mean*g_mean, 0)``.
    """
    f = p.dtype.type
    d, v, g_mean = _variance(g, v, g_mean, beta)
    return p - f(lr) * (g / np.sqrt(d + f(eps))), v, g_mean


def rmsprop_outside_centered(
    p: Array, g: Array, v: Array, g_mean: Array, *, lr: float, beta: float, eps: float
) -> tuple[Array, Array, Array]:
    """`rmsprop_outside` by the variance: ``p = p - lr*(g / (sqrt(d) + eps))``.

    ``d = maximum(v - g_mean*g_mean, 0)``.
    """
    f = p.dtype.type
    d, v, g_mean = _variance(g, v, g_mean, beta)
    return p - f(lr) * (g / (np.sqrt(d) + f(eps))), v, g_mean


def rmsprop_inside_momentum(
    p: Array, g: Array, v: Array, m: Array, *, lr: float, beta: float, eps: float, momentum: float
) -> tuple[Array, Array, Array]:
    """`rmsprop_inside` with ``m = momentum*m + g/sqrt(v + eps)``: ``p = p - lr*m``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    m = f(momentum) * m + g / np.sqrt(v + f(eps))
    return p - f(lr) * m, v, m


def rmsprop_outside_momentum(
    p: Array, g: Array, v: Array, m: Array, *, lr: float, beta: float, eps: float, momentum: float
) -> tuple[Array, Array, Array]:
    """`rmsprop_outside` with ``m = momentum*m + g/(sqrt(v) + eps)``: ``p = p - lr*m``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    m = f(momentum) * m + g / (np.sqrt(v) + f(eps))
    return p - f(lr) * m, v, m


def rmsprop_inside_centered_momentum(
    p: Array,
    g: Array,
    v: Array,
    g_mean: Array,
    m: Array,
    *,
    lr: float,
    beta: float,
    eps: float,
    momentum: float,
) -> tuple[Array, Array, Array, Array]:
    """`rmsprop_inside_momentum` by the variance ``d`` of `rmsprop_inside_centered`."""
    f = p.dtype.type
    d, v, g_mean = _variance(g, v, g_mean, beta)
    m = f(momentum) * m + g / np.sqrt(d + f(eps))
    return p - f(lr) * m, v, g_mean, m


def rmsprop_outside_centered_momentum(
    p: Array,
    g: Array,
    v: Array,
    g_mean: Array,
    m: Array,
    *,
    lr: float,
    beta: float,
    eps: float,
    momentum: float,
) -> tuple[Array, Array, Array, Array]:
    """`rmsprop_outside_momentum` by the variance ``d`` of `rmsprop_outside_centered`."""
    f = p.dtype.type
    d, v, g_mean = _variance(g, v, g_mean, beta)
    m = f(momentum) * m + g / (np.sqrt(d) + f(eps))
    return p - f(lr) * m, v, g_mean, m


def rmsprop_inside_momentum_lr_inside(
    p: Array, g: Array, v: Array, m: Array, *, lr: float, beta: float, eps: float, momentum: float
) -> tuple[Array, Array, Array]:
    """`rmsprop_inside` with ``m = momentum*m + lr*(g/sqrt(v + eps))``: ``p = p - m``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    m = f(momentum) * m + f(lr) * (g / np.sqrt(v + f(eps)))
    return p - m, v, m


def rmsprop_outside_momentum_lr_inside(
    p: Array, g: Array, v: Array, m: Array, *, lr: float, beta: float, eps: float, momentum: float
) -> tuple[Array, Array, Array]:
    """`rmsprop_outside` with ``m = momentum*m + lr*(g/(sqrt(v) + eps))``: ``p = p - m``."""
    f = p.dtype.type
    v = f(beta) * v + f(1 - beta) * (g * g)
    m = f(momentum) * m + f(lr) * (g / (np.sqrt(v) + f(eps)))
    return p - m, v, m


def rmsprop_inside_centered_momentum_lr_inside(
    p: Array,
    g: Array,
    v: Array,
    g_mean: Array,
    m: Array,
    *,
    lr: float,
    beta: float,
    eps: float,
    momentum: float,
) -> tuple[Array, Array, Array, Array]:
    """`rmsprop_inside_momentum_lr_inside` by the variance of `rmsprop_inside_centered`."""
    f = p.dtype.type
    d, v, g_mean = _variance(g, v, g_mean, beta)
    m = f(momentum) * m + f(lr) * (g / np.sqrt(d + f(eps)))
    return p - m, v, g_mean, m


def rmsprop_outside_centered_momentum_lr_inside(
    p: Array,
    g: Array,
    v: Array,
    g_mean: Array,
    m: Array,
    *,
    lr: float,
    beta: float,
    eps: float,
    momentum: float,
) -> tuple[Array, Array, Array, Array]:
    """`rmsprop_outside_momentum_lr_inside` by the variance of `rmsprop_outside_centered`."""
    f = p.dtype.type
    d, v, g_mean = _variance(g, v, g_mean, beta)
    m = f(momentum) * m + f(lr) * (g / (np.sqrt(d) + f(eps)))
    return p - m, v, g_mean, m


def adagrad_inside(p: Array, g: Array, v: Array, *, lr: float, eps: float) -> tuple[Array, Array]:
    """Adagrad with eps inside the root: ``p = p - lr*(g / sqrt(v + eps))``."""
    f = p.dtype.type
    v = v + g * g
    return p - f(lr) * (g / np.sqrt(v + f(eps))), v


def adagrad_outside(p: Array, g: Array, v: Array, *, lr: float, eps: float) -> tuple[Array, Array]:
    """Adagrad with eps outside the root: ``p = p - lr*(g / (sqrt(v) + eps))``."""
    f = p.dtype.type
    v = v + g * g
    return p - f(lr) * (g / (np.sqrt(v) + f(eps))), v


def adagrad_inside_numerator_first(
    p: Array, g: Array, v: Array, *, lr: float, eps: float
) -> tuple[Array, Array]:
    """`adagrad_inside` in another order: ``p = p - (lr*g) / sqrt(v + eps)``."""
    f = p.dtype.type
    v = v + g * g
    return p - (f(lr) * g) / np.sqrt(v + f(eps)), v


def adagrad_outside_numerator_first(
    p: Array, g: Array, v: Array, *, lr: float, eps: float
) -> tuple[Array, Array]:
    """`adagrad_outside` in another order: ``p = p - (lr*g) / (sqrt(v) + eps)``."""
    f = p.dtype.type
    v = v + g * g
    return p - (f(lr) * g) / (np.sqrt(v) + f(eps)), v


def adadelta(
    p: Array, g: Array, v: Array, u: Array, *, lr: float, rho: float, eps: float
) -> tuple[Array, Array, Array]:
    """Adadelta: ``p = p - lr*d``, ``d = (sqrt(u + eps)/sqrt(v + eps)) * g``."""
    f = p.dtype.type
    v = f(rho) * v + f(1 - rho) * (g * g)
    d = (np.sqrt(u + f(eps)) / np.sqrt(v + f(eps))) * g
    u = f(rho) * u + f(1 - rho) * (d * d)
    return p - f(lr) * d, v, u


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


def adam_hat_wide(
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
    """`adam_hat` with the step in float64 and rounded once; for float64 the same as `adam_hat`.

    The moments and ``sqrt(v) + eps`` have the dtype of the arrays.
    """
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    step = (a * m.astype(np.float64)) / (np.sqrt(v) + f(eps))
    return (p - step).astype(p.dtype), m, v


def adam_dlfs(
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
    """`adam_hat_wide` with ``m = m + (1-beta1)*(g - m)``, ``v = v + (1-beta2)*(g*g - v)``."""
    f = p.dtype.type
    m = m + f(1 - beta1) * (g - m)
    v = v + f(1 - beta2) * (g * g - v)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    step = (a * m.astype(np.float64)) / (np.sqrt(v) + f(eps))
    return (p - step).astype(p.dtype), m, v


def adam_inside_amsgrad(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam_inside` with ``v_max = maximum(v_max, v)`` instead of ``v``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    v_max = np.maximum(v_max, v)
    c1, c2 = f(1 - beta1_power), f(1 - beta2_power)
    return p - (f(lr) * (m / c1)) / np.sqrt(v_max / c2 + f(eps)), m, v, v_max


def adam_outside_amsgrad(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam_outside` with ``v_max = maximum(v_max, v)`` instead of ``v``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    v_max = np.maximum(v_max, v)
    c1, c2 = f(1 - beta1_power), f(1 - beta2_power)
    return p - (f(lr) * (m / c1)) / (np.sqrt(v_max / c2) + f(eps)), m, v, v_max


def adam_hat_amsgrad(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam_hat` with ``v_max = maximum(v_max, v)`` instead of ``v``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    v_max = np.maximum(v_max, v)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v_max) + f(eps)), m, v, v_max


def adam_scaled_amsgrad(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam_scaled` with ``v_max = maximum(v_max, v)`` instead of ``v``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    v_max = np.maximum(v_max, v)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v_max) + f(eps * math.sqrt(1 - beta2_power))), m, v, v_max


def adam_inside_amsgrad_corrected(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam_inside` with ``v_max = maximum(v_max, v/c2)`` instead of ``v/c2``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    c1, c2 = f(1 - beta1_power), f(1 - beta2_power)
    v_max = np.maximum(v_max, v / c2)
    return p - (f(lr) * (m / c1)) / np.sqrt(v_max + f(eps)), m, v, v_max


def adam_outside_amsgrad_corrected(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam_outside` with ``v_max = maximum(v_max, v/c2)`` instead of ``v/c2``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    c1, c2 = f(1 - beta1_power), f(1 - beta2_power)
    v_max = np.maximum(v_max, v / c2)
    return p - (f(lr) * (m / c1)) / (np.sqrt(v_max) + f(eps)), m, v, v_max


def adam_scaled_amsgrad_corrected(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """Algebraically `adam_outside_amsgrad_corrected`: ``p = p - (a*m) / (sqrt(v_max) + eps)``.

    ``a = lr/c1``, ``v_max = maximum(v_max, v/c2)``.
    """
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    c2 = f(1 - beta2_power)
    v_max = np.maximum(v_max, v / c2)
    a = lr / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v_max) + f(eps)), m, v, v_max


def adamax_inside(
    p: Array,
    g: Array,
    m: Array,
    u: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
) -> tuple[Array, Array, Array]:
    """Adamax with eps inside the maximum: ``p = p - ((lr/c1)*m) / u``.

    ``u = maximum(beta2*u, abs(g) + eps)``.
    """
    f = p.dtype.type
    m = f(beta1) * m + f(1 - beta1) * g
    u = np.maximum(f(beta2) * u, np.abs(g) + f(eps))
    return p - (f(lr / (1 - beta1_power)) * m) / u, m, u


def adamax_outside(
    p: Array,
    g: Array,
    m: Array,
    u: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta1_power: float,
) -> tuple[Array, Array, Array]:
    """Adamax with eps outside the maximum: ``p = p - ((lr/c1)*m) / (u + eps)``.

    ``u = maximum(beta2*u, abs(g))``.
    """
    f = p.dtype.type
    m = f(beta1) * m + f(1 - beta1) * g
    u = np.maximum(f(beta2) * u, np.abs(g))
    return p - (f(lr / (1 - beta1_power)) * m) / (u + f(eps)), m, u


def nadam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    beta2_power: float,
    g_factor: float,
    m_factor: float,
) -> tuple[Array, Array, Array]:
    """NAdam: ``p = p - (g_factor*g + m_factor*m) / (sqrt(v/c2) + eps)``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    c2 = f(1 - beta2_power)
    step = f(g_factor) * g + f(m_factor) * m
    return p - step / (np.sqrt(v / c2) + f(eps)), m, v


def radam(
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
    rectification: float,
) -> tuple[Array, Array, Array]:
    """RAdam: ``p = p - (a*m) / (sqrt(v) + eps)``, ``a = lr*rectification*sqrt(c2)/c1``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    a = lr * rectification * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v) + f(eps)), m, v


def radam_unrectified(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    beta1_power: float,
) -> tuple[Array, Array, Array]:
    """RAdam's first steps: ``p = p - (lr/c1)*m``."""
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    return p - f(lr / (1 - beta1_power)) * m, m, v


def lion(
    p: Array, g: Array, m: Array, *, lr: float, beta1: float, beta2: float
) -> tuple[Array, Array]:
    """Lion: ``p = p - lr*sign(beta1*m + (1-beta1)*g)``, then ``m = beta2*m + (1-beta2)*g``."""
    f = p.dtype.type
    direction = np.sign(f(beta1) * m + f(1 - beta1) * g)
    return p - f(lr) * direction, f(beta2) * m + f(1 - beta2) * g


def adabelief(
    p: Array,
    g: Array,
    m: Array,
    s: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    eps_root: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array]:
    """AdaBelief: ``p = p - (a*m) / (sqrt(s) + eps*sqrt(c2))``, ``a = lr*sqrt(c2)/c1``.

    ``s = beta2*s + (1-beta2)*(d*d) + eps_root``, ``d = g - m`` with the new ``m``.
    """
    f = p.dtype.type
    m = f(beta1) * m + f(1 - beta1) * g
    d = g - m
    s = f(beta2) * s + f(1 - beta2) * (d * d) + f(eps_root)
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(s) + f(eps * math.sqrt(1 - beta2_power))), m, s


def yogi(
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
    """Yogi: `adam_scaled` with ``v = v - ((1-beta2)*sign(v - g*g))*(g*g)``."""
    f = p.dtype.type
    m = f(beta1) * m + f(1 - beta1) * g
    square = g * g
    v = v - (f(1 - beta2) * np.sign(v - square)) * square
    a = lr * math.sqrt(1 - beta2_power) / (1 - beta1_power)
    return p - (f(a) * m) / (np.sqrt(v) + f(eps * math.sqrt(1 - beta2_power))), m, v


def ademamix(
    p: Array,
    g: Array,
    m: Array,
    m_slow: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    beta3: float,
    alpha: float,
    eps: float,
    beta1_power: float,
    beta2_power: float,
) -> tuple[Array, Array, Array, Array]:
    """AdEMAMix: ``p = p - (a*m + b*m_slow) / (sqrt(v) + eps*sqrt(c2))``.

    ``a = lr*sqrt(c2)/c1``, ``b = lr*alpha*sqrt(c2)``, ``m_slow = m_slow + (1-beta3)*(g - m_slow)``.
    """
    f = p.dtype.type
    m, v = _moments(g, m, v, beta1, beta2)
    m_slow = m_slow + f(1 - beta3) * (g - m_slow)
    root2 = math.sqrt(1 - beta2_power)
    a, b = lr * root2 / (1 - beta1_power), lr * alpha * root2
    return p - (f(a) * m + f(b) * m_slow) / (np.sqrt(v) + f(eps * root2)), m, m_slow, v


def adan(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    n: Array,
    g_prev: Array,
    *,
    beta1: float,
    rest2: float,
    beta3: float,
    look: float,
    eps: float,
    m_factor: float,
    v_factor: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """Adan: ``p = p - (m_factor*m + v_factor*v) / (sqrt(n) + eps)``.

    ``d = g - g_prev``, ``m = m + (1-beta1)*(g - m)``, ``v = v + rest2*(d - v)``,
    ``n = n + (1-beta3)*((g + look*d)**2 - n)``. The bias corrections are in the factors and in
    ``eps``.
    """
    f = p.dtype.type
    d = g - g_prev
    m = m + f(1 - beta1) * (g - m)
    v = v + f(rest2) * (d - v)
    ahead = g + f(look) * d
    n = n + f(1 - beta3) * (ahead * ahead - n)
    return p - (f(m_factor) * m + f(v_factor) * v) / (np.sqrt(n) + f(eps)), m, v, n, g.copy()


def adan_proximal(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    n: Array,
    g_prev: Array,
    *,
    beta1: float,
    rest2: float,
    beta3: float,
    look: float,
    eps: float,
    m_factor: float,
    v_factor: float,
    lr: float,
    weight_decay: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """`adan`, and after it ``p = (1/(1 + lr*weight_decay))*p``."""
    f = p.dtype.type
    d = g - g_prev
    m = m + f(1 - beta1) * (g - m)
    v = v + f(rest2) * (d - v)
    ahead = g + f(look) * d
    n = n + f(1 - beta3) * (ahead * ahead - n)
    p = p - (f(m_factor) * m + f(v_factor) * v) / (np.sqrt(n) + f(eps))
    return f(1 / (1 + lr * weight_decay)) * p, m, v, n, g.copy()


def sgd_schedule_free(
    p: Array, g: Array, z: Array, *, lr: float, momentum: float, weight: float
) -> tuple[Array, Array]:
    """Schedule-free gradient descent: ``p = p + weight*(z - p) - y_rate*g``, ``z = z - lr*g``.

    ``y_rate = lr*(1 - momentum*(1 - weight))``, and the old ``z`` in the first.
    """
    f = p.dtype.type
    y_rate = lr * (1 - momentum * (1 - weight))
    return p + f(weight) * (z - p) - f(y_rate) * g, z - f(lr) * g


def adamw_schedule_free(
    p: Array,
    g: Array,
    z: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    beta2_power: float,
    weight: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """`sgd_schedule_free` along ``d = (sqrt(c2)*g)/(sqrt(v) + eps*sqrt(c2)) + weight_decay*p``."""
    f = p.dtype.type
    v = f(beta2) * v + f(1 - beta2) * (g * g)
    root2 = math.sqrt(1 - beta2_power)
    d = (f(root2) * g) / (np.sqrt(v) + f(eps * root2)) + f(weight_decay) * p
    y_rate = lr * (1 - beta1 * (1 - weight))
    return p + f(weight) * (z - p) - f(y_rate) * d, z - f(lr) * d, v


def signum(p: Array, g: Array, m: Array, *, lr: float, beta: float) -> tuple[Array, Array]:
    """Signum: ``p = p - lr*sign(m)``, ``m = beta*m + (1-beta)*g``, ``sign(0) = 0``."""
    f = p.dtype.type
    m = f(beta) * m + f(1 - beta) * g
    return p - f(lr) * np.sign(m), m


def _step_size(
    sign: Array,
    prev: Array,
    step: Array,
    eta_minus: float,
    eta_plus: float,
    step_min: float,
    step_max: float,
) -> tuple[Array, Array]:
    """Return the new step sizes, and 1 where the sign has turned, else 0."""
    f = step.dtype.type
    agreement = np.sign(sign * prev)
    kept = np.maximum(agreement, f(0))
    turned = kept - agreement
    factor = kept * f(eta_plus) + (turned * f(eta_minus) + (f(1) - np.abs(agreement)))
    return np.minimum(np.maximum(step * factor, f(step_min)), f(step_max)), turned


def irprop_minus(
    p: Array,
    g: Array,
    prev: Array,
    step: Array,
    *,
    eta_minus: float,
    eta_plus: float,
    step_min: float,
    step_max: float,
) -> tuple[Array, Array, Array]:
    """Rprop: ``p = p - step*sign(g)``, but where the sign has turned.

    The step size is multiplied by ``eta_plus`` where ``sign(g)*prev > 0``, by ``eta_minus`` where
    it is less than 0, and clipped. ``prev = sign(g)``, or 0 where the sign has turned.
    """
    f = p.dtype.type
    sign = np.sign(g)
    step, turned = _step_size(sign, prev, step, eta_minus, eta_plus, step_min, step_max)
    sign = (f(1) - turned) * sign + f(0)
    return p - step * sign, sign, step


def rprop_minus(
    p: Array,
    g: Array,
    prev: Array,
    step: Array,
    *,
    eta_minus: float,
    eta_plus: float,
    step_min: float,
    step_max: float,
) -> tuple[Array, Array, Array]:
    """`irprop_minus`, but where the sign has turned ``p = p - step*sign(g)`` too."""
    sign = np.sign(g)
    step, _ = _step_size(sign, prev, step, eta_minus, eta_plus, step_min, step_max)
    return p - step * sign, sign, step


def asgd(
    p: Array, g: Array, ax: Array, *, lambd: float, eta: float, mu: float
) -> tuple[Array, Array]:
    """Averaged gradient descent: ``p = (1 - lambd*eta)*p - eta*g``, ``ax = (1-mu)*ax + mu*p``."""
    f = p.dtype.type
    p = f(1 - lambd * eta) * p - f(eta) * g
    return p, f(1 - mu) * ax + f(mu) * p


def prepare(
    p: Array, g: Array, *, scale: float, weight_decay: float, shrink: float
) -> tuple[Array, Array]:
    """Return what a recipe is given: ``p = shrink*p``, then ``g = scale*g + weight_decay*p``.

    With a weight decay of 0 nothing is added to the gradient, not even a zero.

    Examples
    --------
    >>> import numpy as np
    >>> from instep import reference
    >>> p, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    >>> reference.prepare(p, g, scale=-1.0, weight_decay=0.25, shrink=0.5)
    (array([0.5, 1. ]), array([-0.375,  0.75 ]))
    """
    f = p.dtype.type
    p = p * f(shrink)
    g = f(scale) * g
    if weight_decay != 0:
        g = g + f(weight_decay) * p
    return p, g


def average(a: Array, p: Array, *, decay: float) -> Array:
    """Return the moving average after a step: ``decay*a + (1-decay)*p``.

    Examples
    --------
    >>> import numpy as np
    >>> from instep import reference
    >>> reference.average(np.array([1.0, 2.0]), np.array([3.0, 4.0]), decay=0.75)
    array([1.5, 2.5])
    """
    f = p.dtype.type
    new: Array = f(decay) * a + f(1 - decay) * p
    return new


def gradient_norm(*grads: Array) -> float:
    """Return the norm of all gradients together, ``sqrt(sum(g**2))``, in float64.

    The elements of a gradient are cut into blocks of 32,768. In a block there are 16 sums: element
    ``i`` is squared and added to sum ``i % 16``, in order. The 16 are added in order to make the
    sum of the block; the blocks of all gradients are added in order. An `instep.Rows` is one
    gradient: its values, row by row as they are given; or, where any row comes twice, the sums of
    the values of each row, in rising order of the rows.

    The order of the elements is that of the array as it is given, row by row. An optimizer takes
    the order of the *parameter's* memory: axes by their strides, the longest first, and each axis
    from its first index to its last. For a C-contiguous parameter that is row by row; for others,
    transpose the gradient so before it is given to this function.

    Examples
    --------
    >>> import numpy as np
    >>> from instep import reference
    >>> reference.gradient_norm(np.array([3.0]), np.array([[0.0, 4.0]]))
    5.0
    """
    total = 0.0
    for g in grads:
        elements = g.reshape(-1).astype(np.float64)
        for start in range(0, elements.size, 32_768):
            block = elements[start : start + 32_768]
            sums = np.zeros(16)
            for first in range(0, block.size, 16):
                row = block[first : first + 16]
                sums[: row.size] += row * row
            sum_of_block = 0.0
            for lane in range(16):
                sum_of_block += float(sums[lane])
            total += sum_of_block
    return math.sqrt(total)


def clip_factor(norm: float, *, max_norm: float) -> float:
    """Return what gradients are multiplied by so that their norm is at most `max_norm`.

    ``max_norm / (norm + 1e-6)`` if that is less than 1, else 1; always 1 for an infinite
    `max_norm`. NaN for a norm that is NaN.

    Examples
    --------
    >>> from instep import reference
    >>> round(reference.clip_factor(1.0, max_norm=0.5), 6)
    0.5
    >>> reference.clip_factor(0.25, max_norm=0.5)
    1.0
    """
    if math.isinf(max_norm):
        return 1.0
    factor = max_norm / (norm + 1e-6)
    return 1.0 if factor >= 1 else factor
