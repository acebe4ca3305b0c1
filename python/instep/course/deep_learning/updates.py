"""The updates of parameters, in place, and the states that they start with."""

import math
import warnings
from typing import Literal, TypeAlias, overload

import numpy as np

from instep._instep import DictUpdate, Recipe
from instep.checks import check_integer, check_number
from instep.course.deep_learning.dicts import Arrays, LayerDicts, empty_like, other_keys, zeros_like
from instep.course.state import plain


def update_parameters_with_gd(parameters: Arrays, grads: Arrays, learning_rate: float) -> Arrays:
    """Do one step of gradient descent, in place.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64, of any shape. **Written in place.**
    grads : dict of ndarray
        ``{"dW1", "db1", ...}``, each of its parameter's dtype and shape. Only read; other keys
        are ignored.
    learning_rate : float
        Step size, finite and not negative.

    Returns
    -------
    parameters : dict of ndarray
        The dict that was passed in, with the same arrays in it.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or a gradient of another
        dtype than its parameter; a learning rate that is not a number.
    ValueError
        A gradient of another shape than its parameter; a key of `parameters` that is not ``W1`` to
        ``WL`` or ``b1`` to ``bL``; a read-only parameter; two arrays that share memory where one
        is written; a learning rate that is negative, NaN or infinite.
    KeyError
        A key that is missing from `parameters` or `grads`.

    Warnings
    --------
    A reference kept to an array of `parameters` sees it change: keep a copy instead.

    Notes
    -----
    ``p = p - learning_rate*g``, as in the course and as ``torch.optim.SGD`` without momentum.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> parameters = {"W1": np.array([[1.0, 2.0]]), "b1": np.array([[0.5]])}
    >>> grads = {"dW1": np.array([[0.5, -0.5]]), "db1": np.array([[1.0]])}
    >>> parameters = instep.update_parameters_with_gd(parameters, grads, 0.1)
    >>> parameters["W1"]
    array([[0.95, 2.05]])
    """
    _GD.step(parameters, grads, learning_rate)
    return parameters


def initialize_velocity(parameters: Arrays) -> Arrays:
    """Make the state of momentum: zeros for every parameter.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64. Only read.

    Returns
    -------
    v : dict of ndarray
        ``{"dW1", "db1", ...}``: new arrays of zeros, each of its parameter's shape, dtype and
        memory order.

    Raises
    ------
    TypeError
        A value that is not a plain ndarray of native float32 or float64.
    ValueError
        A key that is not ``W1`` to ``WL`` or ``b1`` to ``bL``.
    KeyError
        A missing key.

    Notes
    -----
    ``v["d" + key] = 0`` for each key of `parameters`, as in the course.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> instep.initialize_velocity({"W1": np.ones((1, 2)), "b1": np.ones((1, 1))})
    {'dW1': array([[0., 0.]]), 'db1': array([[0.]])}
    """
    return zeros_like(parameters)


def update_parameters_with_momentum(
    parameters: Arrays, grads: Arrays, v: Arrays, beta: float, learning_rate: float
) -> tuple[Arrays, Arrays]:
    """Do one step of momentum, in place.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64, of any shape. **Written in place.**
    grads : dict of ndarray
        ``{"dW1", "db1", ...}``, each of its parameter's dtype and shape. Only read; other keys
        are ignored.
    v : dict of ndarray
        The moving average of the gradients, from `initialize_velocity`. **Written in place.**
    beta : float
        Decay of the average, in [0, 1).
    learning_rate : float
        Step size, finite and not negative.

    Returns
    -------
    parameters, v : dict of ndarray
        The dicts that were passed in, with the same arrays in them.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or of another dtype than
        its parameter; a hyper-parameter that is not a number.
    ValueError
        An array of another shape than its parameter; a key of `parameters` that is not ``W1`` to
        ``WL`` or ``b1`` to ``bL``; a read-only parameter or state; two arrays that share memory
        where one is written; a hyper-parameter out of its range.
    KeyError
        A key that is missing from `parameters`, `grads` or `v`.

    Warns
    -----
    UserWarning
        If `beta` and `learning_rate` look swapped: a decay of at most 0.1, a rate from 0.5 to 1.

    Warnings
    --------
    A reference kept to an array of `parameters` or `v` sees it change: keep a copy instead.

    Notes
    -----
    ``m = beta*m + (1-beta)*g``, ``p = p - learning_rate*m``: an exponential moving average without
    bias correction, as in the course and HIPS autograd. The buffer of ``torch.optim.SGD`` is a sum
    without the factor ``1-beta``. Keras and scikit-learn keep the learning rate inside it.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> parameters = {"W1": np.array([[1.0, 2.0]]), "b1": np.array([[0.5]])}
    >>> grads = {"dW1": np.array([[0.5, -0.5]]), "db1": np.array([[1.0]])}
    >>> v = instep.initialize_velocity(parameters)
    >>> parameters, v = instep.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1)
    >>> parameters["W1"]
    array([[0.995, 2.005]])
    """
    learning_rate = check_number("learning_rate", learning_rate)
    beta = check_number("beta", beta, below=1.0)
    if 0 < beta <= 0.1 and 0.5 <= learning_rate < 1:
        warnings.warn(
            f"beta is {beta} and learning_rate is {learning_rate}, as if they were swapped: "
            "beta comes first. Pass both by name",
            stacklevel=2,
        )
    _MOMENTUM.step(parameters, grads, v, learning_rate, beta)
    return parameters, v


