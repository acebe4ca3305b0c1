"""Kills steps at every write, flush and rename, and opens the folder again: run by test_disk.py.

Prints how many points there were, and fails at the first that leaves anything else than the step
before or the step after.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instep
import numpy as np
from disk_faults import CALLS, Faults, kill_after, kill_halfway
from instep.disk import Streamed

PIECE = 32_768
LAST = 3

Params = dict[str, np.ndarray[Any, Any]]


def make_params() -> Params:
    random = np.random.default_rng(0)
    shapes = {"W": (PIECE + 5,), "b": (7,), "V": (30, 40)}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def make_grads(step: int) -> dict[str, Any]:
    random = np.random.default_rng(100 + step)
    grads: dict[str, Any] = {
        name: random.standard_normal(array.shape, np.float32)
        for name, array in make_params().items()
    }
    # What is not stepped stays in the other generation.
    return {**grads, "b": None, "V": None} if step == 1 else grads


def opened(folder: Path, params: Params) -> Streamed:
    return Streamed(instep.NAdam, params, folder=folder, lr=0.1, average=0.9, chunk=1)


def truth(steps: int) -> list[bytes]:
    """Return all arrays after each number of steps, as one process has them in memory."""
    params = make_params()
    opt = instep.NAdam(params, lr=0.1, average=0.9)
    found = [content(params, opt)]
    for step in range(steps):
        opt.step(make_grads(step))
        found.append(content(params, opt))
    return found


def content(params: Params, opt: Any) -> bytes:
    states = [array for own in opt.state.values() for array in own.values()]
    arrays = [*params.values(), *states, *opt.averages.values()]
    return b"".join(np.asarray(array).tobytes() for array in arrays)


def in_child(run: Callable[[], None]) -> int:
    """Run something in a process of its own; return how it ended."""
    child = os.fork()
    if not child:
        try:
            run()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main(root: Path) -> None:
    expected = truth(LAST)
    points = 0
    for done in (-1, 1, 2):
        # A folder of so many steps; of -1, there is none.
        start = root / f"start{done}"
        if done >= 0:
            with opened(start, make_params()) as opt:
                for step in range(done):
                    opt.step(make_grads(step))

        def run(folder: Path, faults: Faults, done: int = done) -> None:
            params = make_params()
            if done < 0:
                with faults.installed():
                    opened(folder, params)
                return
            opt = opened(folder, params)
            with faults.installed():
                opt.step(make_grads(done))

        # After a call is as before the next one, but for what leaves a part.
        for act in (kill_halfway, kill_after)[: 1 + (done == 1)]:
            at = 0
            while True:
                folder = root / "folder"
                if done >= 0:
                    shutil.copytree(start, folder)
                faults = Faults(CALLS, at, act)
                status = in_child(lambda f=folder, x=faults: run(f, x))  # type: ignore[misc]
                is_over = status == 0
                assert is_over or os.WTERMSIG(status) == signal.SIGKILL, status
                params = make_params()
                with opened(folder, params) as opt:
                    assert opt.t in (max(done, 0), done + 1), (done, act, at, opt.t)
                    for step in range(opt.t, LAST if done > 0 else 2):
                        assert content(params, opt) == expected[step], (done, act, at, step)
                        opt.step(make_grads(step))
                    assert content(params, opt) == expected[opt.t], (done, act, at)
                shutil.rmtree(folder)
                if is_over:
                    break
                points, at = points + 1, at + 1
    print(points + kill_additions(root))


def groups_of(params: Params) -> list[dict[str, Any]]:
    """Return a group to begin with, and one with a state more, which is added."""
    first = {"W": params["W"], "b": params["b"]}
    return [{"params": first, "momentum": 0.0}, {"params": {"V": params["V"]}, "momentum": 0.9}]


def groups_opened(folder: Path, params: Params, count: int) -> Streamed:
    groups = groups_of(params)[:count]
    return Streamed(instep.SGD, groups, folder=folder, lr=0.1, average=0.9, chunk=1)


def kill_additions(root: Path) -> int:
    """Kill at every point of the addition of a group; return how many there were."""
    params = make_params()
    groups = groups_of(params)
    one = instep.SGD(groups[:1], lr=0.1, average=0.9)
    all_grads = [[group["params"] for group in groups_of(make_grads(step))] for step in (0, 2)]
    start, folder = root / "one group", root / "groups"
    with groups_opened(start, make_params(), 1) as opt:
        for each in (one, opt):
            each.step(all_grads[0][:1])
    before = b"".join(np.asarray(array).tobytes() for array in params.values())
    one.add_param_group(groups[1])
    one.step(all_grads[1])
    after = b"".join(np.asarray(array).tobytes() for array in params.values())

    def run(folder: Path, faults: Faults) -> None:
        theirs = make_params()
        opt = groups_opened(folder, theirs, 1)
        with faults.installed():
            opt.add_param_group(groups_of(theirs)[1])

    points = outcomes = 0
    for act in (kill_halfway, kill_after):
        at = 0
        while True:
            shutil.copytree(start, folder)
            faults = Faults(CALLS, at, act)
            status = in_child(lambda x=faults: run(folder, x))  # type: ignore[misc]
            is_over = status == 0
            assert is_over or os.WTERMSIG(status) == signal.SIGKILL, status
            theirs = make_params()
            try:
                opt = groups_opened(folder, theirs, 2)
                outcomes |= 1
            except ValueError:
                theirs = make_params()
                opt = groups_opened(folder, theirs, 1)
                outcomes |= 2
            with opt:
                assert opt.t == 1
                found = b"".join(np.asarray(array).tobytes() for array in theirs.values())
                assert found == before, (act, at)
                if len(opt.param_groups) == 1:
                    opt.add_param_group(groups_of(theirs)[1])
                opt.step(all_grads[1])
                found = b"".join(np.asarray(array).tobytes() for array in theirs.values())
                assert found == after, (act, at)
                for name, states in one.state.items():
                    for state, array in states.items():
                        assert np.asarray(opt.state[name][state]).tobytes() == array.tobytes()
            shutil.rmtree(folder)
            if is_over:
                break
            points, at = points + 1, at + 1
    assert outcomes == 3
    assert points > 20, points
    return points


if __name__ == "__main__":
    main(Path(sys.argv[1]))
