r"""Checkpoints: the state of an optimizer as a dict, and that dict as a file.

`Optimizer.state_dict`, `load_state_dict`, `save` and `load` are what to call; this is how they do
it. A file is in the safetensors format, which other tools read too. Its tensors are

- ``state/<name>/<state>``: a state array of the parameter of that name,
- ``averages/<name>``: the moving average of a parameter, where one is kept.

In these names, a backslash is doubled and a lone surrogate, which UTF-8 lacks, is ``\udc80``. The
metadata are JSON texts: ``kind``, then ``format``, ``rule``, ``t``, ``average`` and ``groups`` as
in the dict, and ``crc32``, the checksum of all the rest.
"""

import bisect
import itertools
import json
import os
import secrets
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instep._instep import Stepper
from instep.checks import check_integer, check_keys, check_like, check_number, kind_of
from instep.groups import Group, Parameter
from instep.rule import TOO_MANY_STEPS

__all__ = ["FORMAT", "HasState", "load", "load_state_dict", "save", "state_dict"]

FORMAT = 1
"""The version of the format that this writes, and the newest that it reads."""

_KIND = json.dumps("state of an instep optimizer")


class HasState(Protocol):
    """An optimizer, as far as its state goes."""

    _parameters: list[Parameter]
    _groups: list[Group]
    _stepper: Stepper
    _average: float | None


def state_dict(optimizer: HasState) -> dict[str, Any]:
    """Return the state dict of an optimizer, all of it as it is at one moment between two steps."""
    parameters = [_like(parameter) for parameter in optimizer._parameters]
    targets, sources = _states(parameters), _states(optimizer._parameters)
    groups = optimizer._groups
    dicts = [*(group.options for group in groups), *(group.carried for group in groups)]
    t, copies = optimizer._stepper.copy(targets, sources, dicts, _name_copied)
    options, carried = copies[: len(groups)], copies[len(groups) :]
    return _assemble(optimizer, parameters, t, options, carried)


def _like(parameter: Parameter) -> Parameter:
    """Return a parameter with room for the states and the average of another."""
    like = Parameter(parameter.name, parameter.path, parameter.array)
    like.group = parameter.group
    like.states = {
        state: np.empty_like(array, subok=False) for state, array in parameter.states.items()
    }
    if parameter.average is not None:
        like.average = np.empty_like(parameter.average, subok=False)
    return like


def _states(parameters: list[Parameter]) -> tuple[NDArray[Any], ...]:
    return tuple(array for parameter in parameters for array in parameter.arrays()[1:])


def _name_copied(role: int, index: int) -> str:
    return f"array {index} of the {('copy', 'optimizer')[role]}"


