"""Instruction levels: `INSTEP_ISA` chooses one, and each is compiled to packed instructions."""

import ast
import inspect
import json
import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from instep import _instep, reference

AVAILABLE = instep.config()["isa_available"]
KNOWN = {"x86_64": ["baseline", "avx2", "avx512"]}.get(platform.machine(), ["baseline"])
ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.xdist_group("isa")


def python(code: str, isa: str | None) -> "subprocess.CompletedProcess[str]":
    """Run code in an interpreter of its own, with INSTEP_ISA set to that, or not set."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    environment.pop("INSTEP_ISA", None)
    if isa is not None:
        environment["INSTEP_ISA"] = isa
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=600,
    )


REPORT = """
import json
import instep
from instep import _instep
config = instep.config()
config["recipes"] = [_instep.Recipe(name).isa for name in _instep.recipes()]
config["forced"] = [_instep.Recipe("adam_hat", isa=isa).isa for isa in config["isa_available"]]
print(json.dumps(config))
"""


def report(isa: str | None) -> dict[str, Any]:
    result = python(REPORT, isa)
    assert (result.returncode, result.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("level", AVAILABLE)
def test_the_variable_forces_a_level(level: str) -> None:
    answer = report(level)
    assert answer["isa"] == level
    assert answer["isa_available"] == AVAILABLE
    assert answer["recipes"] == [level] * len(_instep.recipes())
    assert answer["forced"] == AVAILABLE


@pytest.mark.parametrize("isa", [None, ""], ids=["not set", "empty"])
def test_the_highest_level_is_the_default(isa: str | None) -> None:
    answer = report(isa)
    assert answer["isa"] == AVAILABLE[-1]
    assert answer["recipes"] == [AVAILABLE[-1]] * len(_instep.recipes())


@pytest.mark.parametrize(
    "word", ["sse9", "AVX2", " avx2", "avx2,avx512", "0", "baseline ", "neon\n", "ä"], ids=repr
)
def test_an_unknown_word_keeps_the_library_from_loading(word: str) -> None:
    result = python("import instep", word)
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    shown = word.replace("\n", r"\n")
    assert message == (
        f'ImportError: INSTEP_ISA is "{shown}", which is not an instruction level; '
        f"wanted one of: {', '.join(AVAILABLE)}"
    )


@pytest.mark.parametrize("level", KNOWN)
def test_a_known_level_loads_or_is_said_to_be_missing(level: str) -> None:
    result = python("import instep; print(instep.config()['isa'])", level)
    if level in AVAILABLE:
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{level}\n", "")
    else:
        assert result.returncode == 1
        message = result.stderr.strip().splitlines()[-1]
        assert message == (
            f'ImportError: INSTEP_ISA is "{level}", but this CPU has only: {", ".join(AVAILABLE)}'
        )


def test_the_levels_are_those_of_this_cpu() -> None:
    """As Linux lists the CPU's features."""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags |= set(line.split(":")[1].split())
    wanted = ["baseline"]
    if {"avx2", "fma"} <= flags:
        wanted.append("avx2")
        if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= flags:
            wanted.append("avx512")
    assert wanted == AVAILABLE


def test_config() -> None:
    config = instep.config()
    assert list(config) == ["version", "isa", "isa_available", "threads", "profile", "numpy"]
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", config["version"])
    assert config["version"] == instep.__version__
    assert config["isa"] in AVAILABLE
    assert config["isa_available"] == [level for level in KNOWN if level in AVAILABLE]
    assert type(config["threads"]) is int
    assert config["threads"] >= 1
    assert config["numpy"] == np.__version__
    assert config["profile"] in ("debug", "release")
    # A dict of its own each time.
    config["isa_available"].clear()
    assert instep.config()["isa_available"] == AVAILABLE


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    instep.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0]: line.split(maxsplit=1)[1] for line in lines} == {
        name: ", ".join(value) if isinstance(value, list) else str(value)
        for name, value in instep.config().items()
    }


# The sweeps in the compiled library.

# For each level and float type, the packed forms of an operation and its form for one element.
Forms = Mapping[tuple[str, str], Mapping[str, tuple[str, str]]]


