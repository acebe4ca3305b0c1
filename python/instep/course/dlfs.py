"""The optimizers of the books *Deep Learning from Scratch*, in place: one import changes.

.. code-block:: python

   from instep.course.dlfs import *  # before: from common.optimizer import *

The books are Saitoh's *Deep Learning from Scratch* (the "fish book") and its second volume, on
natural language. In both, the optimizers are in ``common/optimizer.py``. An optimizer steps all
parameters at once, ``optimizer.update(params, grads)``: these are dicts of arrays as in the first
volume, or lists as in the second. Classes, arguments, defaults and attributes are the books'.

.. warning::
   The arrays of `params` are **written in place**, as in the books' code, and so are those that
   the optimizer keeps in ``v``, ``h`` or ``m``. After ``best = params["W1"]``, the next update
   changes ``best`` too; keep a copy instead.

One native call updates all arrays, however many there are. It is bit-for-bit identical to the
formulas below in NumPy, as the books type them, for float32 and float64. In float32 that means
NumPy 2, where the rate of `Adam`, a NumPy scalar, makes the last part of its step float64. Numbers
are converted to Python floats, so a learning rate that you give as a NumPy scalar has no such
effect here.

Parameters have to be arrays. The books' plot of four paths over ``x**2/20 + y**2`` has floats in
`params`, which nobody can write in place: use ``np.array(-7.0)``. A call that raises an error has
changed nothing.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

from instep._instep import Recipe
from instep.checks import check_integer, check_number, kind_of
from instep.course.state import zeros_for
from instep.tree import called

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]

Arrays: TypeAlias = dict[str, NDArray[Any]] | list[NDArray[Any]]
Work: TypeAlias = tuple[Recipe, tuple[float, ...], dict[str, int]]

# Keeps the divisions finite. The books have the number in the formula.
_EPS = 1e-7


class _Optimizer(ABC):
    """The base of the optimizers: `update`, and the states that it makes."""

    _states: ClassVar[tuple[str, ...]] = ()

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Do one step of all parameters, in place.

        Parameters
        ----------
        params : dict or list of ndarray
            The parameters, float32 or float64, of any shape. **Written in place.**
        grads : dict or list of ndarray
            Their gradients, under the same keys or in the same order, each of its parameter's dtype
            and shape. Only read; other keys are ignored.

        Raises
        ------
        TypeError
            A `params` that is neither a dict nor a list; `grads` or a state of the other kind; an
            array that is not a plain ndarray of native float32 or float64, or
            of another dtype than its parameter; an attribute that is not a number.
        ValueError
            An array of another shape than its parameter; lists of different lengths; a read-only
            parameter or state; two arrays that share memory where one is written; an attribute out
            of its range.
        KeyError
            A key that is missing from `grads`, or from what the optimizer keeps.

        Notes
        -----
        The formula is in the docstring of the class. The first update makes the states, of zeros.
        """
        is_dict, keys = _keys(params)
        recipe, hypers, counted = self._work(is_dict)
        p, g = _pick("params", params, is_dict, keys), _pick("grads", grads, is_dict, keys)
        new: dict[str, Any] = {}
        states = []
        for name in self._states:
            kept = getattr(self, name)
            if kept is None:
                zeros = [
                    zeros_for(called("params", (key,)), a) for key, a in zip(keys, p, strict=True)
                ]
                kept = new[name] = dict(zip(keys, zeros, strict=True)) if is_dict else zeros
            states.append(_pick(name, kept, is_dict, keys))
        roles = ("params", "grads", *self._states)

        def describe(_group: int, role: int, index: int) -> str:
            return called(roles[role], (keys[index],))

        new.update(counted)
        update = (vars(self), new) if new else None
        recipe.step(hypers, p, g, tuple(states), describe, None, update)

    @abstractmethod
    def _work(self, is_dict: bool) -> Work:
        """Return the recipe of a step, its numbers, checked, and the count after it."""


