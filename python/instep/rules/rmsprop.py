"""RMSprop."""

from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_flag, check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class RMSprop(Optimizer):
    """Divides the gradient by the root of a moving average of its squares.

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
        Keeps the division finite.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    momentum : float, default 0.0
        Decay of a momentum of the scaled gradients, in [0, 1). With 0 there is none.
    centered : bool, default False
        Whether to divide by the root of the variance instead.
    eps_mode : {"inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"}, default "outside"
        Where `eps` is added, and in which order, see Notes. With momentum or `centered`, only the
        first two are possible.
    momentum_mode : {"heavy_ball", "lr_inside"}, default "heavy_ball"
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
    ``v = alpha*v + (1-alpha)*g**2``. If centered, ``g_mean = alpha*g_mean + (1-alpha)*g``, and
    ``max(v - g_mean**2, 0)`` replaces ``v`` below. (Rounding can make the variance negative. torch
    does not clamp it, and gets NaN.) The divisor is

    ``"outside"``
        ``sqrt(v) + eps``: torch; HIPS autograd, whose ``v`` starts with ones, not zeros.
    ``"inside"``
        ``sqrt(v + eps)``: the course, Keras, PennyLane, optax by default.

    Then ``p = p - lr*(g/divisor)``. Hand-written code often multiplies first:
    ``p = p - (lr*g)/divisor``. The last bit of many elements is then different:

    ``"outside_numerator_first"``
        the divisor of ``"outside"``: CS231n, nnfs; HIPS autograd to the bit, if ``v`` starts with
        ones.
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

    With a constant rate the two take the same path, up to rounding.

    Sources: Tieleman and Hinton, *Lecture 6.5 - rmsprop*, 2012; centered: Graves, *Generating
    sequences with recurrent neural networks*, 2013, equations 38 to 41, which also have ``lr``
    inside.

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
        check_mode(
            "eps_mode",
            mode,
            ("inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"),
        )
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
