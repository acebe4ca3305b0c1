"""Gradient descent, plain and with momentum."""

from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_flag, check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


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
        The share of each gradient that is left out of the momentum, from the second step on, in
        [0, 1]; only with ``"heavy_ball"``.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    nesterov : bool, default False
        Whether to use Nesterov's look-ahead. Not with ``"ema"`` or with dampening.
    momentum_mode : {"heavy_ball", "ema", "lr_inside", "dlfs", "dlfs2"}, default "heavy_ball"
        How the momentum is computed, see Notes.
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

    "Look" means ``nesterov=True``. ``"heavy_ball"`` is the momentum of torch and optax; the first
    step has no dampening. ``"ema"`` is that of the course and HIPS autograd. ``"lr_inside"`` is
    that of Keras, scikit-learn and, without ``nesterov``, PennyLane. ``"dlfs"`` and ``"dlfs2"`` are
    the look-ahead as the two volumes of *Deep Learning from Scratch* write it; without look-ahead
    they are the same as ``"lr_inside"``. With a constant rate and no dampening, ``"heavy_ball"``,
    ``"lr_inside"`` and ``"dlfs"`` take the same path, up to rounding.

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
