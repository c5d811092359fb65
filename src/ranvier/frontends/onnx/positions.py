"""Views whose parameters are computed at run time: gathers from computed positions."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


def per_axis(
    call: Call, given: Value, axes: Value | Sequence[int], rank: int, missing: int
) -> list[Value]:
    """One number per dim as rank-0 values, out of numbers for some axes and `missing` for others.

    `axes` may be known only at run time.
    """
    values = call.cast(given, I64)
    if not isinstance(axes, Value):
        found = {axis: i for i, axis in enumerate(axes)}
        return [
            call.reshape(call.slice(values, 0, found[i], found[i] + 1), ())
            if i in found
            else call.scalar(missing, I64)
            for i in range(rank)
        ]
    named = call.cast(axes, I64)
    named = call.where(call.number("less", named, 0), call.number("add", named, rank), named)
    result = []
    for i in range(rank):
        here = call.number("equal", named, i)
        value = call.reduce("sum", call.where(here, values, 0), (0,))
        is_given = call.reduce("any", here, (0,))
        result.append(call.where(is_given, value, missing))
    return result


def slice_positions(call: Call, start: Value, step: Value, size: Dim, count: Dim) -> Value:
    """start, start + step, ... (`count` of them) of a dim, with ONNX's rules for the start."""
    extent = call.scalar(size, I64)
    start = _from_front(call, start, extent)
    forward = call.number("greater", step, 0)
    last = call.number("sub", extent, 1)
    start = call.number("maximum", start, 0)
    start = call.emit("minimum", start, call.emit("where", forward, extent, last))
    return call.emit("add", start, call.emit("mul", call.iota(count), step))


def slice_count(call: Call, start: Value, end: Value, step: Value, size: Dim) -> Value:
    """How many elements a slice has, with ONNX's rules for its bounds."""
    extent = call.scalar(size, I64)
    forward = call.number("greater", step, 0)
    low = call.emit("where", forward, call.scalar(0, I64), call.scalar(-1, I64))
    high = call.emit("where", forward, extent, call.number("sub", extent, 1))
    first = call.number("maximum", _from_front(call, start, extent), 0)
    first = call.emit("minimum", first, high)
    last = call.emit("maximum", _from_front(call, end, extent), low)
    last = call.emit("minimum", last, high)
    span = call.emit("sub", last, first)
    span = call.emit("where", forward, span, call.emit("neg", span))
    stride = call.emit("abs", step)
    rounded = call.emit("add", span, call.number("sub", stride, 1))
    return call.emit("floor_div", call.number("maximum", rounded, 0), stride)


def _from_front(call: Call, bound: Value, extent: Value) -> Value:
    """A bound that counts from the end when it is negative."""
    return call.where(call.number("less", bound, 0), call.emit("add", bound, extent), bound)


def padded(
    call: Call, x: Value, axis: int, low: Value, count: Dim, mode: str, fill: Value
) -> Value:
    """`x` with `low` elements more in front of a dim, `count` elements in all."""
    size = x.shape[axis]
    place = call.emit("sub", call.iota(count), low)
    last = call.scalar(size - 1, I64)
    inside = call.emit(
        "logical_and", call.number("greater_equal", place, 0), call.emit("less_equal", place, last)
    )
    gathered = call.emit("gather", x, padding_source(call, place, size, mode), axis=axis)
    if mode != "constant":
        return gathered
    shape = (*(1,) * axis, count, *(1,) * (x.rank - axis - 1))
    return call.emit("where", call.reshape(inside, shape), gathered, fill)


def padding_source(call: Call, place: Value, size: Dim, mode: str) -> Value:
    """The element that a place inside or outside of a dim shows."""
    last = call.scalar(size - 1, I64)
    if mode == "wrap":
        return call.emit("remainder", place, call.scalar(size, I64))
    if mode == "reflect":
        period = call.number("maximum", call.number("mul", last, 2), 1)
        folded = call.emit("remainder", place, period)
        return call.emit("minimum", folded, call.emit("sub", period, folded))
    return call.emit("minimum", call.number("maximum", place, 0), last)
