"""`python -m instep run`: a script of someone else's, with its hosts patched."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from command_line import without
from instep import run
from instep.__main__ import main

SCRIPT = """
import sys
import warnings
from beside import CLASSES
import numpy as np
from sklearn.neural_network import MLPRegressor

warnings.simplefilter("ignore")
print(__name__, __file__, sys.argv[1:])
for kind in CLASSES:
    MLPRegressor(hidden_layer_sizes=3, max_iter=7).fit(np.eye(4), np.arange(4.0))
MLPRegressor(hidden_layer_sizes=3).fit(np.eye(4, dtype="f"), np.arange(4.0))
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("CLASSES = 'ab'\n")
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("status", [0, 3])
def test_a_script_runs_as_it_is(script: Path, status: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "instep", "run", str(script), "--torch", "-x", str(status)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == status
    assert done.stdout == f"__main__ {script} ['--torch', '-x', '{status}']\n"
    # The last model's steps are scikit-learn's: its data are float32 and its targets float64.
    assert done.stderr == (
        "instep: 14 of 214 steps of scikit-learn's perceptrons went through instep\n"
    )


def test_an_exception_is_the_script_s(script: Path) -> None:
    script.write_text("raise KeyError('its own')")
    command = [sys.executable, "-m", "instep", "run", str(script)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "instep: 0 of 0 steps of scikit-learn's perceptrons went through instep\n" in done.stderr
    assert done.stderr.endswith("KeyError: 'its own'\n")
    assert f'File "{script}", line 1, in <module>' in done.stderr


def test_a_script_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path in (tmp_path / "none.py", tmp_path):
        assert main(["run", str(path)]) == 2
        assert capsys.readouterr() == ("", f"There is no script {path}\n")


def test_a_missing_host_is_named(script: Path) -> None:
    done = without(["sklearn"], "run", str(script))
    message = "The run needs sklearn: pip install 'instep[sklearn]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_missing_torch_is_named(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(torch: bool) -> None:
        raise ModuleNotFoundError(name="torch" if torch else "sklearn")

    monkeypatch.setattr(run, "patched_hosts", missing)
    assert main(["run", "--torch", str(script)]) == 2
    assert capsys.readouterr().err == "The run needs torch: pip install 'instep[torch]'\n"


def test_torch_is_patched_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a module in the place of `instep.torch`."""
    done = []

    def module(name: str) -> ModuleType:
        made = ModuleType(f"instep.{name}")
        made.patch = lambda: done.append(name)  # type: ignore[attr-defined]
        made.step_counts = lambda: SimpleNamespace(native=1200, host=34)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"instep.{name}", made)
        return made

    modules = {name: module(name) for name in ("sklearn", "torch")}
    assert run.patched_hosts(torch=False) == {"sklearn": modules["sklearn"]}
    assert done == ["sklearn"]
    assert run.patched_hosts(torch=True) == modules
    assert done == ["sklearn", "sklearn", "torch"]
    assert run.summary(modules).splitlines()[1] == (
        "instep: 1,200 of 1,234 steps of torch.optim went through instep"
    )


def test_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("instep.torch")
    made.patch = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "instep.torch", made)
    monkeypatch.delitem(sys.modules, "instep.sklearn", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert run.patched_hosts(torch=True) == {"torch": made}
