"""Parameters and their groups: which arrays go together, with which options."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep import _instep
from instep.checks import (
    check_flag,
    check_keys,
    check_like,
    check_plain,
    kind_of,
    wanted_options,
)
from instep.rule import Options, Rule, check_rate
from instep.storage import BESIDE, FIRST_EXPONENTS, Storage, Stored, exponents_of
from instep.tree import Tree, called

__all__ = [
    "Group",
    "MakeState",
    "Mask",
    "Parameter",
    "answers",
    "match",
    "new_group",
    "new_parameters",
    "set_decay",
    "set_frozen",
    "started",
    "with_own_options",
    "work",
]

Mask: TypeAlias = Callable[[str, NDArray[Any]], bool] | Any
"""A callable of name and array of a parameter, or a tree of booleans like the parameters."""


MakeState: TypeAlias = Callable[[str, str, tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""A callable of the names of parameter and state, shape and dtype, which returns an array."""


class Parameter:
    """An array that steps write, with its state arrays and its average."""

    # Of parameters that an older version pickled.
    stored: Stored | None = None

    def __init__(
        self,
        name: str,
        path: tuple[object, ...],
        array: NDArray[Any],
        stored: Stored | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.array = array
        self.stored = stored
        self.states: dict[str, NDArray[Any]] = {}
        self.average: NDArray[Any] | None = None
        self.group = 0
        self.decays = True
        self.is_frozen = False

    def arrays(self) -> list[NDArray[Any]]:
        """Return the arrays that steps write, in the order of the compiled stepper."""
        average = [] if self.average is None else [self.average]
        return [self.array, *self.states.values(), *average]

    def describe(self, role: int) -> str:
        """Return what errors call the array of a role: parameter, gradient, states, average.

        After all others come the exponents of states in 8 bits.
        """
        if role < 2:
            return called(("params", "grads")[role], self.path)
        states = list(self.states)
        if self.stored is not None and self.stored.has_codes:
            exponents = len(self.stored.never_negative)
            states, last = states[: len(states) - exponents], states[len(states) - exponents :]
            if role >= FIRST_EXPONENTS:
                return f'state["{self.name}"]["{last[role - FIRST_EXPONENTS]}"]'
        if role - 2 < len(states):
            return f'state["{self.name}"]["{states[role - 2]}"]'
        return f'averages["{self.name}"]'

    def decoded(self, of_rule: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return copies of the numbers of the array, ``"p"``, and of the states of the rule."""
        array, states, stored = self.array, self.states, self.stored
        if stored is None:
            return {"p": array.copy(), **{state: own.copy() for state, own in states.items()}}
        beside = [states[state] for state in states if state in BESIDE]
        return {"p": stored.numbers(array, *beside), **stored.decoded(states, tuple(of_rule))}


class Group:
    """The options of some parameters, and what a step does with them.

    Parameters
    ----------
    rule : type
        The rule.
    options : dict
        The options themselves, which users change, ``"params"`` among them.
    number : int
        Its place among the groups.
    t : int
        The number of steps that the optimizer has done.
    """

    def __init__(self, rule: type[Rule], options: dict[str, Any], number: int, t: int = 0) -> None:
        self.rule = rule
        self.options = options
        self.known = tuple(options)
        self.name = f"param_groups[{number}]"
        self.params = options["params"]
        checked = rule.checked(options)
        self.carried = rule.carried(checked, t)
        self.carried_at = {"t": t}
        self.states = self._prepare(checked, check_rate(options["lr"], t + 1), t + 1)[0].states

    def own_options(self) -> dict[str, Any]:
        """Return the options without the parameters and the group's name."""
        others = ("params", "name")
        return {name: option for name, option in self.options.items() if name not in others}

    def start(
        self, parameter: Parameter, average: float | None, seed: int, make: MakeState | None
    ) -> None:
        """Make the state of a parameter, with `make` if that is given."""
        array, stored = parameter.array, parameter.stored
        if stored is not None:
            stored.take_states(self.rule.recipe(self.options, 1), self.states)
            exponents = {}
            for number, state in enumerate(self.states):
                numbers = self.rule.initial(state, self.options)
                given = stored.numbers(array) if numbers is None else numbers
                if stored.has_codes:
                    codes = stored.codes(array, given, number, seed)
                    parameter.states[state], exponents[exponents_of(state)] = codes
                else:
                    parameter.states[state] = stored.state(array, given, number, seed)
            beside = stored.beside(array)
            for state in beside.keys() & parameter.states.keys():
                raise ValueError(
                    f"the rule has a state named {state!r}, which master uses too; rename it"
                )
            parameter.states |= beside | exponents
            if average is not None:
                parameter.average = np.zeros_like(array, np.float32, subok=False)
                parameter.average[...] = stored.numbers(array)
            return
        for state in self.states:
            initial = self.rule.initial(state, self.options)
            parameter.states[state] = started(parameter, state, initial, make)
        if average is not None:
            parameter.average = started(parameter, "average", None, make)

    def prepare(self, lr: float | None, t: int, average: float | None) -> "_instep._Said":
        """Check the options, and return what step `t` does."""
        options = self.options
        if options.keys() != dict.fromkeys(self.known).keys():
            check_keys(self.name, options, self.known)
        if options["params"] is not self.params:
            raise ValueError(
                f"{self.name}['params'] was replaced, and the optimizer holds the arrays that were "
                "there; assign to their elements, or make a new optimizer"
            )
        rate = check_rate(options["lr"] if lr is None else lr, t)
        checked = self.rule.checked(options)
        recipe, numbers, (sign, decay, decouples), carried = self._prepare(checked, rate, t)
        if recipe.states != self.states:
            raise ValueError(
                f"the options of a group were changed to those of {recipe.name}, which keeps other "
                f"states: {recipe.states} instead of {self.states}; make a new optimizer"
            )
        updates: list[tuple[dict[str, Any], dict[str, Any]]] = []
        if carried:
            updates = [(self.carried, carried), (self.carried_at, {"t": t})]
        work = recipe, numbers, (sign, decay, decouples, average)
        return work, rate, not self.rule.varies(checked), updates

    def check(self, options: Options, t: int, carried: dict[str, float]) -> None:
        """Check that step `t` could be done with these options and these carried numbers."""
        rate = check_rate(options["lr"], t)
        recipe, *_ = work(self.rule, self.rule.checked(options), rate, t, carried)
        if recipe.states != self.states:
            raise ValueError(
                f"{recipe.name} keeps the states {recipe.states}, and the optimizer has "
                f"{self.states}; make it with the same options"
            )

    def _prepare(
        self, checked: dict[str, Any], rate: float, t: int
    ) -> tuple[_instep.Recipe, tuple[float, ...], tuple[float, float, bool], dict[str, float]]:
        carried = self.carried if self.carried_at["t"] == t - 1 else None
        return work(self.rule, checked, rate, t, carried)


def started(
    parameter: Parameter, state: str, initial: float | None, make: MakeState | None
) -> NDArray[Any]:
    """Return a new state array: filled with `initial`, or if that is None, like the parameter."""
    like = parameter.array
    if make is None:
        if initial is None:
            return np.array(like, order="K", subok=False)
        return np.full_like(like, initial, subok=False)
    array = make(parameter.name, state, like.shape, like.dtype)
    name = f"state({parameter.name!r}, {state!r}, ...)"
    check_like(name, array, like)
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, and a step writes it; return a writable array")
    array[...] = like if initial is None else initial
    return array


def work(
    rule: type[Rule],
    checked: dict[str, Any],
    rate: float,
    t: int,
    carried: dict[str, float] | None = None,
) -> tuple[_instep.Recipe, tuple[float, ...], tuple[float, float, bool], dict[str, float]]:
    """Return recipe, numbers, sign and decay around it, and what is carried to the next step.

    `carried` comes from the step before. If it is not known, it is computed again.
    """
    # Another mode may carry other numbers.
    if carried is None or carried.keys() != rule.carried(checked, 0).keys():
        carried = rule.carried(checked, t - 1)
    carried = rule.advance({**checked, **carried}, rate, t)
    checked = {**checked, **carried}
    sign = -1.0 if checked["maximize"] else 1.0
    recipe = rule.compiled(checked, t)
    decay = 0.0 if "weight_decay" in recipe.hypers else checked["weight_decay"]
    around = sign, decay, rule.decouples(checked)
    return recipe, rule.hypers(checked, rate, t), around, carried


def new_parameters(
    tree: Tree,
    params: Any,
    storage: Storage,
    average: float | None,
    by_name: Mapping[str, Parameter],
    by_array: Mapping[int, Parameter],
) -> list[Parameter]:
    """Return the parameters of a tree, checked. None of them may be there already."""
    names: dict[str, Parameter] = {}
    arrays: dict[int, Parameter] = {}
    leaves = tree.leaves(params, "params")
    for path, name, array in zip(tree.paths, tree.names, leaves, strict=True):
        label, name = called("params", path), name or "params"
        check_plain(label, array)
        parameter = Parameter(name, path, array, storage.of(label, name, array))
        if average is not None and array.dtype.name == "float16":
            raise TypeError(
                f"{label} has dtype float16, and average was given; averages are kept of "
                "float32, float64 and bfloat16 parameters"
            )
        other = arrays.get(id(array)) or by_array.get(id(array))
        if other is not None:
            raise ValueError(
                f"{parameter.describe(0)} is the same array as {other.describe(0)}; give it "
                "under one name, and as its gradient the sum of both: "
                f"{other.describe(1)} + {parameter.describe(1)}"
            )
        if name in names or name in by_name:
            raise ValueError(f"params has two arrays named {name!r}; rename a key")
        names[name] = arrays[id(array)] = parameter
    return list(names.values())


def answers(
    argument: str,
    mask: Mask | None,
    leaves: Callable[[Any, str], Iterable[Any]],
    parameters: list[Parameter],
) -> list[bool]:
    """Return what a mask says of each parameter; `leaves` takes those out of a tree."""
    if mask is None:
        return [False] * len(parameters)
    if callable(mask):
        said: Iterable[Any] = [mask(parameter.name, parameter.array) for parameter in parameters]
    else:
        said = leaves(mask, argument)
    return [
        check_flag(called(argument, parameter.path), answer)
        for parameter, answer in zip(parameters, said, strict=True)
    ]


def set_decay(mask: Mask, tree: Tree, parameters: list[Parameter]) -> None:
    """Set which parameters of a tree weight decay reaches."""
    decay = answers("weight_decay_mask", mask, tree.leaves, parameters)
    for parameter, decays in zip(parameters, decay, strict=True):
        parameter.decays = decays


def set_frozen(
    mask: Mask | None,
    leaves: Callable[[Any, str], Iterable[Any]],
    parameters: list[Parameter],
) -> None:
    """Set which parameters steps don't change."""
    frozen = answers("freeze", mask, leaves, parameters)
    for parameter, is_frozen in zip(parameters, frozen, strict=True):
        parameter.is_frozen = is_frozen


def new_group(label: str, rule: type[Rule], options: dict[str, Any], number: int, t: int) -> Group:
    """Return a group; errors begin with the label, if there is one."""
    try:
        return Group(rule, options, number, t)
    except (TypeError, ValueError) as error:
        if not label or type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"{label}: {error}") from error


def match(
    patterns: Mapping[str, Options], parameters: list[Parameter]
) -> list[tuple[str, Options, list[Parameter]]]:
    """Return the parameters of each pattern, the first that matches, and then all others."""
    if not isinstance(patterns, Mapping):
        raise TypeError(f"groups is {kind_of(patterns)}; wanted a dict of options by pattern")
    for pattern, own in patterns.items():
        if not isinstance(pattern, str):
            raise TypeError(f"groups has the pattern {pattern!r}, {kind_of(pattern)}; wanted a str")
        if not isinstance(own, Mapping):
            raise TypeError(f"groups[{pattern!r}] is {kind_of(own)}; wanted a dict of options")
    matched: dict[str, list[Parameter]] = {pattern: [] for pattern in patterns}
    others = []
    for parameter in parameters:
        for pattern, members in matched.items():
            if fnmatchcase(parameter.name, pattern):
                members.append(parameter)
                break
        else:
            others.append(parameter)
    left = {parameter.name for parameter in parameters}
    for pattern, members in matched.items():
        if not members:
            names = [repr(parameter.name) for parameter in parameters if parameter.name in left]
            raise ValueError(
                f"groups has the pattern {pattern!r}, which matches no name that is left: "
                f"{', '.join(names[:8]) or 'earlier patterns match all'}"
            )
        left -= {parameter.name for parameter in members}
    groups = [(pattern, patterns[pattern], members) for pattern, members in matched.items()]
    return [*groups, ("others", {}, others)] if others or not groups else groups


def with_own_options(name: str, defaults: Options, own: Options) -> dict[str, Any]:
    """Return the options of a group: its own, and the defaults where it has none."""
    for option in own:
        if option not in ("params", "name") and option not in defaults:
            wanted = wanted_options(option, defaults)
            raise ValueError(f"{name} has the option {option!r}{wanted}")
    if not isinstance(own.get("name", ""), str):
        raise TypeError(f"{name} has the name {own['name']!r}; wanted a str")
    return {**defaults, **own}