def _assemble(
    optimizer: HasState,
    parameters: list[Parameter],
    t: int,
    options: list[dict[str, Any]],
    carried: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return a state dict with these arrays in it."""
    groups = []
    for number, group in enumerate(optimizer._groups):
        own = {name: _plain(options[number][name]) for name in group.own_options()}
        names = [parameter.name for parameter in parameters if parameter.group == number]
        # The recipe of the first step: RAdam's changes on the way, its states do not.
        recipe = group.rule.recipe(group.options, 1)
        entry = {"options": own, "recipe": recipe, "names": names}
        if carried[number]:
            entry["carried"] = dict(carried[number])
        groups.append(entry)
    return {
        "format": FORMAT,
        "rule": type(optimizer).__name__,
        "t": t,
        "average": optimizer._average,
        "groups": groups,
        "state": {parameter.name: parameter.states for parameter in parameters},
        "averages": _averages(parameters),
    }


def _averages(parameters: list[Parameter]) -> dict[str, NDArray[Any]]:
    return {p.name: p.average for p in parameters if p.average is not None}


def load_state_dict(optimizer: HasState, state_dict: Any) -> None:
    """Check all of a state dict, then write it into an optimizer."""
    if isinstance(state_dict, Mapping):
        _check_format("state_dict", state_dict.get("format"))
    keys = ("format", "rule", "t", "average", "groups", "state", "averages")
    check_keys("state_dict", state_dict, keys)
    groups, parameters = optimizer._groups, optimizer._parameters
    rule, t, average = type(optimizer).__name__, state_dict["t"], state_dict["average"]
    if state_dict["rule"] != rule:
        raise ValueError(f"state_dict has the rule {state_dict['rule']!r}; wanted {rule!r}")
    check_integer("t", t, least=0)
    if t >= TOO_MANY_STEPS:
        raise ValueError(f"t is {t}; wanted less than {TOO_MANY_STEPS}")
    t = int(t)
    if (average is None) != (optimizer._average is None):
        has, wanted = ("no", "some") if average is None else ("some", "none")
        raise ValueError(f"state_dict has {has} averages of the parameters; wanted {wanted}")
    if average is not None:
        average = check_number("average", average, below=1.0)
    _check_names(groups, parameters, state_dict["groups"])
    pairs = [
        *_pairs("state", {p.name: p.states for p in parameters}, state_dict["state"]),
        *_pairs("averages", _averages(parameters), state_dict["averages"]),
    ]
    # What shares memory with an array that is written would change before it is read.
    own = [array for _, array, _ in pairs]
    spans = _Spans(own)
    sources = [given.copy() if spans.may_share(given) else given for _, _, given in pairs]
    updates = _updates(groups, parameters, state_dict["groups"], t)
    updates.append((optimizer.__dict__, {"_average": average}))

    def describe(role: int, index: int) -> str:
        return f"{pairs[index][0]}{' of the optimizer' if role == 0 else ''}"

    optimizer._stepper.restore(tuple(own), tuple(sources), t, updates, describe)


class _Spans:
    """The memory of some arrays."""

    def __init__(self, arrays: list[NDArray[Any]]) -> None:
        bounds = sorted(_bounds(array) for array in arrays if array.size)
        self.starts = [start for start, _ in bounds]
        # The largest end so far.
        self.ends = list(itertools.accumulate((end for _, end in bounds), max))

    def may_share(self, array: NDArray[Any]) -> bool:
        """Return whether the memory of an array may be among that of these."""
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
    groups: list[Group], parameters: list[Parameter], saved: Any, t: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what becomes of the options and of the carried numbers of each group."""
    updates = []
    for number, group in enumerate(groups):
        names = {p.name for p in parameters if p.group == number}
        # Where the state was grouped otherwise, groups keep the options that they have.
        same = [entry for entry in saved if set(entry["names"]) == names]
        entries = same or [entry for entry in saved if names & set(entry["names"])]
        label = f"groups[{saved.index(entries[0])}]"
        options = dict(group.options)
        if same:
            options = _checked_options(label, group, same[0], t)
            updates.append((group.options, options))
        carried = _checked_carried(label, group, options, entries[0], t)
        updates += [(group.carried, carried), (group.carried_at, {"t": t})]
    return updates


def _checked_carried(
    name: str, group: Group, options: dict[str, Any], saved: Any, t: int
) -> dict[str, float]:
    """Return the numbers that a group carries, made anew where an older version left them out."""
    wanted = group.rule.carried(group.rule.checked({**group.options, **options}), t)
    given = saved.get("carried")
    if given is None:
        return wanted
    check_keys(f"{name}['carried']", given, wanted)
    return {key: check_number(f"{name}['carried'][{key!r}]", given[key]) for key in wanted}


def save(optimizer: HasState, path: str | os.PathLike[str]) -> None:
    """Write the state of an optimizer into a file."""
    stepper = optimizer._stepper
    if stepper.averages_are_in:
        raise RuntimeError("the state was copied, saved or loaded within averaged()")
    before = stepper.changes
    options = [dict(group.options) for group in optimizer._groups]
    carried = [dict(group.carried) for group in optimizer._groups]
    live = _assemble(optimizer, optimizer._parameters, stepper.t, options, carried)
    # Written as it is, without a copy; if a step came in between, a copy is written instead.
    if not write(path, live, lambda: stepper.changes == before):
        write(path, state_dict(optimizer))


def load(optimizer: HasState, path: str | os.PathLike[str]) -> None:
    """Go on from where the optimizer was that was saved to a file."""
    read_dict = read(path)
    try:
        load_state_dict(optimizer, read_dict)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def _check_format(name: str, version: Any) -> None:
    if type(version) is not int or version < 1:
        raise ValueError(f"{name} has the format {version!r}, which is none of instep's")
    if version > FORMAT:
        raise ValueError(
            f"{name} has the format {version}, and this instep knows those up to {FORMAT}; a newer "
            "one will read it"
        )


def _check_names(groups: list[Group], parameters: list[Parameter], saved: Any) -> None:
    """Check that there are the same names, in groups of any kind."""
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"groups is {kind_of(saved)}; wanted a list")
    for i, group in enumerate(saved):
        if isinstance(group, Mapping) and "carried" in group:
            check_keys(f"groups[{i}]", group, ("options", "recipe", "names", "carried"))
        else:
            check_keys(f"groups[{i}]", group, ("options", "recipe", "names"))
        names = group["names"]
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            raise TypeError(f"groups[{i}]['names'] is {names!r}; wanted a list of str")
    # Over all groups at once, so that the message has every name that is wrong.
    wanted = [parameter.name for parameter in parameters]
    given = [name for group in saved for name in group["names"]]
    check_keys("state_dict", dict.fromkeys(given), wanted)
    if len(given) != len(set(given)):
        raise ValueError("groups has a name twice")


def _checked_options(name: str, group: Group, saved: Any, t: int) -> dict[str, Any]:
    """Return what the options of a group are to be, checked for the step after `t`."""
    own = group.own_options()
    check_keys(f"{name}['options']", saved["options"], own)
    options = {
        option: _checked_option(f"{name}['options'][{option!r}]", value, saved["options"][option])
        for option, value in own.items()
    }
    try:
        group.check(options, t + 1)
        recipe = group.rule.recipe(options, 1)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}['options']: {error}") from None
    if saved["recipe"] != recipe:
        raise ValueError(
            f"{name}['recipe'] is {saved['recipe']!r}; its options are those of {recipe!r}"
        )
    return options


