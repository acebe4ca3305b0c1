"""A step allocates no memory of the size of an array, and starts no thread if it is small."""

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import instep
import numpy as np
import pytest
from bits import LAYOUTS, Layout, dense
from course_code import Arrays
from instep import course

# Python's own small objects: tuples, floats, a dict's view.
FEW_BYTES = 16 * 1024


def arrays_of(n: int, layout: Layout = dense, dtype: type = np.float64) -> list[Arrays]:
    """Parameters, gradients and two states of a net with two parameters of n elements."""
    shape = (n,) if layout is dense else (n // 100, 100)
    names = ("W1", "b1"), ("dW1", "db1"), ("dW1", "db1"), ("dW1", "db1")
    dicts = [{name: layout(shape, np.dtype(dtype)) for name in pair} for pair in names]
    for arrays in dicts:
        for array in arrays.values():
            array[...] = 0.5
    return dicts


STEPS: dict[str, Callable[[Arrays, Arrays, Arrays, Arrays], Any]] = {
    "gd": lambda p, g, v, s: course.update_parameters_with_gd(p, g, 0.1),
    "momentum": lambda p, g, v, s: course.update_parameters_with_momentum(p, g, v, 0.9, 0.1),
    "rmsprop": lambda p, g, v, s: course.update_parameters_with_rmsprop(p, g, s),
    "rmsprop outside": lambda p, g, v, s: course.update_parameters_with_rmsprop(
        p, g, s, eps_mode="outside"
    ),
    "adam": lambda p, g, v, s: course.update_parameters_with_adam(p, g, v, s, 2),
    "adam outside": lambda p, g, v, s: course.update_parameters_with_adam(
        p, g, v, s, 2, eps_mode="outside"
    ),
    "adam hat": lambda p, g, v, s: course.update_parameters_with_adam(
        p, g, v, s, 2, eps_mode="hat"
    ),
    "adam scaled": lambda p, g, v, s: course.update_parameters_with_adam(
        p, g, v, s, 2, eps_mode="scaled"
    ),
}
every_step = pytest.mark.parametrize("step", STEPS)


@pytest.fixture
def traced() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """Return how many bytes a call had allocated through Python at its worst moment."""

    def peak(call: Callable[[], Any]) -> int:
        call()  # What is made once stays out of the count.
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    yield peak
    tracemalloc.stop()


@every_step
@pytest.mark.parametrize("n", [1, 1_000, 16_384, 100_003, 1_000_000])
def test_a_step_allocates_nothing_for_arrays_of_any_size(
    traced: Callable[[Callable[[], Any]], int], step: str, n: int
) -> None:
    for dtype in (np.float32, np.float64):
        arrays = arrays_of(n, dtype=dtype)
        assert traced(lambda: STEPS[step](*arrays)) < FEW_BYTES  # noqa: B023


@every_step
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_allocates_nothing_for_arrays_of_any_layout(
    traced: Callable[[Callable[[], Any]], int], step: str, layout: Layout
) -> None:
    # All in that layout, and each of the four roles in it alone.
    for odd in ((0, 1, 2, 3), (0,), (1,), (2,), (3,)):
        arrays = [arrays_of(100_000, layout if role in odd else dense)[role] for role in range(4)]
        for dicts in arrays:
            for key, array in dicts.items():
                dicts[key] = array.reshape(1_000, 100) if array.ndim == 1 else array
        assert traced(lambda: STEPS[step](*arrays)) < FEW_BYTES  # noqa: B023


def test_the_count_sees_a_temporary_array(traced: Callable[[Callable[[], Any]], int]) -> None:
    array = np.ones(100_000)
    assert traced(lambda: array + 1) >= array.nbytes


def test_corrected_moments_are_all_that_is_allocated(
    traced: Callable[[Callable[[], Any]], int],
) -> None:
    p, g, v, s = arrays_of(100_000)
    asked_for = sum(array.nbytes for arrays in (v, s) for array in arrays.values())
    peak = traced(lambda: course.update_parameters_with_adam(p, g, v, s, 2, return_corrected=True))
    assert asked_for <= peak < asked_for + FEW_BYTES


def python(code: str) -> str:
    """Run code in an interpreter of its own, in which no other library starts threads."""
    limits = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code],
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


