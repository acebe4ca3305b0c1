"""The optimizers of *Neural Networks from Scratch in Python*, in place: one import changes.

.. code-block:: python

   from instep.course.nnfs import Optimizer_Adam  # before: the class, typed in

The classes have the names, arguments, defaults and attributes of Kinsley and Kukieła's book. They
are called as in the book: once for each layer, with one call before and one after.

.. code-block:: python

   optimizer.pre_update_params()
   optimizer.update_params(dense1)
   optimizer.update_params(dense2)
   optimizer.post_update_params()

A layer is any object with the arrays ``weights`` and ``biases`` and their gradients, ``dweights``
and ``dbiases``. An optimizer keeps its state in the layer, as in the book.

.. warning::
   The arrays of the layer are **written in place**: weights and biases, as in the book's code, and
   also the state, for which the book's code makes new arrays. After ``best = dense1.weights``, the
   next update changes ``best`` too; keep a copy instead.

One native call does the update of a layer. It is bit-for-bit identical to the formulas below in
NumPy, as the book types them, for float32, which the book's ``nnfs.init()`` makes the default, and
for float64. Numbers are converted to Python floats: a learning rate that is a NumPy scalar does not
turn float32 into float64, as it does in NumPy 2. A call that raises an error has changed nothing.
"""

from abc import ABC, abstractmethod
from operator import attrgetter
from typing import Any, TypeAlias

from instep._instep import Recipe
from instep.checks import check_integer, check_number
from instep.course.state import zeros_for

__all__ = ["Optimizer_Adagrad", "Optimizer_Adam", "Optimizer_RMSprop", "Optimizer_SGD"]


