"""Adagrad."""

from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_mode, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all squared gradients.

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
        The number that the sums start with.
    eps : float, default 1e-10
        Keeps the division finite.
    eps_mode : {"inside", "outside", "inside_numerator_first", "outside_numerator_first"}, default "outside"
        Where `eps` is added, and in which order, see Notes.
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
    optimization*, 2011, section 1.3, with only the diagonal of the matrix.

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
        check_mode(
            "eps_mode",
            options["eps_mode"],
            ("inside", "outside", "inside_numerator_first", "outside_numerator_first"),
        )
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
