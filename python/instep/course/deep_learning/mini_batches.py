"""Mini-batches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep.checks import check_integer, kind_of


def random_mini_batches(
    X: NDArray[Any], Y: NDArray[Any], mini_batch_size: int = 64, seed: int = 0
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Shuffle examples and cut them into mini-batches.

    Parameters
    ----------
    X : ndarray, shape (features, examples)
        Inputs, one example a column. Only read.
    Y : ndarray, shape (labels, examples)
        Labels, one example a column. Only read.
    mini_batch_size : int, default 64
        Examples per batch, at least 1. The last batch has what remains.
    seed : int, default 0
        Seed of the permutation, 0 <= seed < 2**32, or anything else that ``np.random.seed`` takes.

    Returns
    -------
    mini_batches : list of (ndarray, ndarray)
        Pairs of columns of `X` and `Y`. The pairs are views of two new, shuffled arrays.

    Raises
    ------
    TypeError
        An `X` or `Y` that is not an ndarray; a `mini_batch_size` or `seed` that is not an integer.
    ValueError
        An `X` or `Y` without exactly two axes; different numbers of columns;
        ``mini_batch_size < 1``; a `seed` out of its range.

    Warnings
    --------
    This seeds NumPy's **global** generator, as the course does. So a notebook draws the same
    numbers from ``np.random`` afterwards as with the course's function.

    Notes
    -----
    ``np.random.seed(seed)``, ``np.random.permutation(m)``, then slices of `mini_batch_size`, as in
    the course.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> X, Y = np.arange(10.0).reshape(2, 5), np.arange(5).reshape(1, 5)
    >>> [y.tolist() for x, y in instep.random_mini_batches(X, Y, mini_batch_size=2, seed=1)]
    [[[2, 1]], [[4, 0]], [[3]]]
    """
    for name, array in (("X", X), ("Y", Y)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is {kind_of(array)}; wanted a numpy.ndarray")
        if array.ndim != 2:
            raise ValueError(f"{name} has shape {array.shape}; wanted two axes, examples last")
    m = X.shape[1]
    if Y.shape[1] != m:
        raise ValueError(f"Y has {Y.shape[1]} columns; wanted {m}, as X has")
    check_integer("mini_batch_size", mini_batch_size, least=1)
    _seed(seed)
    permutation = np.random.permutation(m)
    X, Y = X[:, permutation], Y[:, permutation]
    size = int(mini_batch_size)
    return [(X[:, at : at + size], Y[:, at : at + size]) for at in range(0, m, size)]


def _seed(seed: Any) -> None:
    try:
        np.random.seed(seed)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"seed is {seed!r}; wanted an integer, 0 <= seed < 2**32") from error
