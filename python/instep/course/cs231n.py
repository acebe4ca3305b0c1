"""The update rules of Stanford's CS231n, in place: change one import of ``cs231n/optim.py``.

.. code-block:: python

   from instep.course import cs231n as optim  # before: from cs231n import optim

A rule is called for one parameter: ``next_w, config = rule(w, dw, config)``. `config` is a dict of
numbers, and of what the rule keeps from one call to the next. Its keys are the course's, and a
missing one gets the course's default. `sgd`, `sgd_momentum`, `rmsprop` and `adam` take and return
the same as those of the course, so its ``Solver`` works with them without changes.

.. warning::
   Arrays are **written in place**: ``next_w`` is the `w` that you passed, and the arrays in
   `config` change too. After ``best = model.params["W1"]``, the next step changes ``best`` too;
   keep a copy instead, as the ``Solver`` does. (Of the course's own rules only ``sgd`` writes `w`.)

The steps are bit-for-bit identical to the formulas below in NumPy, as the course's solutions type
them, for float32 and float64. Numbers are converted to Python floats. That makes one difference, on
purpose: under NumPy 2 a learning rate like ``10 ** np.random.uniform(-4, -1)`` is a float64 scalar,
which turns float32 arrays of the course's code into float64. Here float32 stays float32.

A call that raises an error has changed nothing, neither an array nor `config`.
"""

import math
from typing import Any, TypeAlias

from numpy.typing import NDArray

from instep._instep import Recipe
from instep.checks import check_integer, check_number, kind_of
from instep.course.state import zeros_for

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]

