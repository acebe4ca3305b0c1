"""Optimizer states of other libraries, from and to those of instep.

Start training with torch and continue with instep, or the other way round. The states of Adam,
AdamW, SGD, RMSprop and Adagrad are the same in torch, with other names. torch itself is not needed:
the dicts that are read and returned have NumPy arrays where torch has tensors.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instep import codecs
from instep.checks import check_integer, check_keys, check_like, check_number, kind_of
from instep.optimizer import Optimizer
from instep.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
)
from instep.rule import check_rate, compiled
from instep.storage import BESIDE, as_bits

__all__ = ["from_torch_state_dict", "to_torch_state_dict"]


class _Layout(NamedTuple):
    """How torch keeps the state of a rule."""

    arrays: dict[str, str]
    """What torch calls the states."""
    modes: dict[str, tuple[str, ...]]
    """The options that torch does not have, for it has one mode only, and what they may be."""
    extras: dict[str, Any]
    """Options that only torch has, with their defaults."""
    counts: bool = True
    """Whether it counts steps."""


TORCH_NAMES: dict[type[Optimizer], dict[str, str]] = {
    Adam: {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    AdamW: {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    SGD: {"m": "momentum_buffer"},
    RMSprop: {"v": "square_avg", "g_mean": "grad_avg", "m": "momentum_buffer"},
    NAdam: {"m": "exp_avg", "v": "exp_avg_sq"},
    RAdam: {"m": "exp_avg", "v": "exp_avg_sq"},
    Adamax: {"m": "exp_avg", "u": "exp_inf"},
    Adagrad: {"v": "sum"},
    Adadelta: {"v": "square_avg", "u": "acc_delta"},
    Lion: {"m": "exp_avg"},
}
"""What torch calls the states of each rule; of Lion, which torch does not have, Lion's authors."""

_SPEED = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}

_LAYOUTS: dict[type[Optimizer], _Layout] = {
    Adam: _Layout(
        TORCH_NAMES[Adam],
        {"eps_mode": ("scaled", "outside")},
        {**_SPEED, "decoupled_weight_decay": False},
    ),
    AdamW: _Layout(
        TORCH_NAMES[AdamW],
        {"eps_mode": ("scaled", "outside")},
        {**_SPEED, "decoupled_weight_decay": True},
    ),
    SGD: _Layout(
        TORCH_NAMES[SGD],
        {"momentum_mode": ("heavy_ball",)},
        {"foreach": None, "differentiable": False, "fused": None},
        counts=False,
    ),
    RMSprop: _Layout(
        TORCH_NAMES[RMSprop],
        {"eps_mode": ("outside",), "momentum_mode": ("heavy_ball",)},
        {"foreach": None, "capturable": False, "differentiable": False},
    ),
    Adagrad: _Layout(
        TORCH_NAMES[Adagrad],
        {"eps_mode": ("outside",)},
        {"foreach": None, "differentiable": False, "fused": None},
    ),
}


