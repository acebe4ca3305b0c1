"""The optimizers of *Neural Networks from Scratch in Python* in NumPy: the same operations.

What `instep.course.nnfs` is compared with: ``optimizer.update_params(layer)``, between
``pre_update_params()`` and ``post_update_params()``.
"""

from typing import Any

import numpy as np


class _Optimizer:
    def __init__(self, learning_rate: float, decay: float) -> None:
        self.learning_rate = learning_rate
        self.current_learning_rate = learning_rate
        self.decay = decay
        self.iterations = 0

    def pre_update_params(self) -> None:
        """Set the learning rate of this step."""
        if self.decay:
            factor = 1.0 / (1.0 + self.decay * self.iterations)
            self.current_learning_rate = self.learning_rate * factor

    def post_update_params(self) -> None:
        """Count the step."""
        self.iterations += 1


class Optimizer_SGD(_Optimizer):
    """Gradient descent, plain or with momentum."""

    def __init__(
        self, learning_rate: float = 1.0, decay: float = 0.0, momentum: float = 0.0
    ) -> None:
        super().__init__(learning_rate, decay)
        self.momentum = momentum

    def update_params(self, layer: Any) -> None:
        """Do one step of a layer."""
        rate = self.current_learning_rate
        if self.momentum:
            _begin(layer, "momentums")
            layer.weight_momentums = self.momentum * layer.weight_momentums - rate * layer.dweights
            layer.bias_momentums = self.momentum * layer.bias_momentums - rate * layer.dbiases
            layer.weights += layer.weight_momentums
            layer.biases += layer.bias_momentums
        else:
            layer.weights += -rate * layer.dweights
            layer.biases += -rate * layer.dbiases


class Optimizer_Adagrad(_Optimizer):
    """Steps over the root of the sum of all squared gradients."""

    def __init__(
        self, learning_rate: float = 1.0, decay: float = 0.0, epsilon: float = 1e-7
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = epsilon

    def update_params(self, layer: Any) -> None:
        """Do one step of a layer."""
        rate, epsilon = self.current_learning_rate, self.epsilon
        _begin(layer, "cache")
        layer.weight_cache += layer.dweights**2
        layer.bias_cache += layer.dbiases**2
        layer.weights += -rate * layer.dweights / (np.sqrt(layer.weight_cache) + epsilon)
        layer.biases += -rate * layer.dbiases / (np.sqrt(layer.bias_cache) + epsilon)


class Optimizer_RMSprop(_Optimizer):
    """Steps over the root of a moving average of the squared gradients."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        rho: float = 0.9,
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = epsilon
        self.rho = rho

    def update_params(self, layer: Any) -> None:
        """Do one step of a layer."""
        rate, epsilon, rho = self.current_learning_rate, self.epsilon, self.rho
        _begin(layer, "cache")
        layer.weight_cache = rho * layer.weight_cache + (1 - rho) * layer.dweights**2
        layer.bias_cache = rho * layer.bias_cache + (1 - rho) * layer.dbiases**2
        layer.weights += -rate * layer.dweights / (np.sqrt(layer.weight_cache) + epsilon)
        layer.biases += -rate * layer.dbiases / (np.sqrt(layer.bias_cache) + epsilon)


class Optimizer_Adam(_Optimizer):
    """Steps of the mean gradient over the root of the mean square."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = epsilon
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def update_params(self, layer: Any) -> None:
        """Do one step of a layer."""
        rate, b1, b2 = self.current_learning_rate, self.beta_1, self.beta_2
        t = self.iterations + 1
        _begin(layer, "momentums")
        _begin(layer, "cache")
        layer.weight_momentums = b1 * layer.weight_momentums + (1 - b1) * layer.dweights
        layer.bias_momentums = b1 * layer.bias_momentums + (1 - b1) * layer.dbiases
        layer.weight_cache = b2 * layer.weight_cache + (1 - b2) * layer.dweights**2
        layer.bias_cache = b2 * layer.bias_cache + (1 - b2) * layer.dbiases**2
        weight_momentums, bias_momentums = (
            momentums / (1 - b1**t) for momentums in (layer.weight_momentums, layer.bias_momentums)
        )
        weight_cache, bias_cache = (
            cache / (1 - b2**t) for cache in (layer.weight_cache, layer.bias_cache)
        )
        layer.weights += -rate * weight_momentums / (np.sqrt(weight_cache) + self.epsilon)
        layer.biases += -rate * bias_momentums / (np.sqrt(bias_cache) + self.epsilon)


def _begin(layer: Any, state: str) -> None:
    if not hasattr(layer, f"weight_{state}"):
        setattr(layer, f"weight_{state}", np.zeros_like(layer.weights))
        setattr(layer, f"bias_{state}", np.zeros_like(layer.biases))
