"""Gathers and scatters."""

from __future__ import annotations

from ranvier.frontends.onnx.call import Call, axis_of, statics
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import product
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


@onnx_operator("Gather")
def gather(call: Call, x: Value, indices: Value, *, axis: int = 0) -> Value:
    """Slices of a dim."""
    return call.emit("gather", x, indices, axis=axis_of(axis, x.rank))


@onnx_operator("GatherElements")
def gather_elements(call: Call, x: Value, indices: Value, *, axis: int = 0) -> Value:
    """Elements of a dim."""
    return call.emit("gather_elements", x, indices, axis=axis_of(axis, x.rank))


@onnx_operator("GatherND")
def gather_nd(call: Call, x: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    """Slices at places that are given by several coordinates."""
    return call.emit("gather_nd", x, indices, batch_dims=batch_dims)


@onnx_operator("ScatterElements", "Scatter")
def scatter_elements(
    call: Call, x: Value, indices: Value, updates: Value, *, axis: int = 0, reduction: str = "none"
) -> Value:
    """x with elements of a dim replaced by, or combined with, updates."""
    along = axis_of(axis, x.rank)
    return call.emit("scatter_elements", x, indices, updates, axis=along, reduction=reduction)


@onnx_operator("ScatterND")
def scatter_nd(
    call: Call, x: Value, indices: Value, updates: Value, *, reduction: str = "none"
) -> Value:
    """x with slices replaced by, or combined with, updates."""
    if reduction == "none":
        return call.emit("scatter_nd", x, indices, updates)
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        raise Refusal("the number of its coordinates is symbolic")
    sizes = statics(x.shape, "a size of its data")
    outer, inner = sizes[:depth], product(sizes[depth:])
    strides = call.vector([product(outer[i + 1 :]) for i in range(depth)])
    extents = call.vector(outer)
    where = call.cast(indices, I64)
    where = call.where(call.number("less", where, 0), call.emit("add", where, extents), where)
    row = call.reduce("sum", call.emit("mul", where, strides), (where.rank - 1,))
    count = product(row.shape)
    first = call.number("mul", call.reshape(row, (count, 1)), inner)
    place = call.emit("add", first, call.iota(inner, axis=1, rank=2))
    flat = call.emit(
        "scatter_elements",
        call.reshape(x, (product(sizes),)),
        call.reshape(place, (count * inner,)),
        call.reshape(updates, (count * inner,)),
        axis=0,
        reduction=reduction,
    )
    return call.reshape(flat, x.shape)


@onnx_operator("TensorScatter")
def tensor_scatter(
    call: Call, cache: Value, update: Value, write_indices: Value | None = None,
    *, axis: int = -2, mode: str = "linear",
) -> Value:  # fmt: skip
    """A cache with an update written into a dim from a position of every batch on."""
    along = axis_of(axis, cache.rank)
    rank, length, extent = cache.rank, update.shape[along], cache.shape[along]
    place = call.iota(length, axis=along, rank=rank)
    if write_indices is not None:
        first = call.reshape(call.cast(write_indices, I64), (cache.shape[0], *(1,) * (rank - 1)))
        place = call.emit("add", place, first)
    if mode == "circular":
        place = call.emit("remainder", place, call.scalar(extent, I64))
    place = call.broadcast(place, update.shape)
    return call.emit("scatter_elements", cache, place, update, axis=along, reduction="none")