def initialize_rmsprop(parameters: Arrays) -> Arrays:
    """Make the state of RMSprop: zeros for every parameter.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64. Only read.

    Returns
    -------
    s : dict of ndarray
        ``{"dW1", "db1", ...}``: new arrays of zeros, each of its parameter's shape, dtype and
        memory order.

    Raises
    ------
    TypeError
        A value that is not a plain ndarray of native float32 or float64.
    ValueError
        A key that is not ``W1`` to ``WL`` or ``b1`` to ``bL``.
    KeyError
        A missing key.

    Notes
    -----
    ``s["d" + key] = 0`` for each key of `parameters`.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> instep.initialize_rmsprop({"W1": np.ones((1, 2)), "b1": np.ones((1, 1))})
    {'dW1': array([[0., 0.]]), 'db1': array([[0.]])}
    """
    return zeros_like(parameters)


def update_parameters_with_rmsprop(
    parameters: Arrays,
    grads: Arrays,
    s: Arrays,
    learning_rate: float = 0.01,
    beta: float = 0.9,
    epsilon: float = 1e-8,
    *,
    eps_mode: Literal["inside", "outside"] = "inside",
) -> tuple[Arrays, Arrays]:
    """Do one step of RMSprop, in place.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64, of any shape. **Written in place.**
    grads : dict of ndarray
        ``{"dW1", "db1", ...}``, each of its parameter's dtype and shape. Only read; other keys
        are ignored.
    s : dict of ndarray
        The moving average of the squared gradients, from `initialize_rmsprop`. **Written in
        place.**
    learning_rate : float, default 0.01
        Step size, finite and not negative.
    beta : float, default 0.9
        Decay of the average, in [0, 1).
    epsilon : float, default 1e-8
        Keeps the division finite; itself finite and not negative.
    eps_mode : {"inside", "outside"}, default "inside"
        Whether `epsilon` is added inside the root or outside of it.

    Returns
    -------
    parameters, s : dict of ndarray
        The dicts that were passed in, with the same arrays in them.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or of another dtype than
        its parameter; a hyper-parameter that is not a number.
    ValueError
        An array of another shape than its parameter; a key of `parameters` that is not ``W1`` to
        ``WL`` or ``b1`` to ``bL``; a read-only parameter or state; two arrays that share memory
        where one is written; a hyper-parameter out of its range; an unknown `eps_mode`.
    KeyError
        A key that is missing from `parameters`, `grads` or `s`.

    Warnings
    --------
    A reference kept to an array of `parameters` or `s` sees it change: keep a copy instead.

    Notes
    -----
    ``v = beta*v + (1-beta)*g**2``, then

    ``"inside"``
        ``p = p - learning_rate*(g / sqrt(v + epsilon))``: Keras, PennyLane, optax by default.
    ``"outside"``
        ``p = p - learning_rate*(g / (sqrt(v) + epsilon))``: torch, autograd.

    The rule is from Tieleman and Hinton, *Lecture 6.5 - rmsprop*, Coursera, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> parameters = {"W1": np.array([[1.0, 2.0]]), "b1": np.array([[0.5]])}
    >>> grads = {"dW1": np.array([[0.5, -0.5]]), "db1": np.array([[1.0]])}
    >>> s = instep.initialize_rmsprop(parameters)
    >>> parameters, s = instep.update_parameters_with_rmsprop(parameters, grads, s)
    >>> s["dW1"]
    array([[0.025, 0.025]])
    """
    _update(_RMSPROP, eps_mode).step(parameters, grads, s, learning_rate, beta, epsilon)
    return parameters, s


