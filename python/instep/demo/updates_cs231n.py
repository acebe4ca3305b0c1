"""The update rules of CS231n in NumPy: the same names, arguments and keys, the same operations.

What `instep.course.cs231n` is compared with: ``rule(w, dw, config) -> next_w, config``.
"""

import numpy as np

from instep.course.cs231n import Array, Config


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of gradient descent; this one writes `w`."""
    config = _with(config, learning_rate=1e-2)
    w -= config["learning_rate"] * dw
    return w, config


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of momentum."""
    config = _with(config, learning_rate=1e-2, momentum=0.9)
    velocity = config.get("velocity", np.zeros_like(w))
    config["velocity"] = config["momentum"] * velocity - config["learning_rate"] * dw
    return w + config["velocity"], config


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of RMSprop."""
    config = _with(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    decay_rate, cache = config["decay_rate"], config.get("cache", np.zeros_like(w))
    config["cache"] = cache = decay_rate * cache + (1 - decay_rate) * dw**2
    return w - config["learning_rate"] * dw / (np.sqrt(cache) + config["epsilon"]), config


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of Adam."""
    config = _with(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    beta1, beta2 = config["beta1"], config["beta2"]
    config["t"] += 1
    config["m"] = beta1 * config.get("m", np.zeros_like(w)) + (1 - beta1) * dw
    config["v"] = beta2 * config.get("v", np.zeros_like(w)) + (1 - beta2) * dw**2
    m_unbiased = config["m"] / (1 - beta1 ** config["t"])
    v_unbiased = config["v"] / (1 - beta2 ** config["t"])
    step = config["learning_rate"] * m_unbiased / (np.sqrt(v_unbiased) + config["epsilon"])
    return w - step, config


def _with(config: Config | None, **defaults: float) -> Config:
    config = {} if config is None else config
    for key, default in defaults.items():
        config.setdefault(key, default)
    return config
