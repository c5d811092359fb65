"""Literals and conversions between the element types in which LLVM values are computed.

Float to integer truncates, saturating where C++ is undefined; NaN gives 0.
"""

from __future__ import annotations

import math as pymath

from ranvier.codegen import narrow_floats
from ranvier.codegen.builder import (
    FLOAT,
    HALF,
    I1,
    I8,
    I16,
    I32,
    I64,
    Val,
    element_of,
    float_const,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.math_context import Context, intrinsic, like
from ranvier.errors import CompileError
from ranvier.ir import dtype as types
from ranvier.ir.dtype import BF16, BOOL, F16, F64, DType
from ranvier.ir.narrow import IntegerFormat
from ranvier.lowering.expression import compute_dtype


def compute_type(dtype: DType) -> str:
    """The LLVM element type to compute `dtype` in: float for f16 and bf16, i1 for bool.

    Narrow types are i8, their bits: nothing but casts and copies sees them.
    """
    dtype = compute_dtype(dtype)
    if dtype is BOOL:
        return I1
    if dtype.is_float:
        return "double" if dtype is F64 else FLOAT
    return f"i{dtype.bits}"


def constant(value: float | int | bool, dtype: DType) -> Val:
    """A scalar literal of the compute type of `dtype`.

    Floats beyond f32 become infinite, integers wrap; of narrow types `value` is the bits.
    """
    dtype = compute_dtype(dtype)
    if dtype is BOOL:
        return int_const(int(bool(value)), I1)
    if not dtype.is_float:
        return int_const(_wrap(int(value), dtype), compute_type(dtype))
    number = float(value)
    if dtype is not F64 and abs(number) >= 2.0**128 - 2.0**103:
        number = pymath.copysign(pymath.inf, number)
    return float_const(number, compute_type(dtype))


def _wrap(value: int, dtype: DType) -> int:
    value &= (1 << dtype.bits) - 1
    return value - (1 << dtype.bits) if value >> (dtype.bits - 1) else value


def convert(context: Context, value: Val, source: DType, target: DType) -> Val:
    """A value of compute type `source` as compute type `target`."""
    source, target = compute_dtype(source), compute_dtype(target)
    if source is target:
        return value
    if source.is_narrow:
        return _from_narrow(context, value, source, target)
    if target.is_narrow:
        return _to_small_integer(context, value, source, target)
    f, type = context.builder, vector(lanes_of(value.type), compute_type(target))
    if target is BOOL:
        if source.is_float:
            return f.compare("fcmp une", value, like(value, 0.0))
        return f.compare("icmp ne", value, int_const(0, value.type))
    if source.is_float and target.is_float:
        return f.cast("fpext" if target is F64 else "fptrunc", value, type)
    if source.is_float:
        return _float_to_integer(context, value, target, type)
    signed = source.kind == "int"
    if target.is_float:
        return f.cast("sitofp" if signed else "uitofp", value, type)
    if value.type == type:
        return value
    if target.bits < source.bits and source is not BOOL:
        return f.cast("trunc", value, type)
    return f.cast("sext" if signed else "zext", value, type)


def _from_narrow(context: Context, value: Val, source: DType, target: DType) -> Val:
    format = source.format
    if isinstance(format, IntegerFormat):
        return convert(context, value, types.I8 if format.signed else types.U8, target)
    return convert(context, narrow_floats.decode(context, value, format), types.F32, target)


def _to_small_integer(context: Context, value: Val, source: DType, target: DType) -> Val:
    """The low bits, sign or zero extended; floats go through i32."""
    f, format = context.builder, target.format
    if not isinstance(format, IntegerFormat):
        raise CompileError(f"a cast to {target} must say how to round")
    if source.is_float:
        value, source = convert(context, value, source, types.I32), types.I32
    low = convert(context, value, source, types.U8)
    unused = int_const(8 - format.bits, low.type)
    extend = "ashr" if format.signed else "lshr"
    return f.binary(extend, f.binary("shl", low, unused), unused)


def _float_to_integer(context: Context, value: Val, target: DType, type: str) -> Val:
    """Truncate.

    Narrow and unsigned targets go through i32 or i64 and wrap, as the casts of C do on x86.
    """
    f, lanes = context.builder, lanes_of(type)
    wide = I32 if target.bits < 32 else I64 if target.name in ("u32", "i64", "u64") else I32
    if target.name == "u64":
        return _float_to_u64(context, value, type)
    name = f"llvm.fptosi.sat.{_suffix(vector(lanes, wide))}.{_suffix(value.type)}"
    result = f.call(name, vector(lanes, wide), value)
    return f.cast("trunc", result, type)


def _float_to_u64(context: Context, value: Val, type: str) -> Val:
    """Negative values wrap around, large ones saturate."""
    f = context.builder
    below = f.compare("fcmp olt", value, like(value, 0.0))
    names = (f"{_suffix(type)}.{_suffix(value.type)}",) * 2
    signed = f.call(f"llvm.fptosi.sat.{names[0]}", type, value)
    unsigned = f.call(f"llvm.fptoui.sat.{names[1]}", type, value)
    return f.select(below, signed, unsigned)


def _suffix(type: str) -> str:
    names = {"float": "f32", "double": "f64"}
    element = names.get(element_of(type), element_of(type))
    return element if lanes_of(type) == 1 else f"v{lanes_of(type)}{element}"


def round_to_bf16(context: Context, value: Val) -> Val:
    """float -> i16 bits of the nearest bf16, ties to even; NaN stays a quiet NaN.

    The instruction of AVX512-BF16 flushes denormal numbers to zero.
    """
    f, lanes = context.builder, lanes_of(value.type)
    if context.target.has_bf16_dot and lanes in (4, 8, 16, 32):
        narrow = f.cast("fptrunc", value, vector(lanes, "bfloat"))
        return f.cast("bitcast", narrow, vector(lanes, I16))
    bits = f.cast("bitcast", value, vector(lanes, I32))
    upper = f.binary("lshr", bits, int_const(16, bits.type))
    odd = f.binary("and", upper, int_const(1, bits.type))
    bias = f.binary("add", odd, int_const(0x7FFF, bits.type))
    rounded = f.binary("lshr", f.binary("add", bits, bias), int_const(16, bits.type))
    quiet = f.binary("or", upper, int_const(0x40, bits.type))
    nan = f.compare("fcmp uno", value, value)
    return f.cast("trunc", f.select(nan, quiet, rounded), vector(lanes, I16))


def round_to_odd(context: Context, value: Val) -> Val:
    """double -> float, so that rounding that to half gives what rounding once would give.

    What is inexact gets an odd last place (Boldo and Melquiond, "When double rounding is odd").
    """
    f, lanes = context.builder, lanes_of(value.type)
    near = f.cast("fptrunc", value, vector(lanes, FLOAT))
    back, bits = f.cast("fpext", near, value.type), f.cast("bitcast", near, vector(lanes, I32))
    one = int_const(1, bits.type)
    beyond = f.compare("fcmp ogt", intrinsic(f, "fabs", back), intrinsic(f, "fabs", value))
    other = f.select(beyond, f.binary("sub", bits, one), f.binary("add", bits, one))
    even = f.compare("icmp eq", f.binary("and", bits, one), int_const(0, bits.type))
    wrong = f.binary("and", even, f.compare("fcmp one", back, value))
    return f.cast("bitcast", f.select(wrong, other, bits), near.type)


def widen_bf16(context: Context, bits: Val) -> Val:
    """i16 bits of bf16 -> float."""
    f, lanes = context.builder, lanes_of(bits.type)
    wide = f.cast("zext", bits, vector(lanes, I32))
    return f.cast("bitcast", f.binary("shl", wide, int_const(16, wide.type)), vector(lanes, FLOAT))


def bit_cast(context: Context, value: Val, source: DType, target: DType) -> Val:
    """The `bit_cast` operator on a value of compute type `source`, which is no 16-bit float."""
    f, lanes = context.builder, lanes_of(value.type)
    if source is BOOL:
        return f.cast("zext", value, vector(lanes, I8))
    if target is F16:
        return f.cast("fpext", f.cast("bitcast", value, vector(lanes, HALF)), vector(lanes, FLOAT))
    if target is BF16:
        return widen_bf16(context, value)
    type = vector(lanes, compute_type(target))
    return value if value.type == type else f.cast("bitcast", value, type)


def cast(context: Context, value: Val, source: DType, target: DType) -> Val:
    """The `cast` operator: as `convert`, and rounded to f16 or bf16 where that is the target."""
    value = convert(context, value, source, target)
    f, lanes = context.builder, lanes_of(value.type)
    if target is F16:
        half = f.cast("fptrunc", value, vector(lanes, "half"))
        return f.cast("fpext", half, value.type)
    if target is BF16:
        return widen_bf16(context, round_to_bf16(context, value))
    return value
