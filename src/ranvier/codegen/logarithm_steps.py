"""Steps that logarithms of f32 and f64 share: taking a number apart, special values, 1 + x."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ranvier.codegen.builder import FLOAT, Val, element_of, int_const
from ranvier.codegen.math_context import Context, integer_type, like


@dataclass(frozen=True)
class _Format:
    """A binary floating type: bits of its mantissa, the bits of sqrt(1/2), smallest normal number;
    `lift` is the power of two that makes every denormal number normal.
    """

    mantissa_bits: int
    sqrt_half_bits: int
    smallest: float
    lift: int


_F32 = _Format(23, 0x3F3504F3, 2.0**-126, 23)
_F64 = _Format(52, 0x3FE6A09E667F3BCD, 2.0**-1022, 54)


def split(context: Context, x: Val) -> tuple[Val, Val]:
    """(e, m) with x = 2**e m and sqrt(1/2) <= m < sqrt(2), for positive finite x."""
    f = context.builder
    form = _F32 if element_of(x.type) == FLOAT else _F64
    tiny = f.compare("fcmp olt", x, like(x, form.smallest))
    grown = f.select(tiny, f.binary("fmul", x, like(x, 2.0**form.lift)), x)
    bits = f.cast("bitcast", grown, integer_type(x))
    offset = f.binary("sub", bits, int_const(form.sqrt_half_bits, bits.type))
    exponent = f.binary("ashr", offset, int_const(form.mantissa_bits, bits.type))
    mantissa = f.binary("and", offset, int_const((1 << form.mantissa_bits) - 1, bits.type))
    mantissa = f.binary("add", mantissa, int_const(form.sqrt_half_bits, bits.type))
    e = f.cast("sitofp", exponent, x.type)
    e = f.binary("fadd", e, f.select(tiny, like(x, -float(form.lift)), like(x, 0.0)))
    return e, f.cast("bitcast", mantissa, x.type)


def special(context: Context, x: Val, value: Val) -> Val:
    """`value`, but what a logarithm gives at 0, infinity, NaN and negative x."""
    f = context.builder
    infinity = like(x, math.inf)
    value = f.select(f.compare("fcmp oeq", x, infinity), infinity, value)
    value = f.select(f.compare("fcmp oeq", x, like(x, 0.0)), like(x, -math.inf), value)
    return f.select(f.compare("fcmp oge", x, like(x, 0.0)), value, like(x, math.nan))


def one_plus(context: Context, x: Val) -> tuple[Val, Val]:
    """(u, error) with 1 + x = u + error exactly, u the rounded sum."""
    f = context.builder
    one = like(x, 1.0)
    u = f.binary("fadd", one, x)
    error = f.select(
        f.compare("fcmp ogt", x, one),
        f.binary("fsub", one, f.binary("fsub", u, x)),
        f.binary("fsub", x, f.binary("fsub", u, one)),
    )
    return u, error
