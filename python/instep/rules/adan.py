"""Adan."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Adan(Optimizer):
    """Adaptive Nesterov momentum: Adam that looks ahead by the change of the gradients.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float, float), default (0.98, 0.92, 0.99)
        Decay of the averages of the gradients, of their differences from step to step, and of the
        squares, each in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite.
    weight_decay : float, default 0.0
        Decoupled weight decay, see Notes.
    mode : {"authors", "optax"}, default "authors"
        How far to look ahead, see Notes.
    decay_mode : {"proximal", "decoupled"}, default "proximal"
        How weight decay is applied, see Notes.
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
    With ``d = g - g_prev``, or ``d = 0`` in the first step, ``m = beta1*m + (1-beta1)*g``,
    ``v = beta2*v + (1-beta2)*d``, ``n = beta3*n + (1-beta3)*(g + look*d)**2``, and with
    ``c1 = 1 - beta1**t``, ``c2 = 1 - beta2**t``, ``c3 = 1 - beta3**t``,
    ``p = p - lr*(m/c1 + look*v/c2) / (sqrt(n/c3) + eps)``, computed with one division. ``look`` is

    ``"authors"``
        ``beta2``: the authors' code and the paper, whose betas are one minus these.
    ``"optax"``
        ``1 - beta2``: optax, with an ``eps_root`` of 0.

    Weight decay is

    ``"proximal"``
        ``p = p/(1 + lr*weight_decay)`` after the step: the paper and the authors' code.
    ``"decoupled"``
        ``p = p*(1 - lr*weight_decay)`` before it: the authors' ``no_prox=True``, optax.

    If a parameter gets its first gradient after the first step, its ``g_prev`` is 0.

    Source: Xie et al., *Adan: adaptive Nesterov momentum algorithm for faster optimizing deep
    models*, 2022, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Adan(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.5)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        mode: Literal["authors", "optax"] = "authors",
        decay_mode: Literal["proximal", "decoupled"] = "proximal",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "mode": mode,
            "decay_mode": decay_mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        check_mode("mode", options["mode"], ("authors", "optax"))
        check_mode("decay_mode", options["decay_mode"], ("proximal", "decoupled"))
        return "adan" if options["decay_mode"] == "decoupled" else "adan_proximal"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {
            **super().checked(options),
            "betas": check_betas(options["betas"], 3),
            "eps": check_number("eps", options["eps"]),
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        # The first step has no gradient before it.
        return True

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2, beta3 = options["betas"]
        root3 = math.sqrt(1 - beta3**t)
        ahead = beta2 if options["mode"] == "authors" else 1 - beta2
        m_factor, v_factor = lr * root3 / (1 - beta1**t), lr * ahead * root3 / (1 - beta2**t)
        rest2, look = (0.0, 0.0) if t == 1 else (1 - beta2, ahead)
        numbers = beta1, rest2, beta3, look, options["eps"] * root3, m_factor, v_factor
        if options["decay_mode"] == "decoupled":
            return numbers
        return *numbers, lr, options["weight_decay"]

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return bool(options["decay_mode"] == "decoupled")
