"""Discrete Fourier transforms and mel filters."""

from __future__ import annotations

import math

from onnx import TensorProto

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.dtypes import from_onnx
from ranvier.frontends.onnx.reductions import is_axis
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F64, I64, DType
from ranvier.ir.graph import Value


@onnx_operator("DFT", since=17)
def dft_17(
    call: Call, x: Value, length: Value | None = None,
    *, axis: int = 1, inverse: int = 0, onesided: int = 0,
) -> Value:  # fmt: skip
    """The axis as an attribute, before operator set 20."""
    along = axis_of(axis, x.rank)
    return _transformed(call, x, length, along, bool(inverse), bool(onesided))


@onnx_operator("DFT", since=20)
def dft(
    call: Call, x: Value, length: Value | None = None, axis: Value | None = None,
    *, inverse: int = 0, onesided: int = 0,
) -> Value:  # fmt: skip
    """The discrete Fourier transform along a dim; complex numbers are pairs in the last dim."""
    known = [-2] if axis is None else call.plain(axis)
    if known is not None:
        along = axis_of(int(known[0]), x.rank)
        return _transformed(call, x, length, along, bool(inverse), bool(onesided))
    assert axis is not None
    wanted = call.declared_shape()
    result: Value | None = None
    for along in range(x.rank - 1):
        found = _transformed(call, x, length, along, bool(inverse), bool(onesided))
        if found.shape != wanted:
            continue
        chosen = is_axis(call, axis, along, x.rank)
        result = found if result is None else call.where(chosen, found, result)
    assert result is not None
    return result


def _transformed(
    call: Call, x: Value, length: Value | None, along: int, inverse: bool, onesided: bool
) -> Value:
    count: Dim = x.shape[along]
    if length is not None:
        is_whole = not onesided or inverse
        count = call.size(length, call.stated(along) if is_whole else None)
    elif inverse and onesided:
        count = (count - 1) * 2
    return transform(call, x, along, count, inverse, onesided)


def transform(call: Call, x: Value, along: int, count: Dim, inverse: bool, onesided: bool) -> Value:
    """The transform of `count` elements along a dim: products with matrices of cosines and sines.

    `x` has pairs or single real numbers in its last dim. With `onesided` the result is the half
    that determines it for a real signal; of an inverse transform, the real signal of such a half.
    """
    dtype, data = x.dtype, call.cast(x, F64)  # sums of many terms that cancel out
    real = _part(call, data, along, 0)
    imaginary = _part(call, data, along, 1) if x.shape[-1] == 2 else None
    given = count // 2 + 1 if inverse and onesided else count
    real = _fitted(call, real, given)
    imaginary = None if imaginary is None else _fitted(call, imaginary, given)
    if inverse and onesided:
        result = [_real_signal(call, real, imaginary, count)]
    else:
        wanted = count // 2 + 1 if onesided else count
        result = _pairs(call, real, imaginary, count, wanted, inverse)
    parts = []
    for part in result:
        moved = call.move_back(part, along)
        parts.append(call.cast(call.reshape(moved, (*moved.shape, 1)), dtype))
    return call.concat(parts, x.rank - 1)


def _part(call: Call, x: Value, along: int, index: int) -> Value:
    """The real or imaginary parts, with the dim that is transformed behind the others."""
    cut = call.slice(x, x.rank - 1, index, index + 1)
    return call.move_last(call.reshape(cut, x.shape[:-1]), along)


def _fitted(call: Call, x: Value, count: Dim) -> Value:
    """The last dim cut off, or filled up with zeros."""
    last = x.rank - 1
    size = x.shape[last]
    if size == count:
        return x
    padded = call.pad(x, {last: (0, count)}, 0.0)
    return call.slice(padded, last, 0, count)


def _waves(call: Call, rows: Dim, columns: Dim, count: Dim, dtype: DType) -> tuple[Value, Value]:
    """(cos, sin) of 2 pi row column / count."""
    product = call.emit("mul", call.iota(rows, axis=0, rank=2), call.iota(columns, axis=1, rank=2))
    turn = call.emit("remainder", product, call.scalar(count, I64))
    angle = call.emit("div", call.cast(turn, F64), call.scalar(count, F64))
    angle = call.number("mul", angle, 2 * math.pi)
    return call.cast(call.emit("cos", angle), dtype), call.cast(call.emit("sin", angle), dtype)


def _times(call: Call, x: Value, matrix: Value) -> Value:
    row = call.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    return call.reshape(call.emit("matmul", row, matrix), (*x.shape[:-1], matrix.shape[1]))


def _pairs(
    call: Call, real: Value, imaginary: Value | None, count: Dim, wanted: Dim, inverse: bool
) -> list[Value]:
    cos, sin = _waves(call, count, wanted, count, real.dtype)
    if not inverse:
        sin = call.emit("neg", sin)
    first, second = _times(call, real, cos), _times(call, real, sin)
    if imaginary is not None:
        first = call.emit("sub", first, _times(call, imaginary, sin))
        second = call.emit("add", second, _times(call, imaginary, cos))
    if inverse:
        size = call.scalar(count, real.dtype)
        return [call.emit("div", first, size), call.emit("div", second, size)]
    return [first, second]


