"""Polynomials that agree with a function at Chebyshev nodes: nearly the best of their degree."""

from __future__ import annotations

import math
from collections.abc import Callable

Function = Callable[[float], float]


def interpolate(function: Function, low: float, high: float, degree: int) -> tuple[float, ...]:
    """Coefficients in powers of x, lowest first, of the polynomial on [low, high].

    Newton's divided differences at the nodes middle + half cos((2 k + 1) pi / (2 degree + 2)).
    """
    middle, half = (low + high) / 2, (high - low) / 2
    count = degree + 1
    nodes = [middle + half * math.cos((2 * k + 1) * math.pi / (2 * count)) for k in range(count)]
    differences = [function(x) for x in nodes]
    for step in range(1, count):
        for k in range(count - 1, step - 1, -1):
            gap = nodes[k] - nodes[k - step]
            differences[k] = (differences[k] - differences[k - 1]) / gap
    polynomial: list[float] = []
    for k in range(count - 1, -1, -1):  # polynomial * (x - nodes[k]) + differences[k]
        shifted = [0.0, *polynomial]
        scaled = [*(-nodes[k] * c for c in polynomial), 0.0]
        polynomial = [a + b for a, b in zip(shifted, scaled, strict=True)]
        polynomial[0] += differences[k]
    return tuple(polynomial[:count])


def shifted(function: Function, start: float) -> Function:
    """`function` as a function of the distance from `start`."""
    return lambda distance: function(start + distance)