def from_torch_state_dict(
    optimizer: Optimizer, torch_state_dict: Mapping[str, Any], *, t: int | None = None
) -> None:
    """Continue from where an optimizer of torch was.

    The state arrays of `optimizer` **are written in place**; its options and ``t`` are set.
    Everything is checked first: a call that raises an error has changed nothing.

    Parameters
    ----------
    optimizer : Adam, AdamW, SGD, RMSprop or Adagrad
        It has as many groups and parameters as torch's optimizer, **in the same order**, with the
        same shapes and dtypes. Groups by pattern are in the order of the patterns; the last group
        has all other names.
    torch_state_dict : dict
        What ``state_dict()`` of torch's optimizer of that name returned, with NumPy arrays for
        tensors, see Notes. Only read.
    t : int, optional
        The number of steps that were done. torch's SGD does not count them, so there the default is
        1 if there is any momentum, and 0 otherwise. That matters only for a callable ``lr``, with
        which you must give `t`. Other optimizers of torch count; if you give `t`, it must agree.

    Raises
    ------
    TypeError
        An optimizer that is none of these five; a state that is not a plain ndarray of its
        parameter's dtype; anything else of another type than in torch.
    ValueError
        Another number of groups or parameters; an array of another shape; states or options that
        are missing, or do not fit the optimizer's; an ``eps_mode``, ``momentum_mode`` or
        ``amsgrad`` that is not torch's; a ``weight_decay_mask``, where there is a weight decay;
        parameters with different numbers of steps.

    Notes
    -----
    ====================== ============================== ======================================
    rule                   state here                     state in torch
    ====================== ============================== ======================================
    Adam, AdamW            ``m``, ``v``, ``v_max``        ``exp_avg``, ``exp_avg_sq``,
                                                          ``max_exp_avg_sq``
    SGD                    ``m``                          ``momentum_buffer``
    RMSprop                ``v``, ``g_mean``, ``m``       ``square_avg``, ``grad_avg``,
                                                          ``momentum_buffer``
    Adagrad                ``v``                          ``sum``
    ====================== ============================== ======================================

    torch counts the steps of each parameter, and instep those of all together, so torch's counts
    must be equal. A parameter without any state has done no step. A callable ``lr`` stays, and so
    do moving averages of parameters, which torch keeps elsewhere. Options that only torch has are
    ignored: they say how torch computes, not what. States in bfloat16 may be arrays of that dtype,
    or of uint16 with the same bits, ``v.view(torch.uint16).numpy()``. They also load into states of
    float32. States in float32 load into states of bfloat16 if no bit is lost. To convert tensors to
    arrays:

    .. code-block:: python

        saved = torch_optimizer.state_dict()
        saved["state"] = {
            i: {k: v.numpy(force=True) if torch.is_tensor(v) else v for k, v in state.items()}
            for i, state in saved["state"].items()
        }

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> state = {"step": 7.0, "exp_avg": np.full(2, 0.5), "exp_avg_sq": np.full(2, 0.25)}
    >>> group = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}
    >>> group |= {"amsgrad": False, "maximize": False, "params": [0]}
    >>> opt = instep.Adam({"W": np.ones(2)})
    >>> instep.interop.from_torch_state_dict(
    ...     opt, {"state": {0: state}, "param_groups": [group]}
    ... )
    >>> opt.t, opt.param_groups[0]["lr"], opt.state["W"]["m"]
    (7, 0.1, array([0.5, 0.5]))
    """
    layout = _layout(optimizer)
    state, groups = _parts(torch_state_dict)
    loaded = optimizer.state_dict()
    if len(groups) != len(loaded["groups"]):
        raise ValueError(f"param_groups has length {len(groups)}; wanted {len(loaded['groups'])}")
    indices = [index for i, group in enumerate(groups) for index in _indices(i, group)]
    check_keys("state", dict.fromkeys(indices, 0) | dict(state), indices)
    counts: dict[str, int] = {}
    for i, (group, torch_group) in enumerate(zip(loaded["groups"], groups, strict=True)):
        options = _options(f"param_groups[{i}]", layout, group["options"], torch_group)
        group["options"], group["recipe"] = options, type(optimizer).recipe(options, 1)
        if len(torch_group["params"]) != len(group["names"]):
            has, wanted = len(torch_group["params"]), len(group["names"])
            raise ValueError(f"param_groups[{i}]['params'] has length {has}; wanted {wanted}")
        states = compiled(group["recipe"]).states
        for name, index in zip(group["names"], torch_group["params"], strict=True):
            own = {of: array for of, array in loaded["state"][name].items() if of not in BESIDE}
            if set(own) != set(states):
                raise ValueError(
                    f"param_groups[{i}] has the options of {group['recipe']}, which keeps "
                    f"{states}; the optimizer keeps {tuple(own)}: make it with the same options"
                )
            fresh = {of: type(optimizer).initial(of, options) for of in states}
            counts[name] = _take(f"state[{index}]", layout, own, state.get(index), fresh)
            # What is kept in addition to a parameter of 16 bits stays.
            loaded["state"][name].update(own)
    _check_mask(optimizer, loaded["groups"])
    loaded["t"] = _steps(optimizer, loaded["groups"], counts, t)
    optimizer.load_state_dict(loaded)


