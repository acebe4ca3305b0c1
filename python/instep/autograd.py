"""The optimizers of HIPS autograd, with their steps done by instep.

.. code-block:: python

   from instep.autograd import adam  # before: from autograd.misc.optimizers import adam

`adam`, `rmsprop` and `sgd` have the arguments, the defaults and the order of calls of
``autograd.misc.optimizers``. The results are bit-for-bit identical, for parameters of float64 in
any nesting of lists, tuples and dicts. They are new arrays: `x0` is only read.

autograd's own code does everything else: parameters of another dtype, which its formulas turn into
float64, and numbers or parameters that are themselves being differentiated.

It needs the extra: ``pip install 'instep[autograd]'``.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from autograd.misc import flatten
from autograd.misc import optimizers as host
from numpy.typing import NDArray

from instep._instep import Recipe

__all__ = ["adam", "rmsprop", "sgd"]

Array: TypeAlias = NDArray[Any]
Gradient: TypeAlias = Callable[[Any, int], Any]
Callback: TypeAlias = Callable[[Any, int, Any], Any]


def sgd(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 200,
    step_size: float = 0.1,
    mass: float = 0.9,
) -> Any:
    """Descend with momentum.

    Parameters
    ----------
    grad : callable
        ``grad(x, i)`` returns the gradient at `x` in iteration `i`, counted from 0, nested as `x0`.
        **The next step writes this `x` in place**, so it must not keep it.
    x0 : ndarray, or nested lists, tuples and dicts of them
        Where to start. Only read.
    callback : callable, optional
        Called as ``callback(x, i, g)`` before each step, with a copy of `x` that it may keep.
    num_iters : int, default 200
        The number of steps.
    step_size : float, default 0.1
        The learning rate.
    mass : float, default 0.9
        The decay of the average.

    Returns
    -------
    x : ndarray, or nested like `x0`
        The result of the steps.

    Raises
    ------
    TypeError
        A gradient of another dtype than float64.
    ValueError
        A gradient of another size than `x0`.

    Notes
    -----
    ``v = mass*v - (1-mass)*g``, ``x = x + step_size*v``. Source: HIPS autograd,
    ``autograd/misc/optimizers.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.autograd import sgd
    >>> sgd(lambda x, i: 2 * (x - 3), np.zeros(2), num_iters=300).round(6)
    array([3., 3.])
    """
    given = grad, x0, callback, num_iters, step_size, mass
    if (start := _start(x0, step_size, mass)) is None:
        return host.sgd(*given)
    # The gradient has the opposite sign, and so has the rate.
    rule = _Rule(_SGD, lambda i: (-step_size, mass), (np.zeros_like(start[0]),), -1.0)
    return _run(rule, grad, *start, callback, num_iters)


def rmsprop(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: float = 0.1,
    gamma: float = 0.9,
    eps: float = 10**-8,
) -> Any:
    """Descend by RMSprop.

    Parameters
    ----------
    grad : callable
        ``grad(x, i)`` returns the gradient at `x` in iteration `i`, counted from 0, nested as `x0`.
        **The next step writes this `x` in place**, so it must not keep it.
    x0 : ndarray, or nested lists, tuples and dicts of them
        Where to start. Only read.
    callback : callable, optional
        Called as ``callback(x, i, g)`` before each step, with a copy of `x` that it may keep.
    num_iters : int, default 100
        The number of steps.
    step_size : float, default 0.1
        The learning rate.
    gamma : float, default 0.9
        The decay of the average of the squared gradients, which starts with ones.
    eps : float, default 1e-8
        Added to the root.

    Returns
    -------
    x : ndarray, or nested like `x0`
        The result of the steps.

    Raises
    ------
    TypeError
        A gradient of another dtype than float64.
    ValueError
        A gradient of another size than `x0`.

    Notes
    -----
    ``s = gamma*s + (1-gamma)*g**2``, ``x = x - (step_size*g) / (sqrt(s) + eps)``. Source: HIPS
    autograd, ``autograd/misc/optimizers.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.autograd import rmsprop
    >>> rmsprop(lambda x, i: 2 * (x - 3), np.zeros(2), step_size=0.05).round(2)
    array([3., 3.])
    """
    given = grad, x0, callback, num_iters, step_size, gamma, eps
    if (start := _start(x0, step_size, gamma, eps)) is None:
        return host.rmsprop(*given)
    rule = _Rule(_RMSPROP, lambda i: (step_size, gamma, eps), (np.ones_like(start[0]),))
    return _run(rule, grad, *start, callback, num_iters)


def adam(
    grad: Gradient,
    x0: Any,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: float = 0.001,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 10**-8,
) -> Any:
    """Descend by Adam.

    Parameters
    ----------
    grad : callable
        ``grad(x, i)`` returns the gradient at `x` in iteration `i`, counted from 0, nested as `x0`.
        **The next step writes this `x` in place**, so it must not keep it.
    x0 : ndarray, or nested lists, tuples and dicts of them
        Where to start. Only read.
    callback : callable, optional
        Called as ``callback(x, i, g)`` before each step, with a copy of `x` that it may keep.
    num_iters : int, default 100
        The number of steps.
    step_size : float, default 0.001
        The learning rate.
    b1, b2 : float, default 0.9 and 0.999
        The decays of the averages of the gradients and of their squares.
    eps : float, default 1e-8
        Added to the root.

    Returns
    -------
    x : ndarray, or nested like `x0`
        The result of the steps.

    Raises
    ------
    TypeError
        A gradient of another dtype than float64.
    ValueError
        A gradient of another size than `x0`.

    Notes
    -----
    ``m = (1-b1)*g + b1*m``, ``v = (1-b2)*g**2 + b2*v``,
    ``x = x - (step_size*(m/(1-b1**t))) / (sqrt(v/(1-b2**t)) + eps)`` with ``t = i + 1``. Source:
    HIPS autograd, ``autograd/misc/optimizers.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.autograd import adam
    >>> adam(lambda x, i: 2 * (x - 3), np.zeros(2), num_iters=500, step_size=0.1).round(4)
    array([3., 3.])
    """
    given = grad, x0, callback, num_iters, step_size, b1, b2, eps
    if (start := _start(x0, step_size, b1, b2, eps)) is None:
        return host.adam(*given)
    states = np.zeros_like(start[0]), np.zeros_like(start[0])
    rule = _Rule(_ADAM, lambda i: (step_size, b1, b2, eps, b1 ** (i + 1), b2 ** (i + 1)), states)
    return _run(rule, grad, *start, callback, num_iters)


class _Rule:
    """A recipe with its state, and the numbers of an iteration."""

    def __init__(
        self,
        recipe: Recipe,
        hypers: Callable[[int], tuple[float, ...]],
        states: tuple[Array, ...],
        sign: float = 1.0,
    ) -> None:
        self._recipe = recipe
        self._hypers = hypers
        self._states = tuple((state,) for state in states)
        self._around = None if sign == 1.0 else (sign, 0.0, 1.0)

    def step(self, x: Array, g: Array, i: int) -> None:
        self._recipe.step(
            self._hypers(i), (x,), (g,), self._states, lambda *place: _NAMES[place[1]], self._around
        )


def _start(x0: Any, *numbers: Any) -> tuple[Array, Callable[[Any], Any]] | None:
    """Return a flat copy of `x0` and a function to unflatten it; None if it is for autograd."""
    x, unflatten = flatten(x0)
    if type(x) is not np.ndarray or x.dtype != np.float64:
        return None
    if not all(isinstance(number, (int, float)) for number in numbers):
        return None
    return x.copy(), unflatten


def _run(
    rule: _Rule,
    grad: Gradient,
    x: Array,
    unflatten: Callable[[Any], Any],
    callback: Callback | None,
    num_iters: int,
) -> Any:
    for i in range(num_iters):
        g = flatten(grad(unflatten(x), i))[0]
        if callback:
            callback(unflatten(x.copy()), i, unflatten(g))
        if type(g) is np.ndarray and np.may_share_memory(x, g):
            # As of `lambda x, i: x`.
            g = g.copy()
        rule.step(x, g, i)
    return unflatten(x)


_NAMES = ("x0", "what grad(x, i) returns", "the state", "the state")
_SGD = Recipe("momentum_ema")
_RMSPROP = Recipe("rmsprop_outside_numerator_first")
_ADAM = Recipe("adam_outside")
