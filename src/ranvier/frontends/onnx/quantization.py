"""Quantised tensors: numbers as small integers or floats, with a scale and a zero point.

    q = saturate(round(x / scale) + zero point)         x = (q - zero point) * scale

Products of quantised tensors are those of the differences to the zero points, in i32 and exact.
"""

from __future__ import annotations

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.casts import convert, is_narrow_float
from ranvier.frontends.onnx.contractions import conv, mat_mul
from ranvier.frontends.onnx.dtypes import from_onnx
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import divides, product
from ranvier.ir.dtype import F32, F64, I32, U8, DType
from ranvier.ir.graph import Value
from ranvier.ir.narrow import IntegerFormat

Ints = tuple[int, ...] | None


@onnx_operator("QuantizeLinear")
def quantize_linear(
    call: Call, x: Value, scale: Value, zero_point: Value | None = None,
    *, axis: int = 1, saturate: int = 1, block_size: int = 0, output_dtype: int = 0,
    precision: int = 0,
) -> Value:  # fmt: skip
    """x / scale + zero_point, rounded to the nearest number of the result's type, ties to even."""
    stated = from_onnx(output_dtype) if output_dtype else None
    dtype = zero_point.dtype if zero_point is not None else stated or U8
    if stated is not None and dtype != stated:
        raise Refusal(f"output_dtype is {stated}, but the zero point {dtype}")
    working = from_onnx(precision) if precision else _precision(x.dtype, scale.dtype)
    blocks = _Blocks(call, x, scale, axis, block_size)
    quotient = call.emit("div", call.cast(blocks.data, working), blocks.fit(scale, working))
    offset = None if zero_point is None else blocks.fit(zero_point)
    return call.reshape(_quantized(call, quotient, offset, dtype, bool(saturate)), x.shape)


def _precision(x: DType, scale: DType) -> DType:
    """The type to divide in: that of the scale; a power of two or an integer leaves it to x."""
    if scale.is_float:
        return scale
    return x if x.is_float else F64


def _quantized(
    call: Call, quotient: Value, zero_point: Value | None, dtype: DType, saturate: bool = True
) -> Value:
    """saturate(round(quotient) + zero_point) in `dtype`; the zero point lines up already."""
    wide = quotient if quotient.dtype == F64 else call.cast(quotient, F32)
    offset = None if zero_point is None else call.cast(zero_point, wide.dtype)
    if is_narrow_float(dtype):
        shifted = wide if offset is None else call.emit("add", wide, offset)
        return convert(call, shifted, dtype, saturate)
    rounded = call.emit("round", wide)
    shifted = rounded if offset is None else call.emit("add", rounded, offset)
    least, most = _range(dtype)
    return call.cast(call.emit("clamp", shifted, min=least, max=most), dtype)


def _range(dtype: DType) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    bits, signed = dtype.bits, dtype.kind == "int"
    if dtype.is_narrow and isinstance(dtype.format, IntegerFormat):
        bits, signed = dtype.format.bits, dtype.format.signed
    elif not dtype.is_integer:
        raise Refusal(f"does not quantise to {dtype}")
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


@onnx_operator("DequantizeLinear")
def dequantize_linear(
    call: Call, x: Value, scale: Value, zero_point: Value | None = None,
    *, axis: int = 1, block_size: int = 0, output_dtype: int = 0,
) -> Value:  # fmt: skip
    """(x - zero_point) * scale."""
    dtype = from_onnx(output_dtype) if output_dtype else scale.dtype
    if not dtype.is_float:
        raise Refusal(f"the scale is {dtype}, and output_dtype does not say what the result is")
    if zero_point is not None and zero_point.dtype != x.dtype:
        raise Refusal(f"the zero point is {zero_point.dtype}, but the data {x.dtype}")
    blocks = _Blocks(call, x, scale, axis, block_size)
    offset = None if zero_point is None else blocks.fit(zero_point)
    distance = _distance(call, blocks.data, offset, F32)
    numbers = call.emit("mul", distance, blocks.fit(scale, F32))
    return call.reshape(call.cast(numbers, dtype), x.shape)


