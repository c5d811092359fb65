"""Operators that make tensors out of numbers and sizes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.dtypes import from_onnx, to_array
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim, maximum, product
from ranvier.ir.dtype import BOOL, F32, F64, I64, DType, decode
from ranvier.ir.graph import Value


@onnx_operator("Constant")
def constant(
    call: Call,
    *,
    value: TensorProto | None = None,
    value_float: float | None = None,
    value_floats: tuple[float, ...] | None = None,
    value_int: int | None = None,
    value_ints: tuple[int, ...] | None = None,
) -> Value:
    """A tensor, a number or a row of numbers."""
    if value is not None:
        return call.constant(to_array(value), from_onnx(value.data_type))
    for given, kind in (
        (value_float, np.float32), (value_floats, np.float32),
        (value_int, np.int64), (value_ints, np.int64),
    ):  # fmt: skip
        if given is not None:
            return call.constant(np.asarray(given, dtype=kind))
    raise Refusal("holds a kind of value that is not supported")


@onnx_operator("Shape")
def shape(call: Call, x: Value, *, start: int = 0, end: int | None = None) -> Value:
    """The sizes of some consecutive dims."""
    return call.vector(x.shape[slice(start, end)])


@onnx_operator("Size")
def size(call: Call, x: Value) -> Value:
    """The number of elements."""
    return call.scalar(product(x.shape), I64)


@onnx_operator("ConstantOfShape")
def constant_of_shape(call: Call, sizes: Value, *, value: TensorProto | None = None) -> Value:
    """One number everywhere; 0.0 when none is given."""
    if value is None:
        return call.full(call.shape_of(sizes), 0.0, F32)
    dtype = from_onnx(value.data_type)
    number = decode(to_array(value), dtype).reshape(-1)[0].item()
    return call.full(call.shape_of(sizes), number, dtype)


@onnx_operator("Range")
def range_(call: Call, start: Value, limit: Value, delta: Value) -> Value:
    """start, start + delta, ... below limit."""
    dtype = start.dtype
    count = _count(call, start, limit, delta)
    places = call.iota(count, dtype)
    if call.plain(delta) != [1]:
        places = call.emit("mul", places, call.reshape(delta, ()))
    return places if call.plain(start) == [0] else call.emit("add", places, call.reshape(start, ()))


def _count(call: Call, start: Value, limit: Value, delta: Value) -> Dim:
    plain = [call.plain(value) for value in (start, limit, delta)]
    if all(entry is not None for entry in plain):
        first, last, step = (entry[0] for entry in plain if entry is not None)
        return max(int(np.ceil((last - first) / step)), 0)
    known = [call.sizes(value) for value in (start, limit, delta)]
    if any(entry is None for entry in known):
        return _counted(call, start, limit, delta)
    first, last, step = (entry[0] for entry in known if entry is not None)
    if not isinstance(step, int) or step == 0:
        return _counted(call, start, limit, delta)
    span: Dim = last - first if step > 0 else first - last
    return maximum((span + (abs(step) - 1)) // abs(step), 0)


def _counted(call: Call, start: Value, limit: Value, delta: Value) -> Dim:
    """max(ceil((limit - start) / delta), 0), as it is computed at run time."""
    wide = I64 if start.dtype.is_integer else F64
    first, last, step = (call.cast(call.reshape(x, ()), wide) for x in (start, limit, delta))
    span = call.emit("sub", last, first)
    if wide == F64:
        steps = call.cast(call.emit("ceil", call.emit("div", span, step)), I64)
    else:
        steps = call.emit("neg", call.emit("floor_div", call.emit("neg", span), step))
    return call.size(call.number("maximum", steps, 0), call.stated(0))


@onnx_operator("EyeLike")
def eye_like(call: Call, x: Value, *, dtype: int | None = None, k: int = 0) -> Value:
    """Ones on one diagonal, zeros elsewhere."""
    wanted = x.dtype if dtype is None else from_onnx(dtype)
    row = call.iota(x.shape[0], axis=0, rank=2)
    column = call.iota(x.shape[1], axis=1, rank=2)
    return call.cast(call.emit("equal", call.number("add", row, k), column), wanted)


@onnx_operator("Trilu")
def trilu(call: Call, x: Value, k: Value | None = None, *, upper: int = 1) -> Value:
    """The part above or below a diagonal, zeros elsewhere."""
    diagonal = call.scalar(0, I64) if k is None else call.reshape(k, ())
    row = call.emit("add", call.iota(x.shape[-2], axis=0, rank=2), diagonal)
    column = call.iota(x.shape[-1], axis=1, rank=2)
    kept = call.emit("less_equal" if upper else "greater_equal", row, column)
    return call.where(kept, x, False if x.dtype == BOOL else 0)


@onnx_operator("OneHot")
def one_hot(call: Call, indices: Value, depth: Value, values: Value, *, axis: int = -1) -> Value:
    """values[1] where the position along the new dim is the index, values[0] elsewhere."""
    rank = indices.rank + 1
    along = axis_of(axis, rank)
    size = call.size(depth, call.stated(along))
    wanted, extent = call.cast(indices, I64), call.scalar(size, I64)
    negative = call.number("less", wanted, 0)
    wanted = call.where(negative, call.emit("add", wanted, extent), wanted)
    shape = (*indices.shape[:along], 1, *indices.shape[along:])
    hot = call.emit("equal", call.reshape(wanted, shape), call.iota(size, axis=along, rank=rank))
    off, on = (call.reshape(call.slice(values, 0, i, i + 1), ()) for i in range(2))
    return call.emit("where", hot, on, off)


def _window(call: Call, size: Value, periodic: int, dtype: DType) -> tuple[Value, Value]:
    """(0, 1, ... size - 1, the divisor of the window) in f64; `size` elements."""
    count = call.size(size, call.stated(0))
    extent = call.cast(call.reshape(size, ()), F64)
    divisor = extent if periodic else call.number("sub", extent, 1)
    return call.iota(count, F64), divisor


def _cosines(
    call: Call, size: Value, periodic: int, output: int, factors: tuple[float, ...]
) -> Value:
    """The sum of factors[i] * cos(2 pi i n / divisor)."""
    dtype = from_onnx(output)
    places, divisor = _window(call, size, periodic, dtype)
    total: Value | None = None
    for i, factor in enumerate(factors):
        angle = call.emit("div", call.number("mul", places, 2 * np.pi * i), divisor)
        part = call.number("mul", call.emit("cos", angle), factor)
        total = part if total is None else call.emit("add", total, part)
    assert total is not None
    return call.cast(total, dtype)


_WINDOWS: dict[str, tuple[float, ...]] = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


def _register_window(name: str, factors: tuple[float, ...]) -> None:
    @onnx_operator(name)
    def window(
        call: Call, size: Value, *, periodic: int = 1, output_datatype: int = TensorProto.FLOAT
    ) -> Value:
        return _cosines(call, size, periodic, output_datatype, factors)


for _name, _factors in _WINDOWS.items():
    _register_window(_name, _factors)
