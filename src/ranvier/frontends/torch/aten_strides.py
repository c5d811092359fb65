"""ATen operators that name elements by their place in memory.

Only tensors that lie densely in the order of their dims have known places.
"""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


@aten("as_strided", "as_strided_copy")
def as_strided(
    call: Call,
    x: Value,
    size: Sequence[Dim],
    stride: Sequence[Dim],
    storage_offset: Dim | None = None,
) -> Value:
    _require_dense(call)
    flat = call.reshape(x, (product(x.shape),))
    return call.emit("gather", flat, _places(call, size, stride, storage_offset or 0), axis=0)


@aten("as_strided_scatter")
def as_strided_scatter(
    call: Call,
    x: Value,
    src: Value,
    size: Sequence[Dim],
    stride: Sequence[Dim],
    storage_offset: Dim | None = None,
) -> Value:
    _require_dense(call)
    count = product(size)
    places = call.reshape(_places(call, size, stride, storage_offset or 0), (count,))
    updates = call.reshape(call.cast(src, x.dtype), (count,))
    flat = call.reshape(x, (product(x.shape),))
    written = call.emit("scatter_elements", flat, places, updates, axis=0, reduction="none")
    return call.reshape(written, x.shape)


def _require_dense(call: Call) -> None:
    if not call.is_dense:
        raise Refusal(
            "reads a view by its strides; call .contiguous() first, or index it by its dims"
        )


def _places(call: Call, size: Sequence[Dim], stride: Sequence[Dim], offset: Dim) -> Value:
    """offset + the sum of index * stride over the dims, `[size...]`."""
    total = call.broadcast(call.scalar(offset, I64), ())
    for i, (count, step) in enumerate(zip(size, stride, strict=True)):
        numbers = call.emit("iota", size=count, dtype=I64)
        column = call.reshape(numbers, (count, *(1,) * (len(size) - i - 1)))
        total = call.emit("add", total, call.emit("mul", column, call.scalar(step, I64)))
    return call.broadcast(total, tuple(size))
