"""Instructions of AVX-512 that have no portable LLVM form, on vectors of 16 floats.

Callers ask `usable` first and have another way for every other target and lane count.
"""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.codegen.builder import FLOAT, I32, Val, float_const, int_const, vector
from ranvier.codegen.math_context import Context

LANES = 16
_TYPE = vector(LANES, FLOAT)
_ALL, _CURRENT_ROUNDING = Val("-1", "i16"), int_const(4, I32)
_FLOOR = int_const(1, I32)  # rounding towards minus infinity, no binary places kept
_MINUS_INFINITY_TO_NAN = 0x3 << 16  # response "indefinite NaN" for the fifth kind of operand


def usable(context: Context, x: Val) -> bool:
    """Whether the functions below apply to values like `x`."""
    return context.target.lanes == LANES and x.type == _TYPE


def scale(context: Context, x: Val, n: Val) -> Val:
    """x * 2**floor(n), rounded once into the denormal range; NaN for -inf * 2**-inf."""
    name = "llvm.x86.avx512.mask.scalef.ps.512"
    return context.builder.call(name, _TYPE, x, n, x, _ALL, _CURRENT_ROUNDING)


def fraction(context: Context, x: Val) -> Val:
    """x - floor(x), in [0, 1); 0 for an infinite `x`."""
    name = "llvm.x86.avx512.mask.reduce.ps.512"
    return context.builder.call(name, _TYPE, x, _FLOOR, x, _ALL, _CURRENT_ROUNDING)


def reciprocal_estimate(context: Context, x: Val) -> Val:
    """1 / x with a relative error of at most 2**-14; 0 for infinity, infinity for 0."""
    return context.builder.call("llvm.x86.avx512.rcp14.ps.512", _TYPE, x, x, _ALL)


def look_up(context: Context, table: Sequence[float], index: Val) -> Val:
    """Element `index % 16` of a table of 16 numbers, for an index of 16 i32."""
    numbers = ", ".join(str(float_const(number, FLOAT)) for number in table)
    values = Val(f"<{numbers}>", _TYPE)
    return context.builder.call("llvm.x86.avx512.permvar.sf.512", _TYPE, values, index)


def nan_at_minus_infinity(context: Context, value: Val, x: Val) -> Val:
    """`value`, but NaN where `x` is minus infinity."""
    table = int_const(_MINUS_INFINITY_TO_NAN, vector(LANES, I32))
    name = "llvm.x86.avx512.mask.fixupimm.ps.512"
    zero = int_const(0, I32)
    return context.builder.call(name, _TYPE, value, x, table, zero, _ALL, _CURRENT_ROUNDING)
