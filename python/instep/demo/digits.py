"""The data: 1,797 digits, scanned at 8 by 8 pixels, that come with scikit-learn."""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Digits(NamedTuple):
    """The digits in two parts, one example a column: pixels in [0, 1] and one-hot labels."""

    X_train: NDArray[np.floating]
    Y_train: NDArray[np.floating]
    X_held_out: NDArray[np.floating]
    Y_held_out: NDArray[np.floating]


def load(dtype: DTypeLike) -> Digits:
    """Load the digits and hold a fifth of them out, always the same and the same of each class.

    Parameters
    ----------
    dtype : dtype
        Of every array.

    Returns
    -------
    digits : Digits
        The two parts.
    """
    pixels, labels = load_digits(return_X_y=True)
    x_train, x_held_out, y_train, y_held_out = train_test_split(
        pixels / 16, labels, test_size=0.2, stratify=labels, random_state=0
    )
    one_hot = np.eye(10)
    parts = (x_train, one_hot[y_train], x_held_out, one_hot[y_held_out])
    return Digits(*(np.ascontiguousarray(part.T, dtype) for part in parts))
