"""Groups that are added to optimizers in files, averages in the place of parameters, and copies."""

import os
import shutil
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from disk_faults import BROKEN, CALLS, FULL, Faults, failing, failing_after
from instep.disk import Streamed
from mixed_params import Params, copied, make_params
from test_disk import content, make_grads
from test_sharded import groups_of


def grads_of(step: int, count: int) -> list[Params]:
    return [group["params"] for group in groups_of(make_grads(step))][:count]


def assert_same(own: Params, one: Any, theirs: Params, two: Streamed) -> None:
    assert (one.t, one.skips) == (two.t, two.skips)
    state = two.state
    for name, array in own.items():
        assert_same_bits(theirs[name], array, name)
    for key, states in one.state.items():
        assert state[key].keys() == states.keys()
        for which, whole in states.items():
            assert_same_bits(np.asarray(state[key][which]), whole, f"{key} {which}")
    for mine, yours in zip(one.averages, two.averages, strict=True):
        for name, whole in mine.items():
            assert_same_bits(np.asarray(yours[name]), whole, f"average of {name}")


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_a_group_that_is_added_has_the_bits_of_memory(chunk: int, tmp_path: Path) -> None:
    """The second one has a state more than the first, so a file is made for it."""
    options: dict[str, Any] = {
        "lr": 0.1,
        "average": 0.9,
        "weight_decay_mask": lambda name, _: "V" not in name,
        "freeze": lambda name, _: name in ("0.b", "1.strided"),
    }
    own, theirs = make_params(), make_params()
    mine, yours = groups_of(own), groups_of(theirs)
    for groups in (mine, yours):
        groups[0]["momentum"], groups[1]["momentum"] = 0.0, 0.9
    one = instep.SGD(mine[:1], **options)
    two = Streamed(instep.SGD, yours[:1], folder=tmp_path, chunk=chunk, **options)
    seen: list[int] = []
    two.register_step_post_hook(lambda _, result: seen.append(result.t))
    first = two.param_groups[0]
    for step in range(5):
        if step == 1:
            one.add_param_group(mine[1])
            two.add_param_group(yours[1])
            assert two.param_groups[0] is first
            assert_same(own, one, theirs, two)
        if step == 3:
            two.close()
            theirs = {name: np.zeros_like(array) for name, array in make_params().items()}
            yours = groups_of(theirs)
            yours[0]["momentum"], yours[1]["momentum"] = 0.0, 0.9
            with pytest.raises(ValueError, match=r"has the parameters .*; wanted"):
                Streamed(instep.SGD, yours[:1], folder=tmp_path, **options)
            two = Streamed(instep.SGD, yours, folder=tmp_path, **options)
        grads = grads_of(step, 1 + (step > 0))
        asked: dict[str, Any] = {"max_norm": 1.0} if step == 2 else {}
        assert two.step(grads, **asked) == one.step(grads, **asked)
        assert_same(own, one, theirs, two)
    assert seen == [1, 2, 3]
    two.close()


@pytest.mark.parametrize("act", [failing(FULL), failing_after(BROKEN)])
def test_a_disk_that_fails_adds_nothing(act: Any, tmp_path: Path) -> None:
    """At every write, flush and rename in turn; then the group is added all the same."""
    own, theirs = make_params(), make_params()
    mine, yours = groups_of(own), groups_of(theirs)
    one = instep.NAdam(mine[:1], average=0.9)
    opt = Streamed(instep.NAdam, yours[:1], folder=tmp_path, chunk=1 << 20, average=0.9)
    for each in (one, opt):
        each.step(grads_of(0, 1))
    at = broken = 0
    while True:
        faults = Faults((*CALLS, "posix_fallocate"), at, act)
        files = content(tmp_path)
        try:
            with faults.installed():
                opt.add_param_group(yours[1])
            break
        except OSError:
            pass
        if opt._broken is None:
            assert content(tmp_path) == files, faults.seen[at]
            assert len(opt.param_groups) == 1
            assert opt.state.keys() == {"0.W", "0.b", "0.F"}
        else:
            # It can't be known whether the last flush of the names has come.
            assert faults.seen[at] in ("replace", "fsync")
            broken += 1
            with pytest.raises(RuntimeError, match="open the folder again"):
                opt.step(grads_of(1, 1))
            opt.close()
            with Streamed(instep.NAdam, yours, folder=tmp_path, average=0.9) as again:
                assert len(again.param_groups) == 2
            for path in tmp_path.iterdir():
                path.unlink()
            theirs = make_params()
            yours = groups_of(theirs)
            opt = Streamed(instep.NAdam, yours[:1], folder=tmp_path, chunk=1 << 20, average=0.9)
            opt.step(grads_of(0, 1))
        at += 1
    assert at > 12
    assert broken <= 2
    one.add_param_group(mine[1])
    assert opt.step(grads_of(1, 2)) == one.step(grads_of(1, 2))
    assert_same(own, one, theirs, opt)
    opt.close()


