"""The stored paths of torch's optimizers are those of the torch that is installed."""

import json
import runpy
from pathlib import Path

import numpy as np
import torch

MAKE = Path(__file__).parents[1] / "trajectories" / "make_optimizers_torch.py"


def test_the_stored_paths_are_those_of_torch() -> None:
    make = runpy.run_path(str(MAKE))
    before = torch.get_default_dtype()
    try:
        now = json.loads(make["trajectories"]())
    finally:
        torch.set_default_dtype(before)
    stored = json.loads(make["STORED_IN"].read_text())
    assert (now["start"], now["grads"]) == (stored["start"], stored["grads"])
    assert now["optimizers"].keys() == stored["optimizers"].keys()
    for name, optimizer in stored["optimizers"].items():
        path = now["optimizers"][name].pop("path")
        for t, values in optimizer.pop("path").items():
            # torch's last bits depend on the instructions of the CPU.
            np.testing.assert_allclose(path[t], values, rtol=2e-15, err_msg=f"{name}, t={t}")
        assert now["optimizers"][name] == optimizer
