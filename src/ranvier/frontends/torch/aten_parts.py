"""ATen operators that replace or read slices, diagonals and windows of a tensor."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from ranvier.frontends.torch.aten_views import slice_bound
from ranvier.frontends.torch.call import Call, axis_of, static
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, maximum
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value

_MANY_TAPS = 16
"""Windows of more elements are gathered instead of joined from slices."""


@aten("slice_scatter")
def slice_scatter(
    call: Call,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: Dim = 1,
) -> Value:
    """`x` with `src` in place of its slice."""
    axis, stride = axis_of(dim, x.rank), static(step, "step")
    size, part = x.shape[axis], call.cast(src, x.dtype)
    first = slice_bound(0 if start is None else start, size)
    if stride == 1:
        return _replace(call, x, part, axis, first)
    last = maximum(slice_bound(size if end is None else end, size), first)
    places = call.emit("iota", size=size, dtype=I64)
    from_first = call.emit("sub", places, call.scalar(first, I64))
    step_value, zero = call.scalar(stride, I64), call.scalar(0, I64)
    on_step = call.emit("equal", call.emit("remainder", from_first, step_value), zero)
    inside = call.emit(
        "logical_and",
        call.emit("greater_equal", from_first, zero),
        call.emit("less", places, call.scalar(last, I64)),
    )
    nearest = call.emit("maximum", call.emit("floor_div", from_first, step_value), zero)
    nearest = call.emit("minimum", nearest, call.scalar(part.shape[axis] - 1, I64))
    spread = call.emit("gather", part, nearest, axis=axis)
    kept = call.emit("logical_and", on_step, inside)
    return call.emit("where", _along(call, kept, axis, x.rank), spread, x)


def _along(call: Call, x: Value, axis: int, rank: int) -> Value:
    """A vector as a tensor that broadcasts along all dims but one."""
    return call.reshape(x, (x.shape[0], *(1,) * (rank - axis - 1)))


def _replace(call: Call, x: Value, part: Value, axis: int, first: Dim) -> Value:
    size, last = x.shape[axis], first + part.shape[axis]
    pieces = [part]
    if first != 0:
        pieces.insert(0, call.slice(x, axis, 0, first))
    if last != size:
        pieces.append(call.slice(x, axis, last, size))
    return part if len(pieces) == 1 else call.emit("concat", *pieces, axis=axis)


@aten("select_scatter")
def select_scatter(call: Call, x: Value, src: Value, dim: int, index: Dim) -> Value:
    axis = axis_of(dim, x.rank)
    part = call.reshape(call.cast(src, x.dtype), (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return _replace(call, x, part, axis, slice_bound(index, x.shape[axis]))


@aten("diagonal", "diagonal_copy")
def diagonal(call: Call, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The diagonal is every (columns + 1)-th element of the flattened matrix."""
    a, b = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    rest = [i for i in range(x.rank) if i not in (a, b)]
    matrix = call.transpose(x, (*rest, a, b))
    rows, columns = matrix.shape[-2:]
    length = call.shape[-1]
    flat = call.reshape(matrix, (*matrix.shape[:-2], rows * columns))
    start = offset if offset >= 0 else -offset * columns
    if isinstance(columns, int) and isinstance(length, int):
        stop = start + (length - 1) * (columns + 1) + 1 if length else start
        return call.slice(flat, flat.rank - 1, start, stop, columns + 1)
    numbers = call.emit("iota", size=length, dtype=I64)
    steps = call.emit("mul", numbers, call.scalar(columns + 1, I64))
    places = call.emit("add", steps, call.scalar(start, I64))
    return call.emit("gather", flat, places, axis=flat.rank - 1)


@aten("diagonal_scatter")
def diagonal_scatter(
    call: Call, x: Value, src: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """`x` with `src` in place of a diagonal."""
    a, b = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    rest = [i for i in range(x.rank) if i not in (a, b)]
    order = (*rest, a, b)
    matrix, part = call.transpose(x, order), call.cast(src, x.dtype)
    rows, columns = (call.emit("iota", size=size, dtype=I64) for size in matrix.shape[-2:])
    place = call.emit("sub", rows, call.scalar(max(0, -offset), I64))
    place = call.emit("maximum", place, call.scalar(0, I64))
    place = call.emit("minimum", place, call.scalar(part.shape[-1] - 1, I64))
    spread = call.emit("gather", part, place, axis=part.rank - 1)
    wanted = call.emit("add", rows, call.scalar(offset, I64))
    on_diagonal = call.emit("equal", columns, call.reshape(wanted, (*wanted.shape, 1)))
    column = call.reshape(spread, (*spread.shape, 1))
    written = call.emit("where", on_diagonal, column, matrix)
    return call.transpose(written, [order.index(i) for i in range(x.rank)])


@aten("unfold")
def unfold(call: Call, x: Value, dimension: int, size: int, step: int) -> Value:
    """Windows along one dim, as the last dim: tap t is every step-th element from t on."""
    if not x.rank:
        return call.reshape(x, call.shape)
    axis = axis_of(dimension, x.rank)
    count = call.shape[axis]
    if size > _MANY_TAPS:
        return _unfold_by_positions(call, x, axis, count, size, step)
    taps = [call.slice(x, axis, t, t + (count - 1) * step + 1, step) for t in range(size)]
    columns = [call.reshape(tap, (*tap.shape, 1)) for tap in taps]
    return columns[0] if size == 1 else call.emit("concat", *columns, axis=x.rank)


def _unfold_by_positions(
    call: Call, x: Value, axis: int, count: Dim, size: int, step: int
) -> Value:
    """Window i, tap t reads i * step + t: no code of its own for every tap."""
    starts = call.emit("iota", size=count, dtype=I64)
    starts = call.emit("mul", starts, call.scalar(step, I64))
    taps = call.emit("iota", size=size, dtype=I64)
    places = call.emit("add", call.reshape(starts, (count, 1)), taps)
    windows = call.emit("gather", x, places, axis=axis)
    order = [i for i in range(windows.rank) if i != axis + 1]
    return call.transpose(windows, (*order, axis + 1))
