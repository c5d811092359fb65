"""ATen operators that write, or add up, at positions given by a tensor."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier.frontends.torch.call import Call, Refusal, axis_of
from ranvier.frontends.torch.dtypes import Operand, Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import BOOL, I64, DType
from ranvier.ir.graph import Value

_REDUCTIONS = {"sum": "add", "mean": "add", "add": "add", "prod": "mul", "multiply": "mul",
               "amax": "max", "amin": "min"}  # fmt: skip


@aten("scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce")
def scatter(
    call: Call,
    x: Value,
    dim: int,
    index: Value,
    src: Value | None = None,
    value: Operand | None = None,
    reduce: str | None = None,
) -> Value:
    reduction = "none" if reduce is None else _REDUCTIONS[reduce]
    updates = src if src is not None else _filled(call, x, index, value)
    return _scatter(call, x, dim, index, updates, reduction)


def _filled(call: Call, x: Value, index: Value, value: Operand | None) -> Value:
    if value is None:
        raise Refusal("value is missing")
    return call.broadcast(call.tensor(value, x.dtype), index.shape)


def _scatter(call: Call, x: Value, dim: int, index: Value, src: Value, reduction: str) -> Value:
    if not x.rank:
        return _scatter_into_scalar(call, x, index, src, reduction)
    for i, (size, wanted) in enumerate(zip(src.shape, index.shape, strict=True)):
        if size != wanted:
            src = call.slice(src, i, 0, wanted)
    axis = axis_of(dim, x.rank)
    return call.emit("scatter_elements", x, index, src, axis=axis, reduction=reduction)


def _scatter_into_scalar(call: Call, x: Value, index: Value, src: Value, reduction: str) -> Value:
    """PyTorch takes a rank-0 tensor for one of size 1."""
    operands = (call.reshape(v, (product(v.shape),)) for v in (x, index, src))
    written = call.emit("scatter_elements", *operands, axis=0, reduction=reduction)
    return call.reshape(written, ())


@aten("scatter_add")
def scatter_add(call: Call, x: Value, dim: int, index: Value, src: Value) -> Value:
    return _scatter(call, x, dim, index, src, "add")


@aten("scatter_reduce.two")
def scatter_reduce(
    call: Call,
    x: Value,
    dim: int,
    index: Value,
    src: Value,
    reduce: str,
    include_self: bool = True,
) -> Value:
    if not include_self:
        start = call.broadcast(call.scalar(_neutral(reduce, x.dtype), x.dtype), index.shape)
        x = _scatter(call, x, dim, index, start, "none")
    total = _scatter(call, x, dim, index, src, _REDUCTIONS[reduce])
    if reduce != "mean":
        return total
    counts = call.broadcast(call.scalar(1, x.dtype), x.shape)
    ones = call.broadcast(call.scalar(1, x.dtype), index.shape)
    if not include_self:
        zeros = call.broadcast(call.scalar(0, x.dtype), index.shape)
        counts = _scatter(call, counts, dim, index, zeros, "none")
    counts = _scatter(call, counts, dim, index, ones, "add")
    counts = call.emit("maximum", counts, call.scalar(1, x.dtype))
    return call.emit("div" if x.dtype.is_float else "floor_div", total, counts)


def _neutral(reduce: str, dtype: DType) -> Scalar:
    """The number that changes nothing in a reduction."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    sign = -1 if reduce == "amax" else 1
    if dtype.is_float:
        return sign * float("inf")
    limits: Any = np.iinfo(dtype.storage)
    return int(limits.min if sign < 0 else limits.max)


def _along(call: Call, index: Value, axis: int, shape: tuple[Dim, ...]) -> Value:
    """Positions `[n]` along one dim as positions of the whole shape."""
    column = call.reshape(index, (product(index.shape), *(1,) * (len(shape) - axis - 1)))
    return call.broadcast(column, shape)


