"""State dicts and files of optimizers in folders, which those in memory and over ranks take."""

import tracemalloc
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from disk_faults import BROKEN, CALLS, FULL, Faults, failing, failing_after
from instep.disk import Streamed
from instep.sharded import Sharded
from mixed_params import PIECE, Params, copied, make_params
from ranks import ThreadRank, run
from stored_steps import BFLOAT16
from test_disk import content, make_grads
from test_sharded_storage import make_grads as grads_in_16_bits
from test_sharded_storage import make_stored

OPTIONS: dict[str, Any] = {"lr": 0.01, "average": 0.9}

CHUNK = 1 << 18


def zeros() -> Params:
    return {name: np.zeros_like(array) for name, array in make_params().items()}


def assert_same(own: Params, one: Any, theirs: Params, two: Any) -> None:
    assert (one.t, one.skips) == (two.t, two.skips)
    state = two.state
    for name, array in own.items():
        assert_same_bits(theirs[name], array, name)
        for which, whole in one.state[name].items():
            assert_same_bits(np.asarray(state[name][which]), whole, f"{name} {which}")
        average = np.asarray(two.averages[name])
        assert_same_bits(average, one.averages[name], f"average of {name}")


def test_a_file_of_a_folder_is_that_of_memory_and_both_load_it(tmp_path: Path) -> None:
    own, theirs = make_params(), make_params()
    one = instep.NAdam(own, **OPTIONS)
    two = Streamed(instep.NAdam, theirs, folder=tmp_path / "run", chunk=CHUNK, **OPTIONS)
    for step in range(2):
        for opt in (one, two):
            opt.step(make_grads(step))
    extra = {"epoch": 3}
    for opt, name in ((one, "alone"), (two, "folder")):
        opt.save(tmp_path / name, params=True, extra=extra)
    assert (tmp_path / "folder").read_bytes() == (tmp_path / "alone").read_bytes()
    one.step(make_grads(2))
    two.step(make_grads(2))
    again = zeros()
    memory = instep.NAdam(again, **OPTIONS)
    assert memory.load(tmp_path / "folder") == extra
    memory.step(make_grads(2))
    assert_same(own, one, again, memory)

    # In another folder, in the same one, and after it is opened again.
    fresh = zeros()
    other = Streamed(instep.NAdam, fresh, folder=tmp_path / "other", chunk=1, **OPTIONS)
    for opt, params in ((other, fresh), (two, theirs)):
        assert opt.load(tmp_path / "folder") == extra
        opt.step(make_grads(2))
        assert_same(own, one, params, opt)
        opt.close()
    fresh = zeros()
    with Streamed(instep.NAdam, fresh, folder=tmp_path / "other", **OPTIONS) as other:
        other.step(make_grads(3))
        one.step(make_grads(3))
        assert_same(own, one, fresh, other)

    def loads(comm: ThreadRank) -> None:
        params = zeros()
        opt = Sharded(instep.NAdam, params, comm=comm, bucket_bytes=PIECE, **OPTIONS)
        assert opt.load(tmp_path / "folder") == extra
        grads = make_grads(2) if comm.rank == 0 else zeros()
        opt.step(grads)
        for name, array in again.items():
            assert_same_bits(params[name], array, name)

    run(2, loads)


def test_16_bits_go_from_folder_to_folder(tmp_path: Path) -> None:
    own, theirs = make_stored(BFLOAT16), make_stored(BFLOAT16)
    options: dict[str, Any] = {**OPTIONS, "state_dtype": "bfloat16", "master": "split"}
    one = instep.AdamW(own, seed=3, **options)
    with Streamed(instep.AdamW, theirs, folder=tmp_path / "run", **options) as two:
        for step in range(2):
            one.step(grads_in_16_bits(BFLOAT16, 0, step))
            if step == 0:
                one.save(tmp_path / "file", params=True)
                two.load(tmp_path / "file")
            else:
                two.step(grads_in_16_bits(BFLOAT16, 0, step))
        assert_same(own, one, theirs, two)


def test_a_state_dict_takes_no_copy_and_loads_everywhere(tmp_path: Path) -> None:
    own, theirs = make_params(), make_params()
    one = instep.Adam(own, **OPTIONS)
    two = Streamed(instep.Adam, theirs, folder=tmp_path / "run", chunk=CHUNK, **OPTIONS)
    for opt in (one, two):
        opt.step(make_grads(0))
    kept, then = two.state_dict(), copied(theirs)
    base = kept["state"]["W"]["m"]
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    memory = instep.Adam(copied(then), **OPTIONS)
    memory.load_state_dict(kept)
    for name, states in one.state.items():
        for which, whole in states.items():
            assert_same_bits(memory.state[name][which], whole, name)
    two.param_groups[0]["lr"] = 0.5
    two.step(make_grads(1))
    # The parameters are not in it: the program puts them back.
    for name, array in theirs.items():
        array[...] = then[name]
    two.load_state_dict(one.state_dict())
    assert two.param_groups[0]["lr"] == 0.01
    for opt in (one, two):
        opt.step(make_grads(1))
    assert_same(own, one, theirs, two)
    two.close()


