"""Shorter forms of long functions, for results that are rounded to bf16 right away.

bf16 keeps 8 significant bits, so an error of 1.5e-4 disappears in the rounding of any result above
0.04. Each form is a minimax polynomial (Lawson's iteration, least squares with weights that grow
with the error) of the normal distribution's odd part, P(t) = (Phi(t) - 1/2) / t in t**2 on [-4, 4],
constrained so that Phi(-4) is 0 and Phi(4) is 1;
`_EXP2` is the one of 2**t on [-1/2, 1/2].
"""

from __future__ import annotations

from collections.abc import Callable

from ranvier.codegen.builder import Val
from ranvier.codegen.math_context import (
    Context,
    clamp_keeping_nan,
    fma,
    intrinsic,
    like,
    polynomial,
)
from ranvier.codegen.math_f32 import scale

_END = 4.0  # coefficients below: lowest power first
_NORMAL = (
    0.3982083550352341, -0.06509932910227853, 0.009058853387462266, -0.0008876821256018453,
    5.806361337895065e-05, -2.3596784683579335e-06, 5.244977952795722e-08, -4.681036143857856e-10,
)  # fmt: skip
_NORMAL_BY_TANH = (
    0.3984850404312303, -0.06586286232451934, 0.00951458311452487, -0.0010045521209506739,
    7.373544711188084e-05, -3.511151481142782e-06, 9.638123359259251e-08, -1.1488530557832055e-09,
)  # fmt: skip
_LOG2_E = 1.4426950408889634
_LARGEST = 126.0
_EXP2 = (0.05517169481646834, 0.24261137305901262, 0.6932610019002035, 0.9999280588242685)


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


def sigmoid(context: Context, x: Val) -> Val:
    """e**x / (1 + e**x), relative error 8e-5; 0 below -87."""
    f = context.builder
    e = _exp(context, x)
    return f.binary("fdiv", e, f.binary("fadd", e, like(x, 1.0)))


def silu(context: Context, x: Val) -> Val:
    """x sigmoid(x), relative error 8e-5."""
    return context.builder.binary("fmul", x, sigmoid(context, x))


def _exp(context: Context, x: Val) -> Val:
    """2**(x log2(e)) by a cubic on the fractional part; 0 below 2**-126 and bounded by 2**126."""
    f = context.builder
    t = clamp_keeping_nan(f, f.binary("fmul", x, like(x, _LOG2_E)), -_LARGEST, _LARGEST)
    n = intrinsic(f, "roundeven", t)
    power = scale(context, polynomial(f, f.binary("fsub", t, n), _EXP2), n)
    return f.select(f.compare("fcmp ole", t, like(x, -_LARGEST)), like(x, 0.0), power)


FUNCTIONS: dict[str, Callable[[Context, Val], Val]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "sigmoid": sigmoid,
    "silu": silu,
}
