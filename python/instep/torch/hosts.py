"""The ``step`` of all classes, and how each kind of optimizer is stepped."""

from typing import Any

import torch
from torch.optim import optimizer as torch_optimizer

from instep import optimizers
from instep.torch.dense import Host
from instep.torch.lion import SlowLion
from instep.torch.sparse import SparseHost


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


def quick_step(self: Any, *args: Any, **kwargs: Any) -> Any:
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
quick_step.hooked = True  # type: ignore[attr-defined]


def _host(optimizer: Any) -> Host | SparseHost:
    return next(HOSTS[kind] for kind in type(optimizer).__mro__ if kind in HOSTS)


HOSTS: dict[Any, Host | SparseHost] = {
    kind: Host(kind, rule, numbers, modes)
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
HOSTS[SlowLion] = Host(SlowLion, optimizers.Lion, ())
HOSTS[torch.optim.SparseAdam] = SparseHost()
