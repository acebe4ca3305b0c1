"""Gradients of some rows, such as those of embedding tables."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep import codecs
from instep.checks import is_masked, kind_of

__all__ = ["Rows"]


class Rows:
    """The gradient of some rows of a parameter; the other rows have no gradient, not a zero one.

    Pass it to a step instead of an array to make the step **lazy**: only the rows it names change,
    in the parameter, in every state and in the average. The other rows do not take part in the
    step: their moments do not decay, and they get no weight decay. This is what
    ``torch.optim.SparseAdam`` does. A dense gradient with zeros would do something else.

    Parameters
    ----------
    indices : ndarray of int, shape (n,)
        The rows, as indices into the parameter's first axis, in any order. If a row comes twice,
        its values are summed first, in their order here.
    values : ndarray, shape (n, ...)
        The gradient of each of these rows, of the parameter's dtype; after the first axis, of its
        shape. Kept, not copied; only read, unless the optimizer clears gradients.

    Raises
    ------
    TypeError
        Indices that are not an array of integers; values that are not a plain ndarray.
    ValueError
        Indices that do not have exactly one axis; another number of values than of indices.

    Notes
    -----
    If the parameter does not have a row, a step raises IndexError before it writes anything. Rows
    are counted from 0; negative indices are not accepted. A step allocates 8 bytes for each row. If
    they are not in rising order, it also allocates one bit for each row of the parameter. If rows
    come twice, it also allocates sums of the size of `values`. If there is no memory for that, it
    raises MemoryError and has written nothing.

    The norm of the gradients takes the values in the order in which they are given. If any row
    comes twice, it takes the sums instead, in rising order of the rows.

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
        if not isinstance(indices, np.ndarray):
            raise TypeError(f"indices is {kind_of(indices)}; wanted a numpy.ndarray of integers")
        if indices.dtype.kind not in "iu":
            raise TypeError(f"indices has dtype {indices.dtype}; wanted integers")
        if not isinstance(values, np.ndarray) or is_masked(values):
            raise TypeError(f"values is {kind_of(values)}; wanted a plain numpy.ndarray")
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

    def int64(self) -> NDArray[np.int64]:
        """Return the indices as int64, one after the other in memory.

        Raises
        ------
        IndexError
            An index that is too large for int64.
        """
        indices = self.indices
        if indices.dtype.kind == "u" and indices.dtype.itemsize == 8:
            most = np.iinfo(np.int64).max
            if (indices > most).any():
                raise IndexError(f"Rows has the row {indices.max()}, which no array has")
        return np.ascontiguousarray(indices, np.int64)

    def summed(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the rows in rising order, each once, and the sums of their values.

        Returns
        -------
        indices : ndarray of int64
            The rows.
        values : ndarray
            The sum of the values of each row, in the order of `indices`; in float32 if the values
            have 16 bits.
        """
        given = self.int64()
        bits = len(given).bit_length()
        if given.min(initial=0) >= 0 and int(given.max(initial=0)).bit_length() + bits < 64:
            # Each number has its place behind it: this sorts much faster than sorting the places.
            both = given << bits
            both |= np.arange(len(given))
            both.sort()
            indices = both >> bits
            both &= (1 << bits) - 1
            order = both
        else:
            order = np.argsort(given, kind="stable")
            indices = given[order]
        first = np.ones(len(indices), bool)
        first[1:] = indices[1:] != indices[:-1]
        given_values = self.values
        if given_values.dtype.itemsize == 2:
            # Only steps of bfloat16 bits take uint16.
            is_half = given_values.dtype == np.float16
            decode = (lambda a: a.astype(np.float32)) if is_half else codecs.from_bfloat16
            given_values = decode(given_values)
        values = given_values[order[first]]
        np.add.at(values, (np.cumsum(first) - 1)[~first], given_values[order[~first]])
        return indices[first], values
