"""Rules typed from papers, courses and books, each as its source has it."""

# mypy: disallow-untyped-defs=False, disallow-untyped-decorators=False

import math

import numpy as np


def adabelief(p, g, m, s, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, t):
    """Zhuang et al. 2020, algorithm 2."""
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
    m_hat = m / (1 - beta1**t)
    s_hat = s / (1 - beta2**t)
    return p - lr * m_hat / (np.sqrt(s_hat) + eps), m, s


def yogi(p, g, m, v=1e-6, *, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-3):
    """Zaheer et al. 2018, algorithm 2."""
    m = beta1 * m + (1 - beta1) * g
    v = v - (1 - beta2) * np.sign(v - g**2) * g**2
    return p - lr * m / (np.sqrt(v) + eps), m, v


def ademamix(p, g, m1, m2, v, *, lr=1e-3, b1=0.9, b2=0.999, b3=0.9999, alpha=5.0, eps=1e-8, t):
    """Pagliardini et al. 2024, without its schedules."""
    m1 = b1 * m1 + (1 - b1) * g
    m2 = b3 * m2 + (1 - b3) * g
    v = b2 * v + (1 - b2) * g * g
    update = (m1 / (1 - b1**t) + alpha * m2) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p - lr * update, m1, m2, v


def adan(p, g, m, v, n, prev, *, lr=1e-3, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, weight_decay=0.02):
    """Xie et al. 2022, algorithm 1."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * (g - prev)
    n = b3 * n + (1 - b3) * (g + b2 * (g - prev)) ** 2
    eta = lr / (np.sqrt(n) + eps)
    return (p - eta * (m + b2 * v)) / (1 + lr * weight_decay), m, v, n, g


def signum(p, g, m, *, lr=1e-3, beta=0.9):
    """Bernstein et al. 2018."""
    m = beta * m + (1 - beta) * g
    return p - lr * np.sign(m), m


def qhadam(p, g, m, v, *, lr=1e-3, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0, eps=1e-8, t):
    """Ma and Yarats 2019, section 4.1."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    mh, vh = m / (1 - b1**t), v / (1 - b2**t)
    up = (1 - nu1) * g + nu1 * mh
    return p - lr * (up / (np.sqrt((1 - nu2) * g**2 + nu2 * vh) + eps)), m, v


def aggmo(p, g, v0, v1, v2, *, lr=0.1, b1=0.9, b2=0.99):
    """Lucas et al. 2018, with three dampings."""
    v0 = -g + 0.0 * v0
    v1 = b1 * v1 - g
    v2 = b2 * v2 - g
    return p + lr / 3 * (v0 + v1 + v2), v0, v1, v2


def sgd_schedule_free(p, g, z="p", *, lr=0.1, beta=0.9, t):
    """Defazio et al. 2024: p is y, and x follows from p and z."""
    x = (p - (1 - beta) * z) / beta
    z = z - lr * g
    c = 1 / (t + 1)
    x = (1 - c) * x + c * z
    return (1 - beta) * z + beta * x, z


def dlfs_sgd(p, g, *, lr=0.01):
    """The fish book, common/optimizer.py."""
    p -= lr * g
    return p


def dlfs_momentum(p, g, v, *, lr=0.01, momentum=0.9):
    """The same file."""
    v[...] = momentum * v - lr * g
    p += v
    return p, v


def dlfs_nesterov(p, g, v, *, lr=0.01, momentum=0.9):
    """The same file, as its later printings have it."""
    p += momentum * momentum * v
    p -= (1 + momentum) * lr * g
    v *= momentum
    v -= lr * g
    return p, v


def dlfs_adagrad(p, g, h, *, lr=0.01):
    """The same file."""
    h += g * g
    p -= lr * g / (np.sqrt(h) + 1e-7)
    return p, h


def dlfs_rmsprop(p, g, h, *, lr=0.01, decay_rate=0.99):
    """The same file."""
    h *= decay_rate
    h += (1 - decay_rate) * g * g
    p -= lr * g / (np.sqrt(h) + 1e-7)
    return p, h


def dlfs_adam(p, g, m, v, *, lr=0.001, beta1=0.9, beta2=0.999, t):
    """The same file."""
    lr_t = lr * np.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g**2 - v)
    p -= lr_t * m / (np.sqrt(v) + 1e-7)
    return p, m, v


def karpathy_rmsprop(p, g, cache, *, lr=1e-3, decay_rate=0.99):
    """pg-pong.py, which goes up."""
    cache = decay_rate * cache + (1 - decay_rate) * g**2
    p += lr * g / (np.sqrt(cache) + 1e-5)
    return p, cache


def karpathy_adagrad(p, g, mem, *, lr=1e-1):
    """min-char-rnn.py."""
    g = np.clip(g, -5, 5)
    mem += g * g
    p += -lr * g / np.sqrt(mem + 1e-8)
    return p, mem


def cs231n_adam(p, g, m, v, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, t):
    """cs231n/optim.py, filled in as its notes have it."""
    m = beta1 * m + (1 - beta1) * g
    mt = m / (1 - beta1**t)
    v = beta2 * v + (1 - beta2) * (g**2)
    vt = v / (1 - beta2**t)
    p = p + -lr * mt / (np.sqrt(vt) + eps)
    return p, m, v


def rprop(p, g, prev, step=0.1, *, lr=1.0, up=1.2, down=0.5):
    """Riedmiller and Braun 1993, without going back."""
    agree = g * prev
    step = np.where(agree > 0, np.minimum(step * up, 50.0), step)
    step = np.where(agree < 0, np.maximum(step * down, 1e-6), step)
    return p - lr * step * np.sign(g), g, step


def radam(p, g, m, v, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, t):
    """Liu et al. 2020, algorithm 2, both cases in one."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    longest = 2 / (1 - beta2) - 1
    rho = longest - 2 * t * beta2**t / (1 - beta2**t)
    above = max(rho, 4.1)
    r = math.sqrt((above - 4) * (above - 2) * longest / ((longest - 4) * (longest - 2) * above))
    m_hat = m / (1 - beta1**t)
    adapted = r * m_hat / (np.sqrt(v / (1 - beta2**t)) + eps)
    return p - lr * np.where(rho > 4, adapted, m_hat), m, v


def cautious_adam(p, g, m, v, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, t):
    """Liang et al. 2024, the mask not scaled; the rate warms up, then falls like a cosine."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    rate = lr * min(1.0, t / 20) * 0.5 * (1 + math.cos(math.pi * min(t, 250) / 250))
    u = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return p - rate * np.where(u * g > 0, u, 0.0), m, v


def amsgrad_in_place(p, g, m, v, top, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Reddi et al. 2018, without a temporary array."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += np.multiply(g, g, out=g) * (1 - beta2)
    np.maximum(top, v, out=top)
    p -= lr * m / (np.sqrt(top) + eps)
    return p, m, v, top


def lion(p, g, m, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.1):
    """Chen et al. 2023, with its decay."""
    u = np.sign(beta1 * m + (1 - beta1) * g)
    p = p - lr * (u + weight_decay * p)
    return p, beta2 * m + (1 - beta2) * g


RULES = [
    thing for thing in list(globals().values()) if getattr(thing, "__module__", "") == __name__
]