def to_torch_state_dict(optimizer: Optimizer) -> dict[str, Any]:
    """Return the state in the form of torch's optimizer of the same name.

    Parameters
    ----------
    optimizer : Adam, AdamW, SGD, RMSprop or Adagrad
        Only read.

    Returns
    -------
    dict
        What ``state_dict()`` of torch's optimizer returns, with new NumPy arrays for tensors:
        ``{"state": {0: {"step": ..., "exp_avg": ..., ...}, ...}, "param_groups": [...]}``, the
        parameters numbered group after group, in each in the order of `Optimizer.state`.

    Raises
    ------
    TypeError
        An optimizer that is none of these five.
    ValueError
        An ``eps_mode``, ``momentum_mode`` or ``amsgrad`` that torch does not have; a
        ``weight_decay_mask``, where there is a weight decay; more steps than torch counts.

    Notes
    -----
    States of bfloat16 are returned as float32; torch converts them to the dtype of its own. What is
    kept in addition to parameters of 16 bits is left out: `Optimizer.decoded` has their numbers.

    The names are those of `from_torch_state_dict`. For torch, a callable ``lr`` becomes the rate of
    the next step. Options that only torch has get its defaults. torch's SGD does not count steps,
    and moving averages of parameters are left out: keep `averages` yourself. From arrays to
    tensors:

    .. code-block:: python

        saved = instep.interop.to_torch_state_dict(opt)
        saved["state"] = {
            i: {k: torch.from_numpy(v) for k, v in state.items()}
            for i, state in saved["state"].items()
        }
        torch_optimizer.load_state_dict(saved)

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> opt = instep.Adam({"W": np.ones(2)}, lr=0.1)
    >>> result = opt.step({"W": np.ones(2)})
    >>> saved = instep.interop.to_torch_state_dict(opt)
    >>> saved["state"][0]["exp_avg"].round(3), saved["param_groups"][0]["lr"]
    (array([0.1, 0.1]), 0.1)
    """
    layout = _layout(optimizer)
    saved = optimizer.state_dict()
    _check_mask(optimizer, saved["groups"])
    t = saved["t"]
    if int(np.float32(t)) != t:
        raise ValueError(f"t is {t}; torch counts steps in float32, so not every one above 2**24")
    state: dict[int, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    first = 0
    for group, live in zip(saved["groups"], optimizer.param_groups, strict=True):
        options = group["options"]
        _check_modes(layout, options)
        options = {option: own for option, own in options.items() if option not in layout.modes}
        if options["lr"] is None:
            options["lr"] = check_rate(live["lr"], t + 1)
        if "betas" in options:
            options["betas"] = tuple(options["betas"])
        params = list(range(first, first + len(group["names"])))
        groups.append({**options, **layout.extras, "params": params})
        first += len(params)
        for index, name in zip(params, group["names"], strict=True):
            own = {of: array for of, array in saved["state"][name].items() if of not in BESIDE}
            arrays = {layout.arrays[of]: _numbers(array) for of, array in own.items()}
            if layout.counts:
                arrays["step"] = np.array(t, np.float32)
            # torch makes the state of a parameter at its first step, but that of Adagrad at once.
            if arrays and (t > 0 or isinstance(optimizer, Adagrad)):
                state[index] = arrays
    return {"state": state, "param_groups": groups}


def _layout(optimizer: Optimizer) -> _Layout:
    if type(optimizer) not in _LAYOUTS:
        known = ", ".join(rule.__name__ for rule in _LAYOUTS)
        raise TypeError(f"optimizer is {kind_of(optimizer)}; wanted one of {known}")
    if optimizer._storage.state_dtype == "8bit":
        raise TypeError(
            "optimizer has states in 8 bits, which torch does not; wanted one with "
            "state_dtype='float32' or 'bfloat16'"
        )
    return _LAYOUTS[type(optimizer)]


def _parts(torch_state_dict: Any) -> tuple[Mapping[int, Any], list[dict[str, Any]]]:
    """Return the two parts of a state dict of torch, their types checked."""
    if not isinstance(torch_state_dict, Mapping):
        raise TypeError(f"torch_state_dict is {kind_of(torch_state_dict)}; wanted a dict")
    parts = ("state", "param_groups")
    check_keys("torch_state_dict", {k: 0 for k in torch_state_dict if k in parts}, parts)
    state, groups = (torch_state_dict[part] for part in parts)
    if not isinstance(state, Mapping):
        raise TypeError(f"state is {kind_of(state)}; wanted a dict")
    if not isinstance(groups, (list, tuple)) or not all(isinstance(g, dict) for g in groups):
        raise TypeError(f"param_groups is {groups!r}; wanted a list of dicts")
    return state, list(groups)


def _check_mask(optimizer: Optimizer, groups: list[dict[str, Any]]) -> None:
    """Check that the weight decay of each group reaches all of its parameters, as in torch."""
    for parameter in optimizer._parameters:
        if parameter.decays:
            continue
        if check_number("weight_decay", groups[parameter.group]["options"]["weight_decay"]) > 0.0:
            raise ValueError(
                f"weight_decay_mask leaves out {parameter.name!r}; torch has no such mask: make "
                "the optimizer with a group for it, as in groups={...}, and weight_decay=0.0 there"
            )


def _indices(i: int, group: dict[str, Any]) -> list[int]:
    indices = group.get("params")
    if not isinstance(indices, (list, tuple)) or any(type(index) is not int for index in indices):
        raise TypeError(f"param_groups[{i}]['params'] is {indices!r}; wanted a list of int")
    return list(indices)


def _check_modes(layout: _Layout, options: Mapping[str, Any]) -> None:
    for name, modes in layout.modes.items():
        if options[name] not in modes:
            wanted = " or ".join(map(repr, modes))
            raise ValueError(f"{name} is {options[name]!r}; torch only has {wanted}")
    if options.get("amsgrad") == "corrected":
        raise ValueError("amsgrad is 'corrected'; torch only has False or True")


def _options(
    name: str, layout: _Layout, own: dict[str, Any], torch_group: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of a group of torch, and the modes for which torch has no option."""
    _check_modes(layout, own)
    wanted = [option for option in own if option not in layout.modes]
    # Older versions of torch do not have the option.
    torch_group = {"maximize": False, **torch_group}
    options = {option: _number(torch_group[option]) for option in wanted if option in torch_group}
    check_keys(name, options, wanted)
    key = "decoupled_weight_decay"
    if torch_group.get(key, layout.extras.get(key)) != layout.extras.get(key):
        raise ValueError(f"{name}[{key!r}] is {torch_group[key]!r}: that is AdamW, and not Adam")
    return {**options, **{mode: own[mode] for mode in layout.modes}}


def _number(option: Any) -> Any:
    """Return a number; torch also takes a tensor or an array of one."""
    return option.item() if hasattr(option, "item") and np.ndim(option) == 0 else option


def _take(
    name: str,
    layout: _Layout,
    own: dict[str, Any],
    torch_state: Any,
    fresh: dict[str, float | None],
) -> int:
    """Put the state of one parameter of torch in the place of `own`; return how many steps made it.

    If torch does not count them, that is 1 for any number except 0.
    """
    if torch_state is not None and not isinstance(torch_state, Mapping):
        raise TypeError(f"{name} is {kind_of(torch_state)}; wanted a dict")
    given = {key: value for key, value in (torch_state or {}).items() if value is not None}
    if not given:
        for of, number in fresh.items():
            given_one = _like(np.full(own[of].shape, number, _numbers(own[of]).dtype), own[of])
            check_like(f"{name} without a step, for {of},", given_one, own[of])
            own[of] = given_one
        return 0
    keys = {layout.arrays[of]: of for of in own}
    check_keys(name, given, [*keys, "step"] if layout.counts else keys)
    for key, of in keys.items():
        array = _like(given[key], own[of])
        check_like(f'{name}["{key}"]', array, own[of])
        own[of] = array
    return _count(f'{name}["step"]', given["step"]) if layout.counts else 1


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return a state as torch has it: bfloat16 becomes float32."""
    return codecs.from_bfloat16(array) if array.dtype.itemsize == 2 else array


def _like(given: Any, own: NDArray[Any]) -> Any:
    """Return an array in the dtype of a state, if one of both is bfloat16 and no bit is lost."""
    if not isinstance(given, np.ndarray) or given.dtype == own.dtype:
        return given
    if as_bits(given).dtype == np.uint16:
        return codecs.from_bfloat16(given) if own.dtype == np.float32 else given.view(own.dtype)
    if as_bits(own).dtype == np.uint16 and given.dtype == np.float32:
        exact = codecs.to_bfloat16(given, np.zeros(given.shape, np.uint32))
        if np.array_equal(codecs.from_bfloat16(exact), given, equal_nan=True):
            return exact.view(own.dtype)
    return given


def _count(name: str, step: Any) -> int:
    try:
        count = float(step.item() if hasattr(step, "item") else step)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {step!r}; wanted a number") from None
    if not count.is_integer() or count < 0:
        raise ValueError(f"{name} is {step!r}; wanted a number of steps")
    return int(count)


def _steps(
    optimizer: Optimizer, groups: list[dict[str, Any]], counts: dict[str, int], t: int | None
) -> int:
    """Return how many steps were done, from the counts of the parameters."""
    if t is not None:
        check_integer("t", t, least=0)
    done = sorted(set(counts.values())) or [0]
    if _layout(optimizer).counts:
        if len(done) > 1:
            numbers = ", ".join(map(str, done))
            raise ValueError(
                f"the parameters of torch_state_dict have done {numbers} steps; instep counts "
                "those of all parameters together"
            )
        if t not in (None, done[0]):
            raise ValueError(f"t is {t}; torch_state_dict has counted {done[0]}")
        return done[0]
    if t is None:
        t = done[-1]
        if any(callable(group["lr"]) for group in optimizer.param_groups):
            raise ValueError("t is needed: lr is a callable, and torch's SGD does not count steps")
    if t < done[-1]:
        raise ValueError("t is 0; torch_state_dict has momentum, so there was a step")
    for group in groups:
        options = group["options"]
        begun = all(counts[name] for name in group["names"])
        if t > 0 and not begun and options["momentum"] and options["dampening"]:
            raise ValueError(
                "torch_state_dict has parameters without a step, whose first one is without "
                "dampening; instep counts the steps of all parameters together"
            )
    return t
