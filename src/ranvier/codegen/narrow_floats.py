"""Floats of 8 bits and fewer: their codes (i8) to f32, and f32 or f64 to codes.

`ir/narrow.py` defines both; formulas here are on the bits of the wide number, for any lane count.
"""

from __future__ import annotations

import math

from ranvier.codegen.builder import (
    DOUBLE,
    FLOAT,
    I8,
    I32,
    Val,
    element_of,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.math_context import (
    Context,
    clamp_keeping_nan,
    integer_type,
    intrinsic,
    like,
)
from ranvier.ir.narrow import ExponentFormat, FloatFormat

_MANTISSA, _BIAS = {FLOAT: 23, DOUBLE: 52}, {FLOAT: 127, DOUBLE: 1023}


def decode(context: Context, code: Val, format: FloatFormat | ExponentFormat) -> Val:
    """The f32 that a code stands for; exact."""
    wide = context.builder.cast("zext", code, vector(lanes_of(code.type), I32))
    if isinstance(format, ExponentFormat):
        return _decode_power(context, wide, format)
    return _decode_float(context, wide, format)


def _decode_power(context: Context, code: Val, format: ExponentFormat) -> Val:
    """2 ** (code - 127): the code is the exponent of an f32, whose smallest power is denormal."""
    f = context.builder
    power = f.binary("shl", code, int_const(23, code.type))
    is_least = f.compare("icmp eq", code, int_const(0, code.type))
    value = _as_float(context, f.select(is_least, int_const(1 << 22, code.type), power))
    is_nan = f.compare("icmp eq", code, int_const(format.nan, code.type))
    return f.select(is_nan, like(value, math.nan), value)


def _decode_float(context: Context, code: Val, format: FloatFormat) -> Val:
    """Shift exponent and mantissa into place; denormal numbers are small integers times a power."""
    f, type = context.builder, code.type
    size = f.binary("and", code, int_const(format.sign - 1, type))
    shifted = f.binary("shl", size, int_const(23 - format.mantissa_bits, type))
    normal = f.binary("add", shifted, int_const((127 - format.bias) << 23, type))
    whole = f.cast("uitofp", size, vector(lanes_of(type), FLOAT))
    small = f.binary("fmul", whole, like(whole, _least_number(format)))
    is_small = f.compare("icmp ult", size, int_const(1 << format.mantissa_bits, type))
    value = f.select(is_small, small, _as_float(context, normal))
    if format.has_signed_nan:
        above = f.compare("icmp ugt", size, int_const(format.top, type))
        value = f.select(above, like(value, math.nan), value)
    if format.infinity is not None:
        infinite = f.compare("icmp eq", size, int_const(format.infinity, type))
        value = f.select(infinite, like(value, math.inf), value)
    sign = f.binary("and", code, int_const(format.sign, type))
    sign = f.binary("shl", sign, int_const(32 - format.sign.bit_length(), type))
    bits = f.binary("or", f.cast("bitcast", value, type), sign)
    value = _as_float(context, bits)
    if not format.has_negative_zero:
        is_nan = f.compare("icmp eq", code, int_const(format.nan, type))
        value = f.select(is_nan, like(value, math.nan), value)
    return value


def _least_number(format: FloatFormat) -> float:
    """The distance between denormal numbers, which is the smallest one of them."""
    return 2.0 ** (1 - format.bias - format.mantissa_bits)


def _as_float(context: Context, bits: Val) -> Val:
    return context.builder.cast("bitcast", bits, vector(lanes_of(bits.type), FLOAT))


def encode(
    context: Context,
    value: Val,
    format: FloatFormat | ExponentFormat,
    saturate: bool,
    rounding: str,
) -> Val:
    """f32 or f64 -> the code that it rounds to, as i8."""
    if isinstance(format, ExponentFormat):
        code = _encode_power(context, value, format, saturate, rounding)
    else:
        code = _encode_float(context, value, format, saturate)
    return context.builder.cast("trunc", code, vector(lanes_of(code.type), I8))


def _encode_float(context: Context, value: Val, format: FloatFormat, saturate: bool) -> Val:
    f, type = context.builder, integer_type(value)
    size = f.cast("bitcast", intrinsic(f, "fabs", value), type)
    code = f.select(
        f.compare("icmp ult", size, _bits(2.0 ** (1 - format.bias), value)),
        _denormal_code(context, value, format),
        _normal_code(context, size, value, format),
    )
    beyond = format.top if saturate or format.overflow is None else format.overflow
    too_large = f.compare("icmp ugt", code, int_const(format.top, type))
    code = f.select(too_large, int_const(beyond, type), code)
    negative = f.compare("icmp slt", f.cast("bitcast", value, type), int_const(0, type))
    sign = f.select(negative, int_const(format.sign, type), int_const(0, type))
    signed = f.binary("or", code, sign)
    if not format.has_negative_zero:
        is_zero = f.compare("icmp eq", code, int_const(0, type))
        signed = f.select(is_zero, code, signed)
    nan = int_const(format.nan, type)
    if format.has_signed_nan:
        nan = f.binary("or", nan, sign)
    return f.select(f.compare("fcmp uno", value, value), nan, signed)


def _normal_code(context: Context, size: Val, value: Val, format: FloatFormat) -> Val:
    """Round the mantissa on the bits (a carry moves into the exponent), and rebase the exponent."""
    f, element = context.builder, element_of(value.type)
    drop = _MANTISSA[element] - format.mantissa_bits
    last = f.binary("lshr", size, int_const(drop, size.type))
    odd = f.binary("and", last, int_const(1, size.type))
    bias = f.binary("add", odd, int_const((1 << (drop - 1)) - 1, size.type))
    rounded = f.binary("lshr", f.binary("add", size, bias), int_const(drop, size.type))
    rebase = (_BIAS[element] - format.bias) << format.mantissa_bits
    return f.binary("sub", rounded, int_const(rebase, size.type))


def _denormal_code(context: Context, value: Val, format: FloatFormat) -> Val:
    """Adding a number whose last place is the least denormal rounds to a multiple of that."""
    f = context.builder
    anchor = _least_number(format) * 2.0 ** _MANTISSA[element_of(value.type)]
    total = f.binary("fadd", intrinsic(f, "fabs", value), like(value, anchor))
    bits = f.cast("bitcast", total, integer_type(value))
    return f.binary("sub", bits, _bits(anchor, value))


def _encode_power(
    context: Context, value: Val, format: ExponentFormat, saturate: bool, rounding: str
) -> Val:
    """The exponent of an f64, in which every number of the format is a normal one."""
    f = context.builder
    if element_of(value.type) == FLOAT:
        value = f.cast("fpext", value, vector(lanes_of(value.type), DOUBLE))
    least, most = 2.0**-format.bias, 2.0 ** (format.top - format.bias)
    limited = clamp_keeping_nan(f, value, least, most)
    type = integer_type(value)
    bits = f.cast("bitcast", limited, type)
    round_up = {"down": 0, "nearest": 1 << 51, "up": (1 << 52) - 1}[rounding]
    exponent = f.binary("add", bits, int_const(round_up, type))
    exponent = f.binary("lshr", exponent, int_const(52, type))
    code = f.binary("sub", exponent, int_const(1023 - format.bias, type))
    invalid = f.compare("fcmp ult", value, like(value, 0.0 if saturate else least))
    if not saturate:
        invalid = f.binary("or", invalid, f.compare("fcmp ugt", value, like(value, most)))
    return f.select(invalid, int_const(format.nan, type), code)


def _bits(number: float, shape: Val) -> Val:
    """The bits of a power of two as a literal of the integer type that goes with `shape`."""
    element = element_of(shape.type)
    exponent = math.frexp(number)[1] - 1 + _BIAS[element]
    return int_const(exponent << _MANTISSA[element], integer_type(shape))