@aten("index_add")
def index_add(
    call: Call, x: Value, dim: int, index: Value, source: Value, alpha: Scalar = 1
) -> Value:
    axis = axis_of(dim, x.rank)
    if alpha != 1:
        source = call.emit("mul", source, call.scalar(alpha, source.dtype))
    shape = source.shape if x.rank else (1,)
    positions = _along(call, index, axis, shape) if x.rank else call.reshape(index, (1,))
    return _scatter(call, x, dim, positions, source, "add")


@aten("index_reduce")
def index_reduce(
    call: Call,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    include_self: bool = True,
) -> Value:
    axis = axis_of(dim, x.rank)
    shape = source.shape if x.rank else (1,)
    positions = _along(call, index, axis, shape) if x.rank else call.reshape(index, (1,))
    return scatter_reduce(call, x, dim, positions, source, reduce, include_self)


@aten("put")
def put(call: Call, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    flat, count = call.reshape(x, (product(x.shape),)), product(index.shape)
    positions = call.reshape(index, (count,))
    extent = call.scalar(product(x.shape), I64)
    below = call.emit("less", positions, call.scalar(0, I64))
    positions = call.emit("where", below, call.emit("add", positions, extent), positions)
    updates, reduction = call.reshape(source, (count,)), "add" if accumulate else "none"
    written = call.emit("scatter_elements", flat, positions, updates, axis=0, reduction=reduction)
    return call.reshape(written, x.shape)


@aten("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    call: Call,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Value | None, ...]:
    """Sums, means (mode 1) or maxima (mode 2) of the rows that the indices of each bag name."""
    for i, what in enumerate(("bag numbers", "bag sizes", "positions of maxima"), start=1):
        call.require_unused(i, what)
    bags, width = call.shape
    count = indices.shape[0]
    rows = call.emit("gather", weight, indices, axis=0)
    if per_sample_weights is not None:
        rows = call.emit("mul", rows, call.reshape(per_sample_weights, (count, 1)))
    if include_last_offset:
        offsets = call.slice(offsets, 0, 0, bags)
    bag = _bag_of_every_row(call, offsets, count)
    kept = call.broadcast(call.scalar(True, BOOL), (count,))
    if padding_idx >= 0:
        kept = call.emit("not_equal", indices, call.scalar(padding_idx, indices.dtype))
    places = call.broadcast(call.reshape(bag, (count, 1)), (count, width))
    result = _bags(call, rows, call.reshape(kept, (count, 1)), places, mode)
    return result, None, None, None


def _bag_of_every_row(call: Call, offsets: Value, count: Dim) -> Value:
    """The last bag that begins at or before each of `count` rows."""
    rows = call.reshape(call.emit("iota", size=count, dtype=offsets.dtype), (count, 1))
    begun = call.cast(call.emit("less_equal", offsets, rows), I64)
    number = call.emit("reduce_sum", begun, axes=(1,), keepdims=False)
    return call.emit("sub", number, call.scalar(1, I64))


def _bags(call: Call, rows: Value, kept: Value, places: Value, mode: int) -> Value:
    """Kept rows `[n, width]` combined at their places in `[bags, width]`; 0 where none is."""
    dtype = rows.dtype
    zero, one, lowest = (call.scalar(number, dtype) for number in (0.0, 1.0, float("-inf")))
    base = call.broadcast(zero, call.shape)
    counts = call.emit("where", kept, one, zero)
    counts = call.broadcast(counts, places.shape)
    reduction, neutral = ("max", lowest) if mode == 2 else ("add", zero)
    rows = call.emit("where", kept, rows, neutral)
    start = call.broadcast(neutral, call.shape)
    result = call.emit("scatter_elements", start, places, rows, axis=0, reduction=reduction)
    if mode == 0:
        return result
    counts = call.emit("scatter_elements", base, places, counts, axis=0, reduction="add")
    if mode == 1:
        return call.emit("div", result, call.emit("maximum", counts, one))
    return call.emit("where", call.emit("equal", counts, zero), zero, result)
