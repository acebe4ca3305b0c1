"""What a step refuses: gradients of a list of arrays, and options, each with what it raises."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

# What spoils the gradients of a group, and what that raises.
Spoil = Callable[[list[Any]], Any]
SPOILT: list[tuple[Spoil, type[Exception]]] = [
    (lambda grads: grads[:-1], ValueError),
    (lambda grads: [*grads, np.ones(1)], ValueError),
    (lambda grads: dict(enumerate(grads)), TypeError),
    (lambda grads: [*grads[:-1], grads[-1].tolist()], TypeError),
    (lambda grads: [*grads[:-1], np.ma.array(grads[-1])], TypeError),
    (lambda grads: [*grads[:-1], grads[-1].astype(np.float16)], TypeError),
    (lambda grads: [*grads[:-1], grads[-1][np.newaxis]], ValueError),
]
BAD_OPTIONS: list[tuple[str, Any, type[Exception]]] = [
    ("lr", -1.0, ValueError),
    ("lr", "fast", TypeError),
    ("lr", lambda step: math.nan, ValueError),
    ("weight_decay", math.inf, ValueError),
    ("betas", (0.9,), ValueError),
    ("eps", math.nan, ValueError),
    ("eps_mode", "beside", ValueError),
    ("amsgrad", "yes", ValueError),
    ("momentum_mode", "beside", ValueError),
    ("mode", "jax", ValueError),
    ("momentum", 1.0, ValueError),
    ("rho", -0.1, ValueError),
]
