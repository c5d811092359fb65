"""ATen operators that make tensors out of sizes and numbers, and triangles of matrices."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Polynomial
from ranvier.ir.dtype import F64, I64, DType
from ranvier.ir.graph import Value


def _filled(call: Call, value: Scalar) -> Value:
    """A tensor of PyTorch's shape and element type that holds one number."""
    if isinstance(value, Polynomial):
        return call.broadcast(call.scalar(value, call.dtype), call.shape)
    number = float(value) if call.dtype.is_float else value
    if call.dtype.kind == "bool":
        number = bool(value)
    elif not call.dtype.is_float:
        number = int(value)
    return call.emit("full", shape=call.shape, value=number, dtype=call.dtype)


@aten("full", "full_like", "new_full", "scalar_tensor")
def full(
    call: Call,
    fill_value: Scalar | Value | None = None,
    s: Scalar | None = None,
    x: Value | None = None,
    size: object = None,
    dtype: DType | None = None,
) -> Value:
    value = fill_value if fill_value is not None else s
    if isinstance(value, Value):
        return call.broadcast(call.cast(value, call.dtype), call.shape)
    if value is None:
        raise Refusal("the number to fill with is missing")
    return _filled(call, value)


@aten("zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty",
      "empty_permuted", "new_empty_strided", "empty_strided")  # fmt: skip
def zeros(
    call: Call,
    x: Value | None = None,
    size: object = None,
    dtype: DType | None = None,
    physical_layout: object = None,
    stride: object = None,
) -> Value:
    """Also where PyTorch leaves the elements unspecified."""
    return _filled(call, 0)


@aten("ones", "ones_like", "new_ones")
def ones(
    call: Call, x: Value | None = None, size: object = None, dtype: DType | None = None
) -> Value:
    return _filled(call, 1)


@aten("fill.Scalar", "fill.Tensor")
def fill(call: Call, x: Value, value: Scalar | Value) -> Value:
    if isinstance(value, Value):
        return call.broadcast(call.cast(value, x.dtype), x.shape)
    return _filled(call, value)


@aten("arange", "arange.start", "arange.start_step")
def arange(
    call: Call, end: Scalar, start: Scalar = 0, step: Scalar = 1, dtype: DType | None = None
) -> Value:
    """start + step * i, computed in f64 or i64 as PyTorch does."""
    size, wide = call.shape[0], F64 if call.dtype.is_float else I64
    if start == 0 and step == 1:
        return call.emit("iota", size=size, dtype=call.dtype)
    result = call.emit("iota", size=size, dtype=wide)
    if step != 1:
        result = call.emit("mul", result, call.scalar(step, wide))
    if start != 0:
        result = call.emit("add", result, call.scalar(start, wide))
    return call.cast(result, call.dtype)


@aten("eye", "eye.m")
def eye(call: Call, n: object = None, m: object = None, dtype: DType | None = None) -> Value:
    rows, columns = _grid(call, call.shape[0], call.shape[1])
    return call.cast(call.emit("equal", rows, columns), call.dtype)


@aten("tril")
def tril(call: Call, x: Value, diagonal: int = 0) -> Value:
    return _triangle(call, x, diagonal, "less_equal")


@aten("triu")
def triu(call: Call, x: Value, diagonal: int = 0) -> Value:
    return _triangle(call, x, diagonal, "greater_equal")


def _triangle(call: Call, x: Value, diagonal: int, comparison: str) -> Value:
    """Elements whose (column - row) compares with `diagonal`; zeros elsewhere."""
    rows, columns = _grid(call, x.shape[-2], x.shape[-1])
    if diagonal:
        rows = call.emit("add", rows, call.scalar(diagonal, I64))
    kept = call.emit(comparison, columns, rows)
    return call.emit("where", kept, x, call.scalar(0, x.dtype))


def _grid(call: Call, height: object, width: object) -> tuple[Value, Value]:
    """Row numbers `[height, 1]` and column numbers `[1, width]`."""
    rows = call.emit("iota", size=height, dtype=I64)
    columns = call.emit("iota", size=width, dtype=I64)
    return (
        call.reshape(rows, (*rows.shape, 1)),
        call.reshape(columns, (1, *columns.shape)),
    )