def _distance(call: Call, x: Value, zero_point: Value | None, dtype: DType) -> Value:
    """x - zero_point in a wider type, which holds it exactly if x has up to 16 bits."""
    if x.dtype == I32 and zero_point is not None:
        return call.cast(call.emit("sub", x, zero_point), dtype)
    wide = call.cast(x, dtype)
    return wide if zero_point is None else call.emit("sub", wide, call.cast(zero_point, dtype))


def _is_single(value: Value) -> bool:
    return product(value.shape) == 1


class _Blocks:
    """Data, and scales and zero points that broadcast to it: of the tensor, an axis, or blocks.

    Where blocks divide their axis, `data` has two dims in its place: which block, and where in it.
    """

    def __init__(self, call: Call, x: Value, scale: Value, axis: int, block_size: int) -> None:
        self._call, self._x = call, x
        self._block = 0 if _is_single(scale) else block_size
        self._along = axis_of(axis, x.rank) if x.rank > 1 else 0
        self._cut = self._block > 0 and divides(self._block, x.shape[self._along])
        self.data = self._split(x, self._block) if self._cut else x

    def fit(self, value: Value, dtype: DType | None = None) -> Value:
        """A scale or zero point in the shape that it needs; Refusal where it does not fit."""
        call, x, along = self._call, self._x, self._along
        value = call.cast(value, dtype or value.dtype)
        if _is_single(value):
            return call.reshape(value, ())
        if self._block:
            return self._of_blocks(value)
        if value.rank != 1 or value.shape[0] != x.shape[along]:
            shape = list(value.shape)
            raise Refusal(f"a scale of shape {shape} does not fit axis {along} of its data")
        return call.reshape(value, (*value.shape, *(1,) * (x.rank - along - 1)))

    def _of_blocks(self, value: Value) -> Value:
        call, x, along = self._call, self._x, self._along
        wanted = list(x.shape)
        wanted[along] = (x.shape[along] + (self._block - 1)) // self._block
        if list(value.shape) != wanted:
            raise Refusal(f"a scale of shape {list(value.shape)} does not fit blocks: {wanted}")
        column = self._split(value, 1)
        if self._cut:
            return column
        before, after = value.shape[: along + 1], value.shape[along + 1 :]
        rows = call.broadcast(column, (*before, self._block, *after))
        whole = call.reshape(rows, (*before[:-1], before[-1] * self._block, *after))
        return call.slice(whole, along, 0, x.shape[along])

    def _split(self, value: Value, size: int) -> Value:
        """The axis as two dims, the second one of `size`."""
        before, after = value.shape[: self._along], value.shape[self._along + 1 :]
        return self._call.reshape(value, (*before, value.shape[self._along] // size, size, *after))


@onnx_operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(call: Call, x: Value) -> tuple[Value, Value, Value]:
    """(quantised to u8, scale, zero point) for the range of the data, which includes zero."""
    axes = tuple(range(x.rank))
    highest = call.number("maximum", call.reduce("max", x, axes), 0.0)
    lowest = call.number("minimum", call.reduce("min", x, axes), 0.0)
    span = call.emit("sub", highest, lowest)
    span = call.where(call.number("equal", span, 0.0), 1.0, span)
    scale = call.number("div", span, 255.0)
    start = call.emit("neg", call.emit("div", lowest, scale))
    zero_point = call.cast(call.emit("round", call.emit("clamp", start, min=0.0, max=255.0)), U8)
    return _quantized(call, call.emit("div", x, scale), zero_point, U8), scale, zero_point


# Products -----------------------------------------------------------------------------------------
@onnx_operator("MatMulInteger")
def mat_mul_integer(
    call: Call, a: Value, b: Value, a_zero: Value | None = None, b_zero: Value | None = None
) -> Value:
    """The product of the differences to the zero points, in i32."""
    rows = None if a_zero is None else _of_rows(call, a_zero)
    columns = None if b_zero is None else _of_columns(call, b_zero)
    return mat_mul(call, _distance(call, a, rows, I32), _distance(call, b, columns, I32))


def _of_rows(call: Call, value: Value) -> Value:
    """A scale or zero point of the left operand: one number, a vector, or `[..., M, 1]`."""
    if _is_single(value):
        return call.reshape(value, ())
    return call.reshape(value, (*value.shape, 1)) if value.rank == 1 else value


def _of_columns(call: Call, value: Value) -> Value:
    """A scale or zero point of the right operand: one number, a vector, or `[..., 1, N]`."""
    return call.reshape(value, ()) if _is_single(value) else value


@onnx_operator("QLinearMatMul")
def qlinear_mat_mul(
    call: Call, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value,
    y_scale: Value, y_zero: Value,
) -> Value:  # fmt: skip
    """A product of quantised matrices, quantised."""
    working = F32 if is_narrow_float(a.dtype) or is_narrow_float(b.dtype) else I32
    first = _distance(call, a, _of_rows(call, a_zero), working)
    second = _distance(call, b, _of_columns(call, b_zero), working)
    scales = _of_columns(call, b_scale), _of_columns(call, y_scale)
    factor = _factor(call, _of_rows(call, a_scale), *scales)
    total = call.cast(mat_mul(call, first, second), F32)
    quotient = call.emit("mul", total, factor)
    return _quantized(call, quotient, _of_columns(call, y_zero), y_zero.dtype)


def _factor(call: Call, a: Value, b: Value, y: Value) -> Value:
    """a * b / y in f32."""
    both = call.emit("mul", call.cast(a, F32), call.cast(b, F32))
    return call.emit("div", both, call.cast(y, F32))


def _of_tensor(call: Call, value: Value) -> Value:
    """A scale or zero point that is one number."""
    if not _is_single(value):
        raise Refusal(f"a scale of shape {list(value.shape)} is not one number")
    return call.reshape(value, ())


def _of_channels(call: Call, value: Value, rank: int) -> Value:
    """A scale or zero point of weights: one number, or one for every output channel."""
    if _is_single(value):
        return call.reshape(value, ())
    if value.rank != 1:
        raise Refusal(f"a scale of shape {list(value.shape)} is not one of output channels")
    return call.reshape(value, (value.shape[0], *(1,) * (rank - 1)))


@onnx_operator("ConvInteger")
def conv_integer(
    call: Call, x: Value, w: Value, x_zero: Value | None = None, w_zero: Value | None = None,
    *, auto_pad: str = "NOTSET", dilations: Ints = None, group: int = 1, kernel_shape: Ints = None,
    pads: Ints = None, strides: Ints = None,
) -> Value:  # fmt: skip
    """The convolution of the differences to the zero points, in i32."""
    start = None if x_zero is None else _of_tensor(call, x_zero)
    own = None if w_zero is None else _of_channels(call, w_zero, w.rank)
    return conv(
        call, _distance(call, x, start, I32), _distance(call, w, own, I32),
        auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads,
        strides=strides,
    )  # fmt: skip


@onnx_operator("QLinearConv")
def qlinear_conv(
    call: Call, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value,
    y_scale: Value, y_zero: Value, bias: Value | None = None,
    *, auto_pad: str = "NOTSET", dilations: Ints = None, group: int = 1, kernel_shape: Ints = None,
    pads: Ints = None, strides: Ints = None,
) -> Value:  # fmt: skip
    """A convolution of quantised data, quantised; the bias has the scale of the products."""
    total = conv(
        call, _distance(call, x, _of_tensor(call, x_zero), I32),
        _distance(call, w, _of_channels(call, w_zero, w.rank), I32), bias,
        auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads,
        strides=strides,
    )  # fmt: skip
    own = (_of_channels(call, value, x.rank - 1) for value in (w_scale, y_scale))
    factor = _factor(call, _of_tensor(call, x_scale), *own)
    quotient = call.emit("mul", call.cast(total, F32), factor)
    return _quantized(call, quotient, _of_channels(call, y_zero, x.rank - 1), y_zero.dtype)