def _checked_option(name: str, own: Any, saved: Any) -> Any:
    """Return what an option is to be, if it is of the kind of the optimizer's own."""
    if callable(own):
        return own
    if saved is None:
        raise ValueError(
            f"{name} was a callable, which is not stored, and the optimizer has {own!r}; make it "
            "with a callable too, or put a number into the state dict"
        )
    try:
        plain, like = _plain(saved), _plain(own)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {saved!r}; wanted a number, a string or a list") from None
    if isinstance(plain, str) != isinstance(like, str):
        raise TypeError(f"{name} is {saved!r}; wanted the like of {own!r}")
    return tuple(plain) if isinstance(plain, list) else plain


def _plain(option: Any) -> Any:
    """Return an option as a str, bool, float or list of floats; None for a callable."""
    if callable(option):
        return None
    if isinstance(option, str):
        return option
    if isinstance(option, (bool, np.bool_)):
        return bool(option)
    return [float(number) for number in option] if np.ndim(option) else float(option)


def _pairs(name: str, own: Any, given: Any) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Pair the arrays of two dicts, or dicts of dicts, after checking those given."""
    check_keys(name, given, own)
    for key, array in own.items():
        inner = f'{name}["{key}"]'
        if isinstance(array, dict):
            yield from _pairs(inner, array, given[key])
        else:
            check_like(inner, given[key], array)
            if not array.flags.writeable:
                raise ValueError(f"{inner} of the optimizer is read-only")
            yield inner, array, given[key]


def write(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Any],
    is_whole: Callable[[], bool] = lambda: True,
) -> bool:
    """Write a state dict into a file, which stays as it was until the new one is on disk.

    Returns whether it did: not if `is_whole` says no once all is written.
    """
    _require_safetensors()
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {f"averages/{_escape(name)}": a for name, a in state_dict["averages"].items()}
    for name, states in state_dict["state"].items():
        arrays |= {f"state/{_escape(name)}/{state}": array for state, array in states.items()}
    # The library writes the memory behind an array as if it were dense and in C order.
    arrays = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    others = {key: value for key, value in state_dict.items() if key not in ("state", "averages")}
    metadata = {"kind": _KIND} | {key: json.dumps(value) for key, value in others.items()}
    metadata["crc32"] = _crc32(metadata, arrays)

    # Whoever saves to a link means what it leads to.
    target = Path(path).resolve()
    temporary = target.with_name(f".instep-{secrets.token_hex(8)}.tmp")
    try:
        temporary.open("xb").close()
        mode = temporary.stat().st_mode
        save_file(arrays, temporary, metadata)
        # The library put a file of its own there, which only its owner may read.
        temporary.chmod(stat.S_IMODE(mode))
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        if not is_whole():
            temporary.unlink()
            return False
        temporary.replace(target)
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written: {error}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)
    return True


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the state dict that is in a file."""
    _require_safetensors()
    from safetensors import SafetensorError, safe_open

    Path(path).open("rb").close()  # for the usual errors of a file that is not there
    try:
        with safe_open(path, framework="numpy", backend="pread") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != _KIND:
                raise ValueError(f"{path} is a safetensors file, but instep did not save it")
            version = metadata.get("format", "")
            _check_format(str(path), int(version) if version.isdecimal() else version)
            arrays = file.get_tensors()
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated, corrupt or no safetensors file: {error}") from None
    if metadata.pop("crc32", None) != _crc32(metadata, arrays):
        raise ValueError(f"{path} is corrupt: its checksum is not that of its content")
    try:
        return _from_file(metadata, arrays)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path} has content that instep does not write") from None


def _from_file(metadata: dict[str, str], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the state dict that the parts of a file are of."""
    state_dict = {key: json.loads(text) for key, text in metadata.items() if key != "kind"}
    names = {_escape(name): name for group in state_dict["groups"] for name in group["names"]}
    state: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in names.values()}
    averages: dict[str, NDArray[Any]] = {}
    for key, array in arrays.items():
        kind, _, name = key.partition("/")
        if kind == "averages":
            averages[names[name]] = array
        else:
            name, _, of = name.rpartition("/")
            state[names[name]][of] = array
    return {**state_dict, "state": state, "averages": averages}


def _require_safetensors() -> None:
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise ImportError(
            "save and load take the package safetensors: pip install 'instep[checkpoint]'"
        ) from None


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode()


def _crc32(metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a checksum of all that a file says: the format itself has none."""
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for key, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{key} {array.dtype} {array.shape} ".encode(), crc)
        crc = zlib.crc32(array.data, crc)
    return f"{crc:08x}"


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows can't open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
