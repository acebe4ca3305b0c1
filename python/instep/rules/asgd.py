"""ASGD."""

from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class ASGD(Optimizer):
    """Gradient descent with a decaying rate, and the average of the parameters.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-2
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    lambd : float, default 1e-4
        The decay of the parameters and of the rate.
    alpha : float, default 0.75
        The power of the decay of the rate.
    t0 : float, default 1e6
        The number of steps before the average begins.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    maximize : bool, default False
        Whether to maximize instead of minimize: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters with the same name.

    Notes
    -----
    ``eta = lr/(1 + lambd*lr*(t - 1))**alpha``, ``mu = 1/max(1, t - 1 - t0)``,
    ``p = p*(1 - lambd*eta) - eta*g``, ``ax = ax + mu*(p - ax)``. The average ``ax`` is in `state`.
    Up to step ``t0 + 2`` it is the parameter itself. As in torch, except where the rate changes:
    there ``eta`` uses the rate of the step before.

    Source: Polyak and Juditsky, *Acceleration of stochastic approximation by averaging*, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.ASGD(p, lr=0.1, t0=50)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.1)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "asgd"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        names = "lambd", "alpha", "t0"
        return {
            **super().checked(options),
            **{name: check_number(name, options[name]) for name in names},
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        return True

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        lambd = options["lambd"]
        eta = lr / (1 + lambd * lr * (t - 1)) ** options["alpha"]
        return lambd, eta, 1 / max(1.0, t - 1 - options["t0"])
