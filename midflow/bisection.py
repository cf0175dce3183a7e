"""Times a network that only knows the middle can reach: whole multiples of 1 / 2^k."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

LEAST_DEPTH = 4  # times are met within 1/32
LARGEST_DEPTH = 8


def plan_depth(times: Sequence[float]) -> int:
    """The least k >= 4 for which multiples of 1 / 2^k keep `times` in [0, 1] well apart.

    Well apart: no time moves by more than an eighth of the smallest gap between two of them, the
    ends included, so that even motion stays even. At most 8.
    """
    marks = sorted({0.0, 1.0, *times})
    gap = min(b - a for a, b in pairwise(marks))
    for depth in range(LEAST_DEPTH, LARGEST_DEPTH):
        if all(abs(float(nearest_dyadic(t, depth)) - t) <= gap / 8 + 1e-6 for t in times):
            return depth
    return LARGEST_DEPTH


def nearest_dyadic(time: float, depth: int) -> Fraction:
    """The multiple of 1 / 2^depth nearest to `time`."""
    return Fraction(round(time * 2**depth), 2**depth)
