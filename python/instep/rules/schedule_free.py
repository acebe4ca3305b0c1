"""Schedule-free learning: SGD and AdamW."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep.arguments import Common, Unpack
from instep.checks import check_betas, check_number
from instep.optimizer import Optimizer
from instep.rule import LearningRate, Options, check_rate


class _ScheduleFree(Optimizer):
    """What both rules have: `z`, the weights of the average, and the point to evaluate at."""

    @classmethod
    @abstractmethod
    def _beta1(cls, options: Options) -> float:
        """Return the share of `x` in the parameters; the rest of them is `z`."""

    @classmethod
    def initial(cls, state: str, options: Options) -> float | None:
        return None if state == "z" else 0.0

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        names = "r", "weight_lr_power"
        return {
            **super().checked(options),
            **{name: check_number(name, options[name]) for name in names},
        }

    @classmethod
    def carried(cls, options: Options, t: int) -> dict[str, float]:
        """Return the sum of the weights and the largest rate after `t` steps.

        After a million steps the weight counts as constant, so that the time is bounded.
        """
        carried = {"weight_sum": 0.0, "lr_max": 0.0}
        counted = min(t, _SINGLE_WEIGHTS)
        for step in range(1, counted + 1):
            rate = check_rate(options["lr"], step)
            carried = cls.advance({**options, **carried}, rate, step)
        rest = (t - counted) * cls._weight({**options, **carried}, t)
        return {**carried, "weight_sum": carried["weight_sum"] + rest}

    @classmethod
    def advance(cls, options: Options, lr: float, t: int) -> dict[str, float]:
        lr_max = max(lr, options["lr_max"])
        weight = cls._weight({**options, "lr_max": lr_max}, t)
        return {"weight_sum": options["weight_sum"] + weight, "lr_max": lr_max}

    @classmethod
    def _weight(cls, options: Options, t: int) -> float:
        """Return the weight of the `z` of step `t`."""
        weight: float = t ** options["r"] * options["lr_max"] ** options["weight_lr_power"]
        return weight

    @classmethod
    def _share(cls, options: Options, t: int) -> float:
        """Return the share of the new `z` in the average."""
        weight = cls._weight(options, t)
        return weight / options["weight_sum"] if options["weight_sum"] else 0.0

    def eval_params(self) -> Any:
        """Return `x`, the average to evaluate at. The parameters are `y`, for gradients.

        Returns
        -------
        tree of ndarray
            New arrays, ``(y - (1 - beta1)*z) / beta1``, in the structure of the parameters.

        Examples
        --------
        >>> import numpy as np
        >>> import instep
        >>> p = {"W": np.array([1.0, -2.0])}
        >>> opt = instep.SGDScheduleFree(p, lr=0.1)
        >>> for _ in range(100):
        ...     result = opt.step({"W": 2 * p["W"]})
        >>> bool(abs(opt.eval_params()["W"]).max() < 0.1)
        True
        """
        return self._build(self._x_of(parameter) for parameter in self._parameters)

    def _x_of(self, parameter: Any) -> NDArray[Any]:
        y, z = parameter.array, parameter.states["z"]
        beta1 = self._beta1(self.checked(self.param_groups[parameter.group]))
        f = y.dtype.type
        return np.asarray((y - f(1 - beta1) * z) / f(beta1))


class SGDScheduleFree(_ScheduleFree):
    """Gradient descent whose average needs no schedule with a fixed end.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 1.0
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    momentum : float, default 0.9
        How close to the average the gradients are taken, in (0, 1).
    weight_decay : float, default 0.0
        L2 weight decay: ``weight_decay*p`` is added to the gradient.
    r : float, default 0.0
        The power of the step number in the weights of the average.
    weight_lr_power : float, default 2.0
        The power of the largest rate so far in the weights of the average.
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
    **The parameters are** ``y`` of the paper, where gradients are taken. Evaluate at ``x``, the
    average, which `eval_params` returns. With ``lr_max = max(lr, lr_max)``,
    ``weight = t**r * lr_max**weight_lr_power``, ``weight_sum = weight_sum + weight`` and
    ``c = weight/weight_sum``,

    ``p = p + c*(z - p) - lr*(1 - momentum*(1 - c))*g``, ``z = z - lr*g``,

    where ``z`` starts as a copy of ``p``. As in the authors' code, whose ``eval()`` puts ``x`` into
    the parameters, and, with a constant rate and ``r=0``, in optax, whose
    ``schedule_free_eval_params`` is `eval_params`. For their ``warmup_steps`` there is
    ``lr=lambda step: min(1, (step + 1)/warmup_steps)``. The sum of the weights and the largest rate
    are kept with the group, and in `state_dict`; `instep.functional` keeps nothing, and adds
    them up again in every call.

    Source: Defazio et al., *The road less scheduled*, 2024, Algorithm 1 and section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.SGDScheduleFree(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.1)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "sgd_schedule_free"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        momentum = check_number("momentum", options["momentum"], below=1.0)
        if not momentum:
            raise ValueError("momentum is 0; wanted 0 < momentum < 1")
        return {**super().checked(options), "momentum": momentum}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        return lr, options["momentum"], cls._share(options, t)

    @classmethod
    def _beta1(cls, options: Options) -> float:
        return float(options["momentum"])


