"""Conversions between element types: of numbers, and of bits."""

from __future__ import annotations

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.dtypes import from_onnx
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir import narrow
from ranvier.ir.dtype import BOOL, F32, I8, U8, DType
from ranvier.ir.graph import Value


@onnx_operator("Cast")
def cast(call: Call, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    """x in another element type."""
    return convert(call, x, from_onnx(to), bool(saturate), round_mode)


@onnx_operator("CastLike")
def cast_like(
    call: Call, x: Value, like: Value, *, saturate: int = 1, round_mode: str = "up"
) -> Value:
    """x in the element type of another tensor."""
    return convert(call, x, like.dtype, bool(saturate), round_mode)


def convert(
    call: Call, x: Value, dtype: DType, saturate: bool = True, rounding: str = "up"
) -> Value:
    """x in another element type; `rounding` matters to f8e8m0 alone."""
    if x.dtype == dtype or not is_narrow_float(dtype):
        return call.cast(x, dtype)
    if rounding not in narrow.ROUNDINGS:
        raise Refusal(f"round_mode {rounding!r} is not one that ONNX defines")
    number = x if x.dtype.is_float else call.cast(x, F32)
    return call.emit("narrow_cast", number, dtype=dtype, saturate=saturate, rounding=rounding)


def is_narrow_float(dtype: DType) -> bool:
    """Whether it is a float of 8 bits or fewer."""
    return dtype.is_narrow and not isinstance(dtype.format, narrow.IntegerFormat)


@onnx_operator("BitCast")
def bit_cast(call: Call, x: Value, *, to: int) -> Value:
    """The bits of x as another element type of the same width."""
    target = from_onnx(to)
    if _width(x.dtype) != _width(target):
        raise Refusal(f"{x.dtype} has {_width(x.dtype)} bits, but {target} {_width(target)}")
    if target == x.dtype:
        return x
    if target == BOOL:
        raise Refusal(f"the bits of {x.dtype} may be none of a bool; compare with 0 instead")
    if _width(x.dtype) < 8:
        x = _extended(call, x, target)
    return call.emit("bit_cast", x, dtype=target)


def _width(dtype: DType) -> int:
    """Bits that the type itself has, one byte for bool."""
    if not dtype.is_narrow or isinstance(dtype.format, narrow.ExponentFormat):
        return dtype.bits
    if isinstance(dtype.format, narrow.IntegerFormat):
        return dtype.format.bits
    return dtype.format.sign.bit_length()


def _extended(call: Call, x: Value, target: DType) -> Value:
    """The bits of a type below 8 bits in a byte that is filled up as `target` has it."""
    bits, unused = call.emit("bit_cast", x, dtype=U8), 8 - _width(target)
    high = call.number("shift_left", bits, unused)
    if isinstance(target.format, narrow.IntegerFormat) and target.format.signed:
        high = call.emit("bit_cast", high, dtype=I8)
    return call.number("shift_right", high, unused)
