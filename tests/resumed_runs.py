"""What `test_resuming.py` runs in a process of its own: runs that are killed, and go on.

`python resumed_runs.py FOLDER random SEED`: killed at random moments, again and again.
`python resumed_runs.py FOLDER lines`: killed at every line of the package that a save runs.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import instep
import numpy as np
from instep import checkpoint, files, safetensors, schedules

STEPS = 100
KILLS = 25


class Run:
    """A training loop with all that has to go on: what is random, a rate by metric, averages."""

    def __init__(self, size: int) -> None:
        start = np.random.default_rng(1)
        self.params = {
            "W": start.standard_normal((2, size)),
            "b": start.standard_normal(size)[::2],
            "frozen": np.ones(3),
        }
        self.schedule = schedules.ReduceOnPlateau(0.05, factor=0.7, patience=1)
        self.opt = instep.NAdam(
            self.params,
            lr=self.schedule,
            weight_decay=0.01,
            average=0.9,
            groups={"b": {"betas": (0.8, 0.95)}},
            freeze=lambda name, array: name == "frozen",
        )
        self.random = np.random.default_rng(2)

    def step(self) -> None:
        noise = self.random.standard_normal(self.params["W"].shape[1])
        grads = {"W": self.params["W"] + noise, "b": self.params["b"] - noise[::2], "frozen": None}
        self.opt.step(grads)
        self.schedule.report(float(self.params["W"][0, 0]) ** 2)

    def save(self, path: Path) -> None:
        extra = {"random": self.random.bit_generator.state, "schedule": self.schedule.state_dict()}
        self.opt.save(path, params=True, extra=extra)

    def resume(self, path: Path) -> None:
        if path.exists():
            extra = self.opt.load(path)
            self.random.bit_generator.state = extra["random"]
            self.schedule.load_state_dict(extra["schedule"])

    def everything(self) -> tuple[Any, ...]:
        bits = [array.tobytes() for array in self.opt._arrays()]
        return bits, self.opt.state_dict()["groups"], self.opt.t, self.schedule.state_dict()


def in_child(work: Callable[[], object]) -> int:
    """Start a child that does this and ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".instep-")]


def go_on(path: Path, saved: Callable[[], object] = lambda: None) -> Run:
    run = Run(10_000)
    run.resume(path)
    while run.opt.t < STEPS:
        run.step()
        run.save(path)
        saved()
    return run


def killed_at_random(folder: Path, seed: int) -> None:
    straight = Run(10_000)
    for _ in range(STEPS):
        straight.step()

    path = folder / "run"
    choose = random.Random(seed)
    begun = left = 0
    for _ in range(KILLS):
        reader, writer = os.pipe()
        child = in_child(partial(go_on, path, partial(os.write, writer, b"!")))
        os.close(writer)
        os.read(reader, 1)  # one save, so that every child takes it further
        time.sleep(choose.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        assert len(left_in(folder)) <= 1
        left += len(left_in(folder))
        reached = Run(10_000)
        reached.resume(path)
        assert begun < reached.opt.t or begun == STEPS
        begun = reached.opt.t
    assert go_on(path).everything() == straight.everything()
    assert [entry.name for entry in folder.iterdir()] == ["run"]
    print(f"killed {KILLS} times, {left} within a save; {begun} of {STEPS} steps done by then")


def killed_at_every_line(folder: Path) -> None:
    path = folder / "run"
    run = Run(10)
    run.step()
    run.save(path)
    old, before = path.read_bytes(), run.everything()
    run.step()
    after = run.everything()
    of_interest = {module.__file__ for module in (checkpoint, files, safetensors)}

    def save(kill_at: int) -> None:
        lines = set()

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            if frame.f_code.co_filename not in of_interest:
                return None
            if event == "line":
                lines.add((frame.f_code.co_filename, frame.f_lineno))
                if len(lines) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        run.save(path)

    found = []
    for kill_at in range(1, 10_000):
        _, status = os.waitpid(in_child(partial(save, kill_at)), 0)
        assert len(left_in(folder)) <= 1
        loaded = Run(10)
        loaded.resume(path)
        found.append(loaded.everything())
        assert found[-1] in (before, after)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        path.write_bytes(old)  # but what was left stays there for the next
    assert found[-1] == after
    assert before in found
    assert not left_in(folder)
    print(f"killed at {len(found) - 1} lines")


if __name__ == "__main__":
    signal.alarm(100)
    if sys.argv[2] == "random":
        killed_at_random(Path(sys.argv[1]), int(sys.argv[3]))
    else:
        killed_at_every_line(Path(sys.argv[1]))
