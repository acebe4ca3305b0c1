"""The course's update loop in NumPy, as a notebook has it.

The functions have the names, arguments and return values of those in `instep`, so that the demo can
call either. They rebind the entries of the dicts to new arrays, one expression after the other.
"""

# ruff: noqa: E741 - the course counts layers with l

import numpy as np

from instep.course import Arrays


def update_parameters_with_gd(parameters: Arrays, grads: Arrays, learning_rate: float) -> Arrays:
    """Do one step of gradient descent."""
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
    """Make the state of momentum."""
    L = len(parameters) // 2
    v = {}
    for l in range(L):
        v["dW" + str(l + 1)] = np.zeros_like(parameters["W" + str(l + 1)])
        v["db" + str(l + 1)] = np.zeros_like(parameters["b" + str(l + 1)])
    return v


def update_parameters_with_momentum(
    parameters: Arrays, grads: Arrays, v: Arrays, beta: float, learning_rate: float
) -> tuple[Arrays, Arrays]:
    """Do one step of momentum."""
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
    """Make the state of RMSprop."""
    return initialize_velocity(parameters)


def update_parameters_with_rmsprop(
    parameters: Arrays,
    grads: Arrays,
    s: Arrays,
    learning_rate: float = 0.01,
    beta: float = 0.9,
    epsilon: float = 1e-8,
) -> tuple[Arrays, Arrays]:
    """Do one step of RMSprop."""
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
    """Make the state of Adam."""
    return initialize_velocity(parameters), initialize_velocity(parameters)


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
    """Do one step of Adam."""
    L = len(parameters) // 2
    v_corrected = {}
    s_corrected = {}
    for l in range(L):
        v["dW" + str(l + 1)] = beta1 * v["dW" + str(l + 1)] + (1 - beta1) * grads["dW" + str(l + 1)]
        v["db" + str(l + 1)] = beta1 * v["db" + str(l + 1)] + (1 - beta1) * grads["db" + str(l + 1)]
        # The one departure from the course: float(). A power from NumPy is a float64 scalar, which
        # under NumPy 2 turns float32 arrays into float64; a Python float of the same value is
        # rounded to the dtype of the array, like every other number here.
        v_corrected["dW" + str(l + 1)] = v["dW" + str(l + 1)] / (1 - float(np.power(beta1, t)))
        v_corrected["db" + str(l + 1)] = v["db" + str(l + 1)] / (1 - float(np.power(beta1, t)))
        s["dW" + str(l + 1)] = (
            beta2 * s["dW" + str(l + 1)] + (1 - beta2) * grads["dW" + str(l + 1)] ** 2
        )
        s["db" + str(l + 1)] = (
            beta2 * s["db" + str(l + 1)] + (1 - beta2) * grads["db" + str(l + 1)] ** 2
        )
        s_corrected["dW" + str(l + 1)] = s["dW" + str(l + 1)] / (1 - float(np.power(beta2, t)))
        s_corrected["db" + str(l + 1)] = s["db" + str(l + 1)] / (1 - float(np.power(beta2, t)))
        parameters["W" + str(l + 1)] = parameters["W" + str(l + 1)] - (
            learning_rate * v_corrected["dW" + str(l + 1)]
        ) / np.sqrt(s_corrected["dW" + str(l + 1)] + epsilon)
        parameters["b" + str(l + 1)] = parameters["b" + str(l + 1)] - (
            learning_rate * v_corrected["db" + str(l + 1)]
        ) / np.sqrt(s_corrected["db" + str(l + 1)] + epsilon)
    return parameters, v, s
