"""The example of torch runs, and says how much faster it is and how close: `make torch-host`."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "torch_small_gpt.py"


def test_torch_small_gpt() -> None:
    command = [sys.executable, str(EXAMPLE), "--steps", "3"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    _, close, fast = done.stdout.splitlines()
    apart = re.fullmatch(r"3 of 3 steps by instep; losses at most (\S+) apart, relatively", close)
    assert apart is not None
    assert float(apart[1]) < 1e-4
    assert re.search(r", \d+\.\d times as fast$", fast)
