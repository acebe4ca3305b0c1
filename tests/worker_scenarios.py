"""What `test_workers.py` runs, each in a process of its own: `python worker_scenarios.py name ...`.

Killed if it takes too long, as in `scenarios.py`.
"""

import ctypes
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import instep
import numpy as np
from bits import Array, assert_same_bits
from instep import _instep, reference
from optimizer_model import Pair
from scenarios import Trained, assert_workers, threads, watch

LARGE = 1 << 20
"""The bytes of parameters of a step that threads share, unless that has cost time."""

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


# The bits of each mode in the control register, and where the C library's `fenv_t` has that.
MODES, SIZE_OF_FENV, REGISTER = {
    "x86_64": (
        {
            "flush": 0x8000,
            "zeros": 0x0040,
            "flush_and_zeros": 0x8040,
            "down": 0x2000,
            "up": 0x4000,
            "to_zero": 0x6000,
        },
        32,
        28,
    ),
    "aarch64": (
        {"flush": 1 << 24, "up": 1 << 22, "down": 2 << 22, "to_zero": 3 << 22},
        8,
        0,
    ),
}[platform.machine()]


@contextmanager
def floats(mode: str) -> Iterator[None]:
    """Set the floating-point mode of this thread, and the one before in the end."""
    libm = ctypes.CDLL("libm.so.6")
    before = (ctypes.c_ubyte * SIZE_OF_FENV)()
    assert libm.fegetenv(before) == 0
    changed = (ctypes.c_ubyte * SIZE_OF_FENV).from_buffer_copy(before)
    ctypes.c_uint32.from_buffer(changed, REGISTER).value |= MODES[mode]
    assert libm.fesetenv(changed) == 0
    try:
        yield
    finally:
        assert libm.fesetenv(before) == 0


def small_and_ordinary(rng: np.random.Generator, size: int, dtype: Any) -> Array:
    """Draw numbers of ordinary sizes, and some subnormal or a little larger, or zeros of any sign.

    Their products with coefficients and with each other are all of that, too. Few are subnormal: a
    CPU may take a hundred times longer for them.
    """
    numbers = rng.standard_normal(size)
    kind, tiny = rng.integers(0, 64, size), float(np.finfo(dtype).tiny)
    numbers[kind == 1] *= tiny
    numbers[kind == 2] *= tiny / 1000
    numbers[kind == 3] *= tiny**0.5
    numbers[kind == 4] *= 0.0
    return numbers.astype(dtype)


def modes(dtype: str) -> None:
    """A step computes as NumPy does in the same thread, on any number of threads."""
    size = LARGE // np.dtype(dtype).itemsize + 17
    rng = np.random.default_rng(0)
    p, g, m, v = (small_and_ordinary(rng, size, dtype) for _ in range(4))
    start = {"m": m, "v": np.abs(v)}
    grads = [g, g[::-1].copy(), small_and_ordinary(rng, size, dtype)]

    def steps(count: int, eps_mode: str, max_norm: float | None) -> list[Array]:
        instep.set_num_threads(count)
        # A decay, as the model multiplies by 1 without one, and so flushes what a step keeps.
        options = {"eps_mode": eps_mode, "eps": 0.01, "weight_decay": 0.1}
        pair = Pair(instep.AdamW, [([p.copy()], options)], average=0.9)
        (model,) = pair.model.parameters()
        for name, state in pair.opt.state["0.0"].items():
            state[...] = start[name]
            model.states[name] = start[name].copy()
        for g in grads:
            pair.step([[g.copy()]], max_norm=max_norm)
        return [pair.params[0][0], *pair.opt.state["0.0"].values(), pair.opt.averages[0][0]]

    results = {}
    for mode in MODES:
        with floats(mode):
            for count in (1, 2, 3):
                steps(count, "scaled", 1e-3)
            results[mode] = steps(3, "inside", None)
    # A worker would have the mode that it was born with.
    assert threads_of_instep() == 0
    ordinary = steps(3, "inside", None)
    assert_workers(2)
    for mode, once in results.items():
        with floats(mode):
            found = steps(3, "inside", None)
        for array, again in zip(once, found, strict=True):
            assert_same_bits(array, again, f"{mode} with workers")
        same = [a.tobytes() == b.tobytes() for a, b in zip(once, ordinary, strict=True)]
        assert not all(same), f"{mode} has changed nothing"


