"""NAdam."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_flag, check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class NAdam(Optimizer):
    """Adam with Nesterov momentum.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 2e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.999)
        Decay of the averages of the gradients and of their squares, each in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite.
    weight_decay : float, default 0.0
        Weight decay.
    momentum_decay : float, default 4e-3
        How fast the momentum warms up; only in the mode ``"torch"``.
    decoupled_weight_decay : bool, default False
        Whether the decay is ``p = p*(1 - lr*weight_decay)`` before the rule, and not added to the
        gradient.
    mode : {"torch", "keras", "optax"}, default "torch"
        Which of the algorithms with this name to use, see Notes.
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
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``,
    ``p = p - (g_factor*g + m_factor*m) / (sqrt(v/c2) + eps)`` with ``c2 = 1 - beta2**t``, where

    ``"torch"``
        ``mu[i] = beta1*(1 - 0.5*0.96**(i*momentum_decay))``, ``P[i] = mu[1]*...*mu[i]``,
        ``g_factor = lr*(1-mu[t])/(1-P[t])``, ``m_factor = lr*mu[t+1]/(1-P[t+1])``.
    ``"keras"``
        The same, with a momentum decay of 1.
    ``"optax"``
        ``g_factor = lr*(1-beta1)/(1-beta1**t)``, ``m_factor = lr*beta1/(1-beta1**(t+1))``.

    Source: Dozat, *Incorporating Nesterov momentum into Adam*, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.NAdam(p, lr=0.1)
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
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        mode: Literal["torch", "keras", "optax"] = "torch",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "mode": mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        check_mode("mode", options["mode"], ("torch", "keras", "optax"))
        return "nadam"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        check_mode("mode", options["mode"], ("torch", "keras", "optax"))
        return {
            **super().checked(options),
            "betas": check_betas(options["betas"]),
            "eps": check_number("eps", options["eps"]),
            "momentum_decay": check_number("momentum_decay", options["momentum_decay"]),
            "decoupled_weight_decay": check_flag(
                "decoupled_weight_decay", options["decoupled_weight_decay"]
            ),
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        return True

    @classmethod
    def carried(cls, options: Options, t: int) -> dict[str, float]:
        return {} if options["mode"] == "optax" else {"mu_product": cls._product(options, t)}

    @classmethod
    def advance(cls, options: Options, lr: float, t: int) -> dict[str, float]:
        if options["mode"] == "optax":
            return {}
        product = options["mu_product"]
        if not 0.0 <= product <= 1.0:
            raise ValueError(f"mu_product is {product!r}; wanted 0 <= mu_product <= 1")
        return {"mu_product": product * cls._mu(options, t)}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2 = options["betas"]
        if options["mode"] == "optax":
            g_factor = lr * (1 - beta1) / (1 - beta1**t)
            m_factor = lr * beta1 / (1 - beta1 ** (t + 1))
        else:
            product, mu, mu_next = (
                options["mu_product"],
                cls._mu(options, t),
                cls._mu(options, t + 1),
            )
            g_factor = lr * (1 - mu) / (1 - product)
            m_factor = lr * mu_next / (1 - product * mu_next)
        return beta1, beta2, options["eps"], beta2**t, g_factor, m_factor

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return bool(options["decoupled_weight_decay"])

    @classmethod
    def _mu(cls, options: Options, t: int) -> float:
        psi = 1.0 if options["mode"] == "keras" else options["momentum_decay"]
        beta1: float = options["betas"][0]
        return beta1 * (1 - 0.5 * math.pow(0.96, t * psi))

    @classmethod
    def _product(cls, options: Options, t: int) -> float:
        """Return the product of the momenta of steps 1 to `t`.

        A product that is too small to change ``1 - product`` may as well be 0. After a million
        steps the momentum counts as constant, so that the time to compute it is bounded.
        """
        product = 1.0
        for step in range(1, min(t, _SINGLE_FACTORS) + 1):
            product *= cls._mu(options, step)
            if product < 2.0**-60:
                return 0.0
        return product * cls._mu(options, t) ** max(0, t - _SINGLE_FACTORS)


_SINGLE_FACTORS = 1_000_000
