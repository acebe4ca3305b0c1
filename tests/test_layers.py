"""The layers of the house: no file uses one that, by whatever way, uses it."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
PACKAGE = ROOT / "python" / "instep"

# What a Rust file uses, and for each name of a group `{a, b::{c, d}}` the path to it.
USE = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?use ((?:crate|super|self)::[^;]+);", re.MULTILINE)


def paths(use: str) -> Iterator[str]:
    """Return the paths of one `use`, without its groups."""
    use = "".join(use.split())
    head, brace, rest = use.partition("{")
    if not brace:
        yield use
        return
    depth, start = 0, 0
    inner = rest[:-1] + ","
    for at, letter in enumerate(inner):
        depth += (letter == "{") - (letter == "}")
        if letter == "," and not depth:
            if at > start:
                yield from paths(head + inner[start:at])
            start = at + 1


def rust_files() -> dict[tuple[str, ...], Path]:
    """Return the modules of the crate with their files."""
    files = {}
    for file in SOURCES.rglob("*.rs"):
        module = file.relative_to(SOURCES).with_suffix("").parts
        files[module[:-1] if module[-1] == "mod" else module] = file
    del files["lib",]
    return files


def used_by_rust() -> dict[str, set[str]]:
    files = rust_files()
    used = {}
    for module, file in files.items():
        text = file.read_text().partition("#[cfg(test)]")[0]
        found = set()
        for use in USE.findall(text):
            for path in paths(use):
                parts = path.split("::")
                base: tuple[str, ...] = ()
                if parts[0] == "super":
                    base = module[:-1]
                elif parts[0] == "self":
                    base = module
                full = (*base, *parts[1:])
                while full and full not in files:
                    full = full[:-1]
                if full and full != module:
                    found.add("::".join(full))
        used["::".join(module)] = found
    # It lists what is below it, and turns errors into Python's.
    used.pop("python")
    return {module: uses & set(used) for module, uses in used.items()}


def used_by_python() -> dict[str, set[str]]:
    modules = {
        ".".join(("instep", *file.relative_to(PACKAGE).with_suffix("").parts)): file
        for file in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): file for name, file in modules.items()}
    used = {}
    for module, file in modules.items():
        found = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    part = f"{node.module}.{alias.name}"
                    found.add(part if part in modules else node.module)
        used[module] = {name for name in found if name in modules and name != module}
    # Everyone may import the package; that it imports its parts makes no circle of them.
    used.pop("instep")
    return {module: uses & set(used) for module, uses in used.items()}


@pytest.mark.parametrize("used", [used_by_rust, used_by_python])
def test_no_file_uses_itself_by_way_of_others(used: object) -> None:
    assert callable(used)
    graph = used()
    assert len(graph) > 20
    assert sum(map(len, graph.values())) > 40
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" uses ".join(reversed(error.args[1])))


def imports_of(file: Path) -> set[str]:
    """Return the packages that a file imports, wherever it does so, but for those of Python."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"instep", "numpy"}


def test_a_host_is_imported_by_the_module_of_its_name_only() -> None:
    """Whoever has NumPy alone can import all else, but for the demo and the benchmarks."""
    hosts = {"autograd", "sklearn", "thinc", "torch"}
    optional = {
        "ml_dtypes": {"ml_dtypes"},
        "mpi": {"mpi4py"},
        "rich": {"rich"},
        "safetensors": {"safetensors"},
        "threads": {"threadpoolctl"},
    }
    for file in PACKAGE.rglob("*.py"):
        part = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if part in hosts:
            assert imports_of(file) == {part}, file
        elif part not in ("bench", "demo"):
            assert imports_of(file) <= optional.get(part, set()), file
    of_hosts = {f"instep.{host}" for host in hosts}
    users = {module for module, uses in used_by_python().items() if uses & of_hosts}
    assert users == {"instep.demo.rules_sklearn"}


def test_rules_know_of_floats_only() -> None:
    allowed = {"element", "rules"}
    for module, uses in used_by_rust().items():
        if module.startswith("rules"):
            below = {use for use in uses if not use.startswith("rules::")}
            assert below <= allowed, module


def test_unsafe_is_where_the_design_has_it() -> None:
    found = {
        "/".join(file.relative_to(SOURCES).parts)
        for file in SOURCES.rglob("*.rs")
        if re.search(r"\bunsafe\b(?!_)", file.read_text())
    }
    core = {
        "environment.rs",
        "isa.rs",
        "parallel/pool.rs",
        "registers.rs",
        "registers/portable.rs",
        "registers/words.rs",
        "registers/x86.rs",
        "registers/x86_words.rs",
        "team.rs",
    }
    assert found <= core | {f"python/{name}.rs" for name in ("view", "pieces", "tiles", "power")}
