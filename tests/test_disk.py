"""Optimizers whose states are in files, against the same in memory, and with faults of the disk."""

import errno
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from disk_faults import BROKEN, CALLS, FULL, READS, Faults, failing, failing_after
from instep import chunked
from instep.disk import Streamed
from mixed_params import PIECE, Params, copied, drawn, make_params
from optimizer_model import MODES, mode_name

P_NORM, G_NORM = instep.norm("p"), instep.norm("g")


def make_grads(step: int) -> dict[str, Any]:
    grads = {
        name: np.asarray(drawn(1000 + 10 * step + i, p.shape, p.dtype))
        for i, (name, p) in enumerate(make_params().items())
    }
    return {**grads, "W": np.asfortranarray(grads["W"])} if step % 2 else grads


def assert_same(own: Params, one: Any, theirs: Params, two: Streamed) -> None:
    """Fail unless parameters, states, averages and counts are the same, in every bit."""
    assert (one.t, one.skips) == (two.t, two.skips)
    state = two.state
    for name, array in own.items():
        assert_same_bits(theirs[name], array, name)
        assert state[name].keys() == one.state[name].keys()
        for which, whole in one.state[name].items():
            assert_same_bits(np.asarray(state[name][which]), whole, f"{name} {which}")
            assert not state[name][which].flags.writeable
    if one.average is not None:
        for name, average in two.averages.items():
            assert_same_bits(np.asarray(average), one.averages[name], f"average of {name}")


def run_both(
    rule: Any,
    folder: Path,
    steps: list[dict[str, Any]],
    grads_of: Callable[[int], Any] = make_grads,
    chunk: int = 1 << 18,
    make: Callable[[], Params] = make_params,
    **options: Any,
) -> None:
    """Step in memory and in a folder, which is opened anew in the middle."""
    own, theirs = make(), make()
    one = rule(own, **options)
    two = Streamed(rule, theirs, folder=folder, chunk=chunk, **options)
    for step, asked in enumerate(steps):
        if step == len(steps) // 2:
            two.close()
            theirs = make()
            theirs["b"][...] = theirs["V"][...] = 0
            two = Streamed(rule, theirs, folder=folder, chunk=7, **options)
        # As text, in which NaN is NaN.
        assert repr(two.step(grads_of(step), **asked)) == repr(one.step(grads_of(step), **asked))
        assert_same(own, one, theirs, two)
    two.close()


@pytest.mark.parametrize(("rule", "mode"), MODES, ids=[mode_name(*mode) for mode in MODES])
def test_every_rule_has_the_bits_of_memory(rule: Any, mode: dict[str, Any], tmp_path: Path) -> None:
    def make() -> Params:
        return {"b": drawn(0, (7, 3)), "V": drawn(1, (PIECE + 5,), np.float64)}

    def grads_of(step: int) -> Params:
        return {name: np.sin(step + array) for name, array in make().items()}

    options = {**mode, "weight_decay": 0.1, "average": 0.9}
    steps = [{"grad_scale": 0.5}, {"max_norm": 1.0}]
    run_both(rule, tmp_path, steps, grads_of, 1, make, **options)


@pytest.mark.parametrize("chunk", [1, 2 << 20, 1 << 30])
def test_every_option_and_size_of_chunks(chunk: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "groups": {"b": {"lr": 0.1}, "V": {"weight_decay": 0.2}},
        "weight_decay_mask": lambda _, array: array.ndim > 1,
        "freeze": lambda name, _: name == "F",
        "average": 0.5,
        "lr": lambda t: 0.1 / (t + 1),
    }
    steps: list[dict[str, Any]] = [
        {"grad_scale": 0.5},
        {"max_norm": 0.5, "grad_scale": -2.0},
        {"max_array_norm": 0.5, "max_value": 0.01},
        {"max_value": 0.3, "lr": 0.7},
        {"max_norm": 1e9, "nonfinite": "skip"},
        {},
    ]

    def grads_of(step: int) -> dict[str, Any]:
        left_out = {1: ("W", "one"), 2: ("V",), 3: ("b", "strided", "none")}.get(step, ())
        given = make_grads(step)
        grads: dict[str, Any] = {n: None if n in left_out else g for n, g in given.items()}
        if step == 4:
            grads["V"][PIECE] = np.nan
        return grads

    run_both(instep.AdamW, tmp_path, steps, grads_of, chunk, **options)


