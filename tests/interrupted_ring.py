"""What `test_disk.py` runs: a ring that is interrupted at each of its instructions in turn.

    python tests/interrupted_ring.py STRIDE

Prints how many interrupts there were. Hangs where one leaves a lock taken.
"""

import sys
from types import FrameType
from typing import Any

from instep.ring import BLOCK, Region, Ring, Task

FILES = ("ring.py", "workers.py", "_base.py", "thread.py", "threading.py")


class InterruptAt:
    """Raises in this thread at one instruction of the files above."""

    def __init__(self, instruction: int) -> None:
        self.remaining = instruction

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.remaining -= 1
            if self.remaining == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def main(stride: int) -> None:
    def fill(regions: list[Region]) -> None:
        regions[0][:] = bytes([1]) * BLOCK

    done = []
    tasks: list[Task] = [fill, fill]

    def work(number: int, regions: list[Region]) -> None:
        assert regions[0][0] == 1
        done.append(number)

    ring = Ring(1, BLOCK)
    interrupts = 0
    for instruction in range(1, sys.maxsize, stride):
        done.clear()
        sys.settrace(InterruptAt(instruction))
        try:
            ring.run([(number, tasks, tasks) for number in range(9)], work)
        except KeyboardInterrupt:
            interrupts += 1
        else:
            sys.settrace(None)
            assert done == list(range(9))
            break
    print(interrupts)


if __name__ == "__main__":
    main(int(sys.argv[1]))
