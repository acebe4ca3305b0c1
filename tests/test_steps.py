"""What a step may be asked, what it refuses, and that a step refused has changed nothing."""

import math

import instep
import numpy as np
import pytest
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


def test_the_norm_of_nothing_is_zero() -> None:
    for params, grads in ([np.ones(3)], [None]), ([np.ones(0)], [np.ones(0)]), ([], []):
        norm = instep.Adam(params).step(grads, max_norm=1.0).grad_norm
        assert norm == 0.0
        assert math.copysign(1.0, norm) == 1.0


def test_dampening_is_at_most_one() -> None:
    instep.SGD(np.ones(2), momentum=0.9, dampening=1)
    with pytest.raises(ValueError, match=r"dampening is 1\.5; wanted 0 <= dampening <= 1"):
        instep.SGD(np.ones(2), momentum=0.9, dampening=1.5)
