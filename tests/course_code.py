"""The course's functions as its readers type them: NumPy expressions, key by key, rebinding.

What the tests of `instep.course` compare with. Nothing of instep is used here.
"""
# ruff: noqa: E741

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = dict[str, NDArray[Any]]


def initialize_parameters(layer_dims: list[int], seed: int = 3) -> Arrays:
    np.random.seed(seed)
    parameters: Arrays = {}
    L = len(layer_dims)
    for l in range(1, L):
        parameters["W" + str(l)] = np.random.randn(layer_dims[l], layer_dims[l - 1]) * np.sqrt(
            2 / layer_dims[l - 1]
        )
        parameters["b" + str(l)] = np.zeros((layer_dims[l], 1))
    return parameters


def update_parameters_with_gd(parameters: Arrays, grads: Arrays, learning_rate: float) -> Arrays:
    L = len(parameters) // 2
    for l in range(L):
        parameters["W" + str(l + 1)] = (
            parameters["W" + str(l + 1)] - learning_rate * grads["dW" + str(l + 1)]
        )
        parameters["b" + str(l + 1)] = (
            parameters["b" + str(l + 1)] - learning_rate * grads["db" + str(l + 1)]
        )
    return parameters


def initialize_velocity(parameters: Arrays) -> Arrays:
    L = len(parameters) // 2
    v: Arrays = {}
    for l in range(L):
        v["dW" + str(l + 1)] = np.zeros_like(parameters["W" + str(l + 1)])
        v["db" + str(l + 1)] = np.zeros_like(parameters["b" + str(l + 1)])
    return v


def update_parameters_with_momentum(
    parameters: Arrays, grads: Arrays, v: Arrays, beta: float, learning_rate: float
) -> tuple[Arrays, Arrays]:
    L = len(parameters) // 2
    for l in range(L):
        v["dW" + str(l + 1)] = beta * v["dW" + str(l + 1)] + (1 - beta) * grads["dW" + str(l + 1)]
        v["db" + str(l + 1)] = beta * v["db" + str(l + 1)] + (1 - beta) * grads["db" + str(l + 1)]
        parameters["W" + str(l + 1)] = (
            parameters["W" + str(l + 1)] - learning_rate * v["dW" + str(l + 1)]
        )
        parameters["b" + str(l + 1)] = (
            parameters["b" + str(l + 1)] - learning_rate * v["db" + str(l + 1)]
        )
    return parameters, v


def initialize_rmsprop(parameters: Arrays) -> Arrays:
    L = len(parameters) // 2
    s: Arrays = {}
    for l in range(L):
        s["dW" + str(l + 1)] = np.zeros_like(parameters["W" + str(l + 1)])
        s["db" + str(l + 1)] = np.zeros_like(parameters["b" + str(l + 1)])
    return s


def update_parameters_with_rmsprop(
    parameters: Arrays,
    grads: Arrays,
    s: Arrays,
    learning_rate: float = 0.01,
    beta: float = 0.9,
    epsilon: float = 1e-8,
) -> tuple[Arrays, Arrays]:
    L = len(parameters) // 2
    for l in range(L):
        s["dW" + str(l + 1)] = (
            beta * s["dW" + str(l + 1)] + (1 - beta) * grads["dW" + str(l + 1)] ** 2
        )
        s["db" + str(l + 1)] = (
            beta * s["db" + str(l + 1)] + (1 - beta) * grads["db" + str(l + 1)] ** 2
        )
        parameters["W" + str(l + 1)] = parameters["W" + str(l + 1)] - learning_rate * (
            grads["dW" + str(l + 1)] / np.sqrt(s["dW" + str(l + 1)] + epsilon)
        )
        parameters["b" + str(l + 1)] = parameters["b" + str(l + 1)] - learning_rate * (
            grads["db" + str(l + 1)] / np.sqrt(s["db" + str(l + 1)] + epsilon)
        )
    return parameters, s


def initialize_adam(parameters: Arrays) -> tuple[Arrays, Arrays]:
    L = len(parameters) // 2
    v: Arrays = {}
    s: Arrays = {}
    for l in range(L):
        v["dW" + str(l + 1)] = np.zeros_like(parameters["W" + str(l + 1)])
        v["db" + str(l + 1)] = np.zeros_like(parameters["b" + str(l + 1)])
        s["dW" + str(l + 1)] = np.zeros_like(parameters["W" + str(l + 1)])
        s["db" + str(l + 1)] = np.zeros_like(parameters["b" + str(l + 1)])
    return v, s


