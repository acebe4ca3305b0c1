"""Other libraries' Adam in fewer bytes, where they are installed.

Each is imported when its step is made. What torch reads and writes is NumPy's memory, as instep's
is: NumPy asks the system for large pages, and they make a difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["PEERS", "Peer"]


@dataclass(frozen=True)
class Peer:
    """Another library's step of Adam."""

    name: str
    #: What a step reads and writes of an element.
    bytes: int
    package: Literal["torch", "bitsandbytes"]
    dtype: Literal["float32", "bfloat16"] = "float32"
    #: The most steps that are timed, of one that takes long.
    most: int | None = None

    def is_installed(self) -> bool:
        """Return whether what it needs is there."""
        return all(find_spec(package) is not None for package in {"torch", self.package})

    def step(self, numbers: NDArray[np.float32], threads: int) -> Callable[[], object]:
        """Return what does the next step on parameters and gradients that are these numbers."""
        import torch

        torch.set_num_threads(threads)

        def tensor(numbers: NDArray[np.float32]) -> Any:
            if self.dtype == "float32":
                return torch.from_numpy(numbers.copy())
            halves = (numbers.view(np.uint32) >> 16).astype(np.int16)
            return torch.from_numpy(halves).view(torch.bfloat16)

        p = tensor(numbers).requires_grad_()
        p.grad = tensor(numbers)
        optimizer: Any
        if self.package == "bitsandbytes":
            import bitsandbytes

            optimizer = bitsandbytes.optim.Adam8bit([p])
        else:
            optimizer = torch.optim.Adam([p], fused=True)
            optimizer.step()
            for name in ("exp_avg", "exp_avg_sq"):
                optimizer.state[p][name] = tensor(np.zeros_like(numbers))
        return lambda: optimizer.step()


PEERS = (
    Peer("torch, fused", 28, "torch"),
    Peer("torch, fused, all bfloat16", 14, "torch", "bfloat16"),
    Peer("bitsandbytes, 8-bit states", 16, "bitsandbytes", most=3),
)
