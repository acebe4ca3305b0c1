"""scikit-learn's multi-layer perceptrons, with the optimizer's steps done by instep.

.. code-block:: python

   from instep.sklearn import MLPClassifier  # before: from sklearn.neural_network import ...

`MLPClassifier` and `MLPRegressor` are scikit-learn's own classes with another step. They have the
same arguments, methods, attributes and errors. Models are bit-for-bit identical, for
``solver="adam"`` and ``"sgd"`` with every option, in float32 and float64. ``"lbfgs"`` has no such
steps, and is not changed.

For code that you can't change, `patch` does the same to scikit-learn's own classes, `unpatch` takes
it back, and ``with patched():`` does it for a part of a program. `accelerate` does it for one
estimator that is already fitted. `step_counts` says how many steps instep did, and how many
scikit-learn.

The state of training stays in scikit-learn's own objects. The pickle of a patched estimator
contains nothing of instep and loads without it. The two classes here are pickled under their own
names, and also use instep in the processes of ``n_jobs``, which a patch does not reach.

If instep can't do a step, scikit-learn's code does it, in the same call. That happens with arrays
of mixed dtypes, where scikit-learn's formula turns float32 into float64, and with numbers that do
so.

It needs the extra: ``pip install 'instep[sklearn]'``.
"""

import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.neural_network import _stochastic_optimizers as host
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

from instep._instep import Recipe
from instep.checks import kind_of
from instep.counts import Count, StepCounts
from instep.patching import Patch

__all__ = [
    "AdamOptimizer",
    "MLPClassifier",
    "MLPRegressor",
    "SGDOptimizer",
    "StepCounts",
    "accelerate",
    "patch",
    "patched",
    "step_counts",
    "unpatch",
]


def step_counts() -> StepCounts:
    """Return how many steps instep and scikit-learn's code have done so far in this process.

    Returns
    -------
    counts : StepCounts
        ``native`` and ``host``. Only estimators that are patched or of the classes here are
        counted. Worker processes have their own counts.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.sklearn import MLPRegressor, step_counts
    >>> before = step_counts()
    >>> X, y = np.eye(4), np.arange(4.0)
    >>> model = MLPRegressor(hidden_layer_sizes=3, batch_size=2, random_state=0).partial_fit(X, y)
    >>> step_counts().native - before.native, step_counts().host - before.host
    (2, 0)
    """
    return StepCounts(_NATIVE.so_far(), _HOST.so_far())


_NATIVE, _HOST = Count(), Count()


class AdamOptimizer(host.AdamOptimizer):  # type: ignore[misc]
    """The optimizer of scikit-learn's ``solver="adam"``, with steps by instep.

    For your own loops. `MLPClassifier` and `MLPRegressor` make theirs themselves.

    Parameters
    ----------
    params : list of ndarray
        The parameters. Only their shapes and dtypes are used; no reference is kept.
    learning_rate_init : float, default 0.001
        The learning rate.
    beta_1, beta_2 : float, default 0.9 and 0.999
        The decays of the averages of the gradients and of their squares.
    epsilon : float, default 1e-8
        Added to the root.

    Attributes
    ----------
    t : int
        The number of steps done.
    ms, vs : list of ndarray
        The averages. **Written in place** by steps.
    learning_rate : float
        The rate of the last step, bias correction included.

    Notes
    -----
    ``m = beta_1*m + (1-beta_1)*g``, ``v = beta_2*v + (1-beta_2)*g**2``,
    ``p = p - (a*m) / (sqrt(v) + epsilon)`` with ``a = lr*sqrt(1 - beta_2**t)/(1 - beta_1**t)``.
    Under NumPy 2, ``p`` of float32 is computed in float64 from ``a*m`` on and rounded once. Source:
    scikit-learn, ``sklearn/neural_network/_stochastic_optimizers.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.sklearn import AdamOptimizer
    >>> params, grads = [np.ones(3)], [np.array([0.5, -0.5, 0.0])]
    >>> optimizer = AdamOptimizer(params, learning_rate_init=0.1)
    >>> optimizer.update_params(params, grads)
    >>> params[0].round(6)
    array([0.9, 1.1, 1. ])
    """

    def update_params(self, params: list[NDArray[Any]], grads: list[NDArray[Any]]) -> None:
        """Do a step, in place.

        Parameters
        ----------
        params : list of ndarray
            The parameters. **Written in place.**
        grads : list of ndarray
            Their gradients.
        """
        beta1, beta2, eps = self.beta_1, self.beta_2, self.epsilon
        lr = self.learning_rate_init
        if _keep_dtypes(params, beta1, beta2, eps, lr) and 0 <= beta1 < 1 and 0 <= beta2 < 1:
            t = self.t + 1
            power1, power2 = beta1**t, beta2**t
            rate = np.float64(lr * math.sqrt(1 - power2) / (1 - power1))
            hypers = (lr, beta1, beta2, eps, power1, power2)
            new = {"t": t, "learning_rate": rate}
            if _step(_ADAM, hypers, params, grads, (self.ms, self.vs), (self.__dict__, new)):
                return
        _HOST.add()
        super().update_params(params, grads)


