"""What the kernel is told of large arrays in files: only while a step lasts."""

import pickle
import re
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep import mapped
from instep.disk import Streamed


def advised(path: Path) -> bool:
    """Return whether the kernel was told that a file is read in order."""
    text = Path("/proc/self/smaps").read_text()
    (flags,) = re.findall(rf"{re.escape(str(path))}\n(?:[A-Z].*\n)*?VmFlags: (.*)", text)
    return "sr" in flags.split()


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_LARGE", 4000)


def in_file(path: Path, values: Array) -> Array:
    array = np.memmap(path, values.dtype, "w+", shape=values.shape)
    array[...] = values
    return array


def test_it_is_told_so_while_a_step_lasts(tmp_path: Path) -> None:
    names = ("W", "G", "W-m", "W-v", "small")
    paths = {name: tmp_path / name for name in names}

    def state(name: str, which: str, shape: tuple[int, ...], dtype: Any) -> Array:
        if name == "b":
            return np.empty(shape, dtype)
        return in_file(paths[f"{name}-{which}"], np.empty(shape, dtype))

    params = {
        "W": in_file(paths["W"], np.ones(1000, np.float32)),
        "b": in_file(paths["small"], np.ones(10, np.float32)),
    }
    grads = {"W": in_file(paths["G"], np.ones(1000, np.float32)), "b": np.ones(10, np.float32)}
    own = {name: np.ones_like(p, subok=False) for name, p in params.items()}
    one = instep.Adam(own)

    seen: list[dict[str, bool]] = []

    def rate(_: int) -> float:
        if all(path.exists() for path in paths.values()):
            seen.append({name: advised(path) for name, path in paths.items()})
        return 0.001

    opt = instep.Adam(params, state=state, lr=rate)
    seen.clear()
    for _ in range(2):
        assert opt.step(grads) == one.step(grads)
        wanted = {name: name != "small" for name in names}
        assert seen.pop() == wanted
        assert not any(map(advised, paths.values()))
    with pytest.raises(ValueError, match="has shape"):
        opt.step({**grads, "W": grads["b"]})
    assert not any(map(advised, paths.values()))
    for name, array in own.items():
        assert_same_bits(np.asarray(params[name]), array, name)
    with pytest.raises(KeyError, match="is missing"):
        opt.step({"W": grads["W"]})


def test_a_streamed_step_says_so_too(tmp_path: Path) -> None:
    params = {"W": in_file(tmp_path / "W", np.ones(1000, np.float32))}
    seen: list[bool] = []
    with Streamed(instep.Adam, params, folder=tmp_path / "folder") as opt:
        opt.step(
            {"W": np.ones(1000, np.float32)},
            progress=lambda *_: seen.append(advised(tmp_path / "W")),
        )
    assert seen == [True]
    assert not advised(tmp_path / "W")


def test_many_groups_are_looked_at_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from instep.groups import Parameter

    looks, real = [], Parameter.arrays

    def arrays(own: Parameter) -> list[Any]:
        looks.append(own)
        return real(own)

    monkeypatch.setattr(Parameter, "arrays", arrays)
    instep.Adam([{"params": np.ones(2)} for _ in range(100)])
    assert len(looks) <= 300


def test_copies_have_maps_of_their_own(tmp_path: Path) -> None:
    params = {"W": in_file(tmp_path / "W", np.ones(1000, np.float32))}
    opt = instep.Adam(params)
    copied = pickle.loads(pickle.dumps(opt))
    grads = {"W": np.ones(1000, np.float32)}
    assert copied.step(grads) == opt.step(grads)
