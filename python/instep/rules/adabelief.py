"""AdaBelief."""

from collections.abc import Sequence
from typing import Any

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_flag, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class AdaBelief(Optimizer):
    """Adam that averages the squares of ``g - m``, what the mean gradient did not predict.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.999)
        Decay of the averages of the gradients and of the squares of ``g - m``, each in [0, 1).
    eps : float, default 1e-16
        Added to the root.
    eps_root : float, default 1e-16
        Added to the average inside the root, in every step again.
    weight_decay : float, default 0.0
        Weight decay.
    decoupled_weight_decay : bool, default True
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
    ``m = beta1*m + (1-beta1)*g``, ``s = beta2*s + (1-beta2)*(g - m)**2 + eps_root``, with the new
    ``m``; with ``c1 = 1 - beta1**t`` and ``c2 = 1 - beta2**t``,
    ``p = p - lr*(m/c1) / (sqrt(s/c2) + eps)``, computed with one division, as in the mode
    ``"scaled"`` of `Adam`. This is optax's rule, which has no weight decay, and that of the
    authors' code without its rectification, where `eps_root` is `eps`.

    Source: Zhuang et al., *AdaBelief optimizer: adapting stepsizes by the belief in observed
    gradients*, 2020, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.AdaBelief(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.5)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-16,
        eps_root: float = 1e-16,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "eps_root": eps_root,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "adabelief"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        decoupled = options["decoupled_weight_decay"]
        return {
            **super().checked(options),
            "betas": check_betas(options["betas"]),
            "eps": check_number("eps", options["eps"]),
            "eps_root": check_number("eps_root", options["eps_root"]),
            "decoupled_weight_decay": check_flag("decoupled_weight_decay", decoupled),
        }

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2 = options["betas"]
        return lr, beta1, beta2, options["eps"], options["eps_root"], beta1**t, beta2**t

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return bool(options["decoupled_weight_decay"])
