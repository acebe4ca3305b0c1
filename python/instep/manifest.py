"""What the folder of an optimizer was made with, and must be opened with."""

from typing import Any

from numpy.typing import NDArray

from instep.chunked import Chunked
from instep.parts import axes_in_memory

__all__ = ["check_manifest", "grown", "manifest"]


def manifest(own: Chunked) -> dict[str, Any]:
    """Return what a folder has to be opened with, as JSON has it."""
    said = own.said()
    return {
        "rule": said["rule"],
        "average": said["average"],
        "storage": said["storage"],
        "parameters": [
            [p.name, p.array.dtype.name, list(p.array.shape), _axes(p.array), p.decays]
            for p in own.members
        ],
        "groups": [
            {key: group[key] for key in ("names", "recipe", "options")} for group in said["groups"]
        ],
    }


def grown(made: dict[str, Any], own: Chunked) -> dict[str, Any]:
    """Return what a folder has to be opened with after a group was added to its optimizer."""
    now = manifest(own)
    added = {key: [*made[key], *now[key][len(made[key]) :]] for key in ("parameters", "groups")}
    return {**made, **added}


def _axes(array: NDArray[Any]) -> list[int]:
    """Return the axes in the order of memory, without those of length 1, which have no place."""
    return [axis for axis in axes_in_memory(array) if array.shape[axis] > 1]


def check_manifest(path: str, has: dict[str, Any], given: dict[str, Any]) -> None:
    """Check that a folder is opened with what it was made with."""
    if has["rule"] != given["rule"]:
        raise ValueError(f"{path} was made by {has['rule']}; wanted {given['rule']}")
    names = [[p[0] for p in made["parameters"]] for made in (has, given)]
    if names[0] != names[1]:
        raise ValueError(f"{path} has the parameters {names[0]}; wanted {names[1]}, as given now")
    parts = ("dtype", "shape", "order of axes in memory", "weight decay")
    for old, new in zip(has["parameters"], given["parameters"], strict=True):
        for part, one, other in zip(parts, old[1:], new[1:], strict=True):
            if one != other:
                raise ValueError(
                    f"{path} has {old[0]!r} with the {part} {one}; wanted {other}, as given now"
                )
    groups = [[group["names"] for group in made["groups"]] for made in (has, given)]
    if groups[0] != groups[1]:
        raise ValueError(f"{path} has the groups {groups[0]}; wanted {groups[1]}, as given now")
    pairs = [("average", has["average"], given["average"])]
    pairs += [(name, has["storage"][name], value) for name, value in given["storage"].items()]
    for number, (old, new) in enumerate(zip(has["groups"], given["groups"], strict=True)):
        for option in {**old["options"], **new["options"]}:
            values = (group["options"].get(option) for group in (old, new))
            pairs.append((f"param_groups[{number}][{option!r}]", *values))
        pairs.append((f"the recipe of param_groups[{number}]", old["recipe"], new["recipe"]))
    for name, one, other in pairs:
        if one != other:
            # An option of a group that is stored as None is a callable.
            is_option = "]['" in name or '["' in name
            one, other = (
                "a callable" if v is None and is_option else repr(v) for v in (one, other)
            )
            raise ValueError(
                f"{path} was made with {name} {one}, and is opened with {other}; open it with the "
                "same, then assign to param_groups what is to change"
            )
