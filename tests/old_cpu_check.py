"""The wheel on a CPU without AVX, Intel's of 2008, as QEMU emulates it.

Not collected by `make test`; `make old-cpu` runs it. The bits that steps have there are compared
with those of `instep.reference` here, outside the emulator.
"""

import json
import pickle
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bits import assert_same_bits
from instep import _instep, reference
from old_cpu_steps import Result, Work
from wheel_check import COURSE, ENVIRONMENT, environment, wheel

TESTS = Path(__file__).parent
LENGTHS = (0, 1, 63, 64, 65, 1000)
LAYOUTS = ("dense", "every_second", "backwards", "misaligned")

# Numbers as exact as they can be: these have to be the same on both sides, not rounded by each.
HYPERS = {"beta": 0.75, "beta1": 0.5, "beta2": 0.75, "eps": 2.0**-20}

# `vaddps %ymm0, %ymm0, %ymm0; ret`, AVX's least.
RUN_AVX = """
import ctypes, mmap
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("c5fc58c0c3"))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""


class OldCpu:
    """A Python that has the wheel and NumPy, run on the old CPU."""

    def __init__(self, folder: Path) -> None:
        qemu = shutil.which("qemu-x86_64")
        assert qemu, "qemu-x86_64 is not installed; Debian and Ubuntu have it in qemu-user"
        self.folder = folder
        self.command = [qemu, "-cpu", "Nehalem", environment(folder / "env", "numpy", wheel())]

    def run(self, *arguments: object, isa: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*map(str, self.command), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**ENVIRONMENT, "INSTEP_ISA": isa},
            timeout=80,
        )

    def output(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def old_cpu(tmp_path_factory: pytest.TempPathFactory) -> OldCpu:
    return OldCpu(tmp_path_factory.mktemp("old-cpu"))


def test_avx_is_an_illegal_instruction_there(old_cpu: OldCpu) -> None:
    """Or nothing would be shown by what runs there."""
    done = old_cpu.run("-c", RUN_AVX)
    assert done.returncode == -signal.SIGILL, f"{done.returncode}: {done.stderr}"


def test_the_baseline_is_all_there_is(old_cpu: OldCpu) -> None:
    config = json.loads(
        old_cpu.output("-c", "import json, instep; print(json.dumps(instep.config()))")
    )
    assert (config["isa"], config["isa_available"]) == ("baseline", ["baseline"])


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_a_level_that_is_not_there_is_refused(old_cpu: OldCpu, isa: str) -> None:
    done = old_cpu.run("-c", "import instep", isa=isa)
    assert done.returncode == 1
    wanted = f'ImportError: INSTEP_ISA is "{isa}", but this CPU has only: baseline'
    assert done.stderr.splitlines()[-1] == wanted


def test_course_functions(old_cpu: OldCpu) -> None:
    assert old_cpu.output("-c", COURSE).startswith("numpy")


def works() -> list[Work]:
    """Steps of every recipe in both types, over all lengths in all layouts."""
    rng = np.random.default_rng(0)
    cases = [(length, layout) for length in LENGTHS for layout in LAYOUTS]
    made = []
    for name in _instep.recipes():
        for dtype in (np.float32, np.float64):
            # Parameters, then gradients; at the second step their norm is too large.
            drawn = [
                [(scale * rng.standard_normal(length)).astype(dtype) for length, _ in cases]
                for scale in (1, 1, 1000, 1)
            ]
            hypers = [
                tuple(
                    HYPERS[base] ** t if base != hyper else HYPERS.get(hyper, 0.01)
                    for hyper in _instep.Recipe(name).hypers
                    for base in [hyper.removesuffix("_power")]
                )
                for t in (1, 2, 3)
            ]
            layouts = [layout for _, layout in cases]
            extras = (-1.0, 0.03, 0.99)
            made.append(Work(name, hypers, extras, 0.7, 2e3, 0.9, layouts, drawn[0], drawn[1:]))
    return made


def by_reference(work: Work) -> Result:
    recipe = getattr(reference, work.recipe)
    names = _instep.Recipe(work.recipe)
    sign, weight_decay, shrink = work.extras
    params, averages = list(work.params), list(work.params)
    states = [[np.zeros_like(p) for p in params] for _ in names.states]
    norms: list[float | None] = []
    for hypers, grads in zip(work.hypers, work.grads, strict=True):
        norm = reference.gradient_norm(*grads) * work.grad_scale
        norms.append(norm)
        scale = sign * (work.grad_scale * reference.clip_factor(norm, max_norm=work.max_norm))
        named = dict(zip(names.hypers, hypers, strict=True))
        for i, g in enumerate(grads):
            p, g = reference.prepare(
                params[i], g, scale=scale, weight_decay=weight_decay, shrink=shrink
            )
            params[i], *new = recipe(p, g, *(state[i] for state in states), **named)
            for state, array in zip(states, new, strict=True):
                state[i] = array
            averages[i] = reference.average(averages[i], params[i], decay=work.decay)
    assert max(norm for norm in norms if norm) > work.max_norm > (norms[0] or 0)
    return norms, [params, averages, *states]


def test_every_recipe_has_the_bits_of_the_reference_here(old_cpu: OldCpu) -> None:
    given, results = old_cpu.folder / "work", old_cpu.folder / "results"
    given.write_bytes(pickle.dumps(works()))
    old_cpu.output(TESTS / "old_cpu_steps.py", given, results)
    done: list[Result] = pickle.loads(results.read_bytes())
    assert len(done) == 2 * len(_instep.recipes())
    for work, (norms, roles) in zip(works(), done, strict=True):
        wanted_norms, wanted_roles = by_reference(work)
        assert norms == wanted_norms
        for role, arrays in enumerate(zip(roles, wanted_roles, strict=True)):
            for i, (actual, wanted) in enumerate(zip(*arrays, strict=True)):
                assert_same_bits(actual, wanted, f"{work.recipe}: array {i} of role {role}")
