r"""Checkpoints: the state of an optimizer as a dict, and that dict as a file.

`Optimizer.state_dict`, `load_state_dict`, `save` and `load` are what to call; this is how they do
it. A file is in the safetensors format, which other tools read too. Its tensors are

- ``state/<name>/<state>``: a state array of the parameter of that name,
- ``averages/<name>``: the moving average of a parameter, where one is kept.

In these names, a backslash is doubled and a lone surrogate, which UTF-8 lacks, is ``\udc80``. The
metadata are JSON texts: ``kind``, then ``format``, ``rule``, ``t``, ``average`` and ``groups`` as
in the dict, and ``crc32``, the checksum of all the rest.
"""

import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instep.checks import check_integer, check_keys, check_like, check_number
from instep.optimizer import TOO_MANY_STEPS
from instep.uninterrupted import call_all, copying

if TYPE_CHECKING:
    from instep.optimizer import Optimizer, _Group

__all__ = ["FORMAT", "collect", "read", "restore", "write"]

FORMAT = 1
"""The version of the format that this writes, and the newest that it reads."""

_KIND = json.dumps("state of an instep optimizer")


def collect(optimizer: "Optimizer", groups: list["_Group"]) -> dict[str, Any]:
    """Return the state dict of an optimizer, with the optimizer's own arrays in it."""
    kept = groups[0].kept
    return {
        "format": FORMAT,
        "rule": type(optimizer).__name__,
        "t": optimizer.t,
        "average": None if kept is None else kept[0],
        "groups": [
            {
                "options": {name: _plain(own) for name, own in _own_options(group).items()},
                # That of the first step: RAdam's changes on the way, its states do not.
                "recipe": group.rule.recipe(group.options, 1),
                "names": list(group.names),
            }
            for group in groups
        ],
        "state": optimizer.state,
        "averages": _own_averages(groups),
    }


def restore(optimizer: "Optimizer", groups: list["_Group"], state_dict: Any) -> None:
    """Check all of a state dict, then write it into an optimizer."""
    if isinstance(state_dict, Mapping):
        _check_format("state_dict", state_dict.get("format"))
    keys = ("format", "rule", "t", "average", "groups", "state", "averages")
    check_keys("state_dict", state_dict, keys)
    rule, t, average = type(optimizer).__name__, state_dict["t"], state_dict["average"]
    if state_dict["rule"] != rule:
        raise ValueError(f"state_dict has the rule {state_dict['rule']!r}; wanted {rule!r}")
    check_integer("t", t, least=0)
    if t >= TOO_MANY_STEPS:
        raise ValueError(f"t is {t}; wanted less than {TOO_MANY_STEPS}")
    if (average is None) != (groups[0].kept is None):
        has, wanted = ("no", "some") if average is None else ("some", "none")
        raise ValueError(f"state_dict has {has} averages of the parameters; wanted {wanted}")
    if average is not None:
        average = check_number("average", average, below=1.0)
    _check_names(groups, state_dict["groups"])
    options = [
        _checked_options(f"groups[{i}]", group, saved, int(t))
        for i, (group, saved) in enumerate(zip(groups, state_dict["groups"], strict=True))
    ]
    pairs = [
        *_pairs("state", optimizer.state, state_dict["state"]),
        *_pairs("averages", _own_averages(groups), state_dict["averages"]),
    ]
    # A view of an array that is written would change before it is read.
    written = {id(own) for own, _ in pairs}
    pairs = [
        (own, given.copy() if written & {id(given), id(given.base)} else given)
        for own, given in pairs
    ]

    # All is checked: nothing fails from here on.
    calls = [copying(own, given) for own, given in pairs]
    for group, values in zip(groups, options, strict=True):
        calls.append(partial(group.options.update, values))
        if group.kept is not None:
            calls.append(partial(setattr, group, "kept", (average, group.kept[1])))
    calls += [
        partial(setattr, optimizer._stepper, "t", int(t)),
        partial(setattr, optimizer, "_average", average),
    ]
    call_all(calls)


def _check_format(name: str, version: Any) -> None:
    if type(version) is not int or version < 1:
        raise ValueError(f"{name} has the format {version!r}, which is none of instep's")
    if version > FORMAT:
        raise ValueError(
            f"{name} has the format {version}, and this instep knows those up to {FORMAT}; a newer "
            "one will read it"
        )


def _check_names(groups: list["_Group"], saved: Any) -> None:
    """Check that there are the same groups, of the same names in any order."""
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"groups is a {type(saved).__name__}; wanted a list")
    if len(saved) != len(groups):
        raise ValueError(f"groups has length {len(saved)}; wanted {len(groups)}")
    for i, group in enumerate(saved):
        check_keys(f"groups[{i}]", group, ("options", "recipe", "names"))
        names = group["names"]
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            raise TypeError(f"groups[{i}]['names'] is {names!r}; wanted a list of str")
    # Over all groups at once, so that the message has every name that is wrong.
    wanted = [name for group in groups for name in group.names]
    check_keys("state_dict", {name: 0 for group in saved for name in group["names"]}, wanted)
    for i, (group, own) in enumerate(zip(saved, groups, strict=True)):
        if sorted(group["names"]) != sorted(own.names):
            raise ValueError(f"groups[{i}]['names'] is {group['names']}; wanted {own.names}")


def _checked_options(name: str, group: "_Group", saved: Any, t: int) -> dict[str, Any]:
    """Return what the options of a group are to be, checked for the step after `t`."""
    own = _own_options(group)
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


def _own_options(group: "_Group") -> dict[str, Any]:
    return {name: option for name, option in group.options.items() if name != "params"}


def _own_averages(groups: list["_Group"]) -> dict[str, NDArray[Any]]:
    return {
        name: average
        for group in groups
        if group.kept is not None
        for name, average in zip(group.names, group.kept[1], strict=True)
    }


def _pairs(name: str, own: Any, given: Any) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
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
            yield array, given[key]


def write(path: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write a state dict into a file, which stays as it was until the new one is on disk."""
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
        temporary.replace(target)
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written: {error}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


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
        return _assemble(metadata, arrays)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path} has content that instep does not write") from None


def _assemble(metadata: dict[str, str], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
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
