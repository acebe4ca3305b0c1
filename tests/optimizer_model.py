"""What an optimizer does, in plain NumPy: recipes of `instep.reference`, and what is around them.

The classes say which recipe a step takes, and with which numbers; everything else is done here once
more, without a look at how they do it.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import numpy as np
from bits import Array, assert_same_bits, assert_same_buffers, copy_with_buffer, copy_with_buffers
from instep import Optimizer, Rows, StepResult, _instep, codecs, optimizers, reference

# A class of `instep.optimizers`; each has a signature of its own.
Rule: TypeAlias = Any

# What is given for one parameter; None leaves it alone.
Gradient: TypeAlias = Array | Rows | None

RULES: list[Rule] = [getattr(optimizers, name) for name in optimizers.__all__]

# The rules whose states may be stored in 8 bits; RMSprop's only if it is not centered.
CODED_RULES = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "SGD", "Lion")

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
    """One parameter with its state and average, and the order of its axes in memory.

    `place` is that in the tree of all parameters, and `places` are those of the elements.
    """

    p: Array
    states: dict[str, Array]
    average: Array | None
    axes: tuple[int, ...]
    place: int
    places: Array
    name: str = ""
    decays: bool = True
    is_frozen: bool = False

    def in_order(self, g: Array | Rows) -> Array:
        """Return a gradient in the order of the parameter's memory; that of rows as they are."""
        if not isinstance(g, Rows):
            return g.transpose(self.axes)
        values = g.values if len(set(g.indices.tolist())) == len(g.indices) else summed(g)[1]
        return values.transpose(0, *(axis for axis in self.axes if axis))

    def rows(self, rows: list[int]) -> "Parameter":
        """Return a parameter of some rows only, of copies."""
        average = None if self.average is None else self.average[rows]
        states = {name: state[rows] for name, state in self.states.items()}
        return replace(
            self, p=self.p[rows], states=states, average=average, places=self.places[rows]
        )

    def put(self, rows: list[int], part: "Parameter") -> None:
        """Put back what `rows` gave."""
        self.p[rows] = part.p
        for name, state in self.states.items():
            state[rows] = part.states[name]
        if self.average is not None:
            self.average[rows] = part.average


def axes_of(p: Array) -> tuple[int, ...]:
    """Return the axes of an array in the order of its memory, the longest strides first."""
    return tuple(sorted(range(p.ndim), key=lambda axis: -abs(p.strides[axis])))


def summed(g: Rows) -> tuple[list[int], Array]:
    """Return the rows in rising order, and of each the sum of its values, in the order given."""
    sums: dict[int, Array] = {}
    for row, value in zip(g.indices.tolist(), g.values, strict=True):
        sums[row] = sums[row] + value if row in sums else value
    rows = sorted(sums)
    return rows, np.array([sums[row] for row in rows], g.values.dtype).reshape(
        len(rows), *g.values.shape[1:]
    )


def round_state(
    new: Array,
    state: str,
    number: int,
    *,
    dtype: str,
    seed: int,
    t: int,
    name: str,
    places: Array,
) -> Array:
    """Return the numbers of a state, by its number among those of a parameter, as stored."""
    if dtype == "float32":
        return new
    if dtype == "8bit":
        random = codecs.noise(seed, t, codecs.stream(name, 2 + number), places)
        signed = state in ("m", "g_mean")
        codes, exponents = codecs.to_codes(new, random, signed=signed)
        return codecs.from_codes(codes, exponents, signed=signed)
    random = codecs.state_noise(seed, t, name, number, places)
    return codecs.from_bfloat16(codecs.to_bfloat16(new, random))


@dataclass
class Group:
    options: Options
    parameters: list[Parameter]
    carried: dict[str, float]
    carried_at: int


