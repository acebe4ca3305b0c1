"""The examples run, and say how much faster they are and that results are bit-for-bit identical."""

import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_every_example_is_run_here() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".ipynb", ".py")}
    here = {"course_notebook.ipynb", "cs231n_two_layer.py", "own_rule.ipynb", "sklearn_digits.py"}
    # That of torch is run by `make torch-host`, that of MPI by `test_mpi.py`.
    assert found == {*here, "torch_small_gpt.py", "mpi_digits.py"}


def test_cs231n_two_layer() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "cs231n_two_layer.py")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["sgd", "sgd_momentum", "rmsprop", "adam"]
    for line in lines:
        assert re.search(r"updates \d+\.\d times as fast, bit-for-bit identical$", line)
        if not line.startswith("sgd "):
            assert float(re.findall(r"accuracy (\S+)%", line)[0]) > 85


def test_sklearn_digits() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "sklearn_digits.py")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    kinds = [["adam", "float64"], ["adam", "float32"], ["sgd", "float64"], ["sgd", "float32"]]
    assert [line.split()[:2] for line in lines] == kinds
    for line in lines:
        assert re.search(r"fit \d+\.\d times as fast, bit-for-bit identical$", line)
        native, of = re.findall(r" (\d+) of (\d+) steps by instep", line)[0]
        assert native == of != "0"
        assert float(re.findall(r"accuracy (\S+)%", line)[0]) > 85


def printed_by(name: str) -> str:
    """Run a notebook and return what it prints."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    return "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_course_notebook() -> None:
    text = printed_by("course_notebook.ipynb")
    assert re.search(r"^speed-up of the updates: \d+\.\d$", text, re.MULTILINE)
    assert "bit-for-bit identical: True\n" in text
    accuracies = [float(share) for share in re.findall(r"accuracy (\S+)%", text)]
    assert accuracies
    assert min(accuracies) > 90


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_own_rule_notebook() -> None:
    text = printed_by("own_rule.ipynb")
    assert "runs the recipe adam_outside" in text
    assert text.count("bit-for-bit identical: True\n") == 2
    assert re.search(r"^times as fast as NumPy: \d+\.\d$", text, re.MULTILINE)
    assert "is not rounded the same" in text
    accuracies = [float(share) for share in re.findall(r"accuracy (\S+)%", text)]
    assert len(accuracies) == 2
    assert min(accuracies) > 85
