"""Shorter forms of long functions, for results that are rounded to bf16 right away.

bf16 keeps 8 significant bits, so an error of 1.5e-4 disappears in the rounding of any result above
0.04. Each form is a minimax polynomial (Lawson's iteration, least squares with weights that grow
with the error) of the normal distribution's odd part, P(t) = (Phi(t) - 1/2) / t in t**2 on [-4, 4],
constrained so that Phi(-4) is 0 and Phi(4) is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ranvier.codegen import avx512, math_f32
from ranvier.codegen.builder import Val
from ranvier.codegen.interpolation import Function, interpolate, shifted
from ranvier.codegen.math_context import (
    Context,
    fma,
    integer_type,
    intrinsic,
    like,
    polynomial,
)

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
_EXP2_OF_FRACTION = interpolate(lambda t: 2.0**t, 0.0, 1.0, 3)[::-1]  # relative error 1e-4


def gelu(context: Context, x: Val) -> Val:
    """x Phi(x), within 1.3e-4."""
    if avx512.usable(context, x):
        return _relu_minus_table(context, x, _TAIL)
    return _times_distribution(context, x, _NORMAL)


def gelu_tanh(context: Context, x: Val) -> Val:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))), within 1e-4."""
    if avx512.usable(context, x):
        return _relu_minus_table(context, x, _TAIL_BY_TANH)
    return _times_distribution(context, x, _NORMAL_BY_TANH)


# The tail t (1 - Phi(t)) as parabolas around the multiples of _STEP: row k has the coefficients of
# power k. The one around 0 is 0 there.
_STEP = 0.28
_MAGIC = 12582912.0  # 1.5 * 2**23: adding it leaves an integer in the low bits of an f32


def _tail_table(normal: Function) -> tuple[tuple[float, ...], ...]:
    def tail(t: float) -> float:
        return t * (1 - normal(t))

    half = _STEP / 2
    first = (0.0, *interpolate(lambda t: 1 - normal(t), 0.0, half, 1))
    others = (interpolate(shifted(tail, k * _STEP), -half, half, 2) for k in range(1, 16))
    return tuple(zip(first, *others, strict=True))


_TAIL = _tail_table(lambda t: 0.5 + 0.5 * math.erf(t / math.sqrt(2)))
_TAIL_BY_TANH = _tail_table(
    lambda t: 0.5 + 0.5 * math.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))
)


def _relu_minus_table(context: Context, x: Val, table: tuple[tuple[float, ...], ...]) -> Val:
    """max(x, 0) - |x| (1 - Phi(|x|))."""
    f = context.builder
    t, end = intrinsic(f, "fabs", x), like(x, 15.25 * _STEP)
    t = f.select(f.compare("fcmp ogt", t, end), end, t)
    shifted = fma(f, t, like(x, 1 / _STEP), like(x, _MAGIC))
    number = f.binary("fsub", shifted, like(x, _MAGIC))
    distance = fma(f, number, like(x, -_STEP), t)
    index = f.cast("bitcast", shifted, integer_type(x))
    rows = [avx512.look_up(context, row, index) for row in table]
    tail = fma(f, fma(f, rows[2], distance, rows[1]), distance, rows[0])
    relu = f.select(f.compare("fcmp olt", x, like(x, 0.0)), like(x, 0.0), x)
    return f.binary("fsub", relu, tail)


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
    """1 / (1 + e**-x), relative error 2e-4; without AVX-512 the form of f32, which is as fast."""
    return _logistic(context, x) if avx512.usable(context, x) else math_f32.sigmoid(context, x)


def silu(context: Context, x: Val) -> Val:
    """x sigmoid(x), relative error 2e-4."""
    if not avx512.usable(context, x):
        return math_f32.silu(context, x)
    return context.builder.binary("fmul", x, sigmoid(context, x))


def _logistic(context: Context, x: Val) -> Val:
    """1 / (1 + 2**t), t = -x log2(e): infinities need no bounds here."""
    f = context.builder
    t = f.binary("fmul", x, like(x, -_LOG2_E))
    power = polynomial(f, avx512.fraction(context, t), _EXP2_OF_FRACTION)
    below = f.binary("fadd", avx512.scale(context, power, t), like(x, 1.0))
    return avx512.reciprocal_estimate(context, below)


FUNCTIONS: dict[str, Callable[[Context, Val], Val]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "sigmoid": sigmoid,
    "silu": silu,
}
