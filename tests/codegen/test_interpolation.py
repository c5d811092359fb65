"""Interpolation reproduces polynomials, and comes close to the best one for smooth functions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ranvier.codegen.interpolation import interpolate


def test_polynomials_are_reproduced() -> None:
    found = interpolate(lambda x: 3 - x + 2 * x**3, -2.0, 5.0, 3)
    np.testing.assert_allclose(found, (3, -1, 0, 2), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 4, 7])
def test_the_error_is_that_of_chebyshev_nodes(degree: int) -> None:
    """At most max |f^(n)| (half / 2)^n 2 / n! with n = degree + 1, here for exp on [-1, 1]."""
    x = np.linspace(-1, 1, 1001)
    error = np.abs(np.polyval(interpolate(math.exp, -1.0, 1.0, degree)[::-1], x) - np.exp(x))
    assert error.max() <= 2 * math.e * 0.5 ** (degree + 1) / math.factorial(degree + 1) + 1e-15
