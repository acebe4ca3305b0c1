"""The wheel on a CPU without AVX, Intel's of 2008, as QEMU emulates it.

Not collected by `make test`; `make old-cpu` runs it. The bits that steps have there are compared
with those of `instep.reference` here, outside the emulator.
"""

import json
import pickle
import shutil
import signal
import subprocess
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep import _instep, reference
from optimizer_model import Model
from wheel_check import COURSE, ENVIRONMENT, environment, wheel

TESTS = Path(__file__).parent
LENGTHS = (0, 1, 63, 64, 65, 1000)
LAYOUTS = ("dense", "every_second", "backwards", "misaligned")

# Their powers are exact: the last bit of others may differ from one CPU to another.
NUMBERS = {"beta": 0.75, "beta1": 0.5, "beta2": 0.75, "eps": 1e-8}
ADAMW: dict[str, Any] = {"lr": 0.01, "betas": (0.5, 0.75), "weight_decay": 0.03, "average": 0.9}

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

    def run(
        self, *arguments: object, isa: str = "", threads: int = 1
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*map(str, self.command), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**ENVIRONMENT, "INSTEP_ISA": isa, "INSTEP_NUM_THREADS": str(threads)},
            timeout=600,
        )

    def output(self, *arguments: object, threads: int = 1) -> str:
        done = self.run(*arguments, threads=threads)
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
    assert old_cpu.output(COURSE).startswith("numpy")


def drawn(rng: np.random.Generator, dtype: type, lengths: Iterable[int]) -> list[list[Array]]:
    """Return parameters, then gradients of three steps; those of the second are large."""
    return [
        [(scale * rng.standard_normal(length)).astype(dtype) for length in lengths]
        for scale in (1, 1, 1000, 1)
    ]


def hypers_of(name: str, t: int) -> tuple[float, ...]:
    hypers = []
    for hyper in _instep.Recipe(name).hypers:
        base = hyper.removesuffix("_power")
        number = NUMBERS.get(base, 0.01)
        hypers.append(number if base == hyper else number**t)
    return tuple(hypers)


def test_steps_have_the_bits_of_the_reference_here(old_cpu: OldCpu) -> None:
    """Every recipe over all lengths in all layouts; and clipping, large enough for two threads."""
    rng = np.random.default_rng(0)
    layouts, lengths = zip(*product(LAYOUTS, LENGTHS), strict=True)
    recipes, optimizers = [], []
    for dtype in (np.float32, np.float64):
        for name in _instep.recipes():
            params, *grads = drawn(rng, dtype, lengths)
            recipes.append((name, [hypers_of(name, t) for t in (1, 2, 3)], layouts, params, grads))
        params, *grads = drawn(rng, dtype, (*lengths, 150_001))
        optimizers.append((ADAMW, 2e4, (*layouts, "dense"), params, grads))
    path, results = old_cpu.folder / "given", old_cpu.folder / "results"
    path.write_bytes(pickle.dumps((recipes, optimizers)))
    old_cpu.output(TESTS / "old_cpu_steps.py", path, results, threads=2)
    of_recipes, of_optimizers = pickle.loads(results.read_bytes())

    for (name, hypers_of_steps, _, params, grads), roles in zip(recipes, of_recipes, strict=True):
        recipe = _instep.Recipe(name)
        for i, p in enumerate(params):
            wanted = [p, *(np.zeros_like(p) for _ in recipe.states)]
            for hypers, of_step in zip(hypers_of_steps, grads, strict=True):
                named = dict(zip(recipe.hypers, hypers, strict=True))
                wanted = getattr(reference, name)(wanted[0], of_step[i], *wanted[1:], **named)
            assert_same_arrays([arrays[i] for arrays in roles], wanted, f"{name}, parameter {i}")

    for (options, max_norm, _, params, grads), (norms, roles) in zip(
        optimizers, of_optimizers, strict=True
    ):
        model = Model(instep.AdamW, options["average"])
        model.add_group(params, {k: v for k, v in options.items() if k != "average"})
        wanted_norms = [model.step([of_step], max_norm=max_norm)[0] for of_step in grads]
        assert norms == wanted_norms
        assert [norm > max_norm for norm in norms] == [False, True, False]
        for i, parameter in enumerate(model.parameters()):
            expected = (parameter.p, parameter.average, *parameter.states.values())
            assert_same_arrays([arrays[i] for arrays in roles], expected, f"AdamW, parameter {i}")


def assert_same_arrays(actual: list[Array], wanted: Iterable[Any], what: str) -> None:
    for role, arrays in enumerate(zip(actual, wanted, strict=True)):
        assert_same_bits(*arrays, f"{what}, array {role}")