def update_parameters_with_adam(
    parameters: Arrays,
    grads: Arrays,
    v: Arrays,
    s: Arrays,
    t: int,
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Arrays, Arrays, Arrays, Arrays, Arrays]:
    L = len(parameters) // 2
    v_corrected: Arrays = {}
    s_corrected: Arrays = {}
    for l in range(L):
        v["dW" + str(l + 1)] = beta1 * v["dW" + str(l + 1)] + (1 - beta1) * grads["dW" + str(l + 1)]
        v["db" + str(l + 1)] = beta1 * v["db" + str(l + 1)] + (1 - beta1) * grads["db" + str(l + 1)]
        v_corrected["dW" + str(l + 1)] = v["dW" + str(l + 1)] / (1 - np.power(beta1, t))
        v_corrected["db" + str(l + 1)] = v["db" + str(l + 1)] / (1 - np.power(beta1, t))
        s["dW" + str(l + 1)] = (
            beta2 * s["dW" + str(l + 1)] + (1 - beta2) * grads["dW" + str(l + 1)] ** 2
        )
        s["db" + str(l + 1)] = (
            beta2 * s["db" + str(l + 1)] + (1 - beta2) * grads["db" + str(l + 1)] ** 2
        )
        s_corrected["dW" + str(l + 1)] = s["dW" + str(l + 1)] / (1 - np.power(beta2, t))
        s_corrected["db" + str(l + 1)] = s["db" + str(l + 1)] / (1 - np.power(beta2, t))
        parameters["W" + str(l + 1)] = parameters["W" + str(l + 1)] - learning_rate * v_corrected[
            "dW" + str(l + 1)
        ] / np.sqrt(s_corrected["dW" + str(l + 1)] + epsilon)
        parameters["b" + str(l + 1)] = parameters["b" + str(l + 1)] - learning_rate * v_corrected[
            "db" + str(l + 1)
        ] / np.sqrt(s_corrected["db" + str(l + 1)] + epsilon)
    return parameters, v, s, v_corrected, s_corrected


def update_parameters_with_adam_outside(
    parameters: Arrays,
    grads: Arrays,
    v: Arrays,
    s: Arrays,
    t: int,
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Arrays, Arrays, Arrays, Arrays, Arrays]:
    """As the course's text has it: epsilon outside of the root."""
    L = len(parameters) // 2
    v_corrected: Arrays = {}
    s_corrected: Arrays = {}
    for l in range(1, L + 1):
        for w in ("W", "b"):
            d = "d" + w + str(l)
            v[d] = beta1 * v[d] + (1 - beta1) * grads[d]
            v_corrected[d] = v[d] / (1 - np.power(beta1, t))
            s[d] = beta2 * s[d] + (1 - beta2) * np.square(grads[d])
            s_corrected[d] = s[d] / (1 - np.power(beta2, t))
            parameters[w + str(l)] = parameters[w + str(l)] - learning_rate * v_corrected[d] / (
                np.sqrt(s_corrected[d]) + epsilon
            )
    return parameters, v, s, v_corrected, s_corrected


def random_mini_batches(
    X: NDArray[Any], Y: NDArray[Any], mini_batch_size: int = 64, seed: int = 0
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    np.random.seed(seed)
    m = X.shape[1]
    mini_batches = []

    # Step 1: Shuffle (X, Y)
    permutation = list(np.random.permutation(m))
    shuffled_X = X[:, permutation]
    shuffled_Y = Y[:, permutation]

    # Step 2: Partition (shuffled_X, shuffled_Y), minus the end case
    num_complete_minibatches = math.floor(m / mini_batch_size)
    for k in range(num_complete_minibatches):
        mini_batch_X = shuffled_X[:, k * mini_batch_size : (k + 1) * mini_batch_size]
        mini_batch_Y = shuffled_Y[:, k * mini_batch_size : (k + 1) * mini_batch_size]
        mini_batches.append((mini_batch_X, mini_batch_Y))

    # The end case (last mini-batch < mini_batch_size)
    if m % mini_batch_size != 0:
        mini_batch_X = shuffled_X[:, num_complete_minibatches * mini_batch_size : m]
        mini_batch_Y = shuffled_Y[:, num_complete_minibatches * mini_batch_size : m]
        mini_batches.append((mini_batch_X, mini_batch_Y))

    return mini_batches


def update_lr(learning_rate0: float, epoch_num: float, decay_rate: float) -> float:
    return learning_rate0 / (1 + decay_rate * epoch_num)


def schedule_lr_decay(
    learning_rate0: float, epoch_num: float, decay_rate: float, time_interval: float = 1000
) -> float:
    return float(learning_rate0 / (1 + decay_rate * np.floor(epoch_num / time_interval)))
