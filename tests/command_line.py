"""The command line, run as a process, and what it writes."""

import os
import subprocess
import sys
from pathlib import Path


def without(
    modules: list[str], *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line where modules cannot be imported."""
    code = (
        f"import sys; sys.modules |= dict.fromkeys({modules})\n"
        "from instep.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=os.environ | (environment or {}),
    )


def size_of_png(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content[-8:-4] == b"IEND"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