def recipes_in_modes(dtype: str) -> None:
    """Every recipe computes as its reference does in the same thread, on any number of threads."""
    # Of a third of all numbers, 3/4 is an exact divisor, and its rounded reciprocal no factor.
    numbers = {"beta1": 0.9, "beta2": 0.99, "beta1_power": 0.25, "beta2_power": 0.25}
    size = LARGE // np.dtype(dtype).itemsize + 17
    rng = np.random.default_rng(0)
    p, g = (small_and_ordinary(rng, size, dtype) for _ in range(2))
    for mode in ("flush_and_zeros" if "flush_and_zeros" in MODES else "flush", "up"):
        for name in _instep.recipes():
            recipe = _instep.Recipe(name)
            hypers = tuple(numbers.get(hyper, 0.1) for hyper in recipe.hypers)
            starts = [np.abs(small_and_ordinary(rng, size, dtype)) for _ in recipe.states]
            with floats(mode), np.errstate(all="ignore"):
                named = dict(zip(recipe.hypers, hypers, strict=True))
                wanted = getattr(reference, name)(p, g, *starts, **named)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            for count in (1, 2, 3):
                instep.set_num_threads(count)
                stepped, *states = [array.copy() for array in (p, *starts)]
                arrays = ((stepped,), (g,), tuple((state,) for state in states))
                with floats(mode):
                    recipe.step(hypers, *arrays, "{} {} {}".format)
                for actual, array in zip((stepped, *states), wanted, strict=True):
                    assert_same_bits(actual, array, f"{name}, {mode}, {count} threads")


def soon_asleep() -> None:
    """A millisecond after the last step no worker uses the CPU."""

    def nanoseconds() -> int:
        tasks = Path("/proc/self/task").iterdir()
        mine = (task for task in tasks if (task / "comm").read_text() == "instep\n")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in mine)

    sizes = (16_384, 100_000, 1_000_003)
    opts = [instep.SGD(np.zeros(size, np.float32)) for size in sizes]
    grads = [np.ones(size, np.float32) for size in sizes]
    used = []
    for _ in range(30):
        for opt, g in zip(opts, grads, strict=True):
            for _ in range(100):
                opt.step(g)
            before = nanoseconds()
            time.sleep(0.03)
            used.append(nanoseconds() - before)
    assert_workers(3)
    # A thread that gets no core meanwhile uses less.
    assert max(used) < 3 * 1_000_000, f"{max(used)} ns"
    for opt, g in zip(opts, grads, strict=True):
        before = nanoseconds()
        for _ in range(100):
            opt.step(g)
            time.sleep(0.001)
        assert nanoseconds() - before < 3 * 100 * 1_000_000


def middling_sizes() -> None:
    """Sizes that may be shared or not have the same bits either way, whatever is between steps."""
    rng = np.random.default_rng(0)
    for size in (16_384, 40_001, 100_003, 262_143):
        for dtype in (np.float32, np.float64):
            p, g = (rng.standard_normal(size).astype(dtype) for _ in range(2))
            stepped = []
            for count in (1, 2, 4):
                instep.set_num_threads(count)
                params = p.copy()
                opt = instep.Adam(params, eps_mode="inside", average=0.9, weight_decay=0.1)
                for t in range(60):
                    opt.step(g, max_norm=1.0 if t % 2 else None)
                    if t % 10 == 9:
                        time.sleep(0.001)
                stepped.append([params, *opt.state["params"].values(), opt.averages])
            for arrays in stepped[1:]:
                for actual, wanted in zip(arrays, stepped[0], strict=True):
                    assert_same_bits(actual, wanted, f"{size} {dtype}")
    assert_workers(3)


def threads_of_instep() -> int:
    return sum(1 for _ in statuses_of_workers())


def main(name: str, *arguments: str) -> None:
    watch()
    scenario: Callable[..., None] = globals()[name]
    scenario(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
