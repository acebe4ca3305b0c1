"""What an optimizer does, in plain NumPy: recipes of `instep.reference`, and what is around them.

The classes say which recipe a step takes, and with which numbers; everything else is done here once
more, without a look at how they do it.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import numpy as np
from bits import Array, assert_same_bits, assert_same_buffers, copy_with_buffer
from instep import StepResult, _instep, optimizers, reference

# A class of `instep.optimizers`; each has a signature of its own.
Rule: TypeAlias = Any

RULES: list[Rule] = [getattr(optimizers, name) for name in optimizers.__all__]

# For every number among the options, one that is not its default; others get the last one.
OTHER_NUMBERS: dict[str, Any] = {
    "lr": 0.013,
    "betas": (0.85, 0.95, 0.97),  # as many of them as the rule takes
    "beta": 0.85,
    "eps_root": 1e-4,
    "etas": (0.6, 1.3),
    "step_sizes": (1e-3, 0.2),
    "lambd": 0.02,
    "t0": 3.0,
    "alpha_warmup": 7,
    "beta3_warmup": 9,
    "r": 0.5,
    "weight_lr_power": 1.5,
    "alpha": 0.9,
    "rho": 0.85,
    "eps": 2e-3,
    "momentum": 0.8,
    "dampening": 0.3,
    "momentum_decay": 0.02,
    "lr_decay": 0.05,
    "initial_accumulator_value": 0.1,
    "weight_decay": 0.03,
    "": 0.37,
}

Options = dict[str, Any]


def options_of(rule: Rule) -> dict[str, inspect.Parameter]:
    """Return the options of a rule, those of its groups."""
    parameters = inspect.signature(rule).parameters
    others = ("params", "common")
    return {name: parameters[name] for name in parameters if name not in others}


def defaults_of(rule: Rule) -> Options:
    return {name: parameter.default for name, parameter in options_of(rule).items()}


def other_number(rule: Rule, option: str) -> Any:
    """Return what an option may be that is a number, and is not its default."""
    other = OTHER_NUMBERS.get(option, OTHER_NUMBERS[""])
    return other[: len(defaults_of(rule)[option])] if isinstance(other, tuple) else other


def modes_of(rule: Rule) -> list[Options]:
    """Return options for every way that the rule has, their numbers not the defaults.

    A way is a choice for each option that is one of some words, or yes or no, or a number that is 0
    by default; those that the rule refuses are left out.
    """
    hints = get_type_hints(rule.__init__)
    choices: dict[str, Sequence[Any]] = {}
    for name, parameter in options_of(rule).items():
        other = other_number(rule, name)
        if name in ("weight_decay", "maximize"):
            choices[name] = [parameter.default]  # `AROUND` has them
        elif words := words_of(hints[name]):
            choices[name] = words
        else:
            choices[name] = [other] if parameter.default != 0 else [0.0, other]
    modes = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    return [mode for mode in modes if is_allowed(rule, mode)]


def words_of(kind: Any) -> tuple[Any, ...]:
    """Return what an option may be that is one of some words, or yes or no, or either."""
    if kind is bool:
        return (False, True)
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(word for part in get_args(kind) for word in words_of(part))


def is_allowed(rule: Rule, options: Options) -> bool:
    try:
        rule.recipe(options, 1)
    except ValueError:
        return False
    return True


def mode_name(rule: Rule, mode: Options) -> str:
    """Return the rule and what of the mode is a choice."""
    values = [
        f"{name}={value}"
        for name, value in mode.items()
        if name not in ("lr", "weight_decay") and value and not isinstance(value, tuple)
    ]
    return f"{rule.__name__}({', '.join(values)})"


MODES = [(rule, mode) for rule in RULES for mode in modes_of(rule)]


@dataclass
class Parameter:
    """One parameter with its state and average, and the order of its axes in memory."""

    p: Array
    states: dict[str, Array]
    average: Array | None
    axes: tuple[int, ...]

    def gradient(self, g: Array) -> Array:
        """Return a gradient in the order of the parameter's memory."""
        return g.transpose(self.axes)


@dataclass
class Group:
    options: Options
    parameters: list[Parameter]
    carried: dict[str, float]


