"""torch's optimizers, with their steps done by instep.

.. code-block:: python

   from instep.torch import AdamW  # before: from torch.optim import AdamW

Each class is torch's own but for ``step``: the same arguments, errors, groups, hooks, closures,
learning-rate schedulers, ``state_dict`` and checkpoints, in either direction. `Lion`, which torch
does not have, is written on torch's base in the same way.

For code that one does not own, `patch` does the same to torch's own classes, `unpatch` takes it
back, and ``with patched():`` is for a part of a program. `step_counts` says how many steps went
which way.

instep steps dense tensors of float32 and float64 in this machine's memory, of any strides, all of
an optimizer in one call. What it does not take is done by torch's code, in the same step: complex
and 16-bit tensors, other devices, subclasses of tensors, sparse gradients (but for `SparseAdam`),
groups that are ``differentiable`` or ``capturable``, and all of a step that is compiled. ``foreach``
and ``fused`` say how torch computes, and change nothing where instep does. The formulas are torch's,
and the numbers come out close to torch's but not the same: see the documentation's page on torch.

It needs the extra: ``pip install 'instep[torch]'``.
"""

import functools
import inspect
import math
import operator
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.optim import optimizer as torch_optimizer

from instep import optimizers
from instep._instep import TensorStepper
from instep.interop import TORCH_NAMES
from instep.optimizer import Optimizer
from instep.rows import Rows
from instep.rule import compiled

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "SparseAdam",
    "StepCounts",
    "patch",
    "patched",
    "step_counts",
    "unpatch",
]


class StepCounts(NamedTuple):
    """How many steps of optimizers were done in this process, and by whom.

    Parameters
    ----------
    native : int
        Steps by instep alone.
    host : int
        Steps of which torch's code did a part or all, of optimizers that instep was to step.
    """

    native: int
    host: int


def step_counts() -> StepCounts:
    """Say how many steps were done so far in this process, by instep and by torch's code.

    Returns
    -------
    counts : StepCounts
        ``native`` and ``host``. Optimizers that are neither patched nor of the classes here do not
        count, nor do steps in which no tensor has a gradient.

    Examples
    --------
    >>> import torch
    >>> from instep.torch import SGD, step_counts
    >>> before = step_counts()
    >>> p = torch.ones(3, requires_grad=True)
    >>> p.sum().backward()
    >>> SGD([p], lr=0.1).step()
    >>> step_counts().native - before.native, step_counts().host - before.host
    (1, 0)
    """
    return StepCounts(_NATIVE.so_far(), _HOST.so_far())


class _Count:
    """A count that threads and forked processes need no lock for: `next` can't be interrupted."""

    def __init__(self) -> None:
        self._left = iter(range(sys.maxsize))

    def add(self) -> None:
        next(self._left)

    def so_far(self) -> int:
        return sys.maxsize - operator.length_hint(self._left)


_NATIVE, _HOST = _Count(), _Count()


def _unhooked(step: Any) -> Callable[[Any], Any]:
    """Return the step of a class without the hooks that torch puts around it."""
    return step.__wrapped__ if getattr(step, "hooked", False) else step  # type: ignore[no-any-return]


