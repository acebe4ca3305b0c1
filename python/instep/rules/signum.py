"""Signum."""

from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Signum(Optimizer):
    """Steps of the same size for every element, by the sign of the mean gradient.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-4
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    beta : float, default 0.9
        Decay of the average of the gradients, in [0, 1); 0 makes it signSGD.
    weight_decay : float, default 0.0
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
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
    ``p = p*(1 - lr*weight_decay)``, ``m = beta*m + (1-beta)*g``, ``p = p - lr*sign(m)``, with
    ``sign(0) = 0``. As in optax, which has no default rate and no weight decay for it.

    Source: Bernstein et al., *signSGD: compressed optimisation for non-convex problems*, 2018,
    Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Signum(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.5)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-4,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "beta": beta,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "signum"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        beta = check_number("beta", options["beta"], below=1.0)
        return {**super().checked(options), "beta": beta}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        return lr, options["beta"]

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return True