class _Pair:
    """A pair of attributes of a layer: one for its weights, and one for its biases."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.of = attrgetter(*names)


Work: TypeAlias = tuple[Recipe, tuple[float, ...], tuple[_Pair, ...]]

_PARAMETERS = _Pair("weights", "biases")
_GRADIENTS = _Pair("dweights", "dbiases")
_MOMENTUMS = _Pair("weight_momentums", "bias_momentums")
_CACHE = _Pair("weight_cache", "bias_cache")


class _Optimizer(ABC):
    """The base of the optimizers: the three calls of a step, and the learning rate."""

    def __init__(self, learning_rate: float, decay: float) -> None:
        self.learning_rate = check_number("learning_rate", learning_rate)
        self.current_learning_rate = self.learning_rate
        self.decay = check_number("decay", decay)
        self.iterations = 0

    def pre_update_params(self) -> None:
        """Set the learning rate of this step. Call it once, before the updates.

        Raises
        ------
        TypeError
            A ``learning_rate`` or ``decay`` that is not a number, ``iterations`` that are no
            integer.
        ValueError
            One of them that is negative, NaN or infinite.

        Notes
        -----
        ``current_learning_rate = learning_rate * (1 / (1 + decay*iterations))``. If ``decay`` is
        0, it does not change.
        """
        decay = check_number("decay", self.decay)
        if decay:
            learning_rate = check_number("learning_rate", self.learning_rate)
            check_integer("iterations", self.iterations, least=0)
            self.current_learning_rate = learning_rate * (
                1.0 / (1.0 + decay * int(self.iterations))
            )

    def update_params(self, layer: Any) -> None:
        """Do one step of a layer, in place.

        Parameters
        ----------
        layer : object
            It has the arrays ``weights`` and ``biases``, float32 or float64, of any shape, which
            are **written in place**; and ``dweights`` and ``dbiases``, their gradients, each of
            its parameter's dtype and shape, which are only read. The state is in more attributes,
            which the class lists: the first update makes them, of zeros. They are **written in
            place** too.

        Raises
        ------
        AttributeError
            A layer without one of these four.
        TypeError
            An array that is not a plain ndarray of native float32 or float64, or of another dtype
            than its parameter; an attribute of the optimizer that is not a number.
        ValueError
            An array of another shape than its parameter; a read-only parameter or state; two arrays
            that share memory where one is written; an attribute of the optimizer out of its range.

        Notes
        -----
        The formula is in the docstring of the class, with ``current_learning_rate``.
        """
        recipe, hypers, states = self._work()

        def describe(_group: int, role: int, index: int) -> str:
            return f"layer.{(_PARAMETERS, _GRADIENTS, *states)[role].names[index]}"

        p, g = _PARAMETERS.of(layer), _GRADIENTS.of(layer)
        new: dict[str, Any] = {}
        try:
            kept = [state.of(layer) for state in states]
        except AttributeError:
            new = {
                state: zeros_for(f"layer.{parameter}", array)
                for pair in states
                for state, parameter, array in zip(pair.names, _PARAMETERS.names, p, strict=True)
                if not hasattr(layer, state)
            }
        try:
            if new:
                for name, zeros in new.items():
                    setattr(layer, name, zeros)
                kept = [state.of(layer) for state in states]
            recipe.step(hypers, p, g, tuple(kept), describe)
        except Exception:
            for name in new:
                if hasattr(layer, name):
                    delattr(layer, name)
            raise

    def post_update_params(self) -> None:
        """Count the step. Call it once, after the updates.

        Raises
        ------
        TypeError
            ``iterations`` that is not an integer.

        Notes
        -----
        ``iterations = iterations + 1``.
        """
        check_integer("iterations", self.iterations, least=0)
        self.iterations += 1

    @abstractmethod
    def _work(self) -> Work:
        """Return the recipe of a step, its numbers, checked, and the attributes with its states."""

    def _rate(self) -> float:
        return check_number("current_learning_rate", self.current_learning_rate)


class Optimizer_SGD(_Optimizer):
    """Gradient descent, plain or with momentum.

    Parameters
    ----------
    learning_rate : float, default 1.0
        Learning rate, finite and not negative.
    decay : float, default 0.0
        How fast the learning rate decays, see `pre_update_params`; finite and not negative.
    momentum : float, default 0.0
        Decay of the momentum, in [0, 1); 0 keeps no state.

    Attributes
    ----------
    learning_rate, current_learning_rate, decay, momentum : float
        The numbers, which may be changed between steps. An update uses the current rate.
    iterations : int
        The number of steps done.

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``p = p - current_learning_rate*g``. With momentum, ``m = momentum*m - current_learning_rate*g``
    and ``p = p + m``; the layer's attributes ``weight_momentums`` and ``bias_momentums`` are its
    ``m``. Source: Kinsley and Kukieła, *Neural networks from scratch in Python*, 2020, chapter 10.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from instep.course import nnfs
    >>> layer = SimpleNamespace(weights=np.array([[1.0, -2.0]]), biases=np.array([[0.5]]))
    >>> layer.dweights, layer.dbiases = np.array([[0.5, -0.5]]), np.array([[1.0]])
    >>> optimizer = nnfs.Optimizer_SGD(learning_rate=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.pre_update_params()
    ...     optimizer.update_params(layer)
    ...     optimizer.post_update_params()
    >>> layer.weights
    array([[ 0.855, -1.855]])
    >>> layer.bias_momentums
    array([[-0.19]])
    """

    def __init__(
        self, learning_rate: float = 1.0, decay: float = 0.0, momentum: float = 0.0
    ) -> None:
        super().__init__(learning_rate, decay)
        self.momentum = check_number("momentum", momentum, below=1.0)

    def _work(self) -> Work:
        momentum = check_number("momentum", self.momentum, below=1.0)
        if momentum:
            return _MOMENTUM, (self._rate(), momentum), (_MOMENTUMS,)
        return _SGD, (self._rate(),), ()


class Optimizer_Adagrad(_Optimizer):
    """Divides the gradient by the root of the sum of all squared gradients.

    Parameters
    ----------
    learning_rate : float, default 1.0
        Learning rate, finite and not negative.
    decay : float, default 0.0
        How fast the learning rate decays, see `pre_update_params`; finite and not negative.
    epsilon : float, default 1e-7
        Keeps the division finite; itself finite and not negative.

    Attributes
    ----------
    learning_rate, current_learning_rate, decay, epsilon : float
        The numbers, which may be changed between steps. An update uses the current rate.
    iterations : int
        The number of steps done.

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``cache = cache + g**2``, ``p = p - (current_learning_rate*g) / (sqrt(cache) + epsilon)``; the
    layer's attributes ``weight_cache`` and ``bias_cache`` are its ``cache``. Sources: Kinsley and
    Kukieła, *Neural networks from scratch in Python*, 2020, chapter 10; Duchi et al., *Adaptive
    subgradient methods for online learning and stochastic optimization*, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from instep.course import nnfs
    >>> layer = SimpleNamespace(weights=np.array([[1.0, -2.0]]), biases=np.array([[0.5]]))
    >>> layer.dweights, layer.dbiases = np.array([[0.5, -0.5]]), np.array([[1.0]])
    >>> optimizer = nnfs.Optimizer_Adagrad(learning_rate=0.1, decay=1e-4)
    >>> for _ in range(2):
    ...     optimizer.pre_update_params()
    ...     optimizer.update_params(layer)
    ...     optimizer.post_update_params()
    >>> layer.weights.round(4)
    array([[ 0.8293, -1.8293]])
    >>> layer.weight_cache
    array([[0.5, 0.5]])
    """

    def __init__(
        self, learning_rate: float = 1.0, decay: float = 0.0, epsilon: float = 1e-7
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = check_number("epsilon", epsilon)

    def _work(self) -> Work:
        return _ADAGRAD, (self._rate(), check_number("epsilon", self.epsilon)), (_CACHE,)


class Optimizer_RMSprop(_Optimizer):
    """Divides the gradient by the root of a moving average of its squares.

    Parameters
    ----------
    learning_rate : float, default 0.001
        Learning rate, finite and not negative.
    decay : float, default 0.0
        How fast the learning rate decays, see `pre_update_params`; finite and not negative.
    epsilon : float, default 1e-7
        Keeps the division finite; itself finite and not negative.
    rho : float, default 0.9
        Decay of the average, in [0, 1).

    Attributes
    ----------
    learning_rate, current_learning_rate, decay, epsilon, rho : float
        The numbers, which may be changed between steps. An update uses the current rate.
    iterations : int
        The number of steps done.

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    ``cache = rho*cache + (1-rho)*g**2``,
    ``p = p - (current_learning_rate*g) / (sqrt(cache) + epsilon)``; the layer's attributes
    ``weight_cache`` and ``bias_cache`` are its ``cache``. Sources: Kinsley and Kukieła, *Neural
    networks from scratch in Python*, 2020, chapter 10; Tieleman and Hinton, *Lecture 6.5 -
    rmsprop*, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from instep.course import nnfs
    >>> layer = SimpleNamespace(weights=np.array([[1.0, -2.0]]), biases=np.array([[0.5]]))
    >>> layer.dweights, layer.dbiases = np.array([[0.5, -0.5]]), np.array([[1.0]])
    >>> optimizer = nnfs.Optimizer_RMSprop(learning_rate=0.1)
    >>> for _ in range(2):
    ...     optimizer.pre_update_params()
    ...     optimizer.update_params(layer)
    ...     optimizer.post_update_params()
    >>> layer.weight_cache
    array([[0.0475, 0.0475]])
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        rho: float = 0.9,
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = check_number("epsilon", epsilon)
        self.rho = check_number("rho", rho, below=1.0)

    def _work(self) -> Work:
        rho = check_number("rho", self.rho, below=1.0)
        epsilon = check_number("epsilon", self.epsilon)
        return _RMSPROP, (self._rate(), rho, epsilon), (_CACHE,)


class Optimizer_Adam(_Optimizer):
    """Divides the mean gradient by the root of the mean square.

    Parameters
    ----------
    learning_rate : float, default 0.001
        Learning rate, finite and not negative.
    decay : float, default 0.0
        How fast the learning rate decays, see `pre_update_params`; finite and not negative.
    epsilon : float, default 1e-7
        Keeps the division finite; itself finite and not negative.
    beta_1 : float, default 0.9
        Decay of the average of the gradients, in [0, 1).
    beta_2 : float, default 0.999
        Decay of the average of their squares, in [0, 1).

    Attributes
    ----------
    learning_rate, current_learning_rate, decay, epsilon, beta_1, beta_2 : float
        The numbers, which may be changed between steps. An update uses the current rate.
    iterations : int
        The number of steps done.

    Raises
    ------
    TypeError
        A value that is not a number.
    ValueError
        A number out of its range.

    Notes
    -----
    With ``t = iterations + 1``: ``m = beta_1*m + (1-beta_1)*g``,
    ``cache = beta_2*cache + (1-beta_2)*g**2`` and
    ``p = p - (current_learning_rate*(m/(1-beta_1**t))) / (sqrt(cache/(1-beta_2**t)) + epsilon)``;
    the layer's attributes ``weight_momentums``, ``bias_momentums``, ``weight_cache`` and
    ``bias_cache`` are its ``m`` and ``cache``. Sources: Kinsley and Kukieła, *Neural networks from
    scratch in Python*, 2020, chapter 10; Kingma and Ba, *Adam: a method for stochastic
    optimization*, 2015, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from instep.course import nnfs
    >>> layer = SimpleNamespace(weights=np.array([[1.0, -2.0]]), biases=np.array([[0.5]]))
    >>> layer.dweights, layer.dbiases = np.array([[0.5, -0.5]]), np.array([[1.0]])
    >>> optimizer = nnfs.Optimizer_Adam(learning_rate=0.1)
    >>> for _ in range(2):
    ...     optimizer.pre_update_params()
    ...     optimizer.update_params(layer)
    ...     optimizer.post_update_params()
    >>> layer.weights.round(4)
    array([[ 0.8, -1.8]])
    >>> optimizer.iterations
    2
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
    ) -> None:
        super().__init__(learning_rate, decay)
        self.epsilon = check_number("epsilon", epsilon)
        self.beta_1 = check_number("beta_1", beta_1, below=1.0)
        self.beta_2 = check_number("beta_2", beta_2, below=1.0)

    def _work(self) -> Work:
        check_integer("iterations", self.iterations, least=0)
        t = float(int(self.iterations) + 1)
        beta_1 = check_number("beta_1", self.beta_1, below=1.0)
        beta_2 = check_number("beta_2", self.beta_2, below=1.0)
        epsilon = check_number("epsilon", self.epsilon)
        hypers = (self._rate(), beta_1, beta_2, epsilon, beta_1**t, beta_2**t)
        return _ADAM, hypers, (_MOMENTUMS, _CACHE)


_SGD = Recipe("gradient_descent")
_MOMENTUM = Recipe("momentum_lr_inside")
_ADAGRAD = Recipe("adagrad_outside_numerator_first")
_RMSPROP = Recipe("rmsprop_outside_numerator_first")
_ADAM = Recipe("adam_outside")
