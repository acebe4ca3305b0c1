"""Processes of their own for what may hang or be killed, and scenarios that are run in them."""

import os
import subprocess
import sys
from pathlib import Path

from scenarios import SECONDS

SCENARIOS = "scenarios.py"


def run(*words: str, threads: str | None = "4") -> "subprocess.CompletedProcess[str]":
    """Run Python with some arguments, with that INSTEP_NUM_THREADS."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    environment.pop("INSTEP_NUM_THREADS", None)
    if threads is not None:
        environment["INSTEP_NUM_THREADS"] = threads
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=2 * SECONDS,
    )


def scenario(*words: str, threads: str | None = "4", file: str = SCENARIOS) -> str:
    """Run a scenario of a file beside this one to its good end; return what it printed."""
    done = run(str(Path(__file__).parent / file), *words, threads=threads)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.returncode}: {done.stderr}"
    return done.stdout
