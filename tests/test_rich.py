"""The bar of steps that take seconds."""

import io
from pathlib import Path

import instep
import numpy as np
from instep.disk import Streamed
from instep.rich import bar
from rich.console import Console


def test_a_bar_is_full_after_a_step_and_half_full_within(tmp_path: Path) -> None:
    text = io.StringIO()
    console = Console(file=text, width=60, force_terminal=True)
    params = {"W": np.ones(2 * 32_768, np.float32)}
    grads = {"W": np.ones(2 * 32_768, np.float32)}
    with Streamed(instep.Adam, params, folder=tmp_path, chunk=1) as opt:
        for _ in range(2):
            with bar("a step", console=console) as progress:
                progress(1, 2)
                assert "100%" not in text.getvalue()
                opt.step(grads, progress=progress)
            assert text.getvalue().count("a step") > 1
            assert "100%" in text.getvalue()
            text.seek(0)
            text.truncate()
