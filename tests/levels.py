"""The instruction levels of this CPU, and code that runs at one of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from instep import _instep

LEVELS = _instep.config()["isa_available"]


def use_level(level: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the steps of a test use the instructions of one level."""
    module = sys.modules["instep.rule"]
    monkeypatch.setattr(module, "compiled", lambda name: _instep.Recipe(name, level))
    return level


def assert_runs_at(level: str, code: str) -> None:
    """Fail unless code ends well in a process at one level, and prints the level it has."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "INSTEP_ISA": level},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{level}\n"), done.stderr
