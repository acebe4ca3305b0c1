"""Optimizers on the ranks of MPI, started by `mpiexec`: `mpi_steps.py` has what they do."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

STEPS = Path(__file__).with_name("mpi_steps.py")

EXAMPLE = Path(__file__).parents[1] / "examples" / "mpi_digits.py"

# None where a system has no such folder: then that of temporary files.
SHARED_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

# Far away: it ends a hang.
LIMIT = 120


def mpiexec(ranks: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python on so many ranks."""
    command = ["mpiexec", "-n", str(ranks), sys.executable, "-m", "mpi4py", *arguments]
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as segments:
        environment = {
            **os.environ,
            # Of Open MPI: as root, and on fewer cores than ranks; without a look at other networks.
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMPI_MCA_btl": "self,sm",
            # It names shared memory by 16 bits, and jobs that share a name crash each other.
            "OMPI_MCA_btl_sm_backing_directory": segments,
            "INSTEP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_have_the_bits_of_one_process(ranks: int) -> None:
    done = mpiexec(ranks, str(STEPS), "same_bits")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"] * ranks


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_in_16_bits_have_those_of_one_process(ranks: int, tmp_path: Path) -> None:
    done = mpiexec(ranks, str(STEPS), "halves", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"] * ranks


def test_what_is_wrong_on_one_rank_raises_on_all() -> None:
    done = mpiexec(3, str(STEPS), "errors")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"] * 3


@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_rank_that_ends_ends_the_others(how: str) -> None:
    done = mpiexec(2, str(STEPS), how)
    assert done.returncode != 0
    assert "done" not in done.stdout
    if how == "raises":
        assert "this rank's own business" in done.stderr


def test_a_save_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    done = mpiexec(2, str(STEPS), "killed_saving", str(path))
    assert done.returncode != 0
    assert "all was saved" not in done.stdout
    done = mpiexec(3, str(STEPS), "loads", str(path))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_example_trains_as_one_process_does(ranks: int) -> None:
    done = mpiexec(ranks, str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{ranks} ranks, 60 steps: ")
    assert float(first.split()[4].rstrip("%")) > 85
    assert second == "parameters are identical to those of one process"


def test_the_demo_says_that_the_ranks_have_the_bits_of_one_process() -> None:
    done = mpiexec(2, "-m", "instep", "demo", "--mpi", "--quick", "--hidden", "32")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("2 ranks, ")
    assert float(first.split()[4].rstrip("%")) > 60
    assert second == "The weights of all ranks are identical to those of one process, bit for bit."
