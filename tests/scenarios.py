"""What `test_processes.py` runs, each in a process of its own: `python scenarios.py name ...`.

A scenario that hangs is killed by an alarm, with the stacks of all its threads shown.
"""

import copy
import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import (
    Array,
    assert_same_bits,
    assert_same_buffers,
    copy_with_buffer,
    every_second,
    fortran,
)
from instep import Rows, _instep, reference
from optimizer_model import Pair, assert_same_norm

SIZE = 1_000_003
CHUNK = 32_768
SECONDS = 600  # none takes a tenth of it, but for a hang or a machine that is very busy


def watch() -> None:
    """Have this process killed if it takes too long; a forked child has to call it again.

    Not by `faulthandler.dump_traceback_later`, whose thread no forked child has.
    """
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(SECONDS)


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def name_of(task: Path) -> str:
    """Return the name of a thread, or nothing if it has ended since it was listed."""
    try:
        return (task / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def assert_workers(count: int) -> None:
    """Fail unless so many threads of this process are instep's: a new one names itself in time."""
    deadline = time.monotonic() + SECONDS / 2
    while True:
        names = [name_of(task) for task in Path("/proc/self/task").iterdir()]
        found = names.count("instep\n")
        if found == count:
            return
        assert found < count, f"{found} workers, not {count}"
        assert time.monotonic() < deadline, f"{found} workers, not {count}: {names}"
        time.sleep(0.001)


class Trained:
    """A large parameter that an optimizer steps, with one gradient, and its model."""

    def __init__(self, seed: int, size: int = SIZE) -> None:
        rng = np.random.default_rng(seed)
        p, self.g = (rng.standard_normal(size, np.float32) for _ in range(2))
        self.pair = Pair(instep.Adam, [([p], {"weight_decay": 0.01})], average=0.9)

    @property
    def opt(self) -> instep.Optimizer:
        opt: instep.Optimizer = self.pair.opt
        return opt

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.opt.step([[self.g]])

    def arrays(self) -> list[Array]:
        """Return all arrays of the optimizer."""
        ((p,),) = [group["params"] for group in self.opt.param_groups]
        return [p, *self.opt.state["0.0"].values(), self.opt.averages[0][0]]

    def check(self) -> None:
        """Let the model do as many steps as the optimizer says it has done, and compare all."""
        while self.pair.model.t < self.opt.t:
            self.pair.model.step([[self.g]])
        self.pair.compare()


def steps_work(seed: int = 1) -> None:
    """Step large arrays of this process; the workers have to be there then."""
    trained = Trained(seed)
    trained.step(3)
    assert instep.get_num_threads() == 4
    assert_workers(3)
    trained.check()


def forked(run: Callable[[], None]) -> int:
    """Fork; return the child's id. The child ends with 0 if `run` returned, else with 1."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        watch()
        run()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def assert_succeeded(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# Forks.


def fork_after_steps() -> None:
    """A child steps the parent's arrays on from where they were, and so does the parent."""
    trained = Trained(0)
    trained.step(3)
    assert_workers(3)

    def child() -> None:
        assert_workers(0)
        trained.step(3)
        assert_workers(3)
        trained.check()
        # A child of the child, too.
        assert_succeeded(forked(steps_work))
        trained.step()
        trained.check()

    children = [forked(child) for _ in range(4)]
    trained.step(2)
    for process in children:
        assert_succeeded(process)
    trained.check()


def fork_during_steps() -> None:
    """Children are forked while another thread steps; they step arrays of their own."""
    other = Trained(1)
    other.step()
    assert_workers(3)
    is_stepping = False
    stop = threading.Event()
    # Large enough that most of the time is spent within a step. No optimizer's: a fork would wait.
    p, g, m, v = np.full((4, 4 * SIZE), 0.5, np.float32)
    t = 0

    def steps() -> None:
        nonlocal is_stepping, t
        while not stop.is_set():
            t += 1
            is_stepping = True
            instep.functional.adam(p, g, m, v, t=t)
            is_stepping = False

    def child() -> None:
        other.step(2)
        assert_workers(3)
        other.check()

    thread = threading.Thread(target=steps)
    thread.start()
    rng = random.Random(0)
    during = 0
    while during < 15 or t < 15:
        time.sleep(rng.uniform(0, 0.02))
        during += is_stepping
        assert_succeeded(forked(child))
    stop.set()
    thread.join()
    other.check()


def fork_during_steps_of_an_optimizer() -> None:
    """Children go on with an optimizer that another thread steps, from whole steps on."""
    trained = Trained(0)
    trained.step()
    assert_workers(3)
    go, stop = threading.Event(), threading.Event()

    def steps() -> None:
        while not stop.is_set():
            go.wait()
            trained.step()

    def child() -> None:
        trained.step(2)
        steps_done = trained.opt.t
        again = Trained(0)
        with instep.num_threads(1):
            again.step(steps_done)
        for has, wanted in zip(trained.arrays(), again.arrays(), strict=True):
            assert_same_bits(has, wanted, f"after {steps_done} steps")
        trained.step()
        # Others of the child, and its own children.
        assert_succeeded(forked(steps_work))

    thread = threading.Thread(target=steps)
    thread.start()
    rng = random.Random(0)
    forks = 0
    try:
        while forks < 20 or trained.opt.t <= 20:
            forks += 1
            go.set()
            time.sleep(rng.uniform(0, 0.005))
            process = forked(child)
            # The child does all steps once more: it should not be left behind.
            go.clear()
            assert_succeeded(process)
    finally:
        stop.set()
        go.set()
        thread.join()


def in_threads(*functions: Callable[[], None]) -> None:
    """Call functions at the same time, and raise what one of them raised."""
    with ThreadPoolExecutor(len(functions)) as pool:
        for done in [pool.submit(function) for function in functions]:
            done.result()


def forks_while_a_thread_copies() -> None:
    """Neither waits for the other for good, and every copy and child has whole steps."""
    trained = Trained(0, 100_000)
    trained.step()
    stop = threading.Event()

    def copies() -> None:
        while not stop.is_set():
            twin = copy.deepcopy(trained.opt)
            assert twin.t == trained.opt.t

    def forks() -> None:
        try:
            for _ in range(30):
                assert_succeeded(forked(lambda: trained.step(2)))
        finally:
            stop.set()

    in_threads(copies, forks)
    trained.step()
    trained.check()


def forks_while_rates_make_optimizers() -> None:
    """A learning rate may make, step and copy optimizers while another thread forks."""
    p, g = np.ones(50_000), np.ones(50_000)
    stop = threading.Event()

    def rate(step: int) -> float:
        inner = instep.Adam(np.ones(50_000))
        inner.step(g)
        return 0.5 + 0 * copy.deepcopy(inner).t

    opt = instep.SGD(p, lr=rate)

    def steps() -> None:
        while not stop.is_set():
            opt.step(g)

    def forks() -> None:
        try:
            for _ in range(30):
                assert_succeeded(forked(lambda: assert_whole(opt, p)))
        finally:
            stop.set()

    in_threads(steps, forks)
    assert_whole(opt, p)


def assert_whole(opt: instep.Optimizer, p: Array) -> None:
    """Fail unless as many steps of 0.5 as counted have been done, and the next can be."""
    assert (p == 1 - 0.5 * opt.t).all()
    opt.step(np.ones(50_000))
    assert (p == 1 - 0.5 * opt.t).all()


def rates_that_fork() -> None:
    """Two threads fork in the middle of preparing a step, each of its optimizer."""

    def steps() -> None:
        p = np.ones(50_000)

        def rate(step: int) -> float:
            if step < 15:
                child = os.fork()
                if not child:
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            return 0.5

        opt = instep.SGD(p, lr=rate)
        for _ in range(20):
            opt.step(np.ones(50_000))
        assert (p == 1 - 0.5 * 20).all()

    in_threads(steps, steps)


def several_processes(method: str) -> None:
    """Children of multiprocessing step at the same time as the parent."""
    context: Any = multiprocessing.get_context(method)
    trained = Trained(0)
    trained.step()
    assert_workers(3)
    children = [context.Process(target=_child, args=(seed,)) for seed in (1, 2, 3)]
    for process in children:
        process.start()
    while any(process.is_alive() for process in children):
        trained.step()
        trained.check()
    for process in children:
        process.join()
        assert process.exitcode == 0
    trained.step()
    trained.check()


def _child(seed: int) -> None:
    watch()
    steps_work(seed)


# Threads.


def each_its_optimizer() -> None:
    """Threads step different optimizers at the same time."""
    all_trained = [Trained(seed) for seed in range(8)]
    barrier = threading.Barrier(len(all_trained))

    def steps(trained: Trained) -> None:
        barrier.wait()
        trained.step(20)

    with ThreadPoolExecutor(len(all_trained)) as executor:
        list(executor.map(steps, all_trained))
    assert_workers(3)
    for trained in all_trained:
        assert trained.opt.t == 20
        trained.check()


def all_the_same_optimizer() -> None:
    """Threads step one optimizer: as many steps come of it, one after the other."""
    trained = Trained(0)
    barrier = threading.Barrier(8)

    def steps(_: int) -> None:
        barrier.wait()
        trained.step(8)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(steps, range(8)))
    assert_workers(3)
    assert trained.opt.t == 64
    trained.check()