def _x86_forms() -> Forms:
    forms: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for level, prefix, register in (
        ("baseline", "", "xmm"),
        ("avx2", "v", "ymm"),
        ("avx512", "v", "zmm"),
    ):
        for dtype, letter in (("f32", "s"), ("f64", "d")):
            forms[level, dtype] = {
                operation: (
                    rf"{prefix}{operation}p{letter}\s.*%{register}",
                    rf"v?{operation}s{letter}\s",
                )
                for operation in ("sqrt", "div", "mul", "add", "sub")
            }
    return forms


def _arm_forms() -> Forms:
    return {
        ("baseline", dtype): {
            operation: (rf"f{operation}\s+v\d+\.{lanes}", rf"f{operation}\s+{letter}\d+")
            for operation in ("sqrt", "div", "mul", "add", "sub")
        }
        for dtype, lanes, letter in (("f32", "4s", "s"), ("f64", "2d", "d"))
    }


FORMS = {"x86_64": _x86_forms, "aarch64": _arm_forms}[platform.machine()]()
SWEEP = re.compile(
    r"^[0-9a-f]+ <.*isa::(\w+)::run::<instep::sweep::Sweeps<instep::rules::(.+), (f32|f64)\b.*>:$"
)
# Over arrays of 16 bits.
STORED_SWEEP = re.compile(r"^[0-9a-f]+ <.*isa::\w+::run::<.*sweep::stored::Sweep<.*>:$")
# What is called and not inlined is compiled for the baseline.
CALLED_MODULES = "rules|element|sweep|quick|division|roots|storage|registers|word|arrays|extras"
CALLED = rf"(call|bl)\s+\w+ <.*({CALLED_MODULES})::"
RECIPE = re.compile(r'Recipe::of::<(.+?), _, _, _>\(\s*"(\w+)",?\s*\)')


def short(rust_type: str) -> str:
    """The type of a rule without the paths of its parameters: `rmsprop::Plain<Inside>`."""
    return re.sub(r"<(?:\w+::)*(\w+)>", r"<\1>", rust_type)


def recipes_by_type() -> dict[str, str]:
    """The names of the recipes, by the types of their rules, as the registry has them."""
    registry = (ROOT / "src" / "recipes.rs").read_text()
    return {short(rust_type): name for rust_type, name in RECIPE.findall(registry)}