class SGD(_Optimizer):
    """Gradient descent.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, finite and not negative.

    Attributes
    ----------
    lr : float
        The learning rate, which may be changed between updates.

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``p = p - lr*g``. Source: Saitoh, *Deep learning from scratch*, O'Reilly Japan, 2016,
    section 6.1.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import dlfs
    >>> params, grads = {"W1": np.array([1.0, -2.0])}, {"W1": np.array([0.5, 0.5])}
    >>> dlfs.SGD(lr=0.1).update(params, grads)
    >>> params["W1"]
    array([ 0.95, -2.05])
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = check_number("lr", lr)

    def _work(self, is_dict: bool) -> Work:
        return _SGD, (check_number("lr", self.lr),), {}


class Momentum(_Optimizer):
    """Gradient descent with momentum.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, finite and not negative.
    momentum : float, default 0.9
        Decay of the velocity, in [0, 1).

    Attributes
    ----------
    lr : float
        The learning rate, which may be changed between updates.
    momentum : float
        The decay of the velocity, which may be changed between updates.
    v : dict or list of ndarray, or None
        The velocities, like `params`; None before the first update. **Written in place.**

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``v = momentum*v - lr*g``, ``p = p + v``. Source: Saitoh, *Deep learning from scratch*, O'Reilly
    Japan, 2016, section 6.1.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import dlfs
    >>> params, grads = {"W1": np.array([1.0, -2.0])}, {"W1": np.array([0.5, 0.5])}
    >>> optimizer = dlfs.Momentum(lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.update(params, grads)
    >>> params["W1"]
    array([ 0.855, -2.145])
    >>> optimizer.v
    {'W1': array([-0.095, -0.095])}
    """

    _states = ("v",)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = check_number("lr", lr)
        self.momentum = check_number("momentum", momentum, below=1.0)
        self.v: Arrays | None = None

    def _work(self, is_dict: bool) -> Work:
        momentum = check_number("momentum", self.momentum, below=1.0)
        return _MOMENTUM, (check_number("lr", self.lr), momentum), {}


class Nesterov(_Optimizer):
    """Gradient descent with Nesterov's look-ahead momentum.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, finite and not negative.
    momentum : float, default 0.9
        Decay of the velocity, in [0, 1).

    Attributes
    ----------
    lr : float
        The learning rate, which may be changed between updates.
    momentum : float
        The decay of the velocity, which may be changed between updates.
    v : dict or list of ndarray, or None
        The velocities, like `params`; None before the first update. **Written in place.**

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    With dicts, as in the first volume since its code was fixed in 2021:
    ``p = (p + momentum**2*v) - ((1+momentum)*lr)*g``, then ``v = momentum*v - lr*g``. With
    lists, as in the second volume, the same two, but ``v`` first. Sources: Saitoh, *Deep learning
    from scratch*, O'Reilly Japan, 2016, and its second volume, 2018, ``common/optimizer.py``;
    Bengio et al., *Advances in optimizing recurrent networks*, 2012, equation 7.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import dlfs
    >>> params, grads = {"W1": np.array([1.0, -2.0])}, {"W1": np.array([0.5, 0.5])}
    >>> optimizer = dlfs.Nesterov(lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.update(params, grads)
    >>> params["W1"]
    array([ 0.7695, -2.2305])
    """

    _states = ("v",)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = check_number("lr", lr)
        self.momentum = check_number("momentum", momentum, below=1.0)
        self.v: Arrays | None = None

    def _work(self, is_dict: bool) -> Work:
        momentum = check_number("momentum", self.momentum, below=1.0)
        recipe = _NESTEROV_OF_DICTS if is_dict else _NESTEROV_OF_LISTS
        return recipe, (check_number("lr", self.lr), momentum), {}


class AdaGrad(_Optimizer):
    """Divides the gradient by the root of the sum of all squared gradients.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, finite and not negative.

    Attributes
    ----------
    lr : float
        The learning rate, which may be changed between updates.
    h : dict or list of ndarray, or None
        The sums of the squared gradients, like `params`; None before the first update. **Written in
        place.**

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``h = h + g*g``, ``p = p - (lr*g) / (sqrt(h) + 1e-7)``. Sources: Saitoh, *Deep learning from
    scratch*, O'Reilly Japan, 2016, section 6.1; Duchi et al., *Adaptive subgradient methods for
    online learning and stochastic optimization*, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import dlfs
    >>> params, grads = [np.array([1.0, -2.0])], [np.array([0.5, -0.5])]
    >>> optimizer = dlfs.AdaGrad(lr=0.1)
    >>> optimizer.update(params, grads)
    >>> params[0].round(6)
    array([ 0.9, -1.9])
    >>> optimizer.h
    [array([0.25, 0.25])]
    """

    _states = ("h",)

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = check_number("lr", lr)
        self.h: Arrays | None = None

    def _work(self, is_dict: bool) -> Work:
        return _ADAGRAD, (check_number("lr", self.lr), _EPS), {}


class RMSprop(_Optimizer):
    """Divides the gradient by the root of a moving average of its squares.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate, finite and not negative.
    decay_rate : float, default 0.99
        Decay of the average, in [0, 1).

    Attributes
    ----------
    lr : float
        The learning rate, which may be changed between updates.
    decay_rate : float
        The decay of the average, which may be changed between updates.
    h : dict or list of ndarray, or None
        The averages of the squared gradients, like `params`; None before the first update.
        **Written in place.**

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``h = decay_rate*h + ((1-decay_rate)*g)*g``, ``p = p - (lr*g) / (sqrt(h) + 1e-7)``. Sources:
    Saitoh, *Deep learning from scratch*, O'Reilly Japan, 2016, ``common/optimizer.py``; Tieleman
    and Hinton, *Lecture 6.5 - rmsprop*, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import dlfs
    >>> params, grads = [np.array([1.0, -2.0])], [np.array([0.5, -0.5])]
    >>> dlfs.RMSprop(lr=0.1).update(params, grads)
    >>> params[0].round(4)
    array([ 0., -1.])
    """

    _states = ("h",)

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        self.lr = check_number("lr", lr)
        self.decay_rate = check_number("decay_rate", decay_rate, below=1.0)
        self.h: Arrays | None = None

    def _work(self, is_dict: bool) -> Work:
        decay_rate = check_number("decay_rate", self.decay_rate, below=1.0)
        return _RMSPROP, (check_number("lr", self.lr), decay_rate, _EPS), {}


class Adam(_Optimizer):
    """Divides the mean gradient by the root of the mean square.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, finite and not negative.
    beta1 : float, default 0.9
        Decay of the average of the gradients, in [0, 1).
    beta2 : float, default 0.999
        Decay of the average of their squares, in [0, 1).

    Attributes
    ----------
    lr : float
        The learning rate, which may be changed between updates.
    beta1, beta2 : float
        The decays of the averages, which may be changed between updates.
    iter : int
        The number of updates done.
    m, v : dict or list of ndarray, or None
        The averages of the gradients and of their squares, like `params`; None before the first
        update. **Written in place.**

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``iter = iter + 1``, ``m = m + (1-beta1)*(g - m)``, ``v = v + (1-beta2)*(g*g - v)``,
    ``p = p - (a*m) / (sqrt(v) + 1e-7)`` with ``a = lr*sqrt(1 - beta2**iter)/(1 - beta1**iter)``.
    From ``a*m`` on, the step of a float32 parameter is computed in float64 and rounded once, as in
    NumPy 2. Sources: Saitoh, *Deep learning from scratch*, O'Reilly Japan, 2016,
    ``common/optimizer.py``; Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, the
    end of section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import dlfs
    >>> params, grads = [np.array([1.0, -2.0])], [np.array([0.5, -0.5])]
    >>> optimizer = dlfs.Adam(lr=0.1)
    >>> for _ in range(3):
    ...     optimizer.update(params, grads)
    >>> params[0].round(4)
    array([ 0.7, -1.7])
    >>> optimizer.iter
    3
    """

    _states = ("m", "v")

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr = check_number("lr", lr)
        self.beta1 = check_number("beta1", beta1, below=1.0)
        self.beta2 = check_number("beta2", beta2, below=1.0)
        self.iter = 0
        self.m: Arrays | None = None
        self.v: Arrays | None = None

    def _work(self, is_dict: bool) -> Work:
        check_integer("iter", self.iter, least=0)
        t = int(self.iter) + 1
        beta1 = check_number("beta1", self.beta1, below=1.0)
        beta2 = check_number("beta2", self.beta2, below=1.0)
        powers = beta1 ** float(t), beta2 ** float(t)
        hypers = (check_number("lr", self.lr), beta1, beta2, _EPS, *powers)
        return _ADAM, hypers, {"iter": t}


def _keys(params: Any) -> tuple[bool, list[Any]]:
    """Return whether it is a dict, and its keys or, for a list, the places."""
    if isinstance(params, dict):
        return True, list(params)
    if isinstance(params, (list, tuple)):
        return False, list(range(len(params)))
    raise TypeError(f"params is {kind_of(params)}; wanted a dict or a list of arrays")


def _pick(name: str, arrays: Any, is_dict: bool, keys: list[Any]) -> tuple[NDArray[Any], ...]:
    """Return the arrays of these keys, in their order."""
    if not isinstance(arrays, dict if is_dict else (list, tuple)):
        wanted = "dict" if is_dict else "list"
        raise TypeError(f"{name} is {kind_of(arrays)}; wanted a {wanted}, as params is")
    if not is_dict:
        if len(arrays) != len(keys):
            raise ValueError(f"{name} has {len(arrays)} arrays; wanted {len(keys)}, as params has")
        return tuple(arrays)
    if type(arrays) is not dict:
        # It may make what is missing, as a defaultdict does.
        arrays = dict(arrays)
    try:
        return tuple(map(arrays.__getitem__, keys))
    except KeyError as error:
        raise KeyError(f"{called(name, error.args)} is missing") from None


_SGD = Recipe("gradient_descent")
_MOMENTUM = Recipe("momentum_lr_inside")
_NESTEROV_OF_DICTS = Recipe("momentum_dlfs_nesterov")
_NESTEROV_OF_LISTS = Recipe("momentum_dlfs2_nesterov")
_ADAGRAD = Recipe("adagrad_outside_numerator_first")
_RMSPROP = Recipe("rmsprop_dlfs")
_ADAM = Recipe("adam_dlfs")