PREAMBLE = """
import gc, os, resource, sys
import numpy as np

def threads():
    return len(os.listdir("/proc/self/task"))

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def peak_resident():
    # Not by resource.getrusage: a process begins with the peak of the one that started it.
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

def arrays(*shape, make=lambda array: array):
    def net(prefix):
        return {prefix + key: make(np.full(shape, 0.5)) for key in ("W1", "b1")}
    return net(""), net("d"), net("d"), net("d")
"""


@pytest.mark.parametrize(("n", "steps"), [(12, 20_000), (5_000, 10_000), (20_000, 2_000)])
def test_the_resident_set_stays_flat(n: int, steps: int) -> None:
    growth = python(f"""
from instep import course
p, g, v, s = arrays({n})
odd = arrays({n} // 2, 2, make=lambda array: np.asfortranarray(array)[::-1])
# No order of these axes nests them: such an array is looked at closely before it is written.
windows = lambda array: np.lib.stride_tricks.as_strided(array, ({n} // 4, 2), (16, 24))
close = tuple({{key: windows(a) for key, a in net.items()}} for net in arrays({n} + 8))

def work(steps):
    for t in range(1, steps + 1):
        course.update_parameters_with_gd(p, g, 1e-3)
        course.update_parameters_with_momentum(p, g, v, 0.9, 1e-3)
        course.update_parameters_with_rmsprop(p, g, s)
        course.update_parameters_with_adam(p, g, v, s, t)
        course.update_parameters_with_adam(*odd, t, eps_mode="scaled")
        course.update_parameters_with_gd(*close[:2], 1e-3)
        course.update_parameters_with_adam(p, g, v, s, t, return_corrected=True)

work(500)
gc.collect()
before = resident()
work({steps})
gc.collect()
print(resident() - before)
""")
    assert int(growth) < 400_000


def test_refused_calls_do_not_leak() -> None:
    """A leak of some 30 bytes in one of these calls would be seen."""
    growth = python("""
from instep import course
p, g, v, s = arrays(50, 2)
bad = [
    (p, {**g, "db1": None}, v, s),
    (p, {**g, "db1": g["db1"].astype(int)}, v, s),
    (p, {**g, "db1": np.ma.array(g["db1"])}, v, s),
    (p, {**g, "db1": np.ones(3)}, v, s),
    ({**p, "b1": np.broadcast_to(1.0, (50, 2))}, g, v, s),
    (p, g, v, {**s, "dW1": v["dW1"]}),
    ({**p, "b1": np.lib.stride_tricks.as_strided(np.ones(1), (50, 2), (0, 0))}, g, v, s),
    (p, g, v, {}),
]

def work(steps):
    for _ in range(steps):
        for dicts in bad:
            try:
                course.update_parameters_with_adam(*dicts, 1)
            except (TypeError, ValueError, KeyError):
                continue
            raise SystemExit("not refused")

work(500)
gc.collect()
before = resident()
work(20_000)
gc.collect()
print(resident() - before)
""")
    assert int(growth) < 400_000