@instep.rule
def trust(p, g, m, *, lr=0.1, pn=P_NORM, gn=G_NORM):  # type: ignore[no-untyped-def]
    m = 0.9 * m + g
    return p - lr * pn / (gn + 1.0) * m, m


def test_rules_that_ask_for_norms(tmp_path: Path) -> None:
    run_both(trust, tmp_path, [{"grad_scale": 0.5}, {"max_norm": 1.0}, {"max_array_norm": 0.3}])


def test_a_list_of_groups_with_states_of_their_own(tmp_path: Path) -> None:
    def groups() -> tuple[Params, list[dict[str, Any]]]:
        params = make_params()
        return params, [
            {"params": [params["W"], params["b"]], "momentum": 0.0},
            {"params": [params["V"], params["F"]], "momentum": 0.9, "lr": 0.2},
        ]

    (own, of_one), (theirs, of_two) = groups(), groups()
    one = instep.SGD(of_one, lr=0.1, average=0.9)
    with Streamed(instep.SGD, of_two, folder=tmp_path, chunk=1, lr=0.1, average=0.9) as two:
        for step in range(2):
            g = make_grads(step)
            grads = [[g["W"], g["b"]], [g["V"], g["F"]]]
            assert two.step(grads) == one.step(grads)
        for name, array in own.items():
            assert_same_bits(theirs[name], array, name)
        for name, states in one.state.items():
            assert two.state[name].keys() == states.keys()
            for state, array in states.items():
                assert_same_bits(np.asarray(two.state[name][state]), array, state)


def test_options_that_were_assigned_go_on(tmp_path: Path) -> None:
    own, theirs = make_params(), make_params()
    one = instep.Adam(own, lr=0.1)
    with Streamed(instep.Adam, theirs, folder=tmp_path, lr=0.1) as two:
        for opt in (one, two):
            opt.step(make_grads(0))
            opt.param_groups[0]["lr"] = 0.3
            opt.step(make_grads(1))
    with Streamed(instep.Adam, theirs, folder=tmp_path, lr=0.1) as two:
        assert two.param_groups[0]["lr"] == 0.3
        assert two.step(make_grads(2)) == one.step(make_grads(2))
        assert_same(own, one, theirs, two)


def test_numbers_that_a_rule_carries_are_in_the_folder(tmp_path: Path) -> None:
    """Sums over rates that change can't be made anew from the number of steps."""
    for rule in (instep.AdamWScheduleFree, instep.NAdam):
        folder = tmp_path / rule.__name__
        run_both(rule, folder, [{"lr": lr} for lr in (0.5, 0.1, 0.3, 0.2)])


def test_memory_maps_are_parameters_and_gradients_too(tmp_path: Path) -> None:
    own, shape = {"W": drawn(0, (3 * PIECE,))}, (3 * PIECE,)
    file = np.memmap(tmp_path / "W", np.float32, "w+", shape=shape)
    file[...] = own["W"]
    gradient = np.memmap(tmp_path / "G", np.float32, "w+", shape=shape)
    gradient[...] = drawn(1, shape)
    one = instep.Adam(own)
    with Streamed(instep.Adam, {"W": file}, folder=tmp_path / "folder", chunk=1) as two:
        for _ in range(2):
            assert two.step({"W": gradient}) == one.step({"W": drawn(1, shape)})
    assert_same_bits(np.fromfile(tmp_path / "W", np.float32), own["W"], "W")


