"""What a step may be asked, what it refuses, and that a step refused has changed nothing."""

import math

import instep
import numpy as np
from bits import assert_same_bits


def test_an_infinite_max_norm_clips_nothing() -> None:
    """Not even where the norm is infinite or NaN itself."""
    for gradient in ([1e200, 3.0], [np.inf, 3.0], [np.nan, 3.0]):
        plain, asked = np.ones(2), np.ones(2)
        instep.SGD(plain, lr=0.5).step(np.array(gradient))
        result = instep.SGD(asked, lr=0.5).step(np.array(gradient), max_norm=math.inf)
        assert_same_bits(asked, plain)
        assert result.grad_norm is not None
        assert not math.isfinite(result.grad_norm)
