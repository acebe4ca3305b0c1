"""Every rule as its source has it, typed out in NumPy, in float64, for the classes to follow.

A function for each rule, named after its class in lower case. It takes the parameters, the
gradients and the learning rates of all steps, then the options of the class as keywords, and yields
after every step the parameters as ``p`` and the states by their names. **Nothing in here comes from
the package itself.** Where torch has the rule, and in the mode that is torch's, these are the
formulas of its documentation; torch is too large to install for a test. The formulas of the
docstrings have to stand here too: they are looked for.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy import maximum, minimum, sign, sqrt
from numpy.typing import NDArray

Array = NDArray[np.float64]
Path = Iterator[dict[str, Any]]
Betas = tuple[float, float]
ThreeBetas = tuple[float, float, float]


def sgd(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    momentum_mode: str,
    maximize: bool,
) -> Path:
    m = np.zeros_like(p)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        g = g + weight_decay * p
        if momentum == 0:
            p = p - lr * g
        elif momentum_mode == "heavy_ball":
            m = momentum * m + (1 - dampening) * g if t > 1 else g
            p = p - lr * (g + momentum * m) if nesterov else p - lr * m
        elif momentum_mode == "ema":
            m = momentum * m + (1 - momentum) * g
            p = p - lr * m
        elif nesterov and momentum_mode == "dlfs":
            p = (p + momentum**2 * m) - ((1 + momentum) * lr) * g
            m = momentum * m - lr * g
        elif nesterov and momentum_mode == "dlfs2":
            m = momentum * m - lr * g
            p = p + momentum * momentum * m
            p = p - (1 + momentum) * lr * g
        else:
            m = momentum * m - lr * g
            p = p + (momentum * m - lr * g) if nesterov else p + m
        yield {"p": p, "m": m}


def rmsprop(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    eps_mode: str,
    momentum_mode: str,
    maximize: bool,
) -> Path:
    v, g_mean, m = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for lr, g in zip(rates, grads, strict=True):
        g = -g if maximize else g
        g = g + weight_decay * p
        if eps_mode == "dlfs":
            v = alpha * v + ((1 - alpha) * g) * g
        else:
            v = alpha * v + (1 - alpha) * g**2
        kept = v
        if centered:
            g_mean = alpha * g_mean + (1 - alpha) * g
            v = maximum(v - g_mean**2, 0)
        divisor = sqrt(v + eps) if eps_mode.startswith("inside") else sqrt(v) + eps
        if eps_mode not in ("inside", "outside"):
            p = p - (lr * g) / divisor
        elif momentum == 0:
            p = p - lr * (g / divisor)
        elif momentum_mode == "heavy_ball":
            m = momentum * m + g / divisor
            p = p - lr * m
        else:
            m = momentum * m + lr * (g / divisor)
            p = p - m
        v = kept
        yield {"p": p, "v": v, "g_mean": g_mean, "m": m}


def adam(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    weight_decay: float,
    amsgrad: bool | str,
    eps_mode: str,
    maximize: bool,
    decoupled: bool = False,
) -> Path:
    (beta1, beta2), m, v, v_max = betas, np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        if eps_mode == "dlfs":
            m = m + (1 - beta1) * (g - m)
            v = v + (1 - beta2) * (g**2 - v)
        else:
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
        kept = v
        c1, c2 = 1 - beta1**t, 1 - beta2**t
        a = lr * sqrt(c2) / c1
        if amsgrad is True:
            v_max = maximum(v_max, v)
            v = v_max
        elif amsgrad == "corrected":
            v_max = maximum(v_max, v / c2)
            v = v_max * c2
        if eps_mode == "scaled" and amsgrad == "corrected":
            p = p - ((lr / c1) * m) / (sqrt(v_max) + eps)
        elif eps_mode == "scaled":
            p = p - (a * m) / (sqrt(v) + eps * sqrt(c2))
        elif eps_mode == "outside":
            p = p - (lr * (m / c1)) / (sqrt(v / c2) + eps)
        elif eps_mode in ("hat", "hat_wide", "dlfs"):
            p = p - (a * m) / (sqrt(v) + eps)
        else:
            p = p - (lr * (m / c1)) / sqrt(v / c2 + eps)
        v = kept
        yield {"p": p, "m": m, "v": v, "v_max": v_max}


def adamw(p: Array, grads: Sequence[Array], rates: Sequence[float], **options: Any) -> Path:
    return adam(p, grads, rates, decoupled=True, **options)


def nadam(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    mode: str,
    maximize: bool,
) -> Path:
    (beta1, beta2), m, v = betas, np.zeros_like(p), np.zeros_like(p)
    momentum_decay = 1.0 if mode == "keras" else momentum_decay
    mu: dict[int, float] = {}
    for i in range(1, len(grads) + 2):
        mu[i] = beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay))
    P = [math.prod(list(mu.values())[:i]) for i in range(len(mu) + 1)]
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        c2 = 1 - beta2**t
        if mode == "optax":
            g_factor = lr * (1 - beta1) / (1 - beta1**t)
            m_factor = lr * beta1 / (1 - beta1 ** (t + 1))
        else:
            g_factor = lr * (1 - mu[t]) / (1 - P[t])
            m_factor = lr * mu[t + 1] / (1 - P[t + 1])
        p = p - (g_factor * g + m_factor * m) / (sqrt(v / c2) + eps)
        yield {"p": p, "m": m, "v": v}


def radam(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> Path:
    (beta1, beta2), m, v = betas, np.zeros_like(p), np.zeros_like(p)
    rho_inf = 2 / (1 - beta2) - 1
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        c1 = 1 - beta1**t
        c2 = 1 - beta2**t
        rho = rho_inf - 2 * t * beta2**t / c2
        if rho > 5:
            r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            a = lr * r * sqrt(c2) / c1
            p = p - (a * m) / (sqrt(v) + eps)
        else:
            p = p - (lr / c1) * m
        yield {"p": p, "m": m, "v": v}


def adamax(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    weight_decay: float,
    eps_mode: str,
    maximize: bool,
) -> Path:
    (beta1, beta2), m, u = betas, np.zeros_like(p), np.zeros_like(p)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        c1 = 1 - beta1**t
        if eps_mode == "inside":
            u = maximum(beta2 * u, abs(g) + eps)
            p = p - ((lr / c1) * m) / u
        else:
            u = maximum(beta2 * u, abs(g))
            p = p - ((lr / c1) * m) / (u + eps)
        yield {"p": p, "m": m, "u": u}


def adagrad(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    lr_decay: float,
    weight_decay: float,
    initial_accumulator_value: float,
    eps: float,
    eps_mode: str,
    maximize: bool,
) -> Path:
    v = np.full_like(p, initial_accumulator_value)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        lr = lr / (1 + (t - 1) * lr_decay)
        g = g + weight_decay * p
        v = v + g**2
        if eps_mode == "outside":
            p = p - lr * (g / (sqrt(v) + eps))
        elif eps_mode == "inside":
            p = p - lr * (g / sqrt(v + eps))
        elif eps_mode == "outside_numerator_first":
            p = p - (lr * g) / (sqrt(v) + eps)
        else:
            p = p - (lr * g) / sqrt(v + eps)
        yield {"p": p, "v": v}


def adadelta(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> Path:
    v, u = np.zeros_like(p), np.zeros_like(p)
    for lr, g in zip(rates, grads, strict=True):
        g = -g if maximize else g
        g = g + weight_decay * p
        v = rho * v + (1 - rho) * g**2
        d = (sqrt(u + eps) / sqrt(v + eps)) * g
        u = rho * u + (1 - rho) * d**2
        p = p - lr * d
        yield {"p": p, "v": v, "u": u}


def lion(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    weight_decay: float,
    maximize: bool,
) -> Path:
    (beta1, beta2), m = betas, np.zeros_like(p)
    for lr, g in zip(rates, grads, strict=True):
        g = -g if maximize else g
        p = p * (1 - lr * weight_decay)
        p = p - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
        yield {"p": p, "m": m}


def adabelief(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    eps_root: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> Path:
    (beta1, beta2), m, s = betas, np.zeros_like(p), np.zeros_like(p)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps_root
        c1 = 1 - beta1**t
        c2 = 1 - beta2**t
        p = p - lr * (m / c1) / (sqrt(s / c2) + eps)
        yield {"p": p, "m": m, "s": s}


def yogi(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    weight_decay: float,
    initial_accumulator_value: float,
    maximize: bool,
) -> Path:
    beta1, beta2 = betas
    m = v = np.full_like(p, initial_accumulator_value)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = v - (1 - beta2) * sign(v - g**2) * g**2
        c1 = 1 - beta1**t
        c2 = 1 - beta2**t
        p = p - lr * (m / c1) / (sqrt(v / c2) + eps)
        yield {"p": p, "m": m, "v": v}


def ademamix(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: ThreeBetas,
    alpha: float,
    eps: float,
    weight_decay: float,
    alpha_warmup: float,
    beta3_warmup: float,
    maximize: bool,
) -> Path:
    def h(beta: float) -> float:
        return math.log(0.5) / math.log(beta + 1e-8) - 1

    m, m_slow, v = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    last_alpha = alpha
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        beta1, beta2, beta3 = betas
        if t < beta3_warmup:
            a = t / beta3_warmup
            beta3 = 0.5 ** (1 / ((1 - a) * h(beta1) + a * h(beta3) + 1))
        alpha = last_alpha
        if t < alpha_warmup:
            alpha = alpha * t / alpha_warmup
        p = p * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * g
        m_slow = beta3 * m_slow + (1 - beta3) * g
        v = beta2 * v + (1 - beta2) * g**2
        c1 = 1 - beta1**t
        c2 = 1 - beta2**t
        p = p - lr * (m / c1 + alpha * m_slow) / (sqrt(v / c2) + eps)
        yield {"p": p, "m": m, "m_slow": m_slow, "v": v}


def adan(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: ThreeBetas,
    eps: float,
    weight_decay: float,
    mode: str,
    decay_mode: str,
    maximize: bool,
) -> Path:
    beta1, beta2, beta3 = betas
    m, v, n, g_prev = (np.zeros_like(p) for _ in range(4))
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        if decay_mode == "decoupled":
            p = p * (1 - lr * weight_decay)
        look = beta2 if mode == "authors" else 1 - beta2
        d = g - g_prev
        if t == 1:
            d = np.zeros_like(p)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * d
        n = beta3 * n + (1 - beta3) * (g + look * d) ** 2
        c1 = 1 - beta1**t
        c2 = 1 - beta2**t
        c3 = 1 - beta3**t
        p = p - lr * (m / c1 + look * v / c2) / (sqrt(n / c3) + eps)
        if decay_mode == "proximal":
            p = p / (1 + lr * weight_decay)
        g_prev = g
        yield {"p": p, "m": m, "v": v, "n": n, "g_prev": g_prev}


def sgdschedulefree(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    momentum: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> Path:
    x = z = p  # the paper's sequences; p is its y
    lr_max = weight_sum = 0.0
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        g = g + weight_decay * p
        lr_max = max(lr, lr_max)
        weight = t**r * lr_max**weight_lr_power
        weight_sum = weight_sum + weight
        c = weight / weight_sum
        p = p + c * (z - p) - lr * (1 - momentum * (1 - c)) * g
        z = z - lr * g
        x = (1 - c) * x + c * z
        np.testing.assert_allclose(p, (1 - momentum) * z + momentum * x, rtol=1e-11)
        yield {"p": p, "z": z, "x": x}


def adamwschedulefree(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    betas: Betas,
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> Path:
    (beta1, beta2), v = betas, np.zeros_like(p)
    x = z = p  # the paper's sequences; p is its y
    lr_max = weight_sum = 0.0
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        v = beta2 * v + (1 - beta2) * g**2
        c2 = 1 - beta2**t
        d = g / (sqrt(v / c2) + eps) + weight_decay * p
        lr_max = max(lr, lr_max)
        weight = t**r * lr_max**weight_lr_power
        weight_sum = weight_sum + weight
        c = weight / weight_sum
        p = p + c * (z - p) - lr * (1 - beta1 * (1 - c)) * d
        z = z - lr * d
        x = (1 - c) * x + c * z
        np.testing.assert_allclose(p, (1 - beta1) * z + beta1 * x, rtol=1e-11)
        yield {"p": p, "z": z, "v": v, "x": x}


def signum(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> Path:
    m = np.zeros_like(p)
    for lr, g in zip(rates, grads, strict=True):
        g = -g if maximize else g
        p = p * (1 - lr * weight_decay)
        m = beta * m + (1 - beta) * g
        p = p - lr * sign(m)
        yield {"p": p, "m": m}


def rprop(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
    weight_decay: float,
    mode: str,
    maximize: bool,
) -> Path:
    eta_minus, eta_plus = etas
    prev, step = np.zeros_like(p), np.full_like(p, rates[0])
    for g in grads:
        g = -g if maximize else g
        g = g + weight_decay * p
        turn = sign(g) * prev
        factor = np.ones_like(p)
        factor[turn > 0] = eta_plus
        factor[turn < 0] = eta_minus
        step = minimum(maximum(factor * step, step_sizes[0]), step_sizes[1])
        if mode == "irprop-":
            g = np.where(turn < 0, 0, g)
        p = p - step * sign(g)
        prev = sign(g)
        yield {"p": p, "prev": prev, "step": step}


def asgd(
    p: Array,
    grads: Sequence[Array],
    rates: Sequence[float],
    *,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> Path:
    ax = np.zeros_like(p)
    for t, (lr, g) in enumerate(zip(rates, grads, strict=True), start=1):
        g = -g if maximize else g
        g = g + weight_decay * p
        eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
        mu = 1 / max(1, t - 1 - t0)
        p = p * (1 - lambd * eta) - eta * g
        ax = ax + mu * (p - ax)
        yield {"p": p, "ax": ax}
