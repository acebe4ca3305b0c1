"""AdEMAMix."""

import math
from collections.abc import Sequence
from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class AdEMAMix(Optimizer):
    """AdamW with a second, much slower mean of the gradients.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float, float), default (0.9, 0.999, 0.9999)
        Decay of the averages of the gradients, of their squares, and of the slow average of the
        gradients, each in [0, 1).
    alpha : float, default 2.0
        Weight of the slow average in a step.
    eps : float, default 1e-8
        Keeps the division finite.
    weight_decay : float, default 0.0
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
    alpha_warmup : int, default 0
        The number of steps in which `alpha` grows from 0 to its value; 0 for no warm-up.
    beta3_warmup : int, default 0
        The number of steps in which the third beta grows from the first one to its value; 0 for no
        warm-up.
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
    ``m = beta1*m + (1-beta1)*g``, ``m_slow = beta3*m_slow + (1-beta3)*g``,
    ``v = beta2*v + (1-beta2)*g**2``. With ``c1 = 1 - beta1**t`` and ``c2 = 1 - beta2**t``,
    ``p = p*(1 - lr*weight_decay)``, ``p = p - lr*(m/c1 + alpha*m_slow) / (sqrt(v/c2) + eps)``,
    computed with one division, as in the mode ``"scaled"`` of `Adam`. During the warm-ups,
    ``alpha = alpha*t/alpha_warmup``, and the half-life of ``beta3`` grows linearly: with
    ``h(beta) = log(0.5)/log(beta + 1e-8) - 1`` and ``a = t/beta3_warmup``,
    ``beta3 = 0.5**(1/((1 - a)*h(beta1) + a*h(beta3) + 1))``.

    As in the authors' code and, without the warm-ups, in optax. There the warm-ups are callables,
    and `alpha` is 5 by default.

    Source: Pagliardini et al., *The AdEMAMix optimizer: better, faster, older*, 2024, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.AdEMAMix(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 1.0)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        alpha_warmup: float = 0,
        beta3_warmup: float = 0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "alpha_warmup": alpha_warmup,
            "beta3_warmup": beta3_warmup,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "ademamix"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        names = "alpha", "eps", "alpha_warmup", "beta3_warmup"
        return {
            **super().checked(options),
            "betas": check_betas(options["betas"], 3),
            **{name: check_number(name, options[name]) for name in names},
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        return bool(options["alpha_warmup"] or options["beta3_warmup"])

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2, beta3 = options["betas"]
        alpha, warmup = options["alpha"], options["alpha_warmup"]
        if t < warmup:
            alpha = alpha * t / warmup
        warmup = options["beta3_warmup"]
        if t < warmup:
            a = t / warmup
            beta3 = 0.5 ** (1 / ((1 - a) * _half_life(beta1) + a * _half_life(beta3) + 1))
        return lr, beta1, beta2, beta3, alpha, options["eps"], beta1**t, beta2**t

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return True


def _half_life(beta: float) -> float:
    """Return the number of steps after which half of an average is new, minus one."""
    return math.log(0.5) / math.log(beta + 1e-8) - 1
