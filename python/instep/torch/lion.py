"""Lion, which torch does not have."""

from typing import Any

import torch


class SlowLion(torch.optim.Optimizer):
    """Lion in torch's own operations, for tensors that instep does not take."""

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
        """Do one step; it takes no closure."""
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
