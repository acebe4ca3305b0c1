"""Lion."""

from collections.abc import Sequence
from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_betas
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Lion(Optimizer):
    """Steps of the same size for every element, by the sign of the momentum.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-4
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.99)
        The share of the momentum in the direction, and the decay of the momentum, each in [0, 1).
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
    ``p = p*(1 - lr*weight_decay)``, ``p = p - lr*sign(beta1*m + (1-beta1)*g)``,
    ``m = beta2*m + (1-beta2)*g``, with ``sign(0) = 0``. Keras, optax and DeepSpeed agree. The
    defaults are the paper's; Keras has an `lr` of 1e-3, and optax a `weight_decay` of 1e-3.

    Source: Chen et al., *Symbolic discovery of optimization algorithms*, 2023, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Lion(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.2)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "lion"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {**super().checked(options), "betas": check_betas(options["betas"])}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        return lr, *options["betas"]

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return True