class AdamWScheduleFree(_ScheduleFree):
    """AdamW whose average needs no schedule with a fixed end.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like, float32 or float64;
        **written in place**. Groups: ``[{"params": ..., "lr": ...}, ...]``.
    lr : float or callable, default 0.0025
        Learning rate, or a callable of the number of steps done, see `instep.schedules`.
    betas : (float, float), default (0.9, 0.999)
        How close to the average the gradients are taken, in (0, 1), and the decay of the average of
        their squares, in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite.
    weight_decay : float, default 0.0
        Decoupled weight decay, see Notes.
    r : float, default 0.0
        The power of the step number in the weights of the average.
    weight_lr_power : float, default 2.0
        The power of the largest rate so far in the weights of the average.
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
    **The parameters are** ``y`` of the paper, where gradients are taken. Evaluate at ``x``, the
    average, which `eval_params` returns. ``v = beta2*v + (1-beta2)*g**2``, and with
    ``c2 = 1 - beta2**t``, ``d = g/(sqrt(v/c2) + eps) + weight_decay*p``, computed with one
    division. With ``lr_max = max(lr, lr_max)``,
    ``weight = t**r * lr_max**weight_lr_power``, ``weight_sum = weight_sum + weight`` and
    ``c = weight/weight_sum``,

    ``p = p + c*(z - p) - lr*(1 - beta1*(1 - c))*d``, ``z = z - lr*d``,

    where ``z`` starts as a copy of ``p``. As in the authors' code without its
    ``inner_momentum``, whose ``eval()`` puts ``x`` into the parameters, and, with a constant rate
    and ``r=0``, in optax, whose ``schedule_free_eval_params`` is `eval_params`. For their
    ``warmup_steps`` there is ``lr=lambda step: 0.0025 * min(1, (step + 1)/warmup_steps)``. The sum
    of the weights and the largest rate are kept with the group, and in `state_dict`;
    `instep.functional` keeps nothing, and adds them up again in every call.

    Source: Defazio et al., *The road less scheduled*, 2024, Algorithm 1 and section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> p = np.array([1.0, -2.0])
    >>> opt = instep.AdamWScheduleFree(p, lr=0.1)
    >>> for _ in range(100):
    ...     result = opt.step(2 * p)
    >>> bool(abs(p).max() < 0.5)
    True
    """

    def __init__(
        self,
        params: Any,
        lr: LearningRate = 0.0025,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        **common: Unpack[Common],
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "maximize": maximize,
        }
        super().__init__(params, options, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        return "adamw_schedule_free"

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        betas = check_betas(options["betas"])
        if not betas[0]:
            raise ValueError("betas[0] is 0; wanted 0 < betas[0] < 1")
        eps = check_number("eps", options["eps"])
        return {**super().checked(options), "betas": betas, "eps": eps}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        beta1, beta2 = options["betas"]
        share, decay = cls._share(options, t), options["weight_decay"]
        return lr, beta1, beta2, options["eps"], beta2**t, share, decay

    @classmethod
    def _beta1(cls, options: Options) -> float:
        return float(options["betas"][0])


_SINGLE_WEIGHTS = 1_000_000