class _Host:
    """How an optimizer of torch keeps what a rule needs.

    Parameters
    ----------
    kind : type
        The optimizer.
    rule : type
        The rule.
    numbers : tuple of str
        The numbers in the state of a parameter: the count of steps first.
    modes : dict
        The options of the rule that torch does not have.
    """

    def __init__(
        self,
        kind: Any,
        rule: type[Optimizer],
        numbers: tuple[str, ...] = ("step",),
        modes: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.code = _unhooked(kind.step)
        self.init_group = kind._init_group
        self.rule = rule
        self.numbers = numbers
        self.modes = {} if modes is None else dict(modes)

    def options(self, group: dict[str, Any]) -> dict[str, Any] | None:
        """Return the options of the rule; None for a group that is for torch's code."""
        if group.get("differentiable") or group.get("capturable"):
            return None
        lr = group["lr"]
        options = {**group, "lr": lr.item() if isinstance(lr, torch.Tensor) else lr, **self.modes}
        del options["params"]
        for option in options.values():
            if isinstance(option, torch.Tensor):
                return None
        return options

    def keys(self, options: dict[str, Any]) -> tuple[str, ...]:
        """Return the keys of the arrays in the state of a parameter."""
        names = TORCH_NAMES[self.rule]
        return tuple(names[state] for state in compiled(self.rule.recipe(options, 1)).states)

    def prepare(self, options: list[dict[str, Any]], place: int, numbers: tuple[float, ...]) -> Any:
        """Return what the next step of some parameters of a group does, and their numbers then."""
        return self.work(options[place], numbers)

    def work(self, options: dict[str, Any], numbers: tuple[float, ...]) -> Any:
        t = int(numbers[0]) + 1 if numbers else 2
        rate = float(options["lr"])
        if len(numbers) > 1:
            # Rounded as torch's tensor rounds it.
            kind = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
            product = float(kind(numbers[1]) * kind(self.rule._mu(options, t)))  # type: ignore[attr-defined]
            options = {**options, "mu_product": product}
            numbers = float(t), product
        else:
            numbers = (float(t),) * len(numbers)
        recipe = compiled(self.rule.recipe(options, t))
        decoupled = options.get("decoupled_weight_decay", self.rule.decouples(options))
        around = -1.0 if options["maximize"] else 1.0, float(options["weight_decay"]), decoupled
        hypers = self.rule.hypers(options, rate, t)
        return (recipe, hypers, (*around, None)), rate, numbers

    def start(self, optimizer: Any, group: dict[str, Any], parameters: list[Any]) -> None:
        """Make the states of parameters as torch does, where it makes them before the step."""
        lists = len(inspect.signature(self.init_group).parameters) - 2
        with torch.no_grad():
            optimizer._init_group({**group, "params": parameters}, *([] for _ in range(lists)))
            if self.rule is optimizers.SGD and not group["dampening"]:
                for parameter in parameters:
                    state = optimizer.state[parameter]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(parameter)


def _step(self: Any, closure: Any = None) -> Any:
    """Do one step.

    Parameters
    ----------
    closure : callable, optional
        Called first, with gradients enabled: it computes the loss and the gradients.

    Returns
    -------
    object
        What the closure returned.
    """
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    host = _host(self)
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or not isinstance(self.state, dict)
    ):
        host.code(self)
        return loss
    found_inf = getattr(self, "found_inf", None)
    grad_scale = getattr(self, "grad_scale", None)
    if found_inf is None and grad_scale is None:
        _step_parts(self, host)
    elif found_inf is None or not found_inf.item():
        # What `GradScaler` leaves to optimizers with fused=True.
        if grad_scale is not None:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter.grad.div_(grad_scale.to(parameter.grad.device))
        self.found_inf = self.grad_scale = None
        try:
            _step_parts(self, host)
        finally:
            self.found_inf, self.grad_scale = found_inf, grad_scale
    return loss


_hooked_step = torch.optim.Optimizer.profile_hook_step(_step)


@functools.wraps(_step)
def _quick_step(self: Any, *args: Any, **kwargs: Any) -> Any:
    hooks = (
        self._optimizer_step_pre_hooks
        or self._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
    )
    if hooks or torch.autograd._profiler_enabled():
        return _hooked_step(self, *args, **kwargs)
    result = _step(self, *args, **kwargs)
    self._optimizer_step_code()
    return result


# So that torch puts nothing around it: without hooks and profiler that takes longer than the rest of
# a small step.
_quick_step.hooked = True  # type: ignore[attr-defined]


def _host(optimizer: Any) -> _Host:
    return next(_HOSTS[kind] for kind in type(optimizer).__mro__ if kind in _HOSTS)