class SGDOptimizer(host.SGDOptimizer):  # type: ignore[misc]
    """The optimizer of scikit-learn's ``solver="sgd"``, with steps by instep.

    For your own loops. `MLPClassifier` and `MLPRegressor` make theirs themselves.

    Parameters
    ----------
    params : list of ndarray
        The parameters. Only their shapes and dtypes are used; no reference is kept.
    learning_rate_init : float, default 0.1
        The learning rate.
    lr_schedule : {"constant", "adaptive", "invscaling"}, default "constant"
        How ``iteration_ends`` and ``trigger_stopping`` change the rate.
    momentum : float, default 0.9
        The decay of the velocity.
    nesterov : bool, default True
        Whether to use Nesterov's momentum.
    power_t : float, default 0.5
        The exponent of ``"invscaling"``.

    Attributes
    ----------
    learning_rate : float
        The rate of the next step.
    velocities : list of ndarray
        The velocities. **Written in place** by steps.

    Notes
    -----
    ``v = momentum*v - lr*g``, ``p = p + v``; with Nesterov's momentum
    ``p = p + (momentum*v - lr*g)``. Source: scikit-learn,
    ``sklearn/neural_network/_stochastic_optimizers.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.sklearn import SGDOptimizer
    >>> params, grads = [np.ones(3)], [np.array([0.5, -0.5, 0.0])]
    >>> optimizer = SGDOptimizer(params, nesterov=False)
    >>> optimizer.update_params(params, grads)
    >>> params[0]
    array([0.95, 1.05, 1.  ])
    """

    def update_params(self, params: list[NDArray[Any]], grads: list[NDArray[Any]]) -> None:
        """Do a step, in place.

        Parameters
        ----------
        params : list of ndarray
            The parameters. **Written in place.**
        grads : list of ndarray
            Their gradients.
        """
        hypers = self.learning_rate, self.momentum
        if _keep_dtypes(params, *hypers):
            recipe = _NESTEROV if self.nesterov else _MOMENTUM
            if _step(recipe, hypers, params, grads, (self.velocities,), None):
                return
        _HOST.add()
        super().update_params(params, grads)


def _keep_dtypes(params: list[NDArray[Any]], *numbers: Any) -> bool:
    """Return whether NumPy's formula has the dtype of the arrays with these numbers."""
    # NumPy's own scalars turn float32 into float64, or round a `1 - beta` to float32.
    kinds = _KEPT_BY_FLOAT64 if all(p.dtype == np.float64 for p in params) else _KEPT_BY_ALL
    return all(type(number) in kinds for number in numbers)


def _step(
    recipe: Recipe,
    hypers: tuple[float, ...],
    params: list[NDArray[Any]],
    grads: list[NDArray[Any]],
    states: tuple[list[NDArray[Any]], ...],
    update: tuple[dict[str, Any], dict[str, Any]] | None,
) -> bool:
    """Do a whole step, or nothing; return whether it was done."""
    kept = tuple(map(tuple, states))
    try:
        recipe.step(hypers, tuple(params), tuple(grads), kept, _describe, None, update)
    except (TypeError, ValueError):
        # instep does not take it. The caller asks scikit-learn, so that users see its errors.
        return False
    _NATIVE.add()
    return True


def _describe(_group: int, role: int, index: int) -> str:
    return f"array {index} of role {role}"


class _Accelerated:
    """The attribute ``_optimizer``: what scikit-learn has put there, with another `update_params`.

    It stays in the estimator's ``__dict__`` unchanged, so that pickling, copying and cloning work
    as in scikit-learn. Reading it gives a view of it, with the same ``__dict__``.
    """

    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is None:
            return self
        try:
            optimizer = vars(estimator)["_optimizer"]
        except KeyError:
            name = f"{type(estimator).__name__!r} object has no attribute '_optimizer'"
            raise AttributeError(name, name="_optimizer", obj=estimator) from None
        kind = _VIEWS.get(type(optimizer))
        if kind is None:
            return optimizer
        view = object.__new__(kind)
        view.__dict__ = vars(optimizer)
        return view

    def __set__(self, estimator: Any, optimizer: Any) -> None:
        vars(estimator)["_optimizer"] = optimizer

    def __delete__(self, estimator: Any) -> None:
        del vars(estimator)["_optimizer"]


