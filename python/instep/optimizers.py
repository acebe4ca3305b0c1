"""The rules, one small class each: which recipe to run, and with which numbers.

The arithmetic itself is compiled; `instep.reference` has it in plain NumPy. Weight decay,
`maximize`, clipping and averaging are done around every rule, in the same pass; the order is

1. decoupled weight decay: ``p = p*(1 - lr*weight_decay)``
2. ``g = scale*g``, where the scale is that of the step, times the clipping factor, times -1 to
   maximize; and with L2 weight decay ``g = scale*g + weight_decay*p``
3. the rule
4. ``average = decay*average + (1-decay)*p``

Defaults are torch's where torch has the rule, else those of the rule's authors. Younger rules have
a module each in `instep.rules`; all are named here.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, Literal

from instep.checks import check_betas, check_flag, check_mode, check_number
from instep.optimizer import Common, Optimizer
from instep.rule import LearningRate, Options
from instep.rules.adabelief import AdaBelief
from instep.rules.adan import Adan
from instep.rules.ademamix import AdEMAMix
from instep.rules.asgd import ASGD
from instep.rules.rprop import Rprop
from instep.rules.schedule_free import AdamWScheduleFree, SGDScheduleFree
from instep.rules.signum import Signum
from instep.rules.yogi import Yogi

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    # Only type checkers look at it, and they take the other branch.
    Unpack = list

__all__ = [
    "ASGD",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGDScheduleFree",
    "Signum",
    "Yogi",
]


class SGD(Optimizer):
    """Gradient descent, plain or with momentum.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-3
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    momentum : float, default 0.0
        Decay of the momentum, in [0, 1); 0 keeps no state.
    dampening : float, default 0.0
        What of a gradient is kept out of the momentum, from the second step on, in [0, 1];
        ``"heavy_ball"`` only.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    nesterov : bool, default False
        Whether to look ahead: not with ``"ema"``, nor with dampening.
    momentum_mode : {"heavy_ball", "ema", "lr_inside", "dlfs", "dlfs2"}, default "heavy_ball"
        What the momentum is, see Notes.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ========================= =================================================================
    mode                      arithmetic
    ========================= =================================================================
    no momentum               ``p = p - lr*g``
    ``"heavy_ball"``          ``m = momentum*m + (1-dampening)*g``, ``p = p - lr*m``
    ``"heavy_ball"``, look    the same ``m``, ``p = p - lr*(g + momentum*m)``
    ``"ema"``                 ``m = momentum*m + (1-momentum)*g``, ``p = p - lr*m``
    ``"lr_inside"``           ``m = momentum*m - lr*g``, ``p = p + m``
    ``"lr_inside"``, look     the same ``m``, ``p = p + (momentum*m - lr*g)``
    ``"dlfs"``, look          ``p = (p + momentum**2*m) - ((1+momentum)*lr)*g``, then the same ``m``
    ``"dlfs2"``, look         the same ``m`` first, then the same ``p``
    ========================= =================================================================

    ``"heavy_ball"`` is torch's and optax's (the first step has no dampening), ``"ema"`` that of the
    course and HIPS autograd, ``"lr_inside"`` that of Keras, scikit-learn and, without
    ``nesterov``, PennyLane. ``"dlfs"`` and ``"dlfs2"`` are how the two volumes of *Deep Learning
    from Scratch* multiply their look ahead out; without it they are ``"lr_inside"``. With a
    constant rate and no dampening ``"heavy_ball"``, ``"lr_inside"`` and ``"dlfs"`` take the same
    path, up to rounding. "Look" is with ``nesterov=True``.

    Sources: Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964;
    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013,
    section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.SGD(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.001)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        momentum_mode: Literal["heavy_ball", "ema", "lr_inside", "dlfs", "dlfs2"] = "heavy_ball",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "momentum_mode": momentum_mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        mode, nesterov = options["momentum_mode"], options["nesterov"]
        check_mode("momentum_mode", mode, ("heavy_ball", "ema", "lr_inside", "dlfs", "dlfs2"))
        if nesterov and (mode == "ema" or options["dampening"] or not options["momentum"]):
            raise ValueError(
                "nesterov is True; that takes momentum, no dampening, and a momentum_mode of "
                "'heavy_ball', 'lr_inside', 'dlfs' or 'dlfs2'"
            )
        if options["dampening"] and mode != "heavy_ball":
            raise ValueError(f"dampening is {options['dampening']}; wanted 0 with {mode!r}")
        if not options["momentum"]:
            return "gradient_descent"
        if nesterov:
            return f"momentum_{mode}_nesterov"
        return f"momentum_{'lr_inside' if mode.startswith('dlfs') else mode}"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        dampening = check_number("dampening", options["dampening"])
        if dampening > 1:
            raise ValueError(f"dampening is {dampening!r}; wanted 0 <= dampening <= 1")
        return {
            **super().checked(options),
            "momentum": check_number("momentum", options["momentum"], below=1.0),
            "dampening": dampening,
            "nesterov": check_flag("nesterov", options["nesterov"]),
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        # The first step has no dampening.
        return bool(options["dampening"])

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        if not options["momentum"]:
            return (lr,)
        if options["momentum_mode"] != "heavy_ball":
            return lr, options["momentum"]
        return lr, options["momentum"], 1.0 if t == 1 else 1.0 - options["dampening"]


class RMSprop(Optimizer):
    """Steps over the root of a moving average of the squared gradients.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-2
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    alpha : float, default 0.99
        Decay of the average, in [0, 1).
    eps : float, default 1e-8
        What keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    momentum : float, default 0.0
        Decay of a momentum over the scaled gradients, in [0, 1); 0 keeps none.
    centered : bool, default False
        Whether to divide by the root of the variance instead.
    eps_mode : {"inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"}, default "outside"
        Where `eps` is added, and in which order, see Notes; momentum and `centered` take the first
        two.
    momentum_mode : {"heavy_ball", "lr_inside"}, default "heavy_ball"
        What the momentum is, see Notes.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ``v = alpha*v + (1-alpha)*g**2``; if centered, ``g_mean = alpha*g_mean + (1-alpha)*g`` and
    ``max(v - g_mean**2, 0)`` replaces ``v`` in what follows (rounding can make the variance
    negative; torch does not clamp it, and gets NaN). The divisor is

    ``"outside"``
        ``sqrt(v) + eps``: torch; HIPS autograd, whose ``v`` starts with ones, not zeros.
    ``"inside"``
        ``sqrt(v + eps)``: the course, Keras, PennyLane, optax by default.

    Then ``p = p - lr*(g/divisor)``. Hand-written code often multiplies first,
    ``p = p - (lr*g)/divisor``, which differs in the last bit of many elements:

    ``"outside_numerator_first"``
        the divisor of ``"outside"``: CS231n, nnfs; to the bit HIPS autograd, which starts with ones.
    ``"inside_numerator_first"``
        the divisor of ``"inside"``.
    ``"dlfs"``
        the divisor of ``"outside"``, and ``v = alpha*v + ((1-alpha)*g)*g``: *Deep Learning from
        Scratch*, with `eps` 1e-7.

    With momentum, it is

    ``"heavy_ball"``
        ``m = momentum*m + g/divisor``, ``p = p - lr*m``: torch.
    ``"lr_inside"``
        ``m = momentum*m + lr*(g/divisor)``, ``p = p - m``: Keras, optax without ``nesterov``.

    With a constant rate the two take the same path, up to rounding. Sources: Tieleman and Hinton,
    *Lecture 6.5 - rmsprop*, 2012; centered: Graves, *Generating sequences with recurrent neural
    networks*, 2013, equations 38 to 41, which have ``lr`` inside too.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.RMSprop(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.2)
    True
    """  # noqa: E501

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        eps_mode: Literal[
            "inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"
        ] = "outside",
        momentum_mode: Literal["heavy_ball", "lr_inside"] = "heavy_ball",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "eps_mode": eps_mode,
            "momentum_mode": momentum_mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        mode = options["eps_mode"]
        check_mode("eps_mode", mode, ("inside", "outside", *_NUMERATOR_FIRST, "dlfs"))
        check_mode("momentum_mode", options["momentum_mode"], ("heavy_ball", "lr_inside"))
        if mode not in ("inside", "outside") and (options["centered"] or options["momentum"]):
            raise ValueError(
                f"eps_mode is {mode!r}; wanted 'inside' or 'outside' with momentum or centered"
            )
        centered = "_centered" if options["centered"] else ""
        lr_inside = "_lr_inside" if options["momentum_mode"] == "lr_inside" else ""
        momentum = f"_momentum{lr_inside}" if options["momentum"] else ""
        return f"rmsprop_{mode}{centered}{momentum}"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {
            **super().checked(options),
            "alpha": check_number("alpha", options["alpha"], below=1.0),
            "eps": check_number("eps", options["eps"]),
            "momentum": check_number("momentum", options["momentum"], below=1.0),
            "centered": check_flag("centered", options["centered"]),
        }

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        numbers = lr, options["alpha"], options["eps"]
        return (*numbers, options["momentum"]) if options["momentum"] else numbers


class Adam(Optimizer):
    """Adam: steps of the mean gradient over the root of the mean square.

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
        What keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    amsgrad : bool or "corrected", default False
        Whether to divide by the root of the largest average of the squares so far; or of the
        largest corrected one.
    eps_mode : {"scaled", "outside", "hat", "inside", "hat_wide", "dlfs"}, default "scaled"
        Where `eps` is added, see Notes.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

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
        ``"hat"``, but that a step of float32 parameters is computed in float64 from ``a*m`` on, and
        rounded once: scikit-learn under NumPy 2.
    ``"dlfs"``
        ``"hat_wide"`` with ``m = m + (1-beta1)*(g-m)``, ``v = v + (1-beta2)*(g**2-v)``: *Deep
        Learning from Scratch*, with `eps` 1e-7.

    With `amsgrad`, ``v_max`` is a further state:

    ``True``
        ``v_max = max(v_max, v)`` stands for ``v`` above: torch, Keras.
    ``"corrected"``
        ``v_max = max(v_max, v/c2)`` stands for ``v/c2`` in ``"outside"`` and ``"inside"``: optax.
        In ``"scaled"`` that makes ``p - ((lr/c1)*m) / (sqrt(v_max) + eps)``; ``"hat"``, which no
        library has so, is refused.

    ``"hat_wide"`` and ``"dlfs"`` are without `amsgrad`.

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
        What keeps the division finite.
    weight_decay : float, default 1e-2
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
    amsgrad : bool or "corrected", default False
        Whether to divide by the root of the largest average of the squares so far; or of the
        largest corrected one.
    eps_mode : {"scaled", "outside", "hat", "inside", "hat_wide", "dlfs"}, default "scaled"
        Where `eps` is added, see Notes.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ``p = p*(1 - lr*weight_decay)`` comes first, then the step of `Adam`:
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``. In step ``t``, counted from 1,
    ``c1 = 1 - beta1**t`` and ``c2 = 1 - beta2**t`` correct these two averages, which start with
    zeros, and ``a = lr*sqrt(c2)/c1``. The modes of `eps_mode` are:

    ``"scaled"``
        ``p - (a*m) / (sqrt(v) + eps*sqrt(c2))``: algebraically ``"outside"``.
    ``"outside"``
        ``p - (lr*(m/c1)) / (sqrt(v/c2) + eps)``: torch, DeepSpeed; optax, which adds the decay to
        the step instead, the same by algebra.
    ``"hat"``
        ``p - (a*m) / (sqrt(v) + eps)``: Keras.
    ``"inside"``
        ``p - (lr*(m/c1)) / sqrt(v/c2 + eps)``.
    ``"hat_wide"``, ``"dlfs"``
        as in `Adam`, without `amsgrad`.

    `amsgrad` is as in `Adam`: ``True`` as in torch and Keras, ``"corrected"`` as in optax, by
    chaining.

    Source: Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019, Algorithm 2, in
    which the factor of a schedule multiplies the decay, but the rate does not.

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
        What keeps the division finite.
    weight_decay : float, default 0.0
        Weight decay.
    momentum_decay : float, default 4e-3
        How fast the momentum warms up; ``"torch"`` only.
    decoupled_weight_decay : bool, default False
        Whether the decay is ``p = p*(1 - lr*weight_decay)`` before the rule, and not added to the
        gradient.
    mode : {"torch", "keras", "optax"}, default "torch"
        Which of the algorithms of this name, see Notes.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

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

        One that is too small to be seen in ``1 - product`` may as well be 0. After a million steps
        the momentum is taken for a constant, so that the time to compute it is bounded.
        """
        product = 1.0
        for step in range(1, min(t, _SINGLE_FACTORS) + 1):
            product *= cls._mu(options, step)
            if product < 2.0**-60:
                return 0.0
        return product * cls._mu(options, t) ** max(0, t - _SINGLE_FACTORS)


class RAdam(Optimizer):
    """Adam with a rectified variance: no division while the variance can't be known.

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
        What keeps the division finite.
    weight_decay : float, default 0.0
        Weight decay.
    decoupled_weight_decay : bool, default False
        Whether the decay is ``p = p*(1 - lr*weight_decay)`` before the rule, and not added to the
        gradient.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``; with ``c1 = 1 - beta1**t``,
    ``c2 = 1 - beta2**t``, ``rho_inf = 2/(1-beta2) - 1`` and ``rho = rho_inf - 2*t*beta2**t/c2``:

    ``rho > 5``
        ``p = p - (a*m) / (sqrt(v) + eps)``, ``a = lr*r*sqrt(c2)/c1`` with the rectification
        ``r = sqrt((rho-4)*(rho-2)*rho_inf / ((rho_inf-4)*(rho_inf-2)*rho))``
    else
        ``p = p - (lr/c1)*m``

    As in torch; optax adds `eps` to the root of the corrected ``v/c2`` instead. Source: Liu et al.,
    *On the variance of the adaptive learning rate and beyond*, 2020, Algorithm 2, which switches at
    4 and has no eps.

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


class Adamax(Optimizer):
    """Adam with the largest gradient so far, fading, instead of the root.

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
        What keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    eps_mode : {"inside", "outside"}, default "inside"
        Whether `eps` is added inside the maximum or outside, to the divisor.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

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


class Adagrad(Optimizer):
    """Steps over the root of the sum of all squared gradients.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-2
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    lr_decay : float, default 0.0
        Decay of the rate: step ``t`` takes ``lr / (1 + (t-1)*lr_decay)``.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    initial_accumulator_value : float, default 0.0
        What the sums start with.
    eps : float, default 1e-10
        What keeps the division finite.
    eps_mode : {"inside", "outside", "inside_numerator_first", "outside_numerator_first"}, default "outside"
        Where `eps` is added, and in which order, see Notes.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ``v = v + g**2``, then

    ``"outside"``
        ``p = p - lr*(g / (sqrt(v) + eps))``: torch.
    ``"inside"``
        ``p = p - lr*(g / sqrt(v + eps))``: Keras and optax, which start with 0.1.
    ``"outside_numerator_first"``
        ``p = p - (lr*g) / (sqrt(v) + eps)``: nnfs and *Deep Learning from Scratch*, with `eps` 1e-7.
    ``"inside_numerator_first"``
        ``p = p - (lr*g) / sqrt(v + eps)``: Karpathy's min-char-rnn.

    Source: Duchi et al., *Adaptive subgradient methods for online learning and stochastic
    optimization*, 2011, section 1.3, with the diagonal of the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Adagrad(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 1.5)
    True
    """  # noqa: E501

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        eps_mode: Literal[
            "inside", "outside", "inside_numerator_first", "outside_numerator_first"
        ] = "outside",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "eps_mode": eps_mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        check_mode("eps_mode", options["eps_mode"], ("inside", "outside", *_NUMERATOR_FIRST))
        return f"adagrad_{options['eps_mode']}"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        return {
            **super().checked(options),
            "lr_decay": check_number("lr_decay", options["lr_decay"]),
            "eps": check_number("eps", options["eps"]),
        }

    @classmethod
    def varies(cls, options: Options) -> bool:
        return bool(options["lr_decay"])

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        return lr / (1 + (t - 1) * options["lr_decay"]), options["eps"]

    @classmethod
    def initial(cls, state: str, options: Options) -> float:
        name = "initial_accumulator_value"
        return check_number(name, options[name])


class Adadelta(Optimizer):
    """Steps of the size of the steps before: no rate to choose.

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
        What keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ``v = rho*v + (1-rho)*g**2``, ``d = (sqrt(u + eps)/sqrt(v + eps))*g``,
    ``u = rho*u + (1-rho)*d**2``, ``p = p - lr*d``: torch, Keras and optax agree; their defaults
    differ. Source: Zeiler, *ADADELTA: an adaptive learning rate method*, 2012, Algorithm 1.

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


class Lion(Optimizer):
    """Steps of one size, in the direction of the sign of the momentum.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-4
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.99)
        Share of the momentum in the direction, and decay of the momentum, each in [0, 1).
    weight_decay : float, default 0.0
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
    maximize : bool, default False
        Whether to go up instead of down: the gradient is negated first.
    **common
        What all optimizers take: ``zero_grads``, ``average``, ``groups``, ``weight_decay_mask``,
        ``freeze``, ``master``, ``state_dtype``, ``seed`` and ``bits``, see `Optimizer`.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64; an option that is not
        a number.
    ValueError
        An option out of its range, or an unknown one; two parameters of one name.

    Notes
    -----
    ``p = p*(1 - lr*weight_decay)``, ``p = p - lr*sign(beta1*m + (1-beta1)*g)``,
    ``m = beta2*m + (1-beta2)*g``, with ``sign(0) = 0``: Keras, optax and DeepSpeed agree; defaults
    are the paper's (Keras has an `lr` of 1e-3, optax a `weight_decay` of 1e-3).

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


_NUMERATOR_FIRST = ("inside_numerator_first", "outside_numerator_first")


def _rho_limit(beta2: float) -> float:
    return 2 / (1 - beta2) - 1


_SINGLE_FACTORS = 1_000_000
