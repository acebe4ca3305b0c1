"""Steps of sparse gradients: rows of tables."""

from typing import Any

import torch

from instep import optimizers
from instep.rows import Rows
from instep.rule import compiled
from instep.torch.dense import HOST, NATIVE, step_by_torch, unhooked


class SparseHost:
    """`torch.optim.SparseAdam`, whose gradients are rows of tables."""

    def __init__(self) -> None:
        self.code = unhooked(torch.optim.SparseAdam.step)

    def step(self, optimizer: Any) -> None:
        """Have torch's code do its part of the step, and instep the rest."""
        groups = optimizer.param_groups
        with_grad = [[p for p in group["params"] if p.grad is not None] for group in groups]
        foreign = {id(p) for own in with_grad for p in own if not _has_rows(p)}
        if foreign:
            step_by_torch(optimizer, self.code, foreign)
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
                    step_by_torch(optimizer, self.code, refused)
        if foreign:
            HOST.add()
        elif any(with_grad):
            NATIVE.add()

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
    """Return whether these are a table in this machine's memory, and a gradient of some rows."""
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
