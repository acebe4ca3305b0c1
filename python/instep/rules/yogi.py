"""Yogi."""

from collections.abc import Sequence
from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Yogi(Optimizer):
    """Adam with a mean square that moves in small steps, up or down.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-2
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.999)
        Decay of the average of the gradients, and one minus the share of a squared gradient that
        moves the mean square, each in [0, 1).
    eps : float, default 1e-3
        Keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    initial_accumulator_value : float, default 1e-6
        The number that both states start with.
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
    ``m = beta1*m + (1-beta1)*g``, ``v = v - (1-beta2)*sign(v - g**2)*g**2``; with
    ``c1 = 1 - beta1**t`` and ``c2 = 1 - beta2**t``, ``p = p - lr*(m/c1) / (sqrt(v/c2) + eps)``,
    computed with one division, as in the mode ``"scaled"`` of `Adam`. As in optax, which has no
    weight decay for it. The paper has no bias correction.

    Source: Zaheer et al., *Adaptive methods for nonconvex optimization*, 2018, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Yogi(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.5)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-2,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 1e-6,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "yogi"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {
            **super().checked(options),
            "betas": check_betas(options["betas"]),
            "eps": check_number("eps", options["eps"]),
        }

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2 = options["betas"]
        return lr, beta1, beta2, options["eps"], beta1**t, beta2**t

    @classmethod
    def initial(cls, state: str, options: Options) -> float:
        name = "initial_accumulator_value"
        return check_number(name, options[name])
