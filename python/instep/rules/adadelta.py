"""Adadelta."""

from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Adadelta(Optimizer):
    """Steps as large as the steps before, so that there is no rate to choose.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1.0
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    rho : float, default 0.9
        Decay of both averages, in [0, 1).
    eps : float, default 1e-6
        Keeps the division finite.
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
    ``v = rho*v + (1-rho)*g**2``, ``d = (sqrt(u + eps)/sqrt(v + eps))*g``,
    ``u = rho*u + (1-rho)*d**2``, ``p = p - lr*d``. torch, Keras and optax agree; only their
    defaults differ.

    Source: Zeiler, *ADADELTA: an adaptive learning rate method*, 2012, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Adadelta(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 2.0)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "adadelta"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {
            **super().checked(options),
            "rho": check_number("rho", options["rho"], below=1.0),
            "eps": check_number("eps", options["eps"]),
        }

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        return lr, options["rho"], options["eps"]