def test_a_group_that_is_wrong_adds_nothing(tmp_path: Path) -> None:
    yours = groups_of(make_params())
    with Streamed(instep.Adam, yours[:1], folder=tmp_path, average=0.5) as opt:
        opt.step(grads_of(0, 1))
        files = content(tmp_path)
        with pytest.raises(ValueError, match="option 'beta'"):
            opt.add_param_group({**yours[1], "beta": 1})
        with pytest.raises(ValueError, match="same array as"):
            opt.add_param_group(yours[0])
        with opt.averaged(), pytest.raises(RuntimeError, match="within averaged"):
            opt.add_param_group(yours[1])
        assert content(tmp_path) == files
        opt.step(grads_of(1, 1))
        assert opt.t == 2


def test_averages_take_the_place_of_the_parameters(tmp_path: Path) -> None:
    own, theirs = make_params(), make_params()
    one = instep.Adam(own, average=0.5)
    two = Streamed(instep.Adam, theirs, folder=tmp_path, chunk=1 << 18, average=0.5)
    for step in range(2):
        for opt in (one, two):
            opt.step(make_grads(step))
    # What the program changes between steps comes back too.
    for params in (own, theirs):
        params["W"][1] *= 2
        params["strided"][2] = 3
    after, files = copied(theirs), content(tmp_path)
    with two.averaged():
        for name, average in one.averages.items():
            assert_same_bits(theirs[name], average, name)
            assert_same_bits(np.asarray(two.averages[name]), average, name)
        for call in (
            lambda: two.step(make_grads(2)),
            lambda: two.averaged().__enter__(),
            two.close,
        ):
            with pytest.raises(RuntimeError, match="was called within averaged"):
                call()
    for name, array in after.items():
        assert_same_bits(theirs[name], array, name)
    assert content(tmp_path) == files
    for name, array in after.items():
        assert_same_bits(theirs[name], array, name)
    assert two.step(make_grads(2)) == one.step(make_grads(2))
    for name, array in own.items():
        assert_same_bits(theirs[name], array, name)
    two.close()
    with Streamed(instep.Adam, make_params(), folder=tmp_path / "none") as opt:
        with pytest.raises(ValueError, match="no averages are kept"), opt.averaged():
            pass
        with pytest.raises(ValueError, match="no averages are kept"):
            opt.averages  # noqa: B018


def test_a_read_error_in_averaged_leaves_the_parameters_or_needs_the_folder_again(
    tmp_path: Path,
) -> None:
    params = make_params()
    opt = Streamed(instep.Adam, params, folder=tmp_path, chunk=1 << 18, average=0.5)
    opt.step(make_grads(0))
    params["W"][0] = 7
    before = copied(params)
    for at in (0, 2):
        reads = Faults(("preadv",), at, failing(BROKEN))
        with reads.installed(), pytest.raises(OSError, match="Errno 5"), opt.averaged():
            pass
        for name, array in before.items():
            assert_same_bits(params[name], array, name)
    averaged = opt.averaged()
    averaged.__enter__()
    with (
        Faults(("preadv",), 1, failing(BROKEN)).installed(),
        pytest.raises(OSError, match="Errno 5"),
    ):
        averaged.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="open the folder again"):
        opt.step(make_grads(1))
    opt.close()
    with Streamed(instep.Adam, params, folder=tmp_path, average=0.5) as opt:
        assert opt.t == 1
        opt.step(make_grads(1))


def test_a_copy_made_during_a_step_is_noticed(tmp_path: Path) -> None:
    """The record is of a step before, and the parameters are those of the step after the next."""
    folder, torn = tmp_path / "run", tmp_path / "torn"
    with Streamed(instep.Adam, make_params(), folder=folder, chunk=1 << 18) as opt:
        for step in range(2):
            opt.step(make_grads(step))
        shutil.copytree(folder, torn)
        for step in range(2, 4):
            opt.step(make_grads(step))
        for path in folder.glob("params.*"):
            shutil.copy(path, torn)
    with pytest.raises(ValueError, match=r"params\.0 is not what the last step wrote"):
        Streamed(instep.Adam, make_params(), folder=torn)
    with Streamed(instep.Adam, make_params(), folder=folder) as opt:
        assert opt.t == 4
    # One bit.
    path = folder / "params.0"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="it was changed, or the folder was copied during a step"):
        Streamed(instep.Adam, make_params(), folder=folder)


def test_room_that_was_left_over_is_given_back(tmp_path: Path) -> None:
    """As a program leaves it that is killed while it adds a group."""
    params = make_params()
    with Streamed(instep.Adam, params, folder=tmp_path) as opt:
        opt.step(make_grads(0))
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.[01]")}
    for path in tmp_path.glob("*.[01]"):
        os.truncate(path, sizes[path.name] + 4096)
    with Streamed(instep.Adam, params, folder=tmp_path) as opt:
        opt.step(make_grads(1))
    assert {path.name: path.stat().st_size for path in tmp_path.glob("*.[01]")} == sizes