class Model:
    """The model of an optimizer, over groups of lists of parameters."""

    def __init__(
        self,
        rule: Rule,
        average: float | None = None,
        state_dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self.rule = rule
        self.decay = average
        self.state_dtype = state_dtype
        self.seed = seed
        self.groups: list[Group] = []
        self.t = 0
        self.skips = 0

    def add_group(self, params: Sequence[Array], options: Options) -> None:
        options = {**defaults_of(self.rule), **options}
        states = _instep.Recipe(self.rule.recipe(options, 1)).states
        parameters = []
        for place, p in enumerate(params, sum(1 for _ in self.parameters())):
            initial = {s: self.rule.initial(s, options) for s in states}
            kept = {
                s: p.copy() if number is None else np.full(p.shape, number, p.dtype)
                for s, number in initial.items()
            }
            average = None if self.decay is None else p.copy()
            places = np.arange(p.size).reshape(p.shape)
            parameters.append(Parameter(p.copy(), kept, average, axes_of(p), place, places))
        carried = self.rule.carried(options, self.t)
        self.groups.append(Group(options, parameters, carried, self.t))

    def parameters(self) -> Iterator[Parameter]:
        for group in self.groups:
            yield from group.parameters

    def step(
        self,
        grads: Sequence[Sequence[Gradient]],
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        max_array_norm: float | None = None,
        max_value: float | None = None,
        nonfinite: str = "propagate",
        max_skips: int | None = None,
    ) -> tuple[float | None, bool]:
        """Do a step; return the norm and whether it was skipped, or raise FloatingPointError."""
        pairs = [
            (group, parameter, g)
            for group, of_group in zip(self.groups, grads, strict=True)
            for parameter, g in zip(group.parameters, of_group, strict=True)
            if g is not None and not parameter.is_frozen
        ]
        pairs.sort(key=lambda pair: pair[1].place)
        with np.errstate(all="ignore"):
            ordered = [parameter.in_order(g) for _, parameter, g in pairs]
            norm, factors = None, [1.0] * len(pairs)
            if max_norm is not None:
                norm = reference.gradient_norm(*ordered) * abs(grad_scale)
                factors = [reference.clip_factor(norm, max_norm=max_norm)] * len(pairs)
            if max_array_norm is not None:
                norms = [reference.gradient_norm(g) * abs(grad_scale) for g in ordered]
                factors = [reference.clip_factor(n, max_norm=max_array_norm) for n in norms]
            if nonfinite != "propagate" and not all(np.isfinite(g).all() for g in ordered):
                if nonfinite == "raise" or (max_skips is not None and self.skips >= max_skips):
                    raise FloatingPointError
                self.skips += 1
                return norm, True
            self.skips = 0
            self.t += 1
            for group in self.groups:
                self._carry(group, lr)
            for (group, parameter, g), factor in zip(pairs, factors, strict=True):
                options = {**group.options, **group.carried}
                rate, scale = self._rate(group, lr), grad_scale * factor
                if isinstance(g, Rows):
                    rows, values = summed(g)
                    part = parameter.rows(rows)
                    self._update(options, part, values, rate, scale, max_value)
                    parameter.put(rows, part)
                else:
                    self._update(options, parameter, g, rate, scale, max_value)
        return norm, False

    def know(self, parameter: Parameter, p: Array, name: str) -> None:
        """Know the array of a parameter, and its name, from which the noise of states follows."""
        # States in 8 bits are in C order, and what goes over all of them is, too.
        in_c_order = self.state_dtype == "8bit"
        parameter.axes = tuple(range(p.ndim)) if in_c_order else axes_of(p)
        if not parameter.name:
            parameter.name = name
            self._store(parameter, parameter.states, 0)

    def _store(self, parameter: Parameter, states: dict[str, Array], t: int) -> None:
        """Keep new states as they are stored."""
        parameter.states = {
            state: round_state(
                np.asarray(new),
                state,
                number,
                dtype=self.state_dtype,
                seed=self.seed,
                t=t,
                name=parameter.name,
                places=parameter.places,
            )
            for number, (state, new) in enumerate(states.items())
        }

    def _rate(self, group: Group, lr: float | None) -> float:
        rate = group.options["lr"] if lr is None else lr
        return rate(self.t - 1) if callable(rate) else rate

    def _carry(self, group: Group, lr: float | None) -> None:
        if group.carried_at != self.t - 1:
            # `t` was assigned.
            group.carried = self.rule.carried(group.options, self.t - 1)
        options = {**group.options, **group.carried}
        group.carried = self.rule.advance(options, self._rate(group, lr), self.t)
        group.carried_at = self.t

    def _update(
        self,
        options: Options,
        parameter: Parameter,
        g: Array,
        lr: float,
        scale: float,
        max_value: float | None,
    ) -> None:
        recipe = _instep.Recipe(self.rule.recipe(options, self.t))
        decay, shrink = options["weight_decay"] if parameter.decays else 0.0, 1.0
        hypers = self.rule.hypers(options, lr, self.t)
        named = dict(zip(recipe.hypers, hypers, strict=True))
        if "weight_decay" in recipe.hypers:
            named["weight_decay"], decay = decay, 0.0  # the rule does it itself
        elif self.rule.decouples(options):
            decay, shrink = 0.0, 1.0 - lr * decay
        sign = -1.0 if options["maximize"] else 1.0
        if max_value is not None:
            _, g = reference.prepare(parameter.p, g, scale=scale, weight_decay=0.0, shrink=1.0)
            g, scale = np.clip(g, -g.dtype.type(max_value), g.dtype.type(max_value)), 1.0
        p, g = reference.prepare(
            parameter.p, g, scale=sign * scale, weight_decay=decay, shrink=shrink
        )
        function = getattr(reference, recipe.name)
        new, *states = function(p, g, *parameter.states.values(), **named)
        parameter.p = np.asarray(new)
        self._store(parameter, dict(zip(parameter.states, states, strict=True)), self.t)
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
        for params, options in groups:
            self.model.add_group(params, options)
        listed = [{**options, "params": list(params)} for params, options in groups]
        opt = rule(listed, zero_grads=zero_grads, average=average)
        self.follow(opt, [list(params) for params, _ in groups])

    def follow(self, opt: Optimizer, params: list[list[Array]]) -> None:
        """Go on with an optimizer of these parameters, by group, and the model as it is."""
        self.opt = opt
        self.params = params
        copies = iter(copy_with_buffers([p for group in params for p in group]))
        self.wanted = [[next(copies) for _ in group] for group in params]
        for group, arrays in zip(self.model.groups, params, strict=True):
            for parameter, p in zip(group.parameters, arrays, strict=True):
                self.model.know(parameter, p, opt._by_array[id(p)].name)

    def tree(self, grads: Sequence[Sequence[Gradient]]) -> Any:
        """Return the gradients in the structure of the optimizer's parameters."""
        return [list(group) for group in grads]

    def step(self, grads: Sequence[Sequence[Gradient]], **arguments: Any) -> StepResult:
        """Do a step of both, and compare."""
        kept = [[_kept(g) for g in group] for group in grads]
        result = self.opt.step(self.tree(grads), **arguments)
        norm, skipped = self.model.step(kept, **arguments)
        assert type(result) is StepResult
        assert result.skipped is skipped
        assert result.t == self.model.t
        assert_same_norm(result.grad_norm, norm)
        for i, group in enumerate(self.model.groups):
            for j, parameter in enumerate(group.parameters):
                g, wanted = _array(grads[i][j]), _array(kept[i][j])
                if g is not None and wanted is not None:
                    if self.opt.zero_grads and not parameter.is_frozen:
                        wanted[...] = 0.0
                    assert_same_buffers(g, wanted, f"gradient {j} of group {i}")
        self.compare()
        return result

    def compare(self) -> None:
        """Compare all that the optimizer keeps."""
        assert self.opt.t == self.model.t
        assert self.opt.skips == self.model.skips
        state = dict(self.opt.state)
        for group, of_group in zip(self.model.groups, self.wanted, strict=True):
            for parameter, wanted in zip(group.parameters, of_group, strict=True):
                wanted[...] = parameter.p
        for i, group in enumerate(self.model.groups):
            for j, parameter in enumerate(group.parameters):
                own = self.opt._by_array[id(self.params[i][j])]
                what = f"parameter {own.name!r} of group {i}, t={self.model.t}"
                assert own.group == i
                assert_same_buffers(self.params[i][j], self.wanted[i][j], what)
                arrays = state.pop(own.name)
                if own.stored is not None:
                    arrays = self.opt.decoded(own.name)
                    del arrays["p"]
                assert list(arrays) == list(parameter.states)
                for name, array in arrays.items():
                    assert_same_bits(array, parameter.states[name], f"{name} of {what}")
                assert (own.average is None) is (parameter.average is None)
                if own.average is not None and parameter.average is not None:
                    assert_same_bits(own.average, parameter.average, f"average of {what}")
        assert not state


def _array(g: Gradient) -> Array | None:
    return g.values if isinstance(g, Rows) else g


def _kept(g: Gradient) -> Gradient:
    """Return a copy of a gradient, with all of its memory."""
    if isinstance(g, Rows):
        return Rows(g.indices.copy(), copy_with_buffer(g.values))
    return None if g is None else copy_with_buffer(g)


def assert_same_norm(actual: float | None, wanted: float | None) -> None:
    if actual is None or wanted is None:
        assert actual is wanted
    else:
        assert type(actual) is float
        assert_same_bits(np.array(actual), np.array(wanted), "norm")
