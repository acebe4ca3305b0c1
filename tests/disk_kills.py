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
    print(points)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
