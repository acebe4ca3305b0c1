"""What `test_workers.py` runs, each in a process of its own: `python worker_scenarios.py name ...`.

Killed if it takes too long, as in `scenarios.py`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from scenarios import Trained, assert_workers, threads, watch

FAULTS = {
    *(signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
    *(signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP),
}
"""What a thread is sent for what it has done itself."""


def statuses_of_workers() -> Iterator[dict[str, str]]:
    for task in Path("/proc/self/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if status["Name"] == "instep":
            yield status


def signals() -> None:
    """Signals that the main thread has blocked wait for it, instead of being a worker's."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH}) | {signal.SIGWINCH}
    trained = Trained(0)
    assert threads() == 1, "a thread of another library would take the signals"
    trained.step()
    assert_workers(3)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    # Not those that the C library keeps for itself.
    wanted = signal.valid_signals() - FAULTS - {signal.SIGKILL, signal.SIGSTOP}
    for status in statuses_of_workers():
        bits = int(status["SigBlk"], 16)
        blocked = {number for number in signal.valid_signals() if bits >> (number - 1) & 1}
        assert blocked == wanted, f"{blocked ^ wanted}"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN):
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        trained.step()
        os.kill(os.getpid(), number)
        info = signal.sigtimedwait({number}, 10)
        assert info is not None
        assert info.si_signo == number
    trained.step()
    trained.check()


def main(name: str, *arguments: str) -> None:
    watch()
    scenario: Callable[..., None] = globals()[name]
    scenario(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