def no_thread_before_a_large_step() -> None:
    """Small is less than 64 KiB of parameters in all; from 256 KiB on the first step is shared."""
    before = threads()
    small, few = np.zeros(16_383, np.float32), [np.zeros(1000) for _ in range(8)]
    for _ in range(3):
        instep.Adam(small).step(np.ones_like(small), max_norm=1.0)
        instep.Adam(few).step([np.ones_like(p) for p in few], max_norm=1.0)
        course = {"W1": small, "b1": np.zeros(0, np.float32)}
        instep.update_parameters_with_gd(
            course, {f"d{name}": p.copy() for name, p in course.items()}, 0.1
        )
    assert threads() == before
    assert_workers(0)
    instep.SGD(np.zeros(131_072)).step(np.ones(131_072))
    assert_workers(3)
    assert threads() == before + 3


def never_a_thread_with_one() -> None:
    """Nor if the number is 1, however large the step; set between steps, it holds for the next."""
    instep.set_num_threads(1)
    trained = Trained(0)
    before = threads()
    trained.step(3)
    assert threads() == before
    with instep.num_threads(3):
        trained.step()
        assert_workers(2)
    assert instep.get_num_threads() == 1
    trained.step()
    trained.check()


def show_number() -> None:
    """Print the number of threads, which a large step has."""
    instep.SGD(np.zeros(SIZE)).step(np.ones(SIZE))
    assert_workers(instep.get_num_threads() - 1)
    print(instep.get_num_threads(), instep.config()["threads"])


