"""Files of optimizers that are shared out over ranks, against those of one process."""

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from instep.crc import combined
from instep.sharded import Sharded
from mixed_params import PIECE, copied, make_params
from ranks import ThreadRank, run
from test_sharded import in_order, make_grads, summed

BEFORE, AFTER = 2, 10


def make(comm: ThreadRank, params: Any, **options: Any) -> Sharded:
    options = {"lr": 0.01, "average": 0.9, **options}
    return Sharded(instep.NAdam, params, comm=comm, bucket_bytes=PIECE, **options)


def make_one(params: Any) -> instep.NAdam:
    return instep.NAdam(params, lr=0.01, average=0.9)


def sums(step: int) -> Any:
    return summed([make_grads(rank, step) for rank in range(2)])


def given(comm: ThreadRank, step: int) -> Any:
    """Return gradients whose sum is the same at any number of ranks: the others' are zero."""
    if comm.rank == 0:
        return sums(step)
    return {name: np.zeros_like(p) for name, p in make_params().items()}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_file_of_so_many_ranks_is_that_of_one_process_and_loads_at_any_number(
    ranks: int, tmp_path: Path
) -> None:
    path, alone = tmp_path / "shared", tmp_path / "alone"
    own = copied(make_params())
    one = make_one(own)
    for step in range(BEFORE):
        one.step(sums(step))
    one.save(alone, params=True, extra={"epoch": 3})

    def save(comm: ThreadRank) -> None:
        opt = make(comm, copied(make_params()))
        for step in range(BEFORE):
            opt.step(given(comm, step))
        opt.save(path, params=True, extra={"epoch": 3})

    run(ranks, save)
    assert path.read_bytes() == alone.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "shared"]

    for step in range(BEFORE, BEFORE + AFTER):
        one.step(sums(step))

    def go_on(comm: ThreadRank) -> None:
        params = {name: np.full_like(p, 7) for name, p in copied(make_params()).items()}
        params["strided"] = np.full((90, 2, 800), 7, np.float32)[:, 0, ::2]
        opt = make(comm, params, lr=0.5)
        assert opt.load(path) == {"epoch": 3}
        for step in range(BEFORE, BEFORE + AFTER):
            opt.step(given(comm, step))
        assert opt.t == one.t
        for name, array in own.items():
            assert_same_bits(params[name], array, name)
            start, stop = opt.owned[name]
            for state, whole in one.state[name].items():
                part = in_order(whole, array)[start:stop]
                assert_same_bits(opt.state[name][state], part, state)
            part = in_order(one.averages[name], array)[start:stop]
            assert_same_bits(opt.averages[name], part, "average")

    for others in (1, 2, 3, 4):
        run(others, go_on)

    again = {name: np.full_like(p, 7) for name, p in copied(make_params()).items()}
    unshared = make_one(again)
    assert unshared.load(path) == {"epoch": 3}
    for step in range(BEFORE, BEFORE + AFTER):
        unshared.step(sums(step))
    for name, array in own.items():
        assert_same_bits(again[name], array, name)


def test_an_error_on_one_rank_is_everyones_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    path.write_bytes(b"old")
    pwrite = os.pwrite
    calls = []

    def full(descriptor: int, data: Any, at: int) -> int:
        calls.append(at)
        if len(calls) == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data[: 1 + len(data) // 2], at)

    monkeypatch.setattr(os, "pwrite", full)

    def each(comm: ThreadRank) -> None:
        opt = make(comm, copied(make_params()))
        with pytest.raises(OSError, match="No space left"):
            opt.save(path, params=True)
        with pytest.raises(TypeError, match="rank 1: extra"):
            opt.save(path, extra={1} if comm.rank == 1 else None)
        with pytest.raises(ValueError, match="extra differs: '0' on rank 0; '1' on rank 1"):
            opt.save(path, extra=comm.rank)

    run(2, each)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_file_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    make_one(copied(make_params())).save(path, params=True)
    good = path.read_bytes()

    def each(comm: ThreadRank) -> None:
        params = copied(make_params())
        opt = make(comm, params)
        opt.step(given(comm, 0))
        before = {name: p.tobytes() for name, p in params.items()}
        states = {n: {s: a.tobytes() for s, a in own.items()} for n, own in opt.state.items()}
        with pytest.raises(ValueError, match=r"rank 0: .* is corrupt"):
            opt.load(tmp_path / "flipped")
        with pytest.raises(ValueError, match=r"rank 0: .* is truncated, corrupt"):
            opt.load(tmp_path / "short")
        other = Sharded(instep.Adam, copied(make_params()), comm=comm, bucket_bytes=PIECE)
        with pytest.raises(ValueError, match="has the rule 'NAdam'; wanted 'Adam'"):
            other.load(path)
        smaller = {**make_params(), "W": np.ones(5, np.float32)}
        with pytest.raises(ValueError, match=r"\(300, 333\) .*; wanted \(5,\)"):
            make(comm, smaller).load(path)
        assert {name: p.tobytes() for name, p in params.items()} == before
        for name, own in opt.state.items():
            assert {s: a.tobytes() for s, a in own.items()} == states[name]
        assert opt.t == 1

    (tmp_path / "flipped").write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    (tmp_path / "short").write_bytes(good[:-1])
    run(3, each)


def test_a_state_dict_of_a_rank_comes_back() -> None:
    def each(comm: ThreadRank) -> None:
        params = copied(make_params())
        opt = make(comm, params)
        opt.step(given(comm, 0))
        kept, then = opt.state_dict(), copied(params)
        opt.step(given(comm, 1))
        other = make(comm, then)
        bad = {**kept, "t": "one"} if comm.rank else kept
        with pytest.raises(TypeError, match="rank 1: t is"):
            other.load_state_dict(bad)
        other.load_state_dict(kept)
        other.step(given(comm, 1))
        for name, array in params.items():
            assert_same_bits(then[name], array, name)

    run(2, each)


def test_checksums_of_parts_make_that_of_the_whole() -> None:
    data = np.random.default_rng(0).bytes(5000)
    for cut in (0, 1, 7, 4096, 5000):
        first, second = zlib.crc32(data[:cut]), zlib.crc32(data[cut:])
        assert combined(first, second, 5000 - cut) == zlib.crc32(data)
