"""Random histories of optimizers, for as long as one likes: `make fuzz SECONDS=600`.

A process for each instruction level of the CPU goes through cases of its own. What fails is shown
with the command that does it again.
"""

import argparse
import faulthandler
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

# A case takes some milliseconds, and one that hangs is killed, with its stacks shown.
HANGS_AFTER = 300.0


def work(seed: int, first: int, step: int, cases: int | None, seconds: float) -> None:
    """Do cases one after the other; print how many elements were compared in each."""
    from random_history import run_case

    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        for case in count(first, step):
            if time.monotonic() >= end or (cases is not None and case >= cases):
                return
            faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
            print(case, run_case(seed, case, Path(folder)), flush=True)


class Worker:
    """A process at an instruction level, and how far it is."""

    def __init__(self, level: str, words: list[str], first: int, step: int) -> None:
        self.level = level
        self.next, self.step = first, step
        self.cases = 0
        self.elements = 0
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-X", "faulthandler", __file__, *words),
                *("--first", str(first), "--step", str(step)),
            ],
            env={**os.environ, "INSTEP_ISA": level},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            case, elements = map(int, line.split())
            self.cases += 1
            self.elements += elements
            self.next = case + self.step


def levels() -> list[str]:
    """Return the instruction levels to try."""
    import instep

    if "INSTEP_ISA" in os.environ:
        return [os.environ["INSTEP_ISA"]]
    return list(instep.config()["isa_available"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--case", type=int, help="do this one alone")
    parser.add_argument("--cases", type=int, help="how many, if the time allows")
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.first is not None:
        work(given.seed, given.first, given.step, given.cases, given.seconds)
        return 0
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    every = levels()
    if given.case is not None:
        every, given.cases, given.seconds = every[-1:], given.case + 1, HANGS_AFTER
    return supervise(seed, every, given.case or 0, given.cases, given.seconds)


def supervise(seed: int, every: list[str], first: int, cases: int | None, seconds: float) -> int:
    words = ["--seed", str(seed), "--seconds", str(seconds)]
    words += [] if cases is None else ["--cases", str(cases)]
    workers = [Worker(level, words, first + i, len(every)) for i, level in enumerate(every)]
    begun = shown = time.monotonic()

    def counts() -> str:
        done, elements = (sum(getattr(w, name) for w in workers) for name in ("cases", "elements"))
        return f"{done:,} cases, {elements:,} elements compared"

    failed = None
    while failed is None and any(worker.process.poll() is None for worker in workers):
        time.sleep(0.05)
        failed = next((worker for worker in workers if worker.process.poll()), None)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{shown - begun:5.0f} s  {counts()}", flush=True)
    for worker in workers:
        if failed is not None:
            worker.process.kill()
        worker.process.wait()
        worker.reader.join()
    failed = failed or next((worker for worker in workers if worker.process.returncode), None)
    if failed is not None:
        code = failed.process.returncode
        print(
            f"A case failed (exit {code}) after {counts()}. To do it again:\n"
            f"    make fuzz SEED={seed} CASE={failed.next} INSTEP_ISA={failed.level}"
        )
        return 1
    print(f"No difference: {counts()}, at {', '.join(every)}, seed {seed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