class MLPClassifier(neural_network.MLPClassifier):  # type: ignore[misc]
    """`sklearn.neural_network.MLPClassifier`, with steps by instep.

    Everything except the step is scikit-learn's: parameters, attributes, methods and errors. See
    its own documentation. Models are bit-for-bit identical to its. The formulas are in
    `AdamOptimizer` and `SGDOptimizer`.

    See Also
    --------
    patch : The same for scikit-learn's own class.
    accelerate : The same for an estimator that has begun training.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn import neural_network
    >>> from instep.sklearn import MLPClassifier
    >>> X, y = np.eye(4), [0, 1, 1, 0]
    >>> ours = MLPClassifier(solver="sgd", learning_rate_init=0.1, random_state=0).fit(X, y)
    >>> theirs = neural_network.MLPClassifier(**ours.get_params()).fit(X, y)
    >>> ours.predict(X).tolist()
    [0, 1, 1, 0]
    >>> all(np.array_equal(a, b) for a, b in zip(ours.coefs_, theirs.coefs_))
    True
    """

    _optimizer = _Accelerated()


class MLPRegressor(neural_network.MLPRegressor):  # type: ignore[misc]
    """`sklearn.neural_network.MLPRegressor`, with steps by instep.

    Everything except the step is scikit-learn's: parameters, attributes, methods and errors. See
    its own documentation. Models are bit-for-bit identical to its. The formulas are in
    `AdamOptimizer` and `SGDOptimizer`.

    See Also
    --------
    patch : The same for scikit-learn's own class.
    accelerate : The same for an estimator that has begun training.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> model = MLPRegressor(learning_rate_init=0.01, random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.9)
    True
    """

    _optimizer = _Accelerated()


def accelerate(estimator: Any) -> Any:
    """Have instep do the steps of an estimator from now on. It may be new, fitted or half trained.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        One of scikit-learn's own, or of the classes here. **Changed in place**: it gets the class
        of the same name here. It keeps what it has learned.

    Returns
    -------
    estimator : MLPClassifier or MLPRegressor
        The estimator itself.

    Raises
    ------
    TypeError
        Anything else, such as a subclass of them or a pipeline.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> from instep.sklearn import accelerate
    >>> X, y = np.eye(4), np.arange(4.0)
    >>> model = MLPRegressor(hidden_layer_sizes=3, random_state=0).partial_fit(X, y)
    >>> model = accelerate(model).partial_fit(X, y)
    """
    kind = _CLASSES.get(type(estimator))
    if kind is None:
        raise TypeError(
            f"estimator is {kind_of(estimator)}; wanted scikit-learn's MLPClassifier or "
            "MLPRegressor. For a pipeline, pass its step; derive a class of your own from "
            "instep.sklearn.MLPClassifier, or call instep.sklearn.patch()"
        )
    estimator.__class__ = kind
    return estimator


def patch() -> None:
    """Have instep do the steps of scikit-learn's own estimators, and of classes derived from them.

    This holds for all estimators, existing and new, until `unpatch`, in this process. The workers
    of ``n_jobs`` are other processes, where scikit-learn's own code does the steps. A second call
    has no effect.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> import instep.sklearn
    >>> instep.sklearn.patch()
    >>> before = instep.sklearn.step_counts().native
    >>> X, y = np.eye(4), np.arange(4.0)
    >>> model = MLPRegressor(hidden_layer_sizes=3, random_state=0).partial_fit(X, y)
    >>> instep.sklearn.step_counts().native - before
    1
    >>> instep.sklearn.unpatch()
    """
    _PATCH.set(for_good=True)


def unpatch() -> None:
    """Undo `patch`. Estimators continue with scikit-learn's own steps.

    A ``with patched():`` block that is running stays patched until its end.
    """
    _PATCH.set(for_good=False)


def patched() -> AbstractContextManager[None]:
    """Have instep do the steps of scikit-learn's own estimators within a ``with`` block.

    All threads see it. Blocks may be nested, and overlap in threads.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> from instep.sklearn import patched
    >>> X, y = np.eye(4), np.arange(4.0)
    >>> with patched():
    ...     model = MLPRegressor(hidden_layer_sizes=3, random_state=0).partial_fit(X, y)
    """
    return _PATCH.block()


def _put_patch(on: bool) -> None:
    if on:
        BaseMultilayerPerceptron._optimizer = _Accelerated()
    else:
        del BaseMultilayerPerceptron._optimizer


_PATCH = Patch(_put_patch)

_CLASSES = {
    neural_network.MLPClassifier: MLPClassifier,
    neural_network.MLPRegressor: MLPRegressor,
    MLPClassifier: MLPClassifier,
    MLPRegressor: MLPRegressor,
}
_VIEWS = {host.AdamOptimizer: AdamOptimizer, host.SGDOptimizer: SGDOptimizer}

_KEPT_BY_ALL = frozenset({float, int})
_KEPT_BY_FLOAT64 = _KEPT_BY_ALL | {np.float64}

_MOMENTUM = Recipe("momentum_lr_inside")
_NESTEROV = Recipe("momentum_lr_inside_nesterov")
# Before NumPy 2 its rate, a NumPy scalar, leaves float32 arrays as they are.
_ADAM = Recipe("adam_hat" if np.lib.NumpyVersion(np.__version__) < "2.0.0" else "adam_hat_wide")
