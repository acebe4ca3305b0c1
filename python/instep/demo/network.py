"""The course's L-layer network: linear, ReLU, ..., linear, softmax. One example a column."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from instep.course import Arrays

Array = NDArray[np.floating]


def initialize_parameters_he(layer_dims: Sequence[int], dtype: DTypeLike, seed: int) -> Arrays:
    """Draw the initial weights, He initialization.

    Parameters
    ----------
    layer_dims : sequence of int
        Units of each layer, the input first.
    dtype : dtype
        Of every array.
    seed : int
        Seed of the weights.

    Returns
    -------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``.
    """
    random = np.random.RandomState(seed)
    parameters: Arrays = {}
    for layer, (inputs, units) in enumerate(pairwise(layer_dims), start=1):
        W = random.randn(units, inputs) * np.sqrt(2 / inputs)
        parameters[f"W{layer}"] = W.astype(dtype)
        parameters[f"b{layer}"] = np.zeros((units, 1), dtype)
    return parameters


def forward(parameters: Arrays, X: Array) -> list[Array]:
    """Run the network.

    Parameters
    ----------
    parameters : dict of ndarray
        The weights.
    X : ndarray, shape (features, examples)
        The inputs.

    Returns
    -------
    activations : list of ndarray
        `X`, what each hidden layer makes of it, and last the scores that go into the softmax.
    """
    activations = [X]
    L = len(parameters) // 2
    for layer in range(1, L + 1):
        Z = parameters[f"W{layer}"] @ activations[-1] + parameters[f"b{layer}"]
        activations.append(np.maximum(Z, 0) if layer < L else Z)
    return activations


def backward(parameters: Arrays, activations: list[Array], Y: Array) -> tuple[float, Arrays]:
    """Differentiate the loss: the mean cross-entropy of the softmax.

    Parameters
    ----------
    parameters : dict of ndarray
        The weights.
    activations : list of ndarray
        What `forward` returned.
    Y : ndarray, shape (classes, examples)
        The labels, one-hot.

    Returns
    -------
    loss : float
        Mean over the examples.
    grads : dict of ndarray
        ``{"dW1", "db1", ..., "dWL", "dbL"}``.
    """
    m = Y.shape[1]
    # Shifted by the largest score, no exponential overflows and no logarithm sees a zero.
    scores = activations[-1] - activations[-1].max(axis=0)
    log_probabilities = scores - np.log(np.exp(scores).sum(axis=0))
    loss = -float((Y * log_probabilities).sum()) / m

    grads: Arrays = {}
    dZ = np.exp(log_probabilities) - Y
    for layer in range(len(parameters) // 2, 0, -1):
        A = activations[layer - 1]
        grads[f"dW{layer}"] = dZ @ A.T / m
        grads[f"db{layer}"] = dZ.sum(axis=1, keepdims=True) / m
        dZ = (parameters[f"W{layer}"].T @ dZ) * (A > 0)
    return loss, grads


def accuracy(parameters: Arrays, X: Array, Y: Array) -> float:
    """Return the share of examples whose class the network gets right.

    Parameters
    ----------
    parameters : dict of ndarray
        The weights.
    X, Y : ndarray
        Inputs and one-hot labels, one example a column.

    Returns
    -------
    accuracy : float
        From 0 to 1.
    """
    predicted = forward(parameters, X)[-1].argmax(axis=0)
    return float((predicted == Y.argmax(axis=0)).mean())
