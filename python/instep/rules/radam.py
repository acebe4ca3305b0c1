"""RAdam."""

import math
from collections.abc import Sequence
from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_flag, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class RAdam(Optimizer):
    """Adam with a rectified variance; it does not divide while the variance is not known well.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.999)
        Decay of the averages of the gradients and of their squares, each in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite.
    weight_decay : float, default 0.0
        Weight decay.
    decoupled_weight_decay : bool, default False
        Whether the decay is ``p = p*(1 - lr*weight_decay)`` before the rule, and not added to the
        gradient.
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
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``; with ``c1 = 1 - beta1**t``,
    ``c2 = 1 - beta2**t``, ``rho_inf = 2/(1-beta2) - 1`` and ``rho = rho_inf - 2*t*beta2**t/c2``:

    ``rho > 5``
        ``p = p - (a*m) / (sqrt(v) + eps)``, ``a = lr*r*sqrt(c2)/c1`` with the rectification
        ``r = sqrt((rho-4)*(rho-2)*rho_inf / ((rho_inf-4)*(rho_inf-2)*rho))``
    else
        ``p = p - (lr/c1)*m``

    As in torch. optax adds `eps` to the root of the corrected ``v/c2`` instead.

    Source: Liu et al., *On the variance of the adaptive learning rate and beyond*, 2020, Algorithm
    2, which switches at 4 and has no eps.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.RAdam(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 1.0)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "radam" if cls._rho(options, t) > 5 else "radam_unrectified"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {
            **super().checked(options),
            "betas": check_betas(options["betas"]),
            "eps": check_number("eps", options["eps"]),
            "decoupled_weight_decay": check_flag(
                "decoupled_weight_decay", options["decoupled_weight_decay"]
            ),
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        return True

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2 = options["betas"]
        limit, rho = _rho_limit(beta2), cls._rho(options, t)
        if rho <= 5:
            return lr, beta1, beta2, beta1**t
        above, below = (rho - 4) * (rho - 2) * limit, (limit - 4) * (limit - 2) * rho
        return lr, beta1, beta2, options["eps"], beta1**t, beta2**t, math.sqrt(above / below)

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return bool(options["decoupled_weight_decay"])

    @classmethod
    def _rho(cls, options: Options, t: int) -> float:
        beta2: float = options["betas"][1]
        return _rho_limit(beta2) - 2 * t * beta2**t / (1 - beta2**t)


def _rho_limit(beta2: float) -> float:
    return 2 / (1 - beta2) - 1
