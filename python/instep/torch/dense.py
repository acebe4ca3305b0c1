"""Steps of dense tensors, by instep or by torch's own code."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from instep import optimizers
from instep._instep import TensorStepper
from instep.counts import Count
from instep.interop import TORCH_NAMES
from instep.optimizer import Optimizer
from instep.rule import compiled

NATIVE, HOST = Count(), Count()


def unhooked(step: Any) -> Callable[[Any], Any]:
    """Return the step of a class without the hooks that torch puts around it."""
    return step.__wrapped__ if getattr(step, "hooked", False) else step  # type: ignore[no-any-return]


class Host:
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
        self.code = unhooked(kind.step)
        self.rule = rule
        self.numbers = numbers
        self.modes = {} if modes is None else dict(modes)

    def options(self, group: dict[str, Any]) -> dict[str, Any] | None:
        """Return the options of the rule; None for a group that torch's code has to step."""
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
        """Have torch's code do its part of the step, and instep the rest."""
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
            step_by_torch(optimizer, self.code, foreign)
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
                step_by_torch(optimizer, self.code, found)
                foreign |= found
                given = [
                    ([p for p in parameters if id(p) not in foreign], numbers, arrays)
                    for parameters, numbers, arrays in given
                ]
            fresh, others, count = stepper.step(given, optimizer.state, prepare)
        if by_torch:
            HOST.add()
        elif count:
            NATIVE.add()

    def _start_all(
        self, optimizer: Any, groups: list[dict[str, Any]], fresh: list[Any]
    ) -> set[int]:
        """Make the states of parameters without any; return the parameters for torch's code."""
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
        # SGD has no count: its first step was done, or is not different.
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
        """Make the states of parameters as torch does, if it makes them before the step."""
        lists = len(inspect.signature(self.kind._init_group).parameters) - 2
        with torch.no_grad():
            optimizer._init_group({**group, "params": parameters}, *([] for _ in range(lists)))
            if self.rule is optimizers.SGD:
                for parameter in parameters:
                    state = optimizer.state[parameter]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(parameter)


def step_by_torch(optimizer: Any, code: Callable[[Any], Any], parameters: set[int]) -> None:
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
    """Return the compiled stepper, which knows from step to step where the tensors are."""
    stepper: TensorStepper | None = optimizer.__dict__.get("_instep_stepper")
    if stepper is None:
        increment = torch.autograd.graph.increment_version
        stepper = TensorStepper(torch.Tensor, torch.nn.Parameter, increment)
        optimizer._instep_stepper = stepper
    return stepper
