"""Adam and AdamW."""

from collections.abc import Sequence
from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Adam(Optimizer):
    """Adam: divides the mean gradient by the root of the mean square.

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
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    amsgrad : bool or "corrected", default False
        Whether to divide by the root of the largest average of the squares so far. With
        ``"corrected"``, it is the largest bias-corrected average.
    eps_mode : {"scaled", "outside", "hat", "inside", "hat_wide", "dlfs"}, default "scaled"
        Where `eps` is added, see Notes.
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
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``. With ``c1 = 1 - beta1**t``,
    ``c2 = 1 - beta2**t`` and ``a = lr*sqrt(c2)/c1``:

    ``"scaled"``
        ``p - (a*m) / (sqrt(v) + eps*sqrt(c2))``: algebraically ``"outside"``, with one division
        per element.
    ``"outside"``
        ``p - (lr*(m/c1)) / (sqrt(v/c2) + eps)``: torch, optax, DeepSpeed, HIPS autograd.
    ``"hat"``
        ``p - (a*m) / (sqrt(v) + eps)``: scikit-learn, Keras, PennyLane, Thinc.
    ``"inside"``
        ``p - (lr*(m/c1)) / sqrt(v/c2 + eps)``: the course's first version; optax with `eps` as its
        ``eps_root``.
    ``"hat_wide"``
        ``"hat"``, but a step of float32 parameters is computed in float64 from ``a*m`` on, and
        rounded once: scikit-learn under NumPy 2.
    ``"dlfs"``
        ``"hat_wide"`` with ``m = m + (1-beta1)*(g-m)``, ``v = v + (1-beta2)*(g**2-v)``: *Deep
        Learning from Scratch*, with `eps` 1e-7.

    With `amsgrad` there is one more state, ``v_max``:

    ``True``
        ``v_max = max(v_max, v)`` replaces ``v`` in the step: torch, Keras.
    ``"corrected"``
        ``v_max = max(v_max, v/c2)`` replaces ``v/c2`` in ``"outside"`` and ``"inside"``: optax.
        With ``"scaled"`` the step is ``p - ((lr/c1)*m) / (sqrt(v_max) + eps)``. ``"hat"`` is
        refused, since no library has this combination.

    ``"hat_wide"`` and ``"dlfs"`` can't have `amsgrad`.

    Sources: Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, Algorithm 1 and the
    end of section 2; `amsgrad`: Reddi et al., *On the convergence of Adam and beyond*, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Adam(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.3)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool | Literal["corrected"] = False,
        *,
        eps_mode: Literal["scaled", "outside", "hat", "inside", "hat_wide", "dlfs"] = "scaled",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "eps_mode": eps_mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        mode, amsgrad = options["eps_mode"], options["amsgrad"]
        check_mode("eps_mode", mode, ("scaled", "outside", "hat", "inside", "hat_wide", "dlfs"))
        check_mode("amsgrad", amsgrad, (False, True, "corrected"))
        if amsgrad and mode in ("hat_wide", "dlfs"):
            raise ValueError(f"eps_mode is {mode!r}; that takes amsgrad=False")
        if amsgrad == "corrected":
            if mode == "hat":
                raise ValueError(
                    "eps_mode is 'hat'; wanted 'scaled', 'outside' or 'inside' with amsgrad "
                    "'corrected'"
                )
            return f"adam_{mode}_amsgrad_corrected"
        return f"adam_{mode}{'_amsgrad' if amsgrad else ''}"

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


class AdamW(Adam):
    """Adam with decoupled weight decay.

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
    weight_decay : float, default 1e-2
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
    amsgrad : bool or "corrected", default False
        Whether to divide by the root of the largest average of the squares so far. With
        ``"corrected"``, it is the largest bias-corrected average.
    eps_mode : {"scaled", "outside", "hat", "inside", "hat_wide", "dlfs"}, default "scaled"
        Where `eps` is added, see Notes.
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
    ``p = p*(1 - lr*weight_decay)`` comes first, then the step of `Adam`:
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``. In step ``t``, counted from 1,
    ``c1 = 1 - beta1**t`` and ``c2 = 1 - beta2**t`` correct these two averages, which start with
    zeros. ``a = lr*sqrt(c2)/c1``. The modes of `eps_mode` are:

    ``"scaled"``
        ``p - (a*m) / (sqrt(v) + eps*sqrt(c2))``: algebraically ``"outside"``.
    ``"outside"``
        ``p - (lr*(m/c1)) / (sqrt(v/c2) + eps)``: torch, DeepSpeed. optax adds the decay to the step
        instead, which is algebraically the same.
    ``"hat"``
        ``p - (a*m) / (sqrt(v) + eps)``: Keras.
    ``"inside"``
        ``p - (lr*(m/c1)) / sqrt(v/c2 + eps)``.
    ``"hat_wide"``, ``"dlfs"``
        as in `Adam`, without `amsgrad`.

    `amsgrad` is as in `Adam`: ``True`` as in torch and Keras, ``"corrected"`` as in a chain of
    optax's transformations.

    Source: Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019, Algorithm 2.
    There the decay is multiplied by the factor of a schedule, but not by the rate.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.AdamW(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.3)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool | Literal["corrected"] = False,
        *,
        eps_mode: Literal["scaled", "outside", "hat", "inside", "hat_wide", "dlfs"] = "scaled",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            eps_mode=eps_mode,
            maximize=maximize,
            **common,
        )

    @classmethod
    def decouples(cls, options: Options) -> bool:
        return True
