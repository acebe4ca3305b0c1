# Made by tests/functional_stub.py, from the classes of instep.optimizers.

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

from numpy.typing import NDArray

from instep.rows import Rows
from instep.rule import LearningRate

__all__ = ["states"]

_Arrays: TypeAlias = NDArray[Any] | Sequence[NDArray[Any]]
_Gradients: TypeAlias = NDArray[Any] | Rows | Sequence[NDArray[Any] | Rows | None]

def states(rule: str, **options: Any) -> tuple[str, ...]: ...
def asgd(
    p: _Arrays,
    g: _Gradients,
    ax: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    lambd: float = 0.0001,
    alpha: float = 0.75,
    t0: float = 1000000.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None: ...
@overload
def sgd(
    p: _Arrays,
    g: _Gradients,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    momentum_mode: Literal["heavy_ball", "ema", "lr_inside", "dlfs", "dlfs2"] = "heavy_ball",
    maximize: bool = False,
) -> None: ...
@overload
def sgd(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    momentum_mode: Literal["heavy_ball", "ema", "lr_inside", "dlfs", "dlfs2"] = "heavy_ball",
    maximize: bool = False,
) -> None: ...
def ademamix(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    m_slow: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999, 0.9999),
    alpha: float = 2.0,
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    alpha_warmup: float = 0,
    beta3_warmup: float = 0,
    maximize: bool = False,
) -> None: ...
def adabelief(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    s: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = True,
    maximize: bool = False,
) -> None: ...
def adadelta(
    p: _Arrays,
    g: _Gradients,
    v: _Arrays,
    u: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 1.0,
    rho: float = 0.9,
    eps: float = 1e-06,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None: ...
def adagrad(
    p: _Arrays,
    g: _Gradients,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    eps_mode: Literal[
        "inside", "outside", "inside_numerator_first", "outside_numerator_first"
    ] = "outside",
    maximize: bool = False,
) -> None: ...
@overload
def adam(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    amsgrad: bool | Literal["corrected"] = False,
    eps_mode: Literal["scaled", "outside", "hat", "inside", "hat_wide", "dlfs"] = "scaled",
    maximize: bool = False,
) -> None: ...
@overload
def adam(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    v_max: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    amsgrad: bool | Literal["corrected"] = False,
    eps_mode: Literal["scaled", "outside", "hat", "inside", "hat_wide", "dlfs"] = "scaled",
    maximize: bool = False,
) -> None: ...
@overload
def adamw(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.01,
    amsgrad: bool | Literal["corrected"] = False,
    eps_mode: Literal["scaled", "outside", "hat", "inside", "hat_wide", "dlfs"] = "scaled",
    maximize: bool = False,
) -> None: ...
@overload
def adamw(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    v_max: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.01,
    amsgrad: bool | Literal["corrected"] = False,
    eps_mode: Literal["scaled", "outside", "hat", "inside", "hat_wide", "dlfs"] = "scaled",
    maximize: bool = False,
) -> None: ...
def adamwschedulefree(
    p: _Arrays,
    g: _Gradients,
    z: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.0025,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> None: ...
def adamax(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    u: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.002,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    eps_mode: Literal["inside", "outside"] = "inside",
    maximize: bool = False,
) -> None: ...
def adan(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    n: _Arrays,
    g_prev: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.98, 0.92, 0.99),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    mode: Literal["authors", "optax"] = "authors",
    decay_mode: Literal["proximal", "decoupled"] = "proximal",
    maximize: bool = False,
) -> None: ...
def lion(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.0001,
    betas: Sequence[float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None: ...
def nadam(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.002,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    momentum_decay: float = 0.004,
    decoupled_weight_decay: bool = False,
    mode: Literal["torch", "keras", "optax"] = "torch",
    maximize: bool = False,
) -> None: ...
def radam(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.001,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None: ...
@overload
def rmsprop(
    p: _Arrays,
    g: _Gradients,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    eps_mode: Literal[
        "inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"
    ] = "outside",
    momentum_mode: Literal["heavy_ball", "lr_inside"] = "heavy_ball",
    maximize: bool = False,
) -> None: ...
@overload
def rmsprop(
    p: _Arrays,
    g: _Gradients,
    v: _Arrays,
    g_mean_or_m: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    eps_mode: Literal[
        "inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"
    ] = "outside",
    momentum_mode: Literal["heavy_ball", "lr_inside"] = "heavy_ball",
    maximize: bool = False,
) -> None: ...
@overload
def rmsprop(
    p: _Arrays,
    g: _Gradients,
    v: _Arrays,
    g_mean: _Arrays,
    m: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-08,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    eps_mode: Literal[
        "inside", "outside", "inside_numerator_first", "outside_numerator_first", "dlfs"
    ] = "outside",
    momentum_mode: Literal["heavy_ball", "lr_inside"] = "heavy_ball",
    maximize: bool = False,
) -> None: ...
def rprop(
    p: _Arrays,
    g: _Gradients,
    prev: _Arrays,
    step: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    etas: Sequence[float] = (0.5, 1.2),
    step_sizes: Sequence[float] = (1e-06, 50.0),
    weight_decay: float = 0.0,
    mode: Literal["irprop-", "rprop-"] = "irprop-",
    maximize: bool = False,
) -> None: ...
def sgdschedulefree(
    p: _Arrays,
    g: _Gradients,
    z: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> None: ...
def signum(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.0001,
    beta: float = 0.9,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None: ...
def yogi(
    p: _Arrays,
    g: _Gradients,
    m: _Arrays,
    v: _Arrays,
    /,
    *,
    t: int,
    lr: LearningRate = 0.01,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 0.001,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 1e-06,
    maximize: bool = False,
) -> None: ...
