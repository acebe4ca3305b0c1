"""Steps on several threads in processes that fork, have threads, are interrupted, and end.

Each test runs in a process of its own, which is killed if it takes too long; `scenarios.py` has
what is done there.
"""

import math
import os
import sys
from pathlib import Path

import pytest
from processes import run, scenario


def test_a_child_forked_after_large_steps_does_its_own() -> None:
    scenario("fork_after_steps")


def test_a_child_forked_while_a_thread_is_in_a_step_does_its_own() -> None:
    scenario("fork_during_steps")


def test_a_child_forked_while_a_thread_steps_an_optimizer_goes_on_with_it() -> None:
    scenario("fork_during_steps_of_an_optimizer")


@pytest.mark.parametrize(
    "name",
    ["forks_while_a_thread_copies", "forks_while_rates_make_optimizers", "rates_that_fork"],
)
def test_forks_wait_for_nothing_that_waits_for_them(name: str) -> None:
    scenario(name)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_step_at_the_same_time(method: str) -> None:
    scenario("several_processes", method)


def test_threads_step_different_optimizers_at_the_same_time() -> None:
    scenario("each_its_optimizer")


@pytest.mark.parametrize("module", ["None", "types.ModuleType('threadpoolctl')"])
def test_threadpoolctl_may_be_missing_or_old(module: str) -> None:
    code = f"import sys, types; sys.modules['threadpoolctl'] = {module}; import instep"
    assert run("-c", code).returncode == 0


def test_a_copy_is_of_a_whole_step() -> None:
    scenario("copy_during_steps")


def test_what_handlers_of_signals_do() -> None:
    scenario("handlers")


def test_threads_that_step_one_optimizer_take_turns() -> None:
    scenario("all_the_same_optimizer")


def test_a_step_waits_for_few_of_another_thread() -> None:
    scenario("a_step_waits_for_few_others")


def test_a_child_waits_for_no_thread_of_its_parent() -> None:
    scenario("a_child_waits_for_no_thread_of_its_parent")


def test_a_first_use_may_be_while_another_thread_forks() -> None:
    # In one of two processes, a fork came while something was looked up.
    for _ in range(8):
        scenario("first_uses_while_another_thread_forks")


@pytest.mark.parametrize(
    "name",
    [
        "interrupt_steps",
        "interrupt_steps_that_clear_gradients",
        "interrupt_course_functions",
        "interrupt_averaged",
        "interrupt_load_state_dict",
    ],
)
def test_an_interrupt_leaves_whole_steps(name: str) -> None:
    scenario(name)


@pytest.mark.parametrize("way", ["return", "exit", "_exit"])
def test_a_process_ends_while_a_thread_is_in_a_step(way: str) -> None:
    for seed in range(10):
        assert scenario("end", way, str(seed)) == "end\n"


def test_there_is_no_thread_before_a_large_step() -> None:
    scenario("no_thread_before_a_large_step")


def test_there_is_never_a_thread_with_one() -> None:
    scenario("never_a_thread_with_one")
    scenario("never_a_thread_with_one", threads="1")


@pytest.mark.parametrize(("word", "count"), [("1", 1), ("3", 3), (" 5 ", 5)])
def test_the_variable_sets_the_number_of_threads(word: str, count: int) -> None:
    assert scenario("show_number", threads=word) == f"{count} {count}\n"


@pytest.mark.parametrize("word", ["0", "-1", "many", "2.5", "1e3", "3,4", " ", "9" * 30, "²"])
def test_another_word_keeps_the_library_from_loading(word: str) -> None:
    done = run("-c", "import instep", threads=word)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    wanted = f'INSTEP_NUM_THREADS is "{word}"; wanted a whole number of 1 or more'
    assert message == f"ImportError: {wanted}"


def cpus_by_quota() -> int:
    """Return the number of CPUs that the cgroups of this process have the time of, at least 1."""
    cpus = math.inf
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        group = Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
        for folder in (group, *group.parents):
            files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if controllers else ["cpu.max"]
            if all((folder / name).exists() for name in files):
                words = " ".join((folder / name).read_text() for name in files).split()
                if words[0] not in ("max", "-1"):
                    cpus = min(cpus, int(words[0]) // int(words[1]))
    return max(1, cpus if isinstance(cpus, int) else sys.maxsize)


@pytest.mark.parametrize("word", [None, ""], ids=["not set", "empty"])
@pytest.mark.parametrize("cpus", sorted({1, 2, 3, len(os.sched_getaffinity(0))}))
def test_the_cpus_that_the_process_may_use_are_the_default(word: str | None, cpus: int) -> None:
    wanted = min(cpus, len(os.sched_getaffinity(0)), cpus_by_quota())
    shown = scenario("show_number_by_affinity", str(cpus), threads=word)
    assert shown == f"{wanted} {wanted}\n"


def test_threadpoolctl_shows_and_limits_the_threads() -> None:
    scenario("threadpoolctl")


@pytest.mark.parametrize("layout", ["dense", "strided"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recipes_have_the_same_bits_on_any_number_of_threads(dtype: str, layout: str) -> None:
    scenario("recipes", dtype, layout)


@pytest.mark.parametrize(
    "name", ["optimizers", "bad_numbers", "first_bad_number", "norm_of_any_split", "rows"]
)
def test_all_that_a_step_does_is_the_same_on_any_number_of_threads(name: str) -> None:
    scenario(name)
