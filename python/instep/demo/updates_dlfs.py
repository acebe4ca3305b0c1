"""The optimizers of *Deep Learning from Scratch* in NumPy: the same names and operations.

What `instep.course.dlfs` is compared with: ``optimizer.update(params, grads)``, of dicts or lists.
"""

from typing import Any

import numpy as np


class SGD:
    """Gradient descent."""

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: Any, grads: Any) -> None:
        """Do one step."""
        for key in _keys(params):
            params[key] -= self.lr * grads[key]


class Momentum:
    """Gradient descent with momentum."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Do one step."""
        if self.v is None:
            self.v = _zeros_like(params)
        for key in _keys(params):
            self.v[key] = self.momentum * self.v[key] - self.lr * grads[key]
            params[key] += self.v[key]


class Nesterov:
    """Gradient descent with momentum, looking ahead."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Do one step: the second volume, which has lists, turns to the velocity first."""
        if self.v is None:
            self.v = _zeros_like(params)
        for key in _keys(params):
            if isinstance(params, list):
                self._accelerate(key, grads)
            params[key] += self.momentum * self.momentum * self.v[key]
            params[key] -= (1 + self.momentum) * self.lr * grads[key]
            if isinstance(params, dict):
                self._accelerate(key, grads)

    def _accelerate(self, key: Any, grads: Any) -> None:
        self.v[key] *= self.momentum
        self.v[key] -= self.lr * grads[key]


class AdaGrad:
    """Steps over the root of the sum of all squared gradients."""

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr
        self.h: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Do one step."""
        if self.h is None:
            self.h = _zeros_like(params)
        for key in _keys(params):
            self.h[key] += grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class RMSprop:
    """Steps over the root of a moving average of the squared gradients."""

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        self.lr = lr
        self.decay_rate = decay_rate
        self.h: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Do one step."""
        if self.h is None:
            self.h = _zeros_like(params)
        for key in _keys(params):
            self.h[key] *= self.decay_rate
            self.h[key] += (1 - self.decay_rate) * grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class Adam:
    """Steps of the mean gradient over the root of the mean square."""

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Any, grads: Any) -> None:
        """Do one step."""
        if self.m is None:
            self.m, self.v = _zeros_like(params), _zeros_like(params)
        self.iter += 1
        # A NumPy scalar, because of np.sqrt.
        rate = self.lr * np.sqrt(1.0 - self.beta2**self.iter) / (1.0 - self.beta1**self.iter)
        for key in _keys(params):
            self.m[key] += (1 - self.beta1) * (grads[key] - self.m[key])
            self.v[key] += (1 - self.beta2) * (grads[key] ** 2 - self.v[key])
            params[key] -= rate * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)


def _keys(params: Any) -> Any:
    return params if isinstance(params, dict) else range(len(params))


def _zeros_like(params: Any) -> Any:
    if isinstance(params, dict):
        return {key: np.zeros_like(array) for key, array in params.items()}
    return [np.zeros_like(array) for array in params]
