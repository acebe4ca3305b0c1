"""The state of an optimizer as a dict, and back: everything, or nothing if there is an error.

Call `Optimizer.state_dict` and `load_state_dict`.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instep._instep import Stepper
from instep.checks import check_integer, check_keys, check_like, check_number, kind_of
from instep.groups import Group, Parameter
from instep.rule import TOO_MANY_STEPS
from instep.storage import NO_STORAGE, Storage, check_saved

__all__ = [
    "FORMAT",
    "HasState",
    "arrays_of",
    "check_format",
    "checked_state",
    "copied",
    "live",
    "load_state_dict",
    "pairs",
    "state_dict",
]

FORMAT = 2
"""The version of the format that this writes, and the newest that it reads."""


class HasState(Protocol):
    """The part of an optimizer that this module uses."""

    _parameters: list[Parameter]
    _groups: list[Group]
    _stepper: Stepper
    _average: float | None
    _storage: Storage

    def _refuse_detached(self) -> None: ...


def state_dict(optimizer: HasState) -> dict[str, Any]:
    """Return the state dict of an optimizer, all of it as it is at one moment between two steps."""
    return copied(optimizer, params=False)[0]


def copied(optimizer: HasState, *, params: bool) -> tuple[dict[str, Any], list[Parameter]]:
    """Return a copied state dict, and the copied parameters if `params`."""
    own = optimizer._parameters
    copies = [_like(parameter, params=params) for parameter in own]
    targets, sources = (
        tuple(array for each in parameters for array in each.arrays()[0 if params else 1 :])
        for parameters in (copies, own)
    )
    dicts = _dicts(optimizer._groups)
    t, skips, dicts = optimizer._stepper.copy(targets, sources, dicts, _name_copied)
    return _assemble(optimizer, copies, t, skips, dicts), copies


def live(optimizer: HasState) -> tuple[dict[str, Any], list[Parameter]]:
    """Return a state dict of the arrays themselves, which later steps write, and the parameters."""
    dicts = [dict(own) for own in _dicts(optimizer._groups)]
    parameters = optimizer._parameters
    stepper = optimizer._stepper
    return _assemble(optimizer, parameters, stepper.t, stepper.skips, dicts), parameters


def _like(parameter: Parameter, *, params: bool) -> Parameter:
    """Return a parameter with new arrays for the states, the average and the array of another."""
    array = parameter.array
    like = Parameter(
        parameter.name, parameter.path, np.empty_like(array, subok=False) if params else array
    )
    like.group = parameter.group
    like.states = {
        state: np.empty_like(array, subok=False) for state, array in parameter.states.items()
    }
    if parameter.average is not None:
        like.average = np.empty_like(parameter.average, subok=False)
    return like


def _name_copied(role: int, index: int) -> str:
    return f"array {index} of the {('copy', 'optimizer')[role]}"


def _dicts(groups: list[Group]) -> list[dict[str, Any]]:
    """Return the three dicts of each group, one after the other."""
    return [own for group in groups for own in (group.options, group.carried, group.carried_at)]


def _assemble(
    optimizer: HasState,
    parameters: list[Parameter],
    t: int,
    skips: int,
    dicts: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return a state dict with these arrays, and with these dicts of the groups."""
    groups = []
    names = _names_by_group(optimizer._groups, parameters)
    for number, group in enumerate(optimizer._groups):
        options, carried, carried_at = dicts[3 * number : 3 * number + 3]
        own = {name: _plain(options[name]) for name in group.own_options()}
        # The recipe of the first step. That of RAdam changes later, but its states do not.
        recipe = group.rule.recipe(options, 1)
        entry = {"options": own, "recipe": recipe, "names": names[number]}
        # If `t` was assigned, the next step computes them again.
        if carried and carried_at["t"] == t:
            entry["carried"] = dict(carried)
        groups.append(entry)
    return {
        "format": FORMAT,
        "rule": type(optimizer).__name__,
        "t": t,
        "skips": skips,
        "storage": {**optimizer._storage.options(), "seed": optimizer._stepper.seed},
        "average": optimizer._average,
        "groups": groups,
        "state": {parameter.name: parameter.states for parameter in parameters},
        "averages": _averages(parameters),
    }


def _names_by_group(groups: list[Group], parameters: list[Parameter]) -> list[list[str]]:
    names: list[list[str]] = [[] for _ in groups]
    for parameter in parameters:
        names[parameter.group].append(parameter.name)
    return names


def _averages(parameters: list[Parameter]) -> dict[str, NDArray[Any]]:
    return {p.name: p.average for p in parameters if p.average is not None}


def arrays_of(parameters: list[Parameter]) -> dict[str, NDArray[Any]]:
    """Return the arrays of parameters by name."""
    return {parameter.name: parameter.array for parameter in parameters}