def initialize_adam(parameters: Arrays) -> tuple[Arrays, Arrays]:
    """Make the state of Adam: two sets of zeros for every parameter.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64. Only read.

    Returns
    -------
    v, s : dict of ndarray
        ``{"dW1", "db1", ...}`` each: new arrays of zeros, each of its parameter's shape, dtype and
        memory order. In the course's names, `v` is the average of the gradients and `s` that of
        their squares.

    Raises
    ------
    TypeError
        A value that is not a plain ndarray of native float32 or float64.
    ValueError
        A key that is not ``W1`` to ``WL`` or ``b1`` to ``bL``.
    KeyError
        A missing key.

    Notes
    -----
    ``v["d" + key] = s["d" + key] = 0`` for each key of `parameters`, as in the course.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> v, s = instep.initialize_adam({"W1": np.ones((1, 2)), "b1": np.ones((1, 1))})
    >>> v
    {'dW1': array([[0., 0.]]), 'db1': array([[0.]])}
    """
    return zeros_like(parameters), zeros_like(parameters)


AdamMode: TypeAlias = Literal["inside", "outside", "hat", "scaled"]


@overload
def update_parameters_with_adam(
    parameters: Arrays,
    grads: Arrays,
    v: Arrays,
    s: Arrays,
    t: int,
    learning_rate: float = ...,
    beta1: float = ...,
    beta2: float = ...,
    epsilon: float = ...,
    *,
    eps_mode: AdamMode = ...,
    return_corrected: Literal[False] = ...,
) -> tuple[Arrays, Arrays, Arrays]: ...
@overload
def update_parameters_with_adam(
    parameters: Arrays,
    grads: Arrays,
    v: Arrays,
    s: Arrays,
    t: int,
    learning_rate: float = ...,
    beta1: float = ...,
    beta2: float = ...,
    epsilon: float = ...,
    *,
    eps_mode: AdamMode = ...,
    return_corrected: Literal[True],
) -> tuple[Arrays, Arrays, Arrays, Arrays, Arrays]: ...
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
    *,
    eps_mode: AdamMode = "inside",
    return_corrected: bool = False,
) -> tuple[Arrays, Arrays, Arrays] | tuple[Arrays, Arrays, Arrays, Arrays, Arrays]:
    """Do one step of Adam, in place.

    Parameters
    ----------
    parameters : dict of ndarray
        ``{"W1", "b1", ..., "WL", "bL"}``, float32 or float64, of any shape. **Written in place.**
    grads : dict of ndarray
        ``{"dW1", "db1", ...}``, each of its parameter's dtype and shape. Only read; other keys
        are ignored.
    v : dict of ndarray
        The moving average of the gradients, from `initialize_adam`. **Written in place.**
    s : dict of ndarray
        The moving average of the squared gradients, from `initialize_adam`. **Written in place.**
    t : int
        The number of this step, counted from 1 by the caller.
    learning_rate : float, default 0.01
        Step size, finite and not negative.
    beta1 : float, default 0.9
        Decay of `v`, in [0, 1).
    beta2 : float, default 0.999
        Decay of `s`, in [0, 1).
    epsilon : float, default 1e-8
        Keeps the division finite; itself finite and not negative.
    eps_mode : {"inside", "outside", "hat", "scaled"}, default "inside"
        Where `epsilon` is added, see Notes.
    return_corrected : bool, default False
        Whether to return the bias-corrected averages too, as later versions of the course do. They
        are new arrays; nothing else here allocates.

    Returns
    -------
    parameters, v, s : dict of ndarray
        The dicts that were passed in, with the same arrays in them.
    v_corrected, s_corrected : dict of ndarray
        Only with ``return_corrected=True``: new dicts of new arrays, ``v/c1`` and ``s/c2``.

    Raises
    ------
    TypeError
        An array that is not a plain ndarray of native float32 or float64, or of another dtype than
        its parameter; a `t` that is not an integer; a hyper-parameter that is not a number.
    ValueError
        An array of another shape than its parameter; a key of `parameters` that is not ``W1`` to
        ``WL`` or ``b1`` to ``bL``; a read-only parameter or state; two arrays that share memory
        where one is written; ``t < 1``; a hyper-parameter out of its range; an unknown `eps_mode`.
    KeyError
        A key that is missing from `parameters`, `grads`, `v` or `s`.

    Warnings
    --------
    A reference kept to an array of `parameters`, `v` or `s` sees it change: keep a copy instead.

    Notes
    -----
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2`` (the course calls them ``v`` and
    ``s``). With ``c1 = 1 - beta1**t``, ``c2 = 1 - beta2**t`` and ``a = learning_rate*sqrt(c2)/c1``,
    in this order of operations:

    ``"inside"``
        ``p - (learning_rate*(m/c1)) / sqrt(v/c2 + epsilon)``: the course's first version.
    ``"outside"``
        ``p - (learning_rate*(m/c1)) / (sqrt(v/c2) + epsilon)``: Kingma and Ba, *Adam: a method for
        stochastic optimization*, 2015, Algorithm 1; the course text, HIPS autograd.
    ``"hat"``
        ``p - (a*m) / (sqrt(v) + epsilon)``: the same paper, end of section 2; scikit-learn, Keras,
        PennyLane, Thinc.
    ``"scaled"``
        ``p - (a*m) / (sqrt(v) + epsilon*sqrt(c2))``: algebraically ``"outside"`` (torch, optax),
        with one division per element.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> parameters = {"W1": np.array([[1.0, 2.0]]), "b1": np.array([[0.5]])}
    >>> grads = {"dW1": np.array([[0.5, -0.5]]), "db1": np.array([[1.0]])}
    >>> v, s = instep.initialize_adam(parameters)
    >>> for t in range(1, 4):
    ...     parameters, v, s = instep.update_parameters_with_adam(parameters, grads, v, s, t)
    >>> parameters["W1"].round(6)
    array([[0.97, 2.03]])
    """
    update = _update(_ADAM, eps_mode)
    if type(t) is not int or not 1 <= t <= _LAST_STEP:
        check_integer("t", t, least=1)
        if t > _LAST_STEP:
            raise ValueError("t is more than 2**63 - 1, the most that an int64 can be")
    if not return_corrected:
        update.step(parameters, grads, v, s, t, learning_rate, beta1, beta2, epsilon)
        return parameters, v, s
    *_, power1, power2 = update.hypers(t, learning_rate, beta1, beta2, epsilon)
    p, _, first, second = _ADAM_DICTS.tuples(parameters, grads, v, s)
    keys = other_keys(len(p))
    # Allocated first, because nothing may fail after the step.
    v_corrected, s_corrected = empty_like(keys, first), empty_like(keys, second)
    update.step(parameters, grads, v, s, t, learning_rate, beta1, beta2, epsilon)
    with np.errstate(all="ignore"):
        for corrected, arrays, power in (
            (v_corrected, first, power1),
            (s_corrected, second, power2),
        ):
            for out, array in zip(corrected.values(), arrays, strict=True):
                np.divide(plain(array), out.dtype.type(1 - power), out=out)
    return parameters, v, s, v_corrected, s_corrected