Array: TypeAlias = NDArray[Any]
Config: TypeAlias = dict[str, Any]


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of gradient descent, in place.

    Parameters
    ----------
    w : ndarray
        The parameter, float32 or float64, of any shape. **Written in place.**
    dw : ndarray
        Its gradient, of the dtype and shape of `w`. Only read.
    config : dict, optional
        ``learning_rate`` (1e-2), finite and not negative. A key that is missing is added with
        its default, in parentheses; other keys are left alone.

    Returns
    -------
    next_w : ndarray
        The array `w` itself.
    config : dict
        The dict that was passed in, or a new one.

    Raises
    ------
    TypeError
        A `w` or `dw` that is not a plain ndarray of native float32 or float64, or a `dw` of another
        dtype than `w`; a `config` that is not a dict; a value in it that is not a number.
    ValueError
        A `dw` of another shape than `w`; a read-only `w`; a `w` and `dw` that share memory; a
        number out of its range.

    Warnings
    --------
    A reference kept to `w` sees it change: keep a copy instead.

    Notes
    -----
    ``w = w - learning_rate*dw``. Source: CS231n, *Deep learning for computer vision*, Stanford,
    2016 and later, assignment 2.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import cs231n
    >>> w = np.array([1.0, -2.0])
    >>> w, config = cs231n.sgd(w, np.array([0.5, 0.5]), {"learning_rate": 0.1})
    >>> w
    array([ 0.95, -2.05])
    """
    config, new = _SGD.opened(config, w)
    (learning_rate,), states = _SGD.taken(config, new)
    learning_rate = check_number('config["learning_rate"]', learning_rate)
    return _SGD.step((learning_rate,), w, dw, states, config, new)


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of momentum, in place.

    Parameters
    ----------
    w : ndarray
        The parameter, float32 or float64, of any shape. **Written in place.**
    dw : ndarray
        Its gradient, of the dtype and shape of `w`. Only read.
    config : dict, optional
        ``learning_rate`` (1e-2), finite and not negative; ``momentum`` (0.9) in [0, 1);
        ``velocity`` (zeros), an array of the dtype and shape of `w`, **written in place**. A key
        that is missing is added with its default, in parentheses; other keys are left alone.

    Returns
    -------
    next_w : ndarray
        The array `w` itself.
    config : dict
        The dict that was passed in, or a new one.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or of another dtype than
        `w`; a `config` that is not a dict; a value in it that is not a number.
    ValueError
        An array of another shape than `w`; a read-only `w` or velocity; arrays that share memory; a
        number out of its range.

    Warnings
    --------
    A reference kept to `w` or to the velocity sees it change: keep a copy instead.

    Notes
    -----
    ``velocity = momentum*velocity - learning_rate*dw``, ``w = w + velocity``. Source: CS231n, *Deep
    learning for computer vision*, Stanford, 2016 and later, assignment 2.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import cs231n
    >>> w, config = np.array([1.0, -2.0]), {"learning_rate": 0.1}
    >>> for _ in range(2):
    ...     w, config = cs231n.sgd_momentum(w, np.array([0.5, 0.5]), config)
    >>> w
    array([ 0.855, -2.145])
    >>> config["velocity"]
    array([-0.095, -0.095])
    """
    config, new = _MOMENTUM.opened(config, w)
    (learning_rate, momentum), states = _MOMENTUM.taken(config, new)
    if not (
        type(learning_rate) is type(momentum) is float
        and 0.0 <= learning_rate < math.inf
        and 0.0 <= momentum < 1.0
    ):
        learning_rate = check_number('config["learning_rate"]', learning_rate)
        momentum = check_number('config["momentum"]', momentum, below=1.0)
    return _MOMENTUM.step((learning_rate, momentum), w, dw, states, config, new)


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of RMSprop, in place.

    Parameters
    ----------
    w : ndarray
        The parameter, float32 or float64, of any shape. **Written in place.**
    dw : ndarray
        Its gradient, of the dtype and shape of `w`. Only read.
    config : dict, optional
        ``learning_rate`` (1e-2), finite and not negative; ``decay_rate`` (0.99) in [0, 1);
        ``epsilon`` (1e-8), finite and not negative; ``cache`` (zeros), an array of the dtype and
        shape of `w`, **written in place**. A key that is missing is added with its default, in
        parentheses; other keys are left alone.

    Returns
    -------
    next_w : ndarray
        The array `w` itself.
    config : dict
        The dict that was passed in, or a new one.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or of another dtype than
        `w`; a `config` that is not a dict; a value in it that is not a number.
    ValueError
        An array of another shape than `w`; a read-only `w` or cache; arrays that share memory; a
        number out of its range.

    Warnings
    --------
    A reference kept to `w` or to the cache sees it change: keep a copy instead.

    Notes
    -----
    ``cache = decay_rate*cache + (1-decay_rate)*dw**2``,
    ``w = w - (learning_rate*dw) / (sqrt(cache) + epsilon)``. The numerator comes first, as most
    solutions type it; ``learning_rate*(dw/...)`` differs in the last bit of many elements. Source:
    CS231n, *Deep learning for computer vision*, Stanford, 2016 and later, assignment 2.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import cs231n
    >>> w, config = np.array([1.0, -2.0]), None
    >>> w, config = cs231n.rmsprop(w, np.array([0.5, -0.5]), config)
    >>> w
    array([ 0.90000002, -1.90000002])
    >>> sorted(config)
    ['cache', 'decay_rate', 'epsilon', 'learning_rate']
    """
    config, new = _RMSPROP.opened(config, w)
    (learning_rate, decay_rate, epsilon), states = _RMSPROP.taken(config, new)
    if not (
        type(learning_rate) is type(decay_rate) is type(epsilon) is float
        and 0.0 <= learning_rate < math.inf
        and 0.0 <= decay_rate < 1.0
        and 0.0 <= epsilon < math.inf
    ):
        learning_rate = check_number('config["learning_rate"]', learning_rate)
        decay_rate = check_number('config["decay_rate"]', decay_rate, below=1.0)
        epsilon = check_number('config["epsilon"]', epsilon)
    hypers = (learning_rate, decay_rate, epsilon)
    return _RMSPROP.step(hypers, w, dw, states, config, new)


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do one step of Adam, in place.

    Parameters
    ----------
    w : ndarray
        The parameter, float32 or float64, of any shape. **Written in place.**
    dw : ndarray
        Its gradient, of the dtype and shape of `w`. Only read.
    config : dict, optional
        ``learning_rate`` (1e-3), finite and not negative; ``beta1`` (0.9) and ``beta2`` (0.999) in
        [0, 1); ``epsilon`` (1e-8), finite and not negative; ``m`` and ``v`` (zeros), arrays of the
        dtype and shape of `w`, **written in place**; ``t`` (0), the number of steps done, one more
        after the call. A key that is missing is added with its default, in parentheses; other keys
        are left alone.

    Returns
    -------
    next_w : ndarray
        The array `w` itself.
    config : dict
        The dict that was passed in, or a new one.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or of another dtype than
        `w`; a `config` that is not a dict; a number in it that is none, a ``t`` that is not an
        integer.
    ValueError
        An array of another shape than `w`; a read-only `w`, ``m`` or ``v``; arrays that share
        memory; a number out of its range.

    Warnings
    --------
    A reference kept to `w`, ``m`` or ``v`` sees it change: keep a copy instead.

    Notes
    -----
    ``t = t + 1``, ``m = beta1*m + (1-beta1)*dw``, ``v = beta2*v + (1-beta2)*dw**2``,
    ``w = w - (learning_rate*(m/(1-beta1**t))) / (sqrt(v/(1-beta2**t)) + epsilon)``. Sources:
    Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, Algorithm 1; CS231n, *Deep
    learning for computer vision*, Stanford, 2016 and later, assignment 2, which counts ``t`` before
    its use.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.course import cs231n
    >>> w, config = np.array([1.0, -2.0]), {"learning_rate": 0.1}
    >>> for _ in range(3):
    ...     w, config = cs231n.adam(w, np.array([0.5, -0.5]), config)
    >>> w.round(6)
    array([ 0.7, -1.7])
    >>> config["t"]
    3
    """
    config, new = _ADAM.opened(config, w)
    (learning_rate, beta1, beta2, epsilon, t), states = _ADAM.taken(config, new)
    if not (
        type(learning_rate) is type(beta1) is type(beta2) is type(epsilon) is float
        and 0.0 <= learning_rate < math.inf
        and 0.0 <= beta1 < 1.0
        and 0.0 <= beta2 < 1.0
        and 0.0 <= epsilon < math.inf
        and type(t) is int
        and t >= 0
    ):
        learning_rate = check_number('config["learning_rate"]', learning_rate)
        beta1 = check_number('config["beta1"]', beta1, below=1.0)
        beta2 = check_number('config["beta2"]', beta2, below=1.0)
        epsilon = check_number('config["epsilon"]', epsilon)
        check_integer('config["t"]', t, least=0)
    new["t"] = int(t) + 1
    # Python computes the power of a float by an integer as one of two floats.
    exponent = float(new["t"])
    hypers = (learning_rate, beta1, beta2, epsilon, beta1**exponent, beta2**exponent)
    return _ADAM.step(hypers, w, dw, states, config, new)


