"""Rprop."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from instep.arguments import Common, Unpack
from instep.checks import check_mode, check_numbers
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options, check_rate


class Rprop(Optimizer):
    """Resilient propagation: each element has a step size, set by the signs of its gradients.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1e-2
        The step size that every element starts with, or a callable that returns it for 0.
        **Later rates have no effect.**
    etas : (float, float), default (0.5, 1.2)
        Factors of the step size: one in (0, 1) where the sign of the gradient has changed, and one
        greater than 1 where it has not.
    step_sizes : (float, float), default (1e-6, 50.0)
        The smallest and the largest step size.
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    mode : {"irprop-", "rprop-"}, default "irprop-"
        What to do where the sign has changed, see Notes.
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
    With ``turn = sign(g)*prev`` and ``eta_minus, eta_plus = etas``, the step size is multiplied by
    ``eta_plus`` where ``turn > 0`` and by ``eta_minus`` where ``turn < 0``, and then clipped:
    ``step = min(max(factor*step, step_sizes[0]), step_sizes[1])``. Then
    ``p = p - step*sign(g)``, ``prev = sign(g)``, with ``sign(0) = 0``, where the sign has not
    changed. Where it has:

    ``"irprop-"``
        ``p`` stays, and ``prev = 0``, so that the next step keeps its size: torch.
    ``"rprop-"``
        The step is done anyway. This is Rprop without backtracking, which torch's documentation
        described for years.

    ``prev`` keeps signs, because the product of two small gradients could be 0; torch keeps the
    gradients, and has no weight decay here. optax does every step one call late. Use Rprop with
    gradients of whole data sets: with mini-batches, signs change at random.

    Sources: Riedmiller and Braun, *A direct adaptive method for faster backpropagation learning:
    the RPROP algorithm*, 1993; Igel and Hüsken, *Empirical evaluation of the improved Rprop
    learning algorithms*, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.Rprop(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.001)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1e-2,
        etas: Sequence[float] = (0.5, 1.2),
        step_sizes: Sequence[float] = (1e-6, 50.0),
        weight_decay: float = 0.0,
        *,
        mode: Literal["irprop-", "rprop-"] = "irprop-",
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "weight_decay": weight_decay,
            "mode": mode,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        check_mode("mode", options["mode"], ("irprop-", "rprop-"))
        return f"{options['mode'].removesuffix('-')}_minus"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        etas = check_numbers("etas", options["etas"], 2, below=math.inf)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"etas is {etas}; wanted 0 < etas[0] < 1 < etas[1]")
        sizes = check_numbers("step_sizes", options["step_sizes"], 2, below=math.inf)
        if sizes[0] > sizes[1]:
            raise ValueError(f"step_sizes is {sizes}; wanted step_sizes[0] <= step_sizes[1]")
        return {**super().checked(options), "etas": etas, "step_sizes": sizes}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        return *options["etas"], *options["step_sizes"]

    @classmethod
    def initial(cls, state: str, options: Options) -> float:
        return check_rate(options["lr"], 1) if state == "step" else 0.0
