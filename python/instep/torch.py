"""torch's optimizers, with their steps done by instep.

.. code-block:: python

   from instep.torch import AdamW  # before: from torch.optim import AdamW

Each class is torch's own with another ``step``: the same arguments, errors, groups, hooks,
closures, learning-rate schedulers, ``state_dict`` and checkpoints, in either direction. `Lion`,
which torch does not have, has the same base class.

For code that you can't change, `patch` does the same to torch's own classes, `unpatch` takes it
back, and ``with patched():`` does it for a part of a program. `step_counts` says how many steps
went each way.

instep steps dense tensors of float32 and float64 in this machine's memory, with any strides, all of
an optimizer in one call. torch's code does the rest, in the same step: complex and 16-bit tensors,
other devices, subclasses of tensors, sparse gradients (except with `SparseAdam`), groups that are
``differentiable`` or ``capturable``, and all of a step that is compiled. ``foreach`` and ``fused``
say how torch computes; they change nothing where instep does the step. The formulas are torch's.
The numbers are close to torch's, but not the same: see the documentation's page on torch.

It needs the extra: ``pip install 'instep[torch]'``.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.optim import optimizer as torch_optimizer

from instep import optimizers
from instep._instep import TensorStepper
from instep.counts import Count, StepCounts
from instep.interop import TORCH_NAMES
from instep.optimizer import Optimizer
from instep.patching import Patch
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


def step_counts() -> StepCounts:
    """Say how many steps were done so far in this process, by instep and by torch's code.

    Returns
    -------
    counts : StepCounts
        ``native`` and ``host``. Optimizers that are neither patched nor of the classes here are not
        counted, and neither are steps in which no tensor has a gradient.

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


_NATIVE, _HOST = Count(), Count()


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
        return None if any(isinstance(own, torch.Tensor) for own in options.values()) else options

    def keys(self, options: dict[str, Any]) -> tuple[str, ...]:
        """Return the keys of the arrays in the state of a parameter."""
        names = TORCH_NAMES[self.rule]
        return tuple(names[state] for state in compiled(self.rule.recipe(options, 1)).states)

    def step(self, optimizer: Any) -> None:
        """Have torch's code step what is for it, and instep the rest."""
        groups = optimizer.param_groups
        options = [self.options(group) for group in groups]
        if type(optimizer)._init_group is not self.kind._init_group:
            # A class that keeps other states.
            options = [None for _ in groups]
        foreign = {
            id(parameter)
            for group, own in zip(groups, options, strict=True)
            if own is None
            for parameter in group["params"]
            if parameter.grad is not None
        }
        by_torch = bool(foreign)
        if foreign:
            _step_by_torch(optimizer, self.code, foreign)
        stepper = _stepper(optimizer)
        given = [
            (group["params"], self.numbers, self.keys(own))
            for group, own in zip(groups, options, strict=True)
            if own is not None
        ]
        own = [each for each in options if each is not None]
        prepare = functools.partial(self.prepare, own)
        fresh, others, count = stepper.step(given, optimizer.state, prepare)
        while fresh or others:
            found = {id(parameter) for parameter in others}
            found |= self._start_all(optimizer, groups, fresh)
            if found:
                by_torch = True
                _step_by_torch(optimizer, self.code, found)
                foreign |= found
                given = [
                    ([p for p in parameters if id(p) not in foreign], numbers, arrays)
                    for parameters, numbers, arrays in given
                ]
            fresh, others, count = stepper.step(given, optimizer.state, prepare)
        if by_torch:
            _HOST.add()
        elif count:
            _NATIVE.add()

    def _start_all(
        self, optimizer: Any, groups: list[dict[str, Any]], fresh: list[Any]
    ) -> set[int]:
        """Make the states of parameters that have none; return those for torch's code."""
        wanted = {id(parameter) for parameter in fresh}
        left = set()
        for group in groups:
            parameters = [p for p in group["params"] if id(p) in wanted]
            if self.rule is not optimizers.SGD:
                left |= {id(p) for p in parameters if optimizer.state.get(p)}
            elif group["dampening"]:
                left |= {id(p) for p in parameters}
            if new := [p for p in parameters if id(p) not in left]:
                self.start(optimizer, group, new)
                left |= {id(p) for p in new if not optimizer.state.get(p)}
        return left

    def prepare(
        self,
        groups: list[dict[str, Any]],
        place: int,
        numbers: tuple[float, ...],
        is_double: bool,
    ) -> Any:
        """Return what the next step of some parameters of a group does, and their numbers then."""
        options = groups[place]
        # What has no count, SGD, has had its first step, or none that is different.
        t = int(numbers[0]) + 1 if numbers else 2
        rate = float(options["lr"])
        if len(numbers) > 1:
            # Rounded as torch's tensor rounds it.
            f = np.float64 if is_double else np.float32
            product = float(f(numbers[1]) * f(optimizers.NAdam._mu(options, t)))
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
        lists = len(inspect.signature(self.kind._init_group).parameters) - 2
        with torch.no_grad():
            optimizer._init_group({**group, "params": parameters}, *([] for _ in range(lists)))
            if self.rule is optimizers.SGD:
                for parameter in parameters:
                    state = optimizer.state[parameter]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(parameter)