def _step_parts(optimizer: Any, host: _Host) -> None:
    """Have torch's code step what is for it, and instep the rest."""
    groups = optimizer.param_groups
    options = [host.options(group) for group in groups]
    if type(optimizer)._init_group is not host.init_group:
        options = [None] * len(groups)
    foreign = {
        id(parameter)
        for group, own in zip(groups, options, strict=True)
        if own is None
        for parameter in group["params"]
        if parameter.grad is not None
    }
    by_torch = bool(foreign)
    if foreign:
        _step_by_torch(optimizer, host, foreign)
    stepper = _stepper(optimizer)
    given = [
        (group["params"], host.numbers, host.keys(own))
        for group, own in zip(groups, options, strict=True)
        if own is not None
    ]
    own = [each for each in options if each is not None]
    prepare = functools.partial(host.prepare, own)
    fresh, others, count = stepper.step(given, optimizer.state, prepare)
    while fresh or others:
        found = {id(parameter) for parameter in others}
        found |= _start(optimizer, host, groups, fresh)
        if found:
            by_torch = True
            _step_by_torch(optimizer, host, found)
            foreign |= found
            given = [
                ([p for p in parameters if id(p) not in foreign], *keys)
                for parameters, *keys in given
            ]
        fresh, others, count = stepper.step(given, optimizer.state, prepare)
    if by_torch:
        _HOST.add()
    elif count:
        _NATIVE.add()


def _start(optimizer: Any, host: _Host, groups: list[dict[str, Any]], fresh: list[Any]) -> set[int]:
    """Make the states of parameters that have none; return those for which torch's code has to."""
    wanted = {id(parameter) for parameter in fresh}
    left = set()
    for group in groups:
        parameters = [p for p in group["params"] if id(p) in wanted]
        if host.rule is not optimizers.SGD:
            left |= {id(p) for p in parameters if optimizer.state.get(p)}
        elif group["dampening"]:
            left |= {id(p) for p in parameters}
        if new := [p for p in parameters if id(p) not in left]:
            host.start(optimizer, group, new)
            left |= {id(p) for p in new if not optimizer.state.get(p)}
    return left


def _step_by_torch(optimizer: Any, host: _Host, parameters: set[int]) -> None:
    """Have torch's own code step some parameters."""
    groups = optimizer.param_groups
    chosen = [
        {**group, "params": [p for p in group["params"] if id(p) in parameters]} for group in groups
    ]
    optimizer.param_groups = [group for group in chosen if group["params"]]
    try:
        host.code(optimizer)
    finally:
        optimizer.param_groups = groups


def _stepper(optimizer: Any) -> TensorStepper:
    """Return what keeps from one step to the next where the tensors were."""
    stepper: TensorStepper | None = optimizer.__dict__.get("_instep_stepper")
    if stepper is None:
        increment = torch.autograd.graph.increment_version
        stepper = TensorStepper(torch.Tensor, torch.nn.Parameter, increment)
        optimizer._instep_stepper = stepper
    return stepper


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class RMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class NAdam(torch.optim.NAdam):
    """`torch.optim.NAdam`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class RAdam(torch.optim.RAdam):
    """`torch.optim.RAdam`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class Adamax(torch.optim.Adamax):
    """`torch.optim.Adamax`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class Adagrad(torch.optim.Adagrad):
    """`torch.optim.Adagrad`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


class Adadelta(torch.optim.Adadelta):
    """`torch.optim.Adadelta`, stepped by instep: see there for arguments and errors."""

    step = _quick_step


_HOSTS: dict[Any, _Host] = {
    kind: _Host(kind, rule, numbers, modes)
    for kind, rule, numbers, modes in (
        (torch.optim.Adam, optimizers.Adam, ("step",), {"eps_mode": "scaled"}),
        (torch.optim.AdamW, optimizers.AdamW, ("step",), {"eps_mode": "scaled"}),
        (torch.optim.SGD, optimizers.SGD, (), {"momentum_mode": "heavy_ball"}),
        (
            torch.optim.RMSprop,
            optimizers.RMSprop,
            ("step",),
            {"eps_mode": "outside", "momentum_mode": "heavy_ball"},
        ),
        (torch.optim.NAdam, optimizers.NAdam, ("step", "mu_product"), {"mode": "torch"}),
        (torch.optim.RAdam, optimizers.RAdam, ("step",), {}),
        (torch.optim.Adamax, optimizers.Adamax, ("step",), {"eps_mode": "inside"}),
        (torch.optim.Adagrad, optimizers.Adagrad, ("step",), {"eps_mode": "outside"}),
        (torch.optim.Adadelta, optimizers.Adadelta, ("step",), {}),
    )
}