def show_number_by_affinity(count: str) -> None:
    """Print it for a process that may run on so many CPUs at most; instep is imported anew."""
    cpus = sorted(os.sched_getaffinity(0))[: int(count)]
    os.sched_setaffinity(0, cpus)
    os.execv(sys.executable, [sys.executable, __file__, "show_number"])


def threadpoolctl() -> None:
    """The threads are shown to threadpoolctl, and limited by it."""
    from threadpoolctl import threadpool_info, threadpool_limits

    def shown() -> Any:
        (info,) = [info for info in threadpool_info() if info["user_api"] == "instep"]
        return info

    assert shown()["filepath"] == str(Path(_instep.__file__).resolve())
    assert shown()["num_threads"] == 4
    assert shown()["version"] == instep.__version__
    trained = Trained(0)
    before = threads()
    with threadpool_limits(1):
        assert shown()["num_threads"] == instep.get_num_threads() == 1
        trained.step()
        assert threads() == before
    assert shown()["num_threads"] == instep.get_num_threads() == 4
    with threadpool_limits(2, user_api="instep"):
        trained.step()
        assert_workers(1)
    with threadpool_limits(1, user_api="blas"):
        trained.step()
        assert_workers(3)
    trained.check()


# Ctrl-C.


def a_step_waits_for_few_others() -> None:
    """Beside a thread that steps again and again, a step comes after two of its steps at most."""
    p, g = np.zeros((2, SIZE))
    opt = instep.SGD(p)
    # While a step is on its way to its turn, the other thread gets the interpreter only then.
    sys.setswitchinterval(SECONDS)
    stop = threading.Event()

    def steps() -> None:
        while not stop.is_set():
            opt.step(g)

    thread = threading.Thread(target=steps)
    thread.start()
    waited: list[int] = []
    while sum(waited) < 200:
        begun = opt.t
        waited.append(opt.step(g).t - begun - 1)
    stop.set()
    thread.join()
    # That which has begun, and that which had waited before.
    assert max(waited) <= 2, waited


