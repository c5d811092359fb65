"""Shorter forms of long functions, for results that are rounded to bf16 right away.

bf16 keeps 8 significant bits, so an error of 1.5e-4 disappears in the rounding of any result above 0.04. Each form is a
minimax polynomial (Lawson's iteration, least squares with weights that grow with the error) of the normal distribution's
odd part, P(t) = (Phi(t) - 1/2) / t in t**2 on [-4, 4], constrained so that Phi(-4) is 0 and Phi(4) is 1.
"""

from __future__ import annotations

from collections.abc import Callable

from ranvier.codegen.builder import Val
from ranvier.codegen.math_context import Context, fma, like, polynomial

_END = 4.0  # coefficients below: lowest power first
_NORMAL = (
    0.3982083550352341, -0.06509932910227853, 0.009058853387462266, -0.0008876821256018453,
    5.806361337895065e-05, -2.3596784683579335e-06, 5.244977952795722e-08, -4.681036143857856e-10,
)  # fmt: skip
_NORMAL_BY_TANH = (
    0.3984850404312303, -0.06586286232451934, 0.00951458311452487, -0.0010045521209506739,
    7.373544711188084e-05, -3.511151481142782e-06, 9.638123359259251e-08, -1.1488530557832055e-09,
)  # fmt: skip


def gelu(context: Context, x: Val) -> Val:
    """x Phi(x), within 1.3e-4."""
    return _times_distribution(context, x, _NORMAL)


def gelu_tanh(context: Context, x: Val) -> Val:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))), within 8e-5."""
    return _times_distribution(context, x, _NORMAL_BY_TANH)


def _times_distribution(context: Context, x: Val, coefficients: tuple[float, ...]) -> Val:
    f = context.builder
    below = f.compare("fcmp ole", x, like(x, -_END))
    t = f.select(below, like(x, -_END), x)
    t = f.select(f.compare("fcmp ogt", t, like(x, _END)), like(x, _END), t)
    square = f.binary("fmul", t, t)
    phi = fma(f, t, polynomial(f, square, coefficients[::-1]), like(x, 0.5))
    phi = f.select(below, like(x, 0.0), phi)
    return f.binary("fmul", x, phi)


FUNCTIONS: dict[str, Callable[[Context, Val], Val]] = {"gelu": gelu, "gelu_tanh": gelu_tanh}