def _real_signal(call: Call, real: Value, imaginary: Value | None, count: Dim) -> Value:
    """Frequencies other than the first and the middle one stand for two."""
    half = count // 2 + 1
    cos, sin = _waves(call, half, count, count, real.dtype)
    place = call.iota(half)
    doubled = call.number("mul", place, 2)
    is_single = call.emit(
        "logical_or", call.number("equal", place, 0),
        call.emit("equal", doubled, call.scalar(count, I64)),
    )  # fmt: skip
    weight = call.cast(call.where(is_single, 1, call.full((half,), 2, I64)), real.dtype)
    total = _times(call, call.emit("mul", real, weight), cos)
    if imaginary is not None:
        total = call.emit("sub", total, _times(call, call.emit("mul", imaginary, weight), sin))
    return call.emit("div", total, call.scalar(count, real.dtype))


@onnx_operator("STFT", since=17)
def stft(
    call: Call, x: Value, frame_step: Value, window: Value | None = None,
    frame_length: Value | None = None, *, onesided: int = 1,
) -> Value:  # fmt: skip
    """Fourier transforms of frames of a signal, each weighted by a window."""
    length: Dim | None = None if window is None else window.shape[0]
    if length is None:
        length = x.shape[1] if frame_length is None else call.size(frame_length)
    stride = call.cast(call.reshape(frame_step, ()), I64)
    span = call.scalar(x.shape[1] - length, I64)
    number = call.number("add", call.emit("floor_div", span, stride), 1)
    frames = call.size(number, call.stated(1), x.shape[1])
    starts = call.emit("mul", call.iota(frames, axis=0, rank=2), stride)
    places = call.emit("add", starts, call.iota(length, axis=1, rank=2))
    signal = x if x.rank == 3 else call.reshape(x, (*x.shape, 1))
    cut = call.emit("gather", signal, places, axis=1)
    if window is not None:
        cut = call.emit("mul", cut, call.reshape(window, (length, 1)))
    return transform(call, cut, 2, length, False, bool(onesided))


@onnx_operator("MelWeightMatrix", since=17)
def mel_weight_matrix(
    call: Call, bins: Value, length: Value, rate: Value, lower: Value, upper: Value,
    *, output_datatype: int = TensorProto.FLOAT,
) -> Value:  # fmt: skip
    """Triangular filters at equal distances on the mel scale, `[frequencies, filters]`."""
    half = call.number("floor_div", call.cast(call.reshape(length, ()), I64), 2)
    rows = call.size(call.number("add", half, 1), call.stated(0))
    columns = call.size(bins, call.stated(1))
    edges = _edges(call, columns, length, rate, lower, upper)
    left, middle, right = (
        call.reshape(call.slice(edges, 0, i, columns + i), (1, columns)) for i in range(3)
    )
    row = call.iota(rows, axis=0, rank=2)
    rise = _ratio(call, call.emit("sub", row, left), call.emit("sub", middle, left))
    fall = _ratio(call, call.emit("sub", right, row), call.emit("sub", right, middle))
    below = call.emit("less_equal", row, middle)
    rising = call.emit("logical_and", call.emit("greater_equal", row, left), below)
    steep = call.emit(
        "logical_and", call.emit("equal", left, middle), call.emit("equal", row, middle)
    )
    falling = call.emit(
        "logical_and", call.emit("greater_equal", row, middle), call.emit("less", row, right)
    )
    weight = call.where(rising, rise, 0.0)
    weight = call.where(steep, 1.0, weight)
    weight = call.emit("where", falling, fall, weight)
    return call.cast(weight, from_onnx(output_datatype))


def _ratio(call: Call, a: Value, b: Value) -> Value:
    """a / b in f64; a where b is zero."""
    safe = call.where(call.number("equal", b, 0), 1, b)
    return call.emit("div", call.cast(a, F64), call.cast(safe, F64))


def _edges(
    call: Call, columns: Dim, length: Value, rate: Value, lower: Value, upper: Value
) -> Value:
    """The frequencies, as rows of a spectrogram, at which the filters begin, peak and end."""
    low, high = (_mel(call, call.cast(call.reshape(x, ()), F64)) for x in (lower, upper))
    step = call.emit("div", call.emit("sub", high, low), call.scalar(columns + 2, F64))
    places = call.emit("mul", call.iota(columns + 2, F64), step)
    mels = call.number("mul", call.emit("add", places, low), math.log(10) / 2595)
    hertz = call.number("mul", call.emit("expm1", mels), 700.0)
    size = call.number("add", call.cast(call.reshape(length, ()), F64), 1.0)
    scaled = call.emit("div", call.emit("mul", hertz, size), call.cast(call.reshape(rate, ()), F64))
    return call.cast(call.emit("floor", scaled), I64)


def _mel(call: Call, hertz: Value) -> Value:
    return call.number(
        "mul", call.emit("log1p", call.number("div", hertz, 700.0)), 2595 / math.log(10)
    )