def disassemble(library: Path) -> list[str]:
    result = subprocess.run(
        ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", "--wide", str(library)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return result.stdout.splitlines()


def functions_in(library: Path) -> dict[str, list[str]]:
    """The instructions of the functions of a library, by the line with the name."""
    found: dict[str, list[str]] = {}
    instructions: list[str] = []
    for line in disassemble(library):
        if line.endswith(">:"):
            instructions = found.setdefault(line, [])
        elif "\t" in line:
            instructions.append(line.split("\t", 1)[1])
    return found


def sweeps_among(functions: dict[str, list[str]]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """The instructions of every sweep, by level and float type, then by recipe."""
    names = recipes_by_type()
    found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
    for line, instructions in functions.items():
        match = SWEEP.match(line)
        if match and "limit::" not in line:
            level, rule, dtype = match.groups()
            found[level, dtype][names[short(rule)]] = instructions
    assert found, "the library has no symbols of sweeps: `make build` makes one that has"
    return found


@pytest.fixture(scope="module")
def functions() -> dict[str, list[str]]:
    """Those of the library that Python loads."""
    assert _instep.__file__ is not None
    return functions_in(Path(_instep.__file__))


@pytest.fixture(scope="module")
def sweeps(functions: dict[str, list[str]]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Its sweeps."""
    return sweeps_among(functions)


def count(pattern: str, instructions: list[str]) -> int:
    return sum(re.match(pattern, instruction) is not None for instruction in instructions)


def arithmetic(name: str) -> tuple[str, ...]:
    """The element's part of a reference as written, but for what stands for a coefficient."""

    class Coefficients(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node.func, ast.Name) and node.func.id == "f":
                return ast.Name("coefficient")
            return node

    (function,) = ast.parse(inspect.getsource(getattr(reference, name))).body
    assert isinstance(function, ast.FunctionDef)
    lines = [ast.unparse(Coefficients().visit(statement)) for statement in function.body]
    # What is left of the lines that make coefficients has neither an array nor a coefficient.
    arrays = r"\b(coefficient|np|_moments)\b"
    return tuple(line for line in lines if re.search(arrays, line) and "c1, c2 =" not in line)


def test_the_registry_is_read_right() -> None:
    assert sorted(recipes_by_type().values()) == sorted(_instep.recipes())


def test_every_recipe_has_a_sweep_of_its_own_at_every_level(
    sweeps: dict[tuple[str, str], dict[str, list[str]]],
) -> None:
    """The compiler may make one of sweeps that differ in nothing but their coefficients."""
    assert arithmetic("adam_hat") == arithmetic("adam_scaled") != arithmetic("adam_outside")
    every = {arithmetic(name) for name in _instep.recipes()}
    assert set(sweeps) == set(FORMS)
    for (level, dtype), by_name in sweeps.items():
        compiled = {arithmetic(name) for name in by_name}
        # In float64, there is nothing wider: it is the same as `adam_hat`.
        also = {arithmetic("adam_hat_wide")} if dtype == "f64" else set()
        assert compiled | also == every, f"{level} sweeps over {dtype}"


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("level", sorted({level for level, _ in FORMS}))
def test_sweeps_are_packed(
    sweeps: dict[tuple[str, str], dict[str, list[str]]], level: str, dtype: str
) -> None:
    """What a sweep does to one element, it does to a whole register as well."""
    forms = FORMS[level, dtype]
    for name, instructions in sweeps[level, dtype].items():
        what = f"{name} over {dtype} at {level}"
        wanted = {"mul", "sub"}
        if _instep.Recipe(name).states:
            wanted.add("add")
        source = inspect.getsource(getattr(reference, name))
        if "np.sqrt" in source:
            wanted |= {"sqrt", "div"}
        for operation, (packed, single) in forms.items():
            if "np.float64" in source and operation in ("div", "sub"):
                # The step is taken in float64.
                packed, single = FORMS[level, "f64"][operation]
            if operation in wanted or count(single, instructions):
                assert count(packed, instructions) > 0, f"no packed {operation} in {what}"
        assert count(CALLED, instructions) == 0, what


def test_all_of_a_sweep_over_16_bits_is_in_it(functions: dict[str, list[str]]) -> None:
    sweeps = {line: found for line, found in functions.items() if STORED_SWEEP.match(line)}
    assert len(sweeps) > len(_instep.recipes())
    for line, instructions in sweeps.items():
        assert count(CALLED, instructions) == 0, line


def has_quick_ways(name: str, level: str, dtype: str) -> tuple[bool, bool]:
    """Whether a recipe has quick divisions by coefficients, and roots off the divider."""
    source = inspect.getsource(getattr(reference, name))
    divides = re.search(r"/ c[12]\b", source) is not None and level in ("avx2", "avx512")
    roots = "np.sqrt" in source and (level, dtype) == ("avx512", "f64")
    return divides, roots


@pytest.mark.parametrize("level", sorted({level for level, _ in FORMS}))
def test_nothing_is_fused_but_where_it_is_exact(
    sweeps: dict[tuple[str, str], dict[str, list[str]]], level: str
) -> None:
    """Fused operations belong to quick divisions by coefficients, and to roots, alone."""
    fused = r"(vfn?m(add|sub)|fn?ml[as]|fn?m(add|sub))"
    for dtype in ("f32", "f64"):
        for name, instructions in sweeps[level, dtype].items():
            wanted = any(has_quick_ways(name, level, dtype))
            assert (count(fused, instructions) > 0) == wanted, f"{name} over {dtype} at {level}"


def test_roots_and_quotients_are_not_estimated_but_where_they_are_refined(
    sweeps: dict[tuple[str, str], dict[str, list[str]]],
) -> None:
    estimate = r"(v?rsqrt|v?rcp|frsqrte|frecpe)"
    for (level, dtype), by_name in sweeps.items():
        for name, instructions in by_name.items():
            _, roots = has_quick_ways(name, level, dtype)
            assert (count(estimate, instructions) > 0) == roots, f"{name} over {dtype} at {level}"
