"""The fuzzer: a short run of it, and that it finds what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz
import instep
import numpy as np
import optimizer_model
import pytest
from instep import codecs, reference
from random_history import run_case

SEED = 0


def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, fuzz.__file__, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def run_cases(count: int, folder: Path) -> int:
    return sum(run_case(SEED, case, folder) for case in range(count))


def test_a_short_run(tmp_path: Path) -> None:
    assert run_cases(150, tmp_path) > 1_000_000


def test_the_command_at_every_level() -> None:
    done = run("--seed", "1", "--cases", "30")
    assert done.returncode == 0, done.stderr
    levels = ", ".join(instep.config()["isa_available"])
    # After a line of how far it is every 5 s.
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(
        rf"No difference: 30 cases, [\d,]+ elements compared, at {levels}, seed 1\.", last
    )


def add_at_the_end(p: Any, g: Any, **numbers: float) -> Any:
    """`reference.prepare`, with the weight decay of the parameter before it shrinks."""
    f = p.dtype.type
    return p * f(numbers["shrink"]), f(numbers["scale"]) * g + f(numbers["weight_decay"]) * p


DEFECTS = {
    "prepare": add_at_the_end,  # a zero that is added where nothing decays
    "average": lambda a, p, *, decay: a + p.dtype.type(1 - decay) * (p - a),
    "clip_factor": lambda norm, *, max_norm: min(1.0, max_norm / (norm + 1e-7)),
    "gradient_norm": lambda *grads: float(
        np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in grads))
    ),
    "yogi": lambda p, g, m, v, **_: (p, m, v),
}

STREAM, TO_BFLOAT16, TO_CODES = codecs.stream, codecs.to_bfloat16, codecs.to_codes


def codes_that_become_zero(numbers: Any, random: Any, *, signed: bool) -> Any:
    """`codecs.to_codes`, with 0 for the least code of what has no sign."""
    codes, exponents = TO_CODES(numbers, random, signed=signed)
    return (codes if signed else np.where(codes == 1, 0, codes)).astype(np.uint8), exponents


def codes_by_other_blocks(numbers: Any, random: Any, *, signed: bool) -> Any:
    """`codecs.to_codes`, where the last block has a larger exponent, if it is not whole."""
    codes, exponents = TO_CODES(numbers, random, signed=signed)
    if numbers.size % codecs.BLOCK and exponents[-1] < 250:
        exponents[-1] += 1
    return codes, exponents


STATE_DEFECTS = {
    "no least code": ("to_codes", codes_that_become_zero),
    "the exponent of the tail": ("to_codes", codes_by_other_blocks),
    "the noise of another role": ("stream", lambda name, role: STREAM(name, role ^ 1)),
    "bfloat16 to nearest": ("to_bfloat16", lambda x, random: TO_BFLOAT16(x, 0 * random + 2**31)),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reference, name, DEFECTS[name])
    with pytest.raises(AssertionError, match="elements differ"):
        run_cases(300, tmp_path)


@pytest.mark.parametrize("name", STATE_DEFECTS)
def test_a_planted_defect_of_stored_states_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    function, defect = STATE_DEFECTS[name]
    # The model's own: the optimizer takes what it needs as it was.
    mirror = SimpleNamespace(**{key: getattr(codecs, key) for key in codecs.__all__})
    setattr(mirror, function, defect)
    monkeypatch.setattr(optimizer_model, "codecs", mirror)
    with pytest.raises(AssertionError, match="elements differ"):
        run_cases(100, tmp_path)


def test_what_fails_is_done_again_by_the_command_that_is_shown(tmp_path: Path) -> None:
    defect = "from instep import reference\nreference.average = lambda a, p, decay: a\n"
    (tmp_path / "sitecustomize.py").write_text(defect)
    done = run("--seed", "2", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "elements differ" in done.stderr
    shown = re.search(r"make fuzz SEED=2 CASE=(\d+) INSTEP_ISA=(\w+)\n$", done.stdout)
    assert shown, done.stdout
    words, level = ("--seed", "2", "--case", shown[1]), shown[2]
    again = run(*words, PYTHONPATH=str(tmp_path), INSTEP_ISA=level)
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1] in done.stderr
    assert again.stdout.endswith(shown[0])
    whole = run(*words, INSTEP_ISA=level)
    assert whole.returncode == 0
    assert whole.stdout.startswith("No difference: 1 cases, ")
