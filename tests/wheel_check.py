"""What a user installs: the wheel, in an empty environment with NumPy alone.

Not collected by `make test`; `make wheel` runs it.
"""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from test_isa import (
    FORMS,
    count,
    disassemble,
    functions_in,
    sweeps_among,
    test_all_of_a_sweep_over_16_bits_is_in_it,
    test_every_recipe_has_a_sweep_of_its_own_at_every_level,
    test_nothing_is_fused_but_where_it_is_exact,
    test_roots_and_quotients_are_not_estimated_but_where_they_are_refined,
    test_sweeps_are_packed,
)

__all__ = [  # tests of every library
    "test_all_of_a_sweep_over_16_bits_is_in_it",
    "test_every_recipe_has_a_sweep_of_its_own_at_every_level",
    "test_nothing_is_fused_but_where_it_is_exact",
    "test_roots_and_quotients_are_not_estimated_but_where_they_are_refined",
    "test_sweeps_are_packed",
]

ROOT = Path(__file__).parent.parent

COURSE = ROOT / "tests" / "installed_steps.py"

IMPORT = """
import os, time, numpy
threads = len(os.listdir("/proc/self/task"))
start = time.thread_time()
import instep
print(time.thread_time() - start)
assert len(os.listdir("/proc/self/task")) == threads
"""


# As users have it: pip and Python keep what they compile.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def run(*command: object, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel() -> Path:
    """Return the wheel that `make` has built."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    return wheel


def environment(folder: Path, *requirements: object) -> Path:
    """Make an environment with nothing but `requirements`; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", *requirements)
    return python


def test_wheel_is_small_and_for_every_python_and_linux() -> None:
    _, version, python, abi, platform = wheel().stem.split("-")
    assert (python, abi) == ("cp310", "abi3")
    assert platform.startswith("manylinux_")
    assert wheel().stat().st_size < 2_000_000
    archive = zipfile.ZipFile(wheel())
    names = archive.namelist()
    modules = ("course/__init__.py", "reference.py")
    for name in ("_instep.abi3.so", "_instep.pyi", "py.typed", *modules):
        assert f"instep/{name}" in names
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert f"instep-{version}.dist-info/licenses/{name}" in names
    assert all(name.startswith(("instep/", "instep-")) for name in names)
    texts = [archive.read(name) for name in names if not name.endswith(".so")]
    assert not any(str(ROOT).encode() in text for text in texts), "it tells where it was built"


@pytest.mark.parametrize("numpy", ["numpy", "numpy==1.26.*"])
def test_course_functions_with_numpy_alone(tmp_path: Path, numpy: str) -> None:
    python = environment(tmp_path / "env", numpy, wheel())
    installed = run(python, "-m", "pip", "list", "--format=freeze").split()
    assert {line.split("==")[0] for line in installed} <= {"instep", "numpy", "pip", "setuptools"}
    version = run(python, COURSE, cwd=tmp_path).split()[1]
    assert version.startswith("1.26.") == numpy.endswith("1.26.*")


def test_import_is_quick_and_starts_no_thread(tmp_path: Path) -> None:
    python = environment(tmp_path / "env", "numpy", wheel())
    # What else runs on the machine can only add to it, and often does.
    runs = (float(run(python, "-c", IMPORT, cwd=tmp_path)) for _ in range(100))
    assert any(seconds < 0.030 for seconds in runs)


@pytest.fixture(scope="module")
def functions() -> dict[str, list[str]]:
    """The instructions of the wheel's functions, for the tests taken from `test_isa.py`.

    From its library built once more, with the symbols kept.
    """
    command = "cargo rustc --release --lib --features python --crate-type cdylib --locked --quiet"
    subprocess.run(
        [*command.split(), "--", "-C", "symbol-mangling-version=v0"],
        cwd=ROOT,
        env={
            **os.environ,
            "CARGO_PROFILE_RELEASE_STRIP": "false",
            "CARGO_TARGET_DIR": str(ROOT / "target" / "symbols"),
            "PYO3_PYTHON": sys.executable,
        },
        check=True,
    )
    return functions_in(ROOT / "target" / "symbols" / "release" / "libinstep.so")


@pytest.fixture(scope="module")
def sweeps(functions: dict[str, list[str]]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Its sweeps."""
    return sweeps_among(functions)


def test_the_wheel_has_these_sweeps(
    tmp_path: Path, sweeps: dict[tuple[str, str], dict[str, list[str]]]
) -> None:
    """Its library has no symbols; packed roots and divisions can be counted."""
    archive = zipfile.ZipFile(wheel())
    (name,) = (name for name in archive.namelist() if name.endswith(".so"))
    lines = disassemble(Path(archive.extract(name, tmp_path)))
    instructions = [line.split("\t", 1)[1] for line in lines if "\t" in line]
    for (level, dtype), by_name in sweeps.items():
        for operation in ("sqrt", "div"):
            packed, _ = FORMS[level, dtype][operation]
            wanted = sum(count(packed, body) for body in by_name.values())
            assert count(packed, instructions) >= wanted > 0, f"{operation} {level} {dtype}"


def test_pip_install_of_a_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", ROOT, clone)
    python = environment(tmp_path / "env", clone)
    assert run(python, COURSE, cwd=tmp_path).startswith("numpy")


def test_source_distribution_builds(tmp_path: Path) -> None:
    run(sys.executable, "-m", "maturin", "sdist", "--out", tmp_path)
    (archive,) = tmp_path.iterdir()
    python = environment(tmp_path / "env", archive)
    assert run(python, COURSE, cwd=tmp_path).startswith("numpy")
