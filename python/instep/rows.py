"""Gradients of some rows, as those of embedding tables are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows"]


class Rows:
    """The gradient of some rows of a parameter; that of all others is left out, not zero.

    In the place of an array among the gradients of a step, it makes the step **lazy**: only the
    rows it names are touched, in the parameter, in every state and in the average. The other rows
    miss the step altogether: their moments do not decay, nor does weight decay reach them. This is
    what ``torch.optim.SparseAdam`` does, and not what a dense gradient with zeros would do.

    Parameters
    ----------
    indices : ndarray of int, shape (n,)
        The rows, places of the parameter's first axis, in any order. The values of a row that
        comes twice are summed first, in their order here.
    values : ndarray, shape (n, ...)
        The gradient of each of these rows: of the parameter's dtype, and beyond the first axis of
        its shape. Kept, not copied; only read, unless the optimizer clears gradients.

    Raises
    ------
    TypeError
        Indices that are not an array of integers; values that are not a plain ndarray.
    ValueError
        Indices that have not one axis; another number of values than of indices.

    Notes
    -----
    A step raises IndexError, before it writes anything, for a row that the parameter does not have;
    rows are counted from 0 only. What it allocates is of the size of `indices`, and where rows come
    twice of the size of `values`.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> table = np.ones((4, 2))
    >>> opt = instep.SGD(table, lr=0.5)
    >>> result = opt.step(instep.Rows(np.array([3, 0, 3]), np.ones((3, 2))))
    >>> table
    array([[0.5, 0.5],
           [1. , 1. ],
           [1. , 1. ],
           [0. , 0. ]])
    """

    def __init__(self, indices: NDArray[Any], values: NDArray[Any]) -> None:
        if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu":
            kind = getattr(indices, "dtype", type(indices).__name__)
            raise TypeError(f"indices is a {kind}; wanted a numpy.ndarray of integers")
        if not isinstance(values, np.ndarray) or isinstance(values, np.ma.MaskedArray):
            kind = type(values).__name__
            raise TypeError(f"values is a {kind}; wanted a plain numpy.ndarray")
        if indices.ndim != 1:
            raise ValueError(f"indices has shape {indices.shape}; wanted one axis")
        if values.ndim < 1 or len(values) != len(indices):
            raise ValueError(
                f"values has shape {values.shape}; wanted {len(indices)} rows, one for each index"
            )
        self.indices = indices
        self.values = values

    def __repr__(self) -> str:
        """Show the number of rows, and the shape and dtype of the values."""
        return f"Rows({len(self.indices)} rows, values {self.values.shape} {self.values.dtype})"

    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
        """Return the rows in rising order, each once, the places of their values, and the values.

        Returns
        -------
        indices, places : ndarray of int64
            Row ``indices[i]`` has the gradient ``values[places[i]]``.
        values : ndarray
            `values` itself, or new where the values of equal rows had to be summed.
        """
        order = np.argsort(self.indices, kind="stable")
        indices = np.asarray(self.indices[order], np.int64)
        first = np.ones(len(indices), bool)
        first[1:] = indices[1:] != indices[:-1]
        if first.all():
            return indices, order.astype(np.int64), self.values
        summed = self.values[order[first]]
        # One after the other, in the order of the indices as given.
        np.add.at(summed, (np.cumsum(first) - 1)[~first], self.values[order[~first]])
        return indices[first], np.arange(len(summed)), summed