def test_files_take_no_memory_for_all_of_the_state(tmp_path: Path) -> None:
    """Beside the ring, which is not traced, and one array that is not in C order."""
    size = 1_000_000
    params = {
        "W": np.zeros(3 * size, np.float32),
        "F": np.zeros((size // 1000, 1000), np.float32).T,
        "G": np.zeros((size // 1000, 1000), np.float32).T,
    }
    with Streamed(instep.AdamW, params, folder=tmp_path / "run", chunk=1, average=0.9) as opt:
        opt.step({name: np.ones_like(array) for name, array in params.items()})
        whole = sum(array.nbytes for own in opt.state.values() for array in own.values())
        tracemalloc.start()
        try:
            opt.save(tmp_path / "file", params=True)
            assert opt.load(tmp_path / "file") is None
            with opt.averaged():
                pass
            opt.load_state_dict(opt.state_dict())
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert whole == 2 * 4 * 5 * size
    assert most < 4 * size + 1_000_000


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    params = make_params()
    with Streamed(instep.Adam, params, folder=tmp_path / "run", chunk=CHUNK, **OPTIONS) as opt:
        opt.step(make_grads(0))
        good = instep.Adam(make_params(), **OPTIONS)
        good.step(make_grads(0))
        path = tmp_path / "file"
        good.save(path, params=True)
        whole = good.state_dict()
        before, files = copied(params), content(tmp_path / "run")
        narrow = {**whole["state"], "W": {**whole["state"]["W"], "m": np.zeros(3, np.float32)}}
        cases: list[tuple[type[Exception], str, Any]] = [
            (TypeError, "state_dict is", 3),
            (
                ValueError,
                "state_dict lacks 'state'",
                {k: v for k, v in whole.items() if k != "state"},
            ),
            (ValueError, r'state\["W"\]\["m"\] has shape', {**whole, "state": narrow}),
            (ValueError, "state lacks|W", {**whole, "state": {}}),
            (ValueError, "averages", {**whole, "averages": {}}),
            (ValueError, "has the rule 'AdamW'", {**whole, "rule": "AdamW"}),
            (TypeError, "t is 'x'", {**whole, "t": "x"}),
        ]
        for kind, match, given in cases:
            with pytest.raises(kind, match=match):
                opt.load_state_dict(given)
        data = path.read_bytes()
        (tmp_path / "flipped").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        with pytest.raises(ValueError, match="flipped is corrupt"):
            opt.load(tmp_path / "flipped")
        instep.Adam(make_params()).save(path)
        with pytest.raises(ValueError, match="file: state_dict has no averages"):
            opt.load(path)
        with opt.averaged():
            for call in (opt.state_dict, lambda: opt.load(path), lambda: opt.save(path)):
                with pytest.raises(RuntimeError, match="within averaged"):
                    call()
        assert content(tmp_path / "run") == files
        assert (opt.t, opt.skips) == (1, 0)
        for name, array in before.items():
            assert_same_bits(params[name], array, name)


@pytest.mark.parametrize("act", [failing(FULL), failing_after(BROKEN)])
def test_a_disk_that_fails_while_loading_changes_nothing(act: Any, tmp_path: Path) -> None:
    """At every write, flush and rename in turn."""
    path, folder = tmp_path / "file", tmp_path / "run"
    own = make_params()
    one = instep.NAdam(own, **OPTIONS)
    for step in range(3):
        one.step(make_grads(step))
    one.save(path, params=True)
    params = make_params()
    opt = Streamed(instep.NAdam, params, folder=folder, chunk=1 << 20, **{**OPTIONS, "lr": 0.2})
    opt.step(make_grads(0))
    before, at, broken = copied(params), 0, 0
    states = {n: {s: a.copy() for s, a in of.items()} for n, of in opt.state.items()}
    while True:
        faults = Faults(CALLS, at, act)
        try:
            with faults.installed():
                opt.load(path)
            break
        except OSError:
            pass
        if opt._broken is None:
            assert (opt.t, opt.param_groups[0]["lr"]) == (1, 0.2)
            for name, array in before.items():
                assert_same_bits(params[name], array, name)
                for state, whole in states[name].items():
                    assert_same_bits(np.asarray(opt.state[name][state]), whole, state)
        else:
            assert faults.seen[at] in ("replace", "fsync")
            broken += 1
            opt.close()
            opt = Streamed(instep.NAdam, params, folder=folder, **{**OPTIONS, "lr": 0.2})
            assert opt.t == 3
            opt.close()
            for file in folder.iterdir():
                file.unlink()
            params = make_params()
            opt = Streamed(
                instep.NAdam, params, folder=folder, chunk=1 << 20, **{**OPTIONS, "lr": 0.2}
            )
            opt.step(make_grads(0))
        at += 1
    assert at > 10
    assert broken <= 2
    assert_same(own, one, params, opt)
    opt.close()