def _step(self: Any, closure: Any = None) -> Any:
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
        host.step(self)
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
            host.step(self)
        finally:
            self.found_inf, self.grad_scale = found_inf, grad_scale
    return loss


_hooked_step = torch.optim.Optimizer.profile_hook_step(_step)


def _quick_step(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Do one step.

    Parameters
    ----------
    closure : callable, optional
        Called first, with gradients enabled: it computes the loss and the gradients.

    Returns
    -------
    object
        What the closure returned, or None.
    """
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


# So that torch puts nothing around it, which without hooks and profiler takes longer than the rest
# of a small step.
_quick_step.hooked = True  # type: ignore[attr-defined]


def _host(optimizer: Any) -> "_Host | _SparseHost":
    return next(_HOSTS[kind] for kind in type(optimizer).__mro__ if kind in _HOSTS)


def _step_by_torch(optimizer: Any, code: Callable[[Any], Any], parameters: set[int]) -> None:
    """Have torch's own code step some parameters."""
    groups = optimizer.param_groups
    chosen = [
        {**group, "params": [p for p in group["params"] if id(p) in parameters]} for group in groups
    ]
    optimizer.param_groups = [group for group in chosen if group["params"]]
    try:
        code(optimizer)
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


class _SlowLion(torch.optim.Optimizer):
    """Lion in torch's own operations: what instep does not take."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        for place, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {place}: {beta}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _init_group(self, group: dict[str, Any], params: list[Any]) -> None:
        for p in group["params"]:
            if p.grad is not None:
                if p.grad.is_sparse:
                    raise RuntimeError("Lion does not support sparse gradients")
                if not self.state[p]:
                    memory_format = torch.preserve_format
                    self.state[p]["exp_avg"] = torch.zeros_like(p, memory_format=memory_format)
                params.append(p)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                params: list[Any] = []
                self._init_group(group, params)
                beta1, beta2 = group["betas"]
                for p in params:
                    g, m = -p.grad if group["maximize"] else p.grad, self.state[p]["exp_avg"]
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    direction = m * beta1 + g * (1 - beta1)
                    if direction.is_complex():
                        parts = torch.view_as_real(direction)
                        direction = torch.view_as_complex(parts.sign())
                    else:
                        direction = direction.sign()
                    p.sub_(group["lr"] * direction)
                    m.mul_(beta2).add_(g, alpha=1 - beta2)


class Lion(_SlowLion):
    """Lion on torch's base class, stepped by instep.

    Parameters
    ----------
    params : iterable of torch.Tensor, or of groups
        As torch's optimizers take them; **written in place**.
    lr : float, default 1e-4
        Learning rate.
    betas : (float, float), default (0.9, 0.99)
        Share of the momentum in the direction, and decay of the momentum, each in [0, 1).
    weight_decay : float, default 0.0
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
    maximize : bool, default False
        Whether to go up instead of down.

    Raises
    ------
    ValueError
        An option out of its range.

    Notes
    -----
    ``p = p - lr*sign(beta1*m + (1-beta1)*g)``, ``m = beta2*m + (1-beta2)*g``, with ``sign(0) = 0``;
    of complex numbers real and imaginary part by itself. The state is ``exp_avg``, as its authors
    have it.

    Source: Chen et al., *Symbolic discovery of optimization algorithms*, 2023, Algorithm 2.
    """

    step = _quick_step


class SparseAdam(torch.optim.SparseAdam):
    """`torch.optim.SparseAdam`, stepped by instep: see there for arguments and errors.

    Only the rows that a gradient has are read and written.
    """

    step = _quick_step


class _SparseHost:
    """`torch.optim.SparseAdam`, whose gradients are rows of tables."""

    def __init__(self) -> None:
        self.code = _unhooked(torch.optim.SparseAdam.step)

    def step(self, optimizer: Any) -> None:
        """Have torch's code step what is for it, and instep the rest."""
        groups = optimizer.param_groups
        with_grad = [[p for p in group["params"] if p.grad is not None] for group in groups]
        foreign = {id(p) for own in with_grad for p in own if not _has_rows(p)}
        if foreign:
            _step_by_torch(optimizer, self.code, foreign)
        for group, own in zip(groups, with_grad, strict=True):
            tables: dict[int, list[Any]] = {}
            for p in own:
                if id(p) not in foreign:
                    state = optimizer.state[p]
                    if not state:
                        state["step"] = 0
                        state["exp_avg"] = torch.zeros_like(p)
                        state["exp_avg_sq"] = torch.zeros_like(p)
                    tables.setdefault(state["step"] + 1, []).append(p)
            for t, params in tables.items():
                if not self._step_tables(optimizer, group, params, t):
                    refused = {id(p) for p in params}
                    foreign |= refused
                    _step_by_torch(optimizer, self.code, refused)
        if foreign:
            _HOST.add()
        elif any(with_grad):
            _NATIVE.add()

    def _step_tables(
        self, optimizer: Any, group: dict[str, Any], params: list[Any], t: int
    ) -> bool:
        """Do step `t` of some tables; return whether that could be done."""
        states = [optimizer.state[p] for p in params]
        written = [p.detach() for p in params]
        moments = [[state[key] for state in states] for key in ("exp_avg", "exp_avg_sq")]
        grads = [p.grad.coalesce() for p in params]
        rows = [Rows(g.indices()[0].numpy(), g.values().detach().numpy()) for g in grads]
        lr = group["lr"]
        rate = float(lr.item() if isinstance(lr, torch.Tensor) else lr)
        hypers = optimizers.Adam.hypers(group, rate, t)
        try:
            compiled("adam_hat").step(
                hypers,
                tuple(p.numpy() for p in written),
                tuple(rows),  # type: ignore[arg-type]
                tuple(tuple(state.numpy() for state in moment) for moment in moments),
                _describe,
                (-1.0 if group.get("maximize", False) else 1.0, 0.0, 1.0),
            )
        except (TypeError, ValueError):
            return False
        torch.autograd.graph.increment_version([*written, *moments[0], *moments[1]])
        for state in states:
            state["step"] = t
        return True


def _describe(call: int, role: int, parameter: int) -> str:
    return f"array {role} of tensor {parameter}"


def _has_rows(p: Any) -> bool:
    """Whether a tensor and its gradient are a table in this machine's memory and rows of it."""
    g = p.grad
    return (
        all(type(each) in (torch.Tensor, torch.nn.Parameter) for each in (p, g))
        and all(each.device.type == "cpu" and not each.is_inference() for each in (p, g))
        and p.layout == torch.strided
        and p.dtype in (torch.float32, torch.float64)
        and not p.is_neg()
        and g.layout == torch.sparse_coo
        and g.dtype == p.dtype
        and g.sparse_dim() == 1
    )


_HOSTS: dict[Any, _Host | _SparseHost] = {
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
_HOSTS[_SlowLion] = _Host(_SlowLion, optimizers.Lion, ())
_HOSTS[torch.optim.SparseAdam] = _SparseHost()


def patch() -> None:
    """Have instep do the steps of torch's own optimizers, and of classes derived from them.

    It holds for all that exist and all to come, until `unpatch`, in this process. A class that has
    a ``step`` of its own keeps it. To do it twice is to do it once. Checkpoints and pickles of
    torch's optimizers hold nothing of instep.

    Examples
    --------
    >>> import torch
    >>> import instep.torch
    >>> instep.torch.patch()
    >>> before = instep.torch.step_counts().native
    >>> p = torch.ones(3, requires_grad=True)
    >>> p.sum().backward()
    >>> torch.optim.Adam([p]).step()
    >>> instep.torch.step_counts().native - before
    1
    >>> instep.torch.unpatch()
    """
    _PATCH.set(for_good=True)


def unpatch() -> None:
    """Undo `patch`. Optimizers go on where they are, with torch's own steps.

    Where a ``with patched():`` is at work, it stays so until its end.
    """
    _PATCH.set(for_good=False)


def patched() -> AbstractContextManager[None]:
    """Have instep do the steps of torch's own optimizers within a ``with`` block.

    All threads see it. Blocks may be nested, and overlap in threads.

    Examples
    --------
    >>> import torch
    >>> from instep.torch import patched
    >>> p = torch.ones(3, requires_grad=True)
    >>> p.sum().backward()
    >>> with patched():
    ...     torch.optim.SGD([p], lr=0.5).step()
    >>> p
    tensor([0.5000, 0.5000, 0.5000], requires_grad=True)
    """
    return _PATCH.block()


def _put_patch(on: bool) -> None:
    for kind, host in _HOSTS.items():
        if kind is not _SlowLion:
            # With hooks around it, as torch has it after the first optimizer was made.
            hooked = torch.optim.Optimizer.profile_hook_step(host.code)
            hooked.hooked = True
            kind.step = _quick_step if on else hooked


_PATCH = Patch(_put_patch)
