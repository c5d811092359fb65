"""Selection: the largest, the non-zero and the unique elements."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call, axis_of, static
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Value

MOST_COLUMNS = 64
"""Rows are sorted column by column, up to this number."""


@onnx_operator("TopK")
def top_k_attribute(call: Call, x: Value, *, k: int, axis: int = -1) -> tuple[Value, ...]:
    """k as an attribute, before operator set 10."""
    return call.emit_all("top_k", x, k=k, axis=axis_of(axis, x.rank), largest=True)


@onnx_operator("TopK", since=10)
def top_k(
    call: Call, x: Value, k: Value, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Value, ...]:
    """The k largest or smallest elements of a dim, and where they lie."""
    along = axis_of(axis, x.rank)
    count = call.size(k, call.stated(along), x.shape[along])
    return call.emit_all("top_k", x, k=count, axis=along, largest=bool(largest))


# Elements that are true ---------------------------------------------------------------------------
def true_positions(call: Call, mask: Value, stated: Dim | None) -> Value:
    """The row-major positions at which a mask is true; `stated` is what the model says of them."""
    total = call.reduce("sum", call.cast(mask, I64), tuple(range(mask.rank)))
    count = call.size(total, stated, product(mask.shape))
    return call.emit("nonzero", mask, count=count)


def _known_positions(call: Call, mask: Value) -> Value | None:
    known = call.plain(mask)
    if known is None:
        return None
    return call.vector([i for i, element in enumerate(known) if element])


@onnx_operator("NonZero")
def non_zero(call: Call, x: Value) -> Value:
    """The coordinates of all elements that are not zero, one row per dim."""
    mask = call.reshape(call.cast(x, BOOL), (product(x.shape),))
    places = _known_positions(call, mask)
    if places is None:
        places = true_positions(call, mask, call.stated(1))
    return coordinates(call, places, x.shape, 0)


def coordinates(call: Call, places: Value, shape: Sequence[Dim], axis: int) -> Value:
    """Row-major positions as coordinates, stacked along a new dim."""
    count = places.shape[0]
    parts: list[Value] = []
    for size in reversed(shape):
        extent = call.scalar(size, I64)
        parts.insert(0, call.emit("remainder", places, extent))
        places = call.emit("floor_div", places, extent)
    if not parts:
        return call.full((0, count), 0, I64)
    row = (1, count) if axis == 0 else (count, 1)
    return call.concat([call.reshape(part, row) for part in parts], axis)


@onnx_operator("Compress")
def compress(call: Call, x: Value, condition: Value, *, axis: int | None = None) -> Value:
    """Slices of a dim, or elements of all, where a condition holds."""
    data = call.reshape(x, (product(x.shape),)) if axis is None else x
    along = 0 if axis is None else axis_of(axis, x.rank)
    places = _known_positions(call, condition)
    if places is None:
        places = true_positions(call, condition, call.stated(along))
    return call.emit("gather", data, places, axis=along)


# Unique elements ----------------------------------------------------------------------------------
@onnx_operator("Unique")
def unique(call: Call, x: Value, *, axis: int | None = None, sorted: int = 1) -> tuple[Value, ...]:
    """(elements, where each is first, which of them every element is, how often each is there)."""
    along = 0 if axis is None else axis_of(axis, x.rank)
    data = call.reshape(x, (product(x.shape),)) if axis is None else x
    size = data.shape[along]
    rows = data
    if axis is not None:
        rows = call.transpose(data, (along, *(i for i in range(data.rank) if i != along)))
    rows = call.reshape(rows, (size, product(rows.shape[1:])))
    order = _row_order(call, rows)
    ranked = call.emit("gather", rows, order, axis=0)
    rank = _group_numbers(call, ranked)
    starts = call.emit("equal", rank, call.emit("add", _before(call, rank), call.scalar(1, I64)))
    heads = true_positions(call, starts, call.stated(along))
    count = heads.shape[0]
    first = call.emit("gather", order, heads, axis=0)
    inverse = _scatter(call, call.full((size,), 0, I64), order, rank, "none")
    ones = call.full((size,), 1, I64)
    counts = _scatter(call, call.full((count,), 0, I64), rank, ones, "add")
    if not sorted:
        by_place = call.emit_all("sort", first, axis=0, descending=False)[1]
        first = call.emit("gather", first, by_place, axis=0)
        counts = call.emit("gather", counts, by_place, axis=0)
        renumbered = _scatter(call, call.full((count,), 0, I64), by_place, call.iota(count), "none")
        inverse = call.emit("gather", renumbered, inverse, axis=0)
    return call.emit("gather", data, first, axis=along), first, inverse, counts


def _row_order(call: Call, rows: Value) -> Value:
    """Positions that sort rows, the first column counting most; equal rows keep their order."""
    width = static(rows.shape[1], "the number of elements that are compared")
    if width > MOST_COLUMNS:
        raise Refusal(f"compares slices of {width} elements; at most {MOST_COLUMNS} are supported")
    order = call.iota(rows.shape[0])
    for column in reversed(range(width)):
        key = call.reshape(call.slice(rows, 1, column, column + 1), (rows.shape[0],))
        by_key = call.emit_all(
            "sort", call.emit("gather", key, order, axis=0), axis=0, descending=False
        )[1]
        order = call.emit("gather", order, by_key, axis=0)
    return order


def _group_numbers(call: Call, ranked: Value) -> Value:
    """0 for the first sorted row and those equal to it, 1 for the next kind, ..."""
    size = ranked.shape[0]
    former = call.slice(call.pad(ranked, {0: (1, 0)}), 0, 0, size)
    differs = call.reduce("any", call.emit("not_equal", ranked, former), (1,))
    is_first = call.number("equal", call.iota(size), 0)
    fresh = call.where(is_first, 0, call.cast(differs, I64))
    return call.emit("cumsum", fresh, axis=0)


def _before(call: Call, rank: Value) -> Value:
    """The number in front of every number; -1 in front of the first."""
    return call.slice(call.pad(rank, {0: (1, 0)}, -1), 0, 0, rank.shape[0])


def _scatter(call: Call, data: Value, places: Value, updates: Value, reduction: str) -> Value:
    return call.emit("scatter_elements", data, places, updates, axis=0, reduction=reduction)