def test_the_peak_of_the_resident_set_stays_too() -> None:
    """Memory that Python does not trace: a copy of one of these arrays would be 8 MB."""
    growth = python("""
from instep import course
columns = lambda array: array.reshape(1_000, 1_000).T
every_second = lambda array: array[::2]
misaligned = lambda array: array.view(np.uint8)[1:-7].view(np.float64)
nets = [arrays(1_000_000), arrays(1_000_000, make=columns), arrays(2_000_000, make=every_second)]
nets.append(arrays(1_000_000, make=misaligned))
mixed = tuple({key: nets[(i + j) % 2][i][key].reshape(1_000, 1_000) for j, key in enumerate(net)}
              for i, net in enumerate(nets[0]))
course.update_parameters_with_adam(*arrays(100), 1)
before = peak_resident()
assert before > 3e8, "the peak is not that of the arrays"
for net in (*nets, mixed):
    p, g, v, s = net
    course.update_parameters_with_gd(p, g, 1e-3)
    course.update_parameters_with_momentum(p, g, v, 0.9, 1e-3)
    course.update_parameters_with_rmsprop(p, g, s)
    for mode in ("inside", "outside", "hat", "scaled"):
        course.update_parameters_with_adam(p, g, v, s, 3, eps_mode=mode)
print(peak_resident() - before)
""")
    assert int(growth) < 2_000_000


def test_references_are_given_back() -> None:
    p, g, v, s = arrays_of(20_000)
    objects = [p, g, v, s, *(array for arrays in (p, g, v, s) for array in arrays.values())]
    before = [sys.getrefcount(each) for each in objects]
    for t in range(1, 50):
        for step in STEPS.values():
            step(p, g, v, s)
        course.update_parameters_with_adam(p, g, v, s, t, return_corrected=True)
        with pytest.raises(ValueError, match="shares memory"):
            course.update_parameters_with_adam(p, g, v, v, t)
    assert [sys.getrefcount(each) for each in objects] == before


@pytest.mark.parametrize("refused", [False, True])
def test_no_step_of_an_optimizer_keeps_or_loses_a_reference(refused: bool) -> None:
    p = {"W": np.ones((3, 4)), "E": np.ones((5, 2)), "b": np.ones(3), "c": np.ones(2)}
    rows = instep.Rows(np.array([1, 3, 1]), np.full((3, 2), 0.5))
    grads = {"W": np.full((3, 4), 0.5), "E": rows, "b": np.full(3, 0.5), "c": None}
    opt = instep.Adam(p)
    opt.step(grads)
    last = grads["b"] if not refused else np.full(2, 0.5)
    grads["b"] = last
    objects = [*p.values(), *grads.values(), rows.values, rows.indices, opt.state["W"]["m"]]
    objects = [each for each in objects if each is not None]
    before = [sys.getrefcount(each) for each in objects]
    for _ in range(50):
        if refused:
            with pytest.raises(ValueError, match=r"grads\[.b.\]"):
                opt.step(grads)
        else:
            opt.step(grads)
    assert [sys.getrefcount(each) for each in objects] == before


def test_only_large_steps_start_threads() -> None:
    """Neither the import nor small steps do; large ones as many as wanted, and those stay."""
    counts = python("""
counts = [threads()]
import instep
from instep import course
counts.append(threads())

def steps(n):
    p, g, v, s = arrays(n)
    for t in range(1, 11):
        course.update_parameters_with_gd(p, g, 1e-3)
        course.update_parameters_with_momentum(p, g, v, 0.9, 1e-3)
        course.update_parameters_with_rmsprop(p, g, s)
        course.update_parameters_with_adam(p, g, v, s, t)
    counts.append(threads())

instep.set_num_threads(3)
steps(1_000)
steps(3_000)
instep.set_num_threads(1)
steps(1_000_000)
instep.set_num_threads(3)
steps(1_000_000)
instep.set_num_threads(2)
steps(1_000_000)
print(*counts)
""")
    assert counts.split() == ["1", "1", "1", "1", "1", "3", "3"]


def test_large_steps_let_other_threads_run() -> None:
    """The interpreter lock is released during a sweep of 16,384 elements and more.

    Nobody is made to give it up by time here: only who releases it lets the other thread run.
    """
    arrays = arrays_of(1_000_000)
    go, ran = threading.Event(), threading.Event()

    def other() -> None:
        go.wait()
        ran.set()

    thread = threading.Thread(target=other)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1_000.0)
    try:
        go.set()
        for _ in range(10_000):
            STEPS["adam"](*arrays)
            if ran.is_set():
                break
        released = ran.is_set()
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert released
