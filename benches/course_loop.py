"""The update functions as the course's notebooks have them: layer by layer, temporaries and all.

Names, arguments and results are those of `instep.course`. What makes this code slow is the point of
it: leave it as it is typed in notebooks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def update_parameters_with_gd(parameters: Arrays, grads: Arrays, learning_rate: float) -> Arrays:
    L = len(parameters) // 2
    for l in range(L):  # noqa: E741
        parameters["W" + str(l + 1)] = (
            parameters["W" + str(l + 1)] - learning_rate * grads["dW" + str(l + 1)]
        )
        parameters["b" + str(l + 1)] = (
            parameters["b" + str(l + 1)] - learning_rate * grads["db" + str(l + 1)]
        )
    return parameters


def update_parameters_with_momentum(
    parameters: Arrays, grads: Arrays, v: Arrays, beta: float, learning_rate: float
) -> tuple[Arrays, Arrays]:
    L = len(parameters) // 2
    for l in range(L):  # noqa: E741
        v["dW" + str(l + 1)] = beta * v["dW" + str(l + 1)] + (1 - beta) * grads["dW" + str(l + 1)]
        v["db" + str(l + 1)] = beta * v["db" + str(l + 1)] + (1 - beta) * grads["db" + str(l + 1)]
        parameters["W" + str(l + 1)] = (
            parameters["W" + str(l + 1)] - learning_rate * v["dW" + str(l + 1)]
        )
        parameters["b" + str(l + 1)] = (
            parameters["b" + str(l + 1)] - learning_rate * v["db" + str(l + 1)]
        )
    return parameters, v


def update_parameters_with_rmsprop(
    parameters: Arrays,
    grads: Arrays,
    s: Arrays,
    learning_rate: float = 0.01,
    beta: float = 0.9,
    epsilon: float = 1e-8,
) -> tuple[Arrays, Arrays]:
    L = len(parameters) // 2
    for l in range(L):  # noqa: E741
        s["dW" + str(l + 1)] = beta * s["dW" + str(l + 1)] + (1 - beta) * np.power(
            grads["dW" + str(l + 1)], 2
        )
        s["db" + str(l + 1)] = beta * s["db" + str(l + 1)] + (1 - beta) * np.power(
            grads["db" + str(l + 1)], 2
        )
        parameters["W" + str(l + 1)] = parameters["W" + str(l + 1)] - learning_rate * (
            grads["dW" + str(l + 1)] / np.sqrt(s["dW" + str(l + 1)] + epsilon)
        )
        parameters["b" + str(l + 1)] = parameters["b" + str(l + 1)] - learning_rate * (
            grads["db" + str(l + 1)] / np.sqrt(s["db" + str(l + 1)] + epsilon)
        )
    return parameters, s


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
) -> tuple[Arrays, Arrays, Arrays]:
    L = len(parameters) // 2
    v_corrected = {}
    s_corrected = {}
    for l in range(L):  # noqa: E741
        v["dW" + str(l + 1)] = beta1 * v["dW" + str(l + 1)] + (1 - beta1) * grads["dW" + str(l + 1)]
        v["db" + str(l + 1)] = beta1 * v["db" + str(l + 1)] + (1 - beta1) * grads["db" + str(l + 1)]
        v_corrected["dW" + str(l + 1)] = v["dW" + str(l + 1)] / (1 - np.power(beta1, t))
        v_corrected["db" + str(l + 1)] = v["db" + str(l + 1)] / (1 - np.power(beta1, t))
        s["dW" + str(l + 1)] = beta2 * s["dW" + str(l + 1)] + (1 - beta2) * np.power(
            grads["dW" + str(l + 1)], 2
        )
        s["db" + str(l + 1)] = beta2 * s["db" + str(l + 1)] + (1 - beta2) * np.power(
            grads["db" + str(l + 1)], 2
        )
        s_corrected["dW" + str(l + 1)] = s["dW" + str(l + 1)] / (1 - np.power(beta2, t))
        s_corrected["db" + str(l + 1)] = s["db" + str(l + 1)] / (1 - np.power(beta2, t))
        parameters["W" + str(l + 1)] = parameters["W" + str(l + 1)] - learning_rate * v_corrected[
            "dW" + str(l + 1)
        ] / np.sqrt(s_corrected["dW" + str(l + 1)] + epsilon)
        parameters["b" + str(l + 1)] = parameters["b" + str(l + 1)] - learning_rate * v_corrected[
            "db" + str(l + 1)
        ] / np.sqrt(s_corrected["db" + str(l + 1)] + epsilon)
    return parameters, v, s