def a_child_waits_for_no_thread_of_its_parent() -> None:
    """A fork while threads wait for turns leaves none of them to be waited for in the child."""
    p, g = np.zeros((2, SIZE))
    opt = instep.SGD(p)
    stop = threading.Event()

    def steps() -> None:
        while not stop.is_set():
            opt.step(g)

    def some_steps() -> None:
        for _ in range(5):
            opt.step(g)

    def child() -> None:
        before = opt.t
        in_threads(some_steps, some_steps, some_steps)
        assert opt.t == before + 15

    threads = [threading.Thread(target=steps) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert_succeeded(forked(child))
    stop.set()
    for thread in threads:
        thread.join()


def first_uses_while_another_thread_forks() -> None:
    """A child does not wait for what another thread of its parent was looking up."""
    sys.setswitchinterval(1e-6)

    def uses() -> None:
        for kind in (instep.SGD, instep.NAdam):
            p = np.ones((4, 2))
            opt = kind(p, lr=1)
            opt.step(np.ones((4, 2)), max_norm=np.float64(1))
            opt.step(Rows(np.array([1]), np.ones((1, 2))))
            with pytest.raises(TypeError, match=r"grads is a str"):
                opt.step("none")

    threads = [threading.Thread(target=uses) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert_succeeded(forked(uses))
    for thread in threads:
        thread.join()


def interrupts(least: int, enough: Callable[[], bool]) -> Iterator[None]:
    """Go on for so many interrupts at least, and until enough was done between them.

    On a busy machine an interrupt often comes before the first step.
    """
    done = 0
    while done < least or not enough():
        done += 1
        yield


def repeat_until_interrupted(call: Callable[[], None], rng: random.Random) -> None:
    """Call again and again, until SIGINT comes, at a random moment, maybe before the first."""
    begun = threading.Event()

    def interrupt() -> None:
        begun.wait()
        time.sleep(rng.uniform(0, 0.004))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        begun.set()
        while True:
            call()
    except KeyboardInterrupt:
        thread.join()


def interrupt_steps() -> None:
    """Ctrl-C leaves as many whole steps as the optimizer counts."""
    trained, rng = Trained(0), random.Random(0)
    for _ in interrupts(60, lambda: trained.opt.t > 30):
        repeat_until_interrupted(trained.step, rng)
        trained.check()
    assert_workers(3)


def interrupt_steps_that_clear_gradients() -> None:
    """A gradient is cleared with its step, or not at all, that of rows too."""
    dense, table = np.zeros(SIZE), np.zeros((SIZE // 100, 100))
    g, values = -np.ones_like(dense), -np.ones_like(table)
    rows_of_g = Rows(np.arange(len(table))[::-1].copy(), values)
    opt = instep.SGD([dense, table], lr=1.0, zero_grads=True)
    begun, rng = 0, random.Random(0)

    def step() -> None:
        nonlocal begun
        begun = opt.t
        g.fill(-1)
        values.fill(-1)
        opt.step([g, rows_of_g])

    for _ in interrupts(60, lambda: opt.t > 30):
        repeat_until_interrupted(step, rng)
        for p in (dense, table):
            assert (p == opt.t).all(), f"t={opt.t}, but {p.min()} to {p.max()} steps were done"
        if opt.t > begun:
            assert not g.any()
            assert not values.any()
    assert_workers(3)


def interrupt_course_functions() -> None:
    """Ctrl-C leaves all arrays of a call at the same step."""
    parameters = {name: np.zeros(SIZE // 4, np.float32) for name in ("W1", "b1", "W2", "b2")}
    grads = {f"d{name}": -np.ones_like(p) for name, p in parameters.items()}
    done, rng = 0, random.Random(0)

    def step() -> None:
        nonlocal done
        instep.update_parameters_with_gd(parameters, grads, 1.0)
        done += 1

    def enough() -> bool:
        return done > 50

    for _ in interrupts(100, enough):
        repeat_until_interrupted(step, rng)
        steps = {float(number) for p in parameters.values() for number in (p.min(), p.max())}
        assert steps in ({done}, {done + 1})
        done = int(steps.pop())
    assert_workers(3)


def interrupt_averaged() -> None:
    """Ctrl-C leaves the averages in the parameters' place, and says so, or not."""
    p = [np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)]
    opt, rng = instep.SGD(p, lr=0.0, average=1 / 2), random.Random(0)

    def swap() -> None:
        with opt.averaged():
            pass

    for _ in range(100):
        for array, average in zip(p, opt.averages, strict=True):
            array.fill(1.0)
            average.fill(2.0)
        repeat_until_interrupted(swap, rng)
        found = {float(number) for array in p for number in (array.min(), array.max())}
        averages = {float(a) for array in opt.averages for a in (array.min(), array.max())}
        assert found | averages == {1.0, 2.0}
        assert len(found) == len(averages) == 1
        if found == {2.0}:
            with pytest.raises(RuntimeError, match="within averaged"):
                opt.step(p)
            opt.leave_averaged()
        opt.state_dict()


def interrupt_load_state_dict() -> None:
    """Ctrl-C leaves the one state or the other."""
    p = [np.ones(SIZE // 2, np.float32) for _ in range(4)]
    opt, rng = instep.Adam(p, average=0.5), random.Random(0)
    dicts = []
    for t in (5, 7):
        opt.t = t
        for arrays in (*(state.values() for state in opt.state.values()), opt.averages):
            for array in arrays:
                array.fill(t)
        dicts.append(opt.state_dict())

    def load() -> None:
        for state_dict in dicts:
            opt.load_state_dict(state_dict)

    for _ in range(60):
        repeat_until_interrupted(load, rng)
        arrays = [*(a for state in opt.state.values() for a in state.values()), *opt.averages]
        assert {float(number) for a in arrays for number in (a.min(), a.max())} == {opt.t}


def handlers() -> None:
    """A signal's handler sees whole steps, may copy and fork, and is told that it can't step."""
    opt = instep.SGD(np.zeros(SIZE, np.float32), lr=0.0, momentum=0.5, momentum_mode="ema")
    g, seen = np.ones(SIZE, np.float32), []

    def handle(*_: object) -> None:
        saved, copied = opt.state_dict(), copy.deepcopy(opt)
        m = saved["state"]["params"]["m"]
        assert {*m.tolist()} == {1 - 0.5 ** saved["t"]} == {*copied.state["params"]["m"].tolist()}
        assert copied.t == saved["t"]
        assert_succeeded(forked(lambda: None))
        seen.append(saved["t"])
        signal.setitimer(signal.ITIMER_PROF, 0.02)

    signal.signal(signal.SIGPROF, handle)
    signal.setitimer(signal.ITIMER_PROF, 0.02)
    while len(seen) < 20:
        # Both or none, as the handler sees it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
        opt.t, opt.state["params"]["m"][...] = 0, 0
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
        for _ in range(20):
            opt.step(g)
    signal.setitimer(signal.ITIMER_PROF, 0)


def copy_during_steps() -> None:
    """A copy has whole steps of another thread."""
    p = np.zeros(4 * SIZE, np.float32)
    opt = instep.SGD([{"params": [p]}], lr=1.0)
    g, steps = -np.ones_like(p), 300

    def step() -> None:
        for _ in range(steps):
            opt.step([[g]])

    thread = threading.Thread(target=step)
    thread.start()
    while thread.is_alive():
        copied = copy.deepcopy(opt)
        (array,) = copied.param_groups[0]["params"]
        assert array.min() == array.max() == copied.t
    thread.join()
    assert p.min() == p.max() == opt.t == steps


# The end of the process.


def end(way: str, seed: str) -> None:
    """End while a thread is within a step: by returning, `sys.exit` or `os._exit`."""
    p, g = np.ones((2, 4 * SIZE), np.float32)
    opt = instep.Adam(p)
    opt.step(g)
    assert_workers(3)
    begun = threading.Event()

    def steps() -> None:
        begun.set()
        # A thread that is waited for has to end.
        for _ in range(10 if way == "exit" else sys.maxsize):
            opt.step(g)

    threading.Thread(target=steps, daemon=way != "exit").start()
    begun.wait()
    time.sleep(random.Random(int(seed)).uniform(0, 0.02))
    print("end", flush=True)
    if way == "exit":
        sys.exit()
    if way == "_exit":
        os._exit(0)


# The bits.

# Of 1, 2, 3 and 7 chunks and something odd, and small ones between them.
SHAPES = [(n,) for n in (0, 1, CHUNK, 17, 2 * CHUNK - 1, 0, 3 * CHUNK + 5, 64, CHUNK + 1, 3)]
WIDE = (3, (7 * CHUNK + 34) // 3)


def arrays_of(rng: np.random.Generator, dtype: Any, strided: bool) -> list[Array]:
    made = [rng.standard_normal(shape).astype(dtype) for shape in (*SHAPES, WIDE)]
    if strided:
        for i in range(0, len(made), 2):
            layout = fortran if made[i].ndim == 2 else every_second
            values, made[i] = made[i], layout(made[i].shape, made[i].dtype)
            made[i][...] = values
    return made


def recipes(dtype: str, strided: str) -> None:
    """Every recipe has the bits of the reference on 1 to 4 threads."""
    rng = np.random.default_rng(0)
    params, grads = (arrays_of(rng, np.dtype(dtype), strided == "strided") for _ in range(2))
    for count in (1, 2, 3, 4):
        instep.set_num_threads(count)
        for name in _instep.recipes():
            recipe = _instep.Recipe(name)
            hypers = tuple({"beta1": 0.9, "beta2": 0.99}.get(hyper, 0.1) for hyper in recipe.hypers)
            stepped = [copy_with_buffer(p) for p in params]
            states = [tuple(np.zeros_like(p) for p in params) for _ in recipe.states]
            recipe.step(hypers, tuple(stepped), tuple(grads), tuple(states), "{} {} {}".format)
            for i, g in enumerate(grads):
                zeros = [np.zeros_like(g) for _ in recipe.states]
                named = dict(zip(recipe.hypers, hypers, strict=True))
                p, *new = getattr(reference, name)(params[i], g, *zeros, **named)
                what = f"{name} on {count} threads, array {i}"
                kept = copy_with_buffer(params[i])
                kept[...] = p
                assert_same_buffers(stepped[i], kept, what)
                for state, wanted in zip(states, new, strict=True):
                    assert_same_bits(state[i], wanted, what)
        assert_workers(count - 1)


def optimizers() -> None:
    """Clipping, averages and cleared gradients on 1 to 4 threads, with several groups."""
    groups = [(np.float32, False, 0.0), (np.float64, True, 0.1)]
    for count in (1, 2, 3, 4):
        instep.set_num_threads(count)
        for rule in (instep.AdamW, instep.RMSprop):
            rng = np.random.default_rng(0)
            params = [
                (arrays_of(rng, dtype, strided), {"weight_decay": decay})
                for dtype, strided, decay in groups
            ]
            pair = Pair(rule, params, average=0.9, zero_grads=True)
            for max_norm in (1.0, 1e9):
                grads = [arrays_of(rng, dtype, not strided) for dtype, strided, _ in groups]
                pair.step(grads, max_norm=max_norm, grad_scale=0.3)
        assert_workers(count - 1)


def bad_numbers() -> None:
    """One bad number, wherever it is, keeps a step on any number of threads from all arrays."""
    lengths = (CHUNK - 1, 3, 6 * CHUNK, 0, 2 * CHUNK + 7)
    for count in (1, 2, 3, 4):
        instep.set_num_threads(count)
        rng = np.random.default_rng(0)
        params, grads = (
            [rng.standard_normal(length, np.float32) for length in lengths] for _ in range(2)
        )
        pair = Pair(instep.Adam, [(params, {})], average=0.9)
        for index, place in ((4, -1), (4, 0), (2, 0), (2, 5 * CHUNK), (1, 1), (0, CHUNK - 2)):
            for bad in (np.nan, np.inf):
                for max_norm in (None, 1.0):
                    good, grads[index][place] = grads[index][place], bad
                    assert pair.step([grads], nonfinite="skip", max_norm=max_norm).skipped
                    with pytest.raises(FloatingPointError, match=rf'^grads\["0\.{index}"\] '):
                        pair.opt.step([grads], nonfinite="raise", max_norm=max_norm)
                    grads[index][place] = good
                    pair.compare()
        assert not pair.step([grads], nonfinite="raise").skipped
        assert_workers(count - 1)


def first_bad_number() -> None:
    """The first gradient with a bad number is named, though that of a small one is found sooner."""
    grads = [np.ones(30 * CHUNK), np.ones(5)]
    grads[0][-1] = grads[1][0] = np.nan
    opt = instep.SGD([np.zeros_like(g) for g in grads])
    for _ in range(300):
        with pytest.raises(FloatingPointError, match=r"^grads\[0\] "):
            opt.step(grads, nonfinite="raise")
    assert_workers(3)


def norm_of_any_split() -> None:
    """The bits of a norm do not depend on the number of threads, nor on who sums what when."""
    rng = np.random.default_rng(0)
    for strided in (False, True):
        grads = [*arrays_of(rng, np.float32, strided), rng.standard_normal(SIZE)]
        wanted = reference.gradient_norm(*grads)
        opt = instep.SGD([np.zeros(g.shape, g.dtype) for g in grads], lr=0.0)
        for count in (1, 2, 3, 4):
            instep.set_num_threads(count)
            for _ in range(100):
                assert_same_norm(opt.step(grads, max_norm=np.inf).grad_norm, wanted)
    assert_workers(3)


def rows() -> None:
    """Rows of a table, some of them twice, on 1 to 4 threads."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((10_007, 65))
    indices = rng.permutation(np.concatenate([np.arange(0, 10_007, 2), np.arange(0, 3_000, 2)]))
    values = rng.standard_normal((len(indices), 65))
    summed = np.zeros_like(table)
    for index, value in zip(indices, values, strict=True):
        summed[index] += value
    # As one gradient: the sums, in rising order of the rows.
    norm = reference.gradient_norm(summed[::2].copy())
    for count in (1, 2, 3, 4):
        instep.set_num_threads(count)
        stepped, small = table.copy(), table[::2].copy()
        opt = instep.AdamW(stepped, average=0.9)
        pair = Pair(instep.AdamW, [([small], {})], average=0.9)
        for max_norm in (1.0, np.inf):
            result = opt.step(Rows(indices, values), max_norm=max_norm)
            assert_same_norm(result.grad_norm, norm)
            clip = reference.clip_factor(norm, max_norm=max_norm)
            pair.step([[summed[::2].copy()]], grad_scale=clip)
        assert_same_bits(stepped[::2].copy(), small, f"rows on {count} threads")
        assert_same_bits(stepped[1::2], table[1::2], "the other rows")
        assert_same_bits(opt.averages[::2].copy(), pair.opt.averages[0][0], "averages")
        for name, state in opt.state["params"].items():
            assert_same_bits(state[::2].copy(), pair.opt.state["0.0"][name], name)
            assert not state[1::2].any()
        assert_workers(count - 1)


def main(name: str, *arguments: str) -> None:
    watch()
    # A shell makes what it runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    scenario: Callable[..., None] = globals()[name]
    scenario(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