def test_without_direct_reads_the_bits_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def no_direct(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct reads", path)
        return opened(path, flags, *more, **named)

    forgotten: list[int] = []
    advise = os.posix_fadvise

    def note(descriptor: int, offset: int, nbytes: int, advice: int) -> None:
        forgotten.append(nbytes)
        advise(descriptor, offset, nbytes, advice)

    monkeypatch.setattr(os, "open", no_direct)
    monkeypatch.setattr(os, "posix_fadvise", note)
    run_both(instep.AdamW, tmp_path, [{}, {"max_norm": 1.0}])
    assert forgotten


def test_memory_is_that_of_the_ring(tmp_path: Path) -> None:
    params = {f"{i}": np.zeros(4 * PIECE + i, np.float32) for i in range(5)}
    with Streamed(instep.Adam, params, folder=tmp_path, chunk=3 * PIECE * 4) as opt:
        assert opt.buffer_bytes == 6 * 3 * PIECE * 4
    many = {f"{i}": np.zeros(100, np.float32) for i in range(1000)}
    with Streamed(instep.Adam, many, folder=tmp_path / "many", chunk=3 * PIECE * 4) as opt:
        # Small arrays share chunks, so that there are few reads.
        assert len(opt._own.chunks) == 4


MEMORY = """
import sys
import numpy as np
import instep
from instep.disk import Streamed
from pathlib import Path

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

params = {"W": np.ones(4_000_000, np.float32)}
grads = {"W": np.ones(4_000_000, np.float32)}
before = most()
with Streamed(instep.AdEMAMix, params, folder=sys.argv[1], chunk=1, average=0.9) as opt:
    opt.step(grads, max_norm=1.0)
    opt.step(grads)
    state = sum(array.nbytes for own in opt.state.values() for array in own.values())
    print(most() - before, opt.buffer_bytes, state)
"""


def test_a_process_has_no_more_memory_than_the_ring_whatever_the_states(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True
    )
    grown, ring, state = map(int, run.stdout.split())
    assert state == 48_000_000
    assert grown < ring + 8_000_000


def test_chunks_have_every_element_once_and_large_arrays_follow_each_other() -> None:
    sizes, widths = [5, 3 * PIECE + 1, 0, 9, 2 * PIECE, 70_000, 1], [4, 4, 4, 8, 8, 4, 2]
    # What a third file has is of other widths, and not of all arrays.
    itemsizes = [{0: n, 1: n} | ({2: 2} if i % 2 else {}) for i, n in enumerate(widths)]
    for nbytes in (1, 4 * PIECE, 1 << 20, 1 << 30):
        ends: dict[int, int] = {}
        chunks = chunked.layout(sizes[:4], itemsizes[:4], nbytes, ends)
        chunks += chunked.layout(sizes[4:], itemsizes[4:], nbytes, ends, 4)
        for file in range(3):
            end = 0
            places: dict[int, list[tuple[int, int, int]]] = {}
            for chunk in chunks:
                own = [file in itemsizes[part.array] for part in chunk.parts]
                if file not in chunk.spans:
                    assert not any(own)
                    continue
                span = chunk.spans[file]
                assert span.offset == end
                assert span.nbytes % 4096 == 0
                end += span.nbytes
                last = 0
                for part, at, is_there in zip(chunk.parts, span.at, own, strict=True):
                    if not is_there:
                        assert at is None
                        continue
                    assert at is not None
                    assert at >= last
                    last = at + (part.stop - part.start) * itemsizes[part.array][file]
                    place = (part.start, part.stop, span.offset + at)
                    places.setdefault(part.array, []).append(place)
                assert last <= span.nbytes
            assert end == ends[file]
            for array, size in enumerate(sizes):
                of_array = places.get(array, [])
                itemsize = itemsizes[array].get(file)
                assert sum(stop - start for start, stop, _ in of_array) == (size if itemsize else 0)
                for start, _, at in of_array:
                    assert at == of_array[0][2] + start * (itemsize or 0)
        for array in range(len(sizes)):
            of_chunks = [c for c in chunks if any(part.array == array for part in c.parts)]
            assert len(of_chunks) < 2 or all(len(chunk.parts) == 1 for chunk in of_chunks)


def test_an_interrupt_at_any_instruction_leaves_no_lock_taken() -> None:
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("interrupted_ring.py"), "7"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


def test_killed_at_any_point_a_folder_is_that_of_before_or_after(tmp_path: Path) -> None:
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, here / "disk_kills.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # Of making a folder, of two steps, and of adding a group.
    assert int(run.stdout) > 90


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("act", [failing(FULL), failing(BROKEN), failing_after(BROKEN)])
def test_a_disk_that_is_full_or_fails_changes_nothing(
    act: Callable[..., Any], tmp_path: Path
) -> None:
    """At every read, write, flush and rename in turn; then the step is done all the same."""
    own, theirs = make_params(), make_params()
    one = instep.NAdam(own, average=0.9)
    opt = Streamed(instep.NAdam, theirs, folder=tmp_path, chunk=1 << 20, average=0.9)
    for each in (one, opt):
        each.step(make_grads(0))
    # What the program changes between steps is put back too.
    for params in (own, theirs):
        params["W"][1] *= 2
        params["strided"][2] = 3
    before, grads = copied(theirs), make_grads(1)
    at = broken = 0
    while True:
        faults = Faults((*CALLS, *READS), at, act)
        with faults.installed():
            try:
                result = opt.step(grads, max_norm=1.0)
                break
            except OSError:
                pass
        if opt._broken is None:
            states = opt.state
            # What another process would find is what this one has.
            record = json.loads((tmp_path / "optimizer.json").read_text())
            assert record["optimizer"]["t"] == opt.t, faults.seen[at]
        else:
            with pytest.raises(RuntimeError, match="open the folder again"):
                opt.step(grads)
            # All that can't be found out is whether the last flush of the names has come.
            assert faults.seen[at] in ("replace", "fsync")
            opt.close()
            again = make_params()
            opt = Streamed(instep.NAdam, again, folder=tmp_path, average=0.9)
            assert opt.t == 2
            broken += 1
            # Begin again from a step before.
            opt.close()
            for path in tmp_path.iterdir():
                path.unlink()
            theirs = make_params()
            opt = Streamed(instep.NAdam, theirs, folder=tmp_path, chunk=1 << 20, average=0.9)
            opt.step(make_grads(0))
            for name in ("W", "strided"):
                theirs[name][...] = before[name]
            states = opt.state
        assert (opt.t, opt.skips) == (1, 0)
        for name, array in before.items():
            assert_same_bits(theirs[name], array, name)
            for state, whole in one.state[name].items():
                assert_same_bits(np.asarray(states[name][state]), whole, f"{name} {state}")
        at += 1
    assert at > 20
    assert broken <= 2
    assert result == one.step(grads, max_norm=1.0)
    assert_same(own, one, theirs, opt)
    opt.close()


def test_the_record_is_replaced_after_all_is_flushed(tmp_path: Path) -> None:
    opt = Streamed(instep.Adam, {"W": np.ones(PIECE * 3, np.float32)}, folder=tmp_path, chunk=1)
    faults = Faults(CALLS, -1, failing(FULL))
    with faults.installed(), opt:
        opt.step({"W": np.ones(PIECE * 3, np.float32)})
    ends = ["fdatasync"] * 3 + ["fsync", "replace", "fsync"]
    assert faults.seen == ["pwritev"] * 9 + ends


def test_a_disk_too_small_for_both_generations_leaves_nothing(tmp_path: Path) -> None:
    for at in range(6):
        faults = Faults(("posix_fallocate",), at, failing(FULL))
        with faults.installed(), pytest.raises(OSError, match=r"\[Errno 28\].*\.[01]'"):
            Streamed(instep.Adam, {"W": np.ones(9)}, folder=tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_a_read_error_while_putting_back_needs_the_folder_opened_again(tmp_path: Path) -> None:
    params = {"W": np.ones(3 * PIECE, np.float32)}
    opt = Streamed(instep.Adam, params, folder=tmp_path, chunk=1)
    reads = Faults(("preadv",), 6, failing(BROKEN))
    writes = Faults(("fdatasync",), 0, failing(FULL))
    with reads.installed(), writes.installed(), pytest.raises(OSError, match="Errno 5"):
        opt.step({"W": params["W"].copy()})
    with pytest.raises(RuntimeError, match=r"OSError\(28.*open the folder again"):
        opt.step({"W": params["W"].copy()})
    opt.close()
    with Streamed(instep.Adam, params, folder=tmp_path) as opt:
        assert opt.t == 0
        assert (params["W"] == 1).all()


class StopError(Exception):
    """Raised by a test's own callback."""


def test_progress_counts_all_elements_and_may_end_a_step(tmp_path: Path) -> None:
    params = make_params()
    opt = Streamed(instep.Adam, params, folder=tmp_path, chunk=1)
    total = sum(array.size for name, array in params.items() if name != "W")
    grads = {**make_grads(0), "W": None}
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 3:
            raise StopError

    before = copied(params)
    with pytest.raises(StopError):
        opt.step(grads, progress=stop)
    assert opt.t == 0
    for name, array in before.items():
        assert_same_bits(params[name], array, name)
    seen.clear()
    opt.step(grads, progress=lambda *counts: seen.append(counts))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert len(seen) > 5
    with pytest.raises(TypeError, match="progress is 3; wanted a callable"):
        opt.step(grads, progress=3)  # type: ignore[arg-type]
    for within in (
        lambda *_: opt.step(grads),
        lambda *_: opt.close(),
        lambda *_: opt.state,
        lambda *_: setattr(opt, "freeze", None),
    ):
        with pytest.raises(RuntimeError, match="a step is under way"):
            opt.step(grads, progress=within)
    assert opt.t == 1
    opt.close()


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    refused: list[tuple[Any, dict[str, Any]]] = [
        (instep.Adam, {"state_dtype": "8bit"}),
        (instep.Adam, {"lr": -1.0}),
        (instep.Adam, {"unknown": 1}),
        (dict, {}),
    ]
    for rule, options in refused:
        with pytest.raises((TypeError, ValueError)):
            Streamed(rule, {"W": np.ones(9, np.float32)}, folder=tmp_path / "run", **options)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_refuses_what_it_was_not_made_with(tmp_path: Path) -> None:
    def made(rule: Any = instep.Adam, params: Any = None, **options: Any) -> Streamed:
        params = make_params() if params is None else params
        return Streamed(rule, params, folder=tmp_path, **{"lr": 0.1, **options})

    opt = made()
    with pytest.raises(BlockingIOError, match="another optimizer has this folder open"):
        made()
    opt.close()
    with pytest.raises(RuntimeError, match="the folder was closed"):
        opt.step(make_grads(0))
    params = make_params()
    cases: list[tuple[str, dict[str, Any]]] = [
        ("was made by Adam; wanted AdamW", {"rule": instep.AdamW}),
        ("was made with average None, and is opened with 0.9", {"average": 0.9}),
        (r"param_groups\[0\]\['lr'\] 0.1, and is opened with 0.2", {"lr": 0.2}),
        (r"param_groups\[0\]\['lr'\] 0.1, and is opened with a callable", {"lr": lambda t: 0.1}),
        (r"param_groups\[0\]\['amsgrad'\] False, and is opened with True", {"amsgrad": True}),
        ("has the groups", {"groups": {"b": {"lr": 1.0}}}),
        ("'W' with the weight decay True; wanted False", {"weight_decay_mask": lambda n, a: False}),
        ("has the parameters", {"params": {"W": params["W"]}}),
        (r"'b' with the shape \[7\]; wanted \[8\]", {"params": {**params, "b": drawn(0, (8,))}}),
        (
            "'b' with the dtype float32; wanted float64",
            {"params": {**params, "b": drawn(0, (7,), np.float64)}},
        ),
        (
            r"'F' with the order of axes in memory \[1, 0\]; wanted \[0, 1\]",
            {"params": {**params, "F": drawn(0, (200, 301))}},
        ),
    ]
    for match, other in cases:
        with pytest.raises(ValueError, match=match):
            made(**other)
    with pytest.raises(ValueError, match="was made with seed 0, and is opened with 1"):
        made(seed=1)
    with pytest.raises(TypeError, match="rule is 'Adam'; wanted an optimizer's class"):
        made("Adam")
    with pytest.raises(TypeError, match="state was given"):
        made(state=lambda *_: None)
    with pytest.raises(ValueError, match="chunk is 0"):
        made(chunk=0)
    (tmp_path / "state1.0").write_bytes(b"")
    with pytest.raises(ValueError, match=r"state1\.0 has 0 bytes; wanted"):
        made()
    (tmp_path / "state1.0").unlink()
    with pytest.raises(ValueError, match=r"state1\.0 is missing"):
        made()
    (tmp_path / "optimizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is not what instep writes"):
        made()
    (tmp_path / "optimizer.json").write_text('{"kind": "folder of an instep optimizer"}')
    with pytest.raises(ValueError, match="is not what instep writes"):
        made()


def test_bad_gradients_change_nothing(tmp_path: Path) -> None:
    params = make_params()
    with Streamed(instep.Adam, params, folder=tmp_path, zero_grads=True) as opt:
        opt.step(make_grads(0))
        before, files = copied(params), content(tmp_path)
        good = make_grads(1)
        rows = instep.Rows(np.array([0]), np.ones((1, 333), np.float32))
        cases: list[tuple[type[Exception], str, dict[str, Any], dict[str, Any]]] = [
            (ValueError, r'grads\["W"\] has shape', {**good, "W": good["b"]}, {}),
            (TypeError, r'grads\["W"\] is Rows, and a step', {**good, "W": rows}, {}),
            (ValueError, "lr is -1", good, {"lr": -1.0}),
            (ValueError, "max_norm is -1", good, {"max_norm": -1.0}),
        ]
        nan = {**good, "V": np.full_like(good["V"], np.nan)}
        cases.append((FloatingPointError, r'grads\["V"\] has', nan, {"nonfinite": "raise"}))
        for kind, match, grads, asked in cases:
            with pytest.raises(kind, match=match):
                opt.step(grads, **asked)
        assert opt.t == 1
        assert content(tmp_path) == files
        for name, array in before.items():
            assert_same_bits(params[name], array, name)
        assert good["b"].any()
        assert opt.step(nan, nonfinite="skip").skipped
        assert not nan["V"].any()
    # That a step was skipped is in the folder.
    with Streamed(instep.Adam, params, folder=tmp_path) as opt:
        assert opt.skips == 1
        nan["V"][0] = np.inf
        for name, broken in (("fsync", False), ("replace", True)):
            faults = Faults((name,), 0, (failing(FULL), failing_after(BROKEN))[broken])
            with faults.installed(), pytest.raises(OSError, match="Errno"):
                opt.step(nan, nonfinite="skip")
            assert opt.skips == 1
            assert (opt._broken is not None) == broken
    with Streamed(instep.Adam, params, folder=tmp_path) as opt:
        assert opt.skips == 2
        with pytest.raises(FloatingPointError, match="2 steps in a row were skipped"):
            opt.step(nan, nonfinite="skip", max_skips=2)


def small() -> Params:
    return {"W": np.ones(300_000, np.float32)}


def test_a_disk_too_full_for_what_is_to_be_put_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, grads = small(), small()
    opt = Streamed(instep.Adam, params, folder=tmp_path / "run", lr=0.1, chunk=500_000)
    opt.step(grads)
    params["W"][-1] = 5
    params["W"][0] = 7
    before = params["W"].copy()

    class Full:
        """A file that takes half of what is written, and then nothing."""

        def __init__(self, file: Any) -> None:
            self.file, self.taken = file, 0

        def write(self, data: Any) -> int:
            self.taken += 1
            if self.taken == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data[: len(data) // 2]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    real = tempfile.TemporaryFile
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda **how: Full(real(**how)))
        with pytest.raises(OSError, match="No space left"):
            opt.step(grads)
    assert_same_bits(params["W"], before, "W")
    assert opt.t == 1
    twin = {"W": before.copy()}
    one = instep.Adam(twin, lr=0.1)
    one.t = 1
    one.load_state_dict({**one.state_dict(), "state": {"W": dict(opt.state["W"])}})
    one.step(grads)
    opt.step(grads)
    assert_same_bits(params["W"], twin["W"], "W")


def test_a_folder_stays_that_which_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with Streamed(instep.Adam, small(), folder="run") as opt:
        for _ in range(3):
            opt.step(small())
    monkeypatch.chdir(tmp_path / "one")
    params = small()
    opt = Streamed(instep.Adam, params, folder="run")
    opt.step(small())
    monkeypatch.chdir(tmp_path / "other")
    opt.step(small())
    # Another one in its place is not its own.
    (tmp_path / "one" / "run").rename(tmp_path / "one" / "was")
    before = params["W"].copy()
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="moved or replaced while it was open"):
            opt.step(small())
        assert_same_bits(params["W"], before, "W")
        (tmp_path / "one" / "run").mkdir(exist_ok=True)
        (tmp_path / "one" / "run" / "lock").touch()
    opt.close()
    for folder, t in (("one/was", 2), ("other/run", 3)):
        with Streamed(instep.Adam, small(), folder=tmp_path / folder) as opt:
            assert opt.t == t


# Other libraries of the environment, such as JAX, warn of any fork.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_only_the_process_that_opened_a_folder_steps_and_unlocks_it(tmp_path: Path) -> None:
    params = small()
    opt = Streamed(instep.Adam, params, folder=tmp_path / "run")
    opt.step(small())
    go_on, wait = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(RuntimeError, match="open in the process that this one was forked"):
                opt.step(small())
            os.close(wait)
            os.read(go_on, 1)
            opt.close()
            status = 0
        finally:
            os._exit(status)
    opt.step(small())
    opt.close()
    # The child has the files still.
    again = Streamed(instep.Adam, params, folder=tmp_path / "run")
    os.close(wait)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(BlockingIOError):
        Streamed(instep.Adam, params, folder=tmp_path / "run")
    again.step(small())
    assert again.t == 3


def test_files_without_a_record_are_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Streamed(instep.Adam, small(), folder=folder) as opt:
        opt.step(small())
    (folder / "optimizer.json").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"params\.0 is there, and no optimizer\.json"):
        Streamed(instep.Adam, small(), folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for bad in ("", None, 3):
        with pytest.raises(TypeError, match="folder is"):
            Streamed(instep.Adam, small(), folder=bad)  # type: ignore[arg-type]


def test_hooks_and_copies(tmp_path: Path) -> None:
    params = {"W": np.ones(3, np.float32)}
    with Streamed(instep.SGD, params, folder=tmp_path, lr=1.0) as opt:
        seen: list[int] = []
        opt.register_step_pre_hook(lambda _, grads: {"W": 2 * grads["W"]})
        opt.register_step_post_hook(lambda _, result: seen.append(result.t))
        opt.step({"W": np.ones(3, np.float32)})
        assert seen == [1]
        assert (params["W"] == -1).all()
        with pytest.raises(TypeError, match="can't be copied"):
            pickle.dumps(opt)
        assert repr(opt).startswith(f"Streamed('{tmp_path}', SGD(t=1")