def load_state_dict(
    optimizer: HasState, state_dict: Any, params: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Check all of a state dict, and of parameters if given, then write it into an optimizer."""
    checked_state(optimizer, state_dict, params)()


def checked_state(
    optimizer: HasState, state_dict: Any, params: Mapping[str, NDArray[Any]] | None = None
) -> Callable[[], None]:
    """Check all of a state dict, and of parameters if given. Return a function that writes it."""
    if isinstance(state_dict, Mapping):
        check_format("state_dict", state_dict.get("format"))
        if "skips" not in state_dict:
            # An older version left it out.
            state_dict = {**state_dict, "skips": 0}
        if state_dict.get("format") == 1:
            # Which knew no others, and no noise.
            seed = optimizer._stepper.seed
            state_dict = {**state_dict, "storage": {**NO_STORAGE.options(), "seed": seed}}
    keys = ("format", "rule", "t", "skips", "storage", "average", "groups", "state", "averages")
    check_keys("state_dict", state_dict, keys)
    groups, parameters = optimizer._groups, optimizer._parameters
    rule, t, average = type(optimizer).__name__, state_dict["t"], state_dict["average"]
    if state_dict["rule"] != rule:
        raise ValueError(f"state_dict has the rule {state_dict['rule']!r}; wanted {rule!r}")
    check_integer("t", t, least=0)
    if t >= TOO_MANY_STEPS:
        raise ValueError(f"t is {t}; wanted less than {TOO_MANY_STEPS}")
    check_integer("skips", state_dict["skips"], least=0)
    if state_dict["skips"] >= TOO_MANY_STEPS:
        raise ValueError(f"skips is {state_dict['skips']}; wanted less than {TOO_MANY_STEPS}")
    t, skips = int(t), int(state_dict["skips"])
    seed = check_saved(state_dict["storage"], optimizer._storage)
    if (average is None) != (optimizer._average is None):
        has, wanted = ("no", "some") if average is None else ("some", "none")
        remedy = "without average" if average is None else "with average=0.999 or another decay"
        raise ValueError(
            f"state_dict has {has} averages of the parameters; wanted {wanted}: make the optimizer "
            f"{remedy}"
        )
    if average is not None:
        average = check_number("average", average, below=1.0)
    _check_names(parameters, state_dict["groups"])
    updates = _updates(groups, parameters, state_dict["groups"], t)
    updates.append((optimizer.__dict__, {"_average": average}))
    found = [
        *pairs("state", {p.name: p.states for p in parameters}, state_dict["state"]),
        *pairs("averages", _averages(parameters), state_dict["averages"]),
    ]
    if params is not None:
        # Otherwise nobody would see that they were put back.
        optimizer._refuse_detached()
        found += pairs("params", arrays_of(parameters), params)
    # An array that shares memory with one that is written would change before it is read.
    own = [array for _, array, _ in found]
    spans = _Spans(own)
    sources = [given.copy() if spans.may_share(given) else given for _, _, given in found]

    def describe(role: int, index: int) -> str:
        return f"{found[index][0]}{' of the optimizer' if role == 0 else ''}"

    numbers = t, skips, seed
    restore = optimizer._stepper.restore
    return lambda: restore(tuple(own), tuple(sources), numbers, updates, describe)


class _Spans:
    """The memory of some arrays."""

    def __init__(self, arrays: list[NDArray[Any]]) -> None:
        bounds = sorted(_bounds(array) for array in arrays if array.size)
        self.starts = [start for start, _ in bounds]
        # The largest end so far.
        self.ends = list(itertools.accumulate((end for _, end in bounds), max))

    def may_share(self, array: NDArray[Any]) -> bool:
        """Return whether an array may share memory with these."""
        if not array.size:
            return False
        start, end = _bounds(array)
        before = bisect.bisect_left(self.starts, end)
        return before > 0 and self.ends[before - 1] > start


def _bounds(array: NDArray[Any]) -> tuple[int, int]:
    """Return the addresses of the first byte and of the one after the last."""
    start = end = array.__array_interface__["data"][0]
    for n, stride in zip(array.shape, array.strides, strict=True):
        start, end = start + min(0, (n - 1) * stride), end + max(0, (n - 1) * stride)
    return start, end + array.itemsize


def _updates(
    groups: list[Group], parameters: list[Parameter], saved: list[Any], t: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the new options and the new carried numbers of each group."""
    updates: list[tuple[dict[str, Any], dict[str, Any]]] = []
    # Groups without names, of which there may be several, are matched in order.
    same: dict[frozenset[str], list[int]] = {}
    for number, entry in reversed(list(enumerate(saved))):
        same.setdefault(frozenset(entry["names"]), []).append(number)
    holder = {name: number for number, entry in enumerate(saved) for name in entry["names"]}
    for group, names in zip(groups, _names_by_group(groups, parameters), strict=True):
        numbers = same.get(frozenset(names))
        number = numbers.pop() if numbers else None
        options = group.options
        if number is not None:
            options = _checked_options(f"groups[{number}]", group, saved[number])
        elif names:
            # It was grouped differently: a group keeps its own options.
            number = holder[names[0]]
        label = group.name if options is group.options else f"groups[{number}]"
        with _within(label):
            checked = group.rule.checked(options)
        carried = _checked_carried(group, checked, number, saved, t)
        with _within(label):
            group.check(options, t + 1, carried)
        if options is not group.options:
            updates.append((group.options, options))
        if carried:
            updates += [(group.carried, carried), (group.carried_at, {"t": t})]
    return updates


@contextmanager
def _within(name: str) -> Iterator[None]:
    """Put the name of the whole in front of what errors say about a part."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    except (OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"{name} has numbers that no step can be done with: {error}") from error


def _checked_carried(
    group: Group, checked: dict[str, Any], number: int | None, saved: list[Any], t: int
) -> dict[str, float]:
    """Return the numbers that a group carries, computed again if none are given.

    An older version left them out, and this one does if `t` was assigned.
    """
    given = None if number is None else saved[number].get("carried")
    if given is None:
        return group.rule.carried(checked, t)
    name = f"groups[{number}]['carried']"
    check_keys(name, given, group.rule.carried(checked, 0))
    # No rule carries a number that is negative.
    return {key: check_number(f"{name}[{key!r}]", value) for key, value in given.items()}


def check_format(name: str, version: Any) -> None:
    """Check that this version of instep knows the format."""
    if type(version) is not int or version < 1:
        raise ValueError(f"{name} has the format {version!r}, which is not one of instep's")
    if version > FORMAT:
        raise ValueError(
            f"{name} has the format {version}, and this instep knows those up to {FORMAT}; a newer "
            "one will read it"
        )


def _check_names(parameters: list[Parameter], saved: Any) -> None:
    """Check that there are the same names, in groups of any kind."""
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"groups is {kind_of(saved)}; wanted a list")
    given: list[str] = []
    for i, group in enumerate(saved):
        has_carried = isinstance(group, Mapping) and "carried" in group
        check_keys(
            f"groups[{i}]", group, ("options", "recipe", "names", *["carried"] * has_carried)
        )
        names = group["names"]
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            raise TypeError(f"groups[{i}]['names'] is {names!r}; wanted a list of str")
        given += names
    # Over all groups at once, so that the message has every name that is wrong.
    check_keys("state_dict", dict.fromkeys(given), [parameter.name for parameter in parameters])
    if len(given) != len(set(given)):
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"groups has the name {twice!r} twice")


def _checked_options(name: str, group: Group, saved: Any) -> dict[str, Any]:
    """Return the new options of a group, with those that are not stored."""
    own = group.own_options()
    check_keys(f"{name}['options']", saved["options"], own)
    options = {
        option: _checked_option(f"{name}['options'][{option!r}]", value, saved["options"][option])
        for option, value in own.items()
    }
    options = {**group.options, **options}
    with _within(name):
        recipe = group.rule.recipe(options, 1)
    if saved["recipe"] != recipe:
        raise ValueError(f"{name}['recipe'] {group.rule.not_the_same(saved['recipe'], recipe)}")
    return options


def _checked_option(name: str, own: Any, saved: Any) -> Any:
    """Return the new value of an option, if it is of the same kind as the optimizer's own."""
    if callable(own):
        if saved is not None:
            _checked_number(name, saved)
        return own
    if saved is None:
        raise ValueError(
            f"{name} was a callable, which is not stored, and the optimizer has {own!r}; make it "
            "with a callable too, or put a number into the state dict"
        )
    like = _plain(own)
    if isinstance(like, list):
        if not isinstance(saved, (list, tuple)):
            raise TypeError(f"{name} is {saved!r}; wanted a list of numbers, like {own!r}")
        return tuple(_checked_number(f"{name}[{i}]", number) for i, number in enumerate(saved))
    if isinstance(like, float):
        return _checked_number(name, saved)
    if not isinstance(saved, (bool, np.bool_) if isinstance(like, bool) else str):
        raise TypeError(f"{name} is {saved!r}; wanted a value like {own!r}")
    return _plain(saved)


def _checked_number(name: str, number: Any) -> float:
    return check_number(name, number, least=-math.inf)


def _plain(option: Any) -> Any:
    """Return an option as a str, bool, float or list of floats; None for a callable."""
    if callable(option):
        return None
    if isinstance(option, str):
        return option
    if isinstance(option, (bool, np.bool_)):
        return bool(option)
    return [float(number) for number in option] if np.ndim(option) else float(option)


def pairs(name: str, own: Any, given: Any) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield the arrays of two dicts, or dicts of dicts, by name, after checking those given."""
    check_keys(name, given, own)
    for key, array in own.items():
        inner = f'{name}["{key}"]'
        if isinstance(array, dict):
            yield from pairs(inner, array, given[key])
        else:
            other = given[key]
            if isinstance(other, np.ndarray) and array.dtype.name == "bfloat16":
                # A file has the bits as uint16.
                other = other.view(array.dtype) if other.dtype == np.uint16 else other
            check_like(inner, other, array)
            if not array.flags.writeable:
                raise ValueError(
                    f"{inner} of the optimizer is read-only, and loading writes it; make it "
                    "writable, or make a new optimizer"
                )
            yield inner, array, other
