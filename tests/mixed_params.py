"""Parameters of several layouts, sizes and dtypes, for optimizers that cut them in parts."""

from typing import Any

import numpy as np
from bits import Array, copy_with_buffers

PIECE = 32_768

Params = dict[str, Array]


def drawn(seed: int, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def make_params() -> Params:
    return {
        "W": drawn(0, (300, 333)),
        "b": drawn(1, (7,)),
        "none": drawn(2, (0, 3)),
        "V": drawn(3, (2 * PIECE + 5,), np.float64),
        "F": np.asfortranarray(drawn(4, (200, 301))),
        "strided": drawn(5, (90, 2, 800))[:, 0, ::2],
        "one": np.array(0.5, np.float32),
    }


def copied(params: Params) -> Params:
    return dict(zip(params, copy_with_buffers(list(params.values())), strict=True))