class _Rule:
    """A recipe in the course's format: it knows the keys of the config, and does steps with it."""

    def __init__(self, recipe: str, numbers: Config, states: tuple[str, ...] = ()) -> None:
        self._recipe = Recipe(recipe)
        self._numbers = numbers
        self._states = states
        self._names = ("w", "dw", *(f'config["{state}"]' for state in states))

    def opened(self, config: Config | None, w: Array) -> tuple[Config, Config]:
        """Return the config, and a dict of what is missing from it."""
        if config is None:
            config = {}
        elif not isinstance(config, dict):
            raise TypeError(f"config is {kind_of(config)}; wanted a dict or None")
        new = {key: self._numbers[key] for key in self._numbers if key not in config}
        for state in self._states:
            if state not in config:
                new[state] = zeros_for("w", w)
        return config, new

    def taken(self, config: Config, new: Config) -> tuple[list[Any], tuple[tuple[Array], ...]]:
        """Return the numbers, and the states in the form that a step takes."""
        whole = {**config, **new} if new else config
        return [whole[key] for key in self._numbers], tuple([(whole[s],) for s in self._states])

    def step(
        self,
        hypers: tuple[float, ...],
        w: Array,
        dw: Array,
        states: tuple[tuple[Array], ...],
        config: Config,
        new: Config,
    ) -> tuple[Array, Config]:
        """Do a step, and then put what is new into the config."""
        is_plain = type(config) is dict
        update = (config, new) if new and is_plain else None
        self._recipe.step(hypers, (w,), (dw,), states, self._describe, None, update)
        if not is_plain:
            config.update(new)
        return w, config

    def _describe(self, _group: int, role: int, _index: int) -> str:
        return self._names[role]


_SGD = _Rule("gradient_descent", {"learning_rate": 1e-2})
_MOMENTUM = _Rule("momentum_lr_inside", {"learning_rate": 1e-2, "momentum": 0.9}, ("velocity",))
_RMSPROP = _Rule(
    "rmsprop_outside_numerator_first",
    {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8},
    ("cache",),
)
_ADAM = _Rule(
    "adam_outside",
    {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "t": 0},
    ("m", "v"),
)
