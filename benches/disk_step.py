"""Time steps of states in files against fio with the same mix of reads and writes, taking turns.

python -m benches.disk_step --folder /some/disk --gib 3

Needs fio, as the package of most systems. Prints a row of the table in docs/larger-than-memory.md:
how many bytes a step moves a second as a part of what fio moves, by the medians, and how much the
memory of the process grew in steps. Removes what it has written.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import instep
import numpy as np
from instep.disk import Streamed
from numpy.typing import NDArray


def resident() -> int:
    """Return the bytes of this process that are in memory, at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def filled(path: Path | None, size: int) -> NDArray[np.float32]:
    """Return an array in memory, or in a file."""
    if path is None:
        return np.full(size, 0.5, np.float32)
    array = np.memmap(path, np.float32, "w+", shape=(size,))
    for start in range(0, size, 1 << 22):
        array[start : start + (1 << 22)] = 0.5
    return array


def fio(folder: Path, reads: int, writes: int, block: int) -> float:
    """Return how many bytes a second fio reads and writes, so many of each, at once."""
    jobs = [
        *("--direct=1", "--ioengine=libaio", "--iodepth=8", f"--bs={block}", "--end_fsync=1"),
        *("--name=read", f"--filename={folder / 'read'}", "--rw=read", f"--size={reads}"),
        *("--name=write", f"--filename={folder / 'write'}", "--rw=write", f"--size={writes}"),
    ]
    done = subprocess.run(
        ["fio", "--output-format=json", *jobs], capture_output=True, text=True, check=True
    )
    # It may say before that it makes files.
    found = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    moved = sum(job["read"]["io_bytes"] + job["write"]["io_bytes"] for job in found)
    return float(moved / max(job["job_runtime"] for job in found) * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--gib", type=float, default=3.0, help="of parameters and states of Adam")
    parser.add_argument("--chunk", type=int, default=16, help="in MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mapped", action="store_true", help="parameters and gradients in files")
    arguments = parser.parse_args()
    if shutil.which("fio") is None:
        raise SystemExit("fio is not there; it is a package of most systems, such as apt's fio")
    size = int(arguments.gib * (1 << 30)) // 12
    chunk = arguments.chunk << 20
    block = chunk // 3 // 4096 * 4096
    # Of states; parameters, which are only written where they are in memory; and mapped gradients.
    reads, writes = (16 * size, 16 * size) if arguments.mapped else (8 * size, 12 * size)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        params, grads = (
            {"W": filled(folder / own if arguments.mapped else None, size)} for own in ("W", "G")
        )
        opt = Streamed(instep.AdamW, params, folder=folder / "run", chunk=chunk)
        # Each generation once, whose room on the disk is new.
        opt.step(grads)
        opt.step(grads)
        fio(folder, reads, writes, block)
        before = resident()
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            start = perf_counter()
            opt.step(grads)
            ours.append((reads + writes) / (perf_counter() - start))
            theirs.append(fio(folder, reads, writes, block))
        grown = resident() - before
        opt.close()
    cells = [
        f"{arguments.gib:g} GiB",
        f"{median(ours) / (1 << 20):.0f} MiB/s",
        f"{median(theirs) / (1 << 20):.0f} MiB/s",
        f"{median(ours) / median(theirs):.2f}",
        f"{opt.buffer_bytes / (1 << 20):.0f} MiB",
        f"{grown / (1 << 20):.0f} MiB",
    ]
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
