"""The data: 1,797 handwritten digits, scanned at 8 by 8 pixels.

They are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak
(UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49), licensed under CC BY 4.0.
"""

from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray


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
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file:
        stored = np.load(file)
        pixels, labels = stored["pixels"] / 16, stored["labels"]
    # Every fifth, class by class.
    held_out = np.zeros(len(labels), bool)
    held_out[np.argsort(labels, kind="stable")[::5]] = True
    one_hot = np.eye(10)[labels]
    parts = (pixels[~held_out], one_hot[~held_out], pixels[held_out], one_hot[held_out])
    return Digits(*(np.ascontiguousarray(part.T, dtype) for part in parts))
