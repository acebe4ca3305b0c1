"""Adamax."""

from collections.abc import Sequence
from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Adamax(Optimizer):
    """Adam that divides by the largest gradient so far, which decays, instead of by the root.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 2e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.999)
        Decay of the average of the gradients and of the largest of them, each in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    eps_mode : {"inside", "outside"}, default "inside"
        Whether `eps` is added inside the maximum, or outside of it to the divisor.
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
    ``m = beta1*m + (1-beta1)*g``; with ``c1 = 1 - beta1**t``:

    ``"inside"``
        ``u = max(beta2*u, abs(g) + eps)``, ``p = p - ((lr/c1)*m)/u``: torch, optax.
    ``"outside"``
        ``u = max(beta2*u, abs(g))``, ``p = p - ((lr/c1)*m)/(u + eps)``: Keras.

    Source: Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, Algorithm 2, which
    has no eps.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Adamax(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.3)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 2e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        eps_mode: Literal["inside", "outside"] = "inside",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "eps_mode": eps_mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        check_mode("eps_mode", options["eps_mode"], ("inside", "outside"))
        return f"adamax_{options['eps_mode']}"

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
        return lr, beta1, beta2, options["eps"], beta1**t
