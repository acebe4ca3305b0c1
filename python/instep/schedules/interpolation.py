"""Numbers between two learning rates."""

import math


def mean(start: float, start_weight: float, end: float, end_weight: float) -> float:
    """Return the mean of two rates by weights that add up to 1; it is exact at both ends."""
    if start <= end:
        low, high, weight = start, end, end_weight
    else:
        low, high, weight = end, start, start_weight
    # Rounded, low + (high - low) may miss high; with a weight below 1 it cannot pass it.
    return high if weight == 1.0 else low + (high - low) * weight


def cosine(start: float, end: float, step: float, steps: float) -> float:
    """Return the rate of a step on half a cosine from one rate to another."""
    quarter = math.pi / 2
    left = math.sin(quarter * ((steps - step) / steps)) ** 2
    return mean(start, left, end, math.sin(quarter * (step / steps)) ** 2)