class Model:
    """The model of an optimizer, over groups of lists of parameters."""

    def __init__(self, rule: Rule, average: float | None = None) -> None:
        self.rule = rule
        self.decay = average
        self.groups: list[Group] = []
        self.t = 0

    def add_group(self, params: Sequence[Array], options: Options) -> None:
        options = {**defaults_of(self.rule), **options}
        states = _instep.Recipe(self.rule.recipe(options, 1)).states
        parameters = []
        for p in params:
            initial = {s: self.rule.initial(s, options) for s in states}
            kept = {
                s: p.copy() if number is None else np.full(p.shape, number, p.dtype)
                for s, number in initial.items()
            }
            axes = sorted(range(p.ndim), key=lambda axis, p=p: -abs(p.strides[axis]))  # type: ignore[misc]
            average = None if self.decay is None else p.copy()
            parameters.append(Parameter(p.copy(), kept, average, tuple(axes)))
        self.groups.append(Group(options, parameters, self.rule.carried(options, self.t)))

    def parameters(self) -> Iterator[Parameter]:
        for group in self.groups:
            yield from group.parameters

    def step(
        self,
        grads: Sequence[Sequence[Array | None]],
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        nonfinite: str = "propagate",
    ) -> tuple[float | None, bool]:
        """Do a step; return the norm and whether it was skipped, or raise FloatingPointError."""
        with np.errstate(all="ignore"):
            return self._step(grads, lr, grad_scale, max_norm, nonfinite)

    def _step(
        self,
        grads: Sequence[Sequence[Array | None]],
        lr: float | None,
        grad_scale: float,
        max_norm: float | None,
        nonfinite: str,
    ) -> tuple[float | None, bool]:
        pairs = [
            (group, parameter, g)
            for group, of_group in zip(self.groups, grads, strict=True)
            for parameter, g in zip(group.parameters, of_group, strict=True)
            if g is not None
        ]
        norm, factor = None, 1.0
        if max_norm is not None:
            norm = reference.gradient_norm(*(x.gradient(g) for _, x, g in pairs)) * abs(grad_scale)
            factor = reference.clip_factor(norm, max_norm=max_norm)
        if nonfinite != "propagate" and not all(np.isfinite(g).all() for _, _, g in pairs):
            if nonfinite == "raise":
                raise FloatingPointError
            return norm, True
        self.t += 1
        for group in self.groups:
            options = {**group.options, **group.carried}
            group.carried = self.rule.advance(options, self._rate(group, lr), self.t)
        for group, parameter, g in pairs:
            options = {**group.options, **group.carried}
            self._update(options, parameter, g, self._rate(group, lr), grad_scale * factor)
        return norm, False

    def _rate(self, group: Group, lr: float | None) -> float:
        rate = group.options["lr"] if lr is None else lr
        return rate(self.t - 1) if callable(rate) else rate

    def _update(
        self, options: Options, parameter: Parameter, g: Array, lr: float, scale: float
    ) -> None:
        recipe = _instep.Recipe(self.rule.recipe(options, self.t))
        decay, shrink = options["weight_decay"], 1.0
        if "weight_decay" in recipe.hypers:
            decay = 0.0  # the rule does it itself
        elif self.rule.decouples(options):
            decay, shrink = 0.0, 1.0 - lr * decay
        sign = -1.0 if options["maximize"] else 1.0
        p, g = reference.prepare(
            parameter.p, g, scale=sign * scale, weight_decay=decay, shrink=shrink
        )
        hypers = self.rule.hypers(options, lr, self.t)
        named = dict(zip(recipe.hypers, hypers, strict=True))
        function = getattr(reference, recipe.name)
        new, *states = function(p, g, *parameter.states.values(), **named)
        parameter.p = np.asarray(new)
        parameter.states = {
            name: np.asarray(state) for name, state in zip(parameter.states, states, strict=True)
        }
        if parameter.average is not None:
            assert self.decay is not None
            new = reference.average(parameter.average, parameter.p, decay=self.decay)
            parameter.average = np.asarray(new)


class Pair:
    """An optimizer and its model, stepped side by side, and compared to the bit after every step.

    What lies between and around the elements of parameters and gradients has to stay, too.
    """

    def __init__(
        self,
        rule: Rule,
        groups: Sequence[tuple[Sequence[Array], Options]],
        *,
        average: float | None = None,
        zero_grads: bool = False,
    ) -> None:
        self.model = Model(rule, average)
        self.params: list[list[Array]] = []
        for params, options in groups:
            self.model.add_group(params, options)
            self.params.append(list(params))
        self.wanted = [[copy_with_buffer(p) for p in params] for params in self.params]
        listed = [{**options, "params": list(params)} for params, options in groups]
        self.opt = rule(listed, zero_grads=zero_grads, average=average)

    def step(self, grads: Sequence[Sequence[Array | None]], **arguments: Any) -> StepResult:
        """Do a step of both, and compare."""
        kept = [[None if g is None else copy_with_buffer(g) for g in group] for group in grads]
        result = self.opt.step([list(group) for group in grads], **arguments)
        norm, skipped = self.model.step(kept, **arguments)
        assert type(result) is StepResult
        assert result.skipped is skipped
        assert_same_norm(result.grad_norm, norm)
        for i, (group, kept_group) in enumerate(zip(grads, kept, strict=True)):
            for j, (g, wanted) in enumerate(zip(group, kept_group, strict=True)):
                if g is not None and wanted is not None:
                    if self.opt.zero_grads:
                        wanted[...] = 0.0
                    assert_same_buffers(g, wanted, f"gradient {j} of group {i}")
        self.compare()
        return result

    def compare(self) -> None:
        """Compare all that the optimizer keeps."""
        assert self.opt.t == self.model.t
        state = dict(self.opt.state)
        for i, group in enumerate(self.model.groups):
            for j, parameter in enumerate(group.parameters):
                what = f"parameter {j} of group {i}, t={self.model.t}"
                self.wanted[i][j][...] = parameter.p
                assert_same_buffers(self.params[i][j], self.wanted[i][j], what)
                arrays = state.pop(f"{i}.{j}")
                assert list(arrays) == list(parameter.states)
                for name, array in arrays.items():
                    assert_same_bits(array, parameter.states[name], f"{name} of {what}")
                if parameter.average is not None:
                    actual = self.opt.averages[i][j]
                    assert_same_bits(actual, parameter.average, f"average of {what}")
        assert not state


def assert_same_norm(actual: float | None, wanted: float | None) -> None:
    if actual is None or wanted is None:
        assert actual is wanted
    else:
        assert type(actual) is float
        assert_same_bits(np.array(actual), np.array(wanted), "norm")