def _update(updates: dict[str, DictUpdate], eps_mode: str) -> DictUpdate:
    try:
        return updates[eps_mode]
    except (KeyError, TypeError):
        wanted = ", ".join(map(repr, updates))
        raise ValueError(f"eps_mode is {eps_mode!r}; wanted one of {wanted}") from None


# The largest integer that np.power takes as one.
_LAST_STEP = 2**63 - 1

# Each number, and what it has to be less than.
_LEARNING_RATE, _EPSILON = ("learning_rate", math.inf), ("epsilon", math.inf)
_BETA, _BETAS = ("beta", 1.0), (("beta1", 1.0), ("beta2", 1.0))

_ADAM_DICTS = LayerDicts("parameters", "grads", "v", "s")

_GD = DictUpdate(Recipe("gradient_descent"), (_LEARNING_RATE,), LayerDicts("parameters", "grads"))
_MOMENTUM = DictUpdate(
    Recipe("momentum_ema"), (_LEARNING_RATE, _BETA), LayerDicts("parameters", "grads", "v")
)
_RMSPROP = {
    mode: DictUpdate(
        Recipe(f"rmsprop_{mode}"),
        (_LEARNING_RATE, _BETA, _EPSILON),
        LayerDicts("parameters", "grads", "s"),
    )
    for mode in ("inside", "outside")
}
_ADAM = {
    mode: DictUpdate(Recipe(f"adam_{mode}"), (_LEARNING_RATE, *_BETAS, _EPSILON), _ADAM_DICTS)
    for mode in ("inside", "outside", "hat", "scaled")
}
