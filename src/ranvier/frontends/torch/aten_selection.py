"""Sorting, selection and search of ATen."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from ranvier.frontends.torch.call import Call, axis_of
from ranvier.frontends.torch.dtypes import Operand
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import I32, I64
from ranvier.ir.graph import Value


@aten("topk")
def topk(
    call: Call, x: Value, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, ...]:
    """Sorted in every case, which `sorted=False` allows."""
    if not x.rank:
        return x, call.scalar(0, I64)
    return call.emit_all("top_k", x, k=k, axis=axis_of(dim, x.rank), largest=largest)


@aten("sort", "sort.stable")
def sort(
    call: Call, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> tuple[Value, ...]:
    if not x.rank:
        return x, call.scalar(0, I64)
    return call.emit_all("sort", x, axis=axis_of(dim, x.rank), descending=descending)


@aten("argsort", "argsort.stable")
def argsort(
    call: Call, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Value:
    return sort(call, x, dim, descending)[1]


@aten("kthvalue")
def kthvalue(
    call: Call, x: Value, k: Dim, dim: int = -1, keepdim: bool = False
) -> tuple[Value, ...]:
    if not x.rank:
        return x, call.scalar(0, I64)
    axis = axis_of(dim, x.rank)
    ordered = call.emit_all("sort", x, axis=axis, descending=False)
    kth = (call.slice(part, axis, k - 1, k) for part in ordered)
    return tuple(_kept(call, part, axis, keepdim) for part in kth)


def _kept(call: Call, x: Value, axis: int, keepdim: bool) -> Value:
    return x if keepdim else call.reshape(x, (*x.shape[:axis], *x.shape[axis + 1 :]))


@aten("median.dim")
def median(call: Call, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
    """The lower of two medians; NaN, and its first position, where there is one."""
    if not x.rank:
        return x, call.scalar(0, I64)
    axis = axis_of(dim, x.rank)
    values, positions = kthvalue(call, x, (x.shape[axis] + 1) // 2, axis, keepdim)
    if not x.dtype.is_float:
        return values, positions
    is_nan = call.emit("is_nan", x)
    some = call.emit("reduce_any", is_nan, axes=(axis,), keepdims=keepdim)
    first = call.emit("arg_max", call.cast(is_nan, I32), axis=axis, keepdims=keepdim)
    nan = call.scalar(float("nan"), x.dtype)
    return (
        call.emit("where", some, nan, values),
        call.emit("where", some, first, positions),
    )


@aten("nanmedian.dim")
def nanmedian(call: Call, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
    """The lower median of the numbers; NaN is sorted behind them."""
    if not x.rank or not x.dtype.is_float:
        return median(call, x, dim, keepdim)
    axis = axis_of(dim, x.rank)
    ordered = call.emit_all("sort", x, axis=axis, descending=False)
    numbers = call.cast(call.emit("equal", x, x), I64)
    count = call.emit("reduce_sum", numbers, axes=(axis,), keepdims=True)
    middle = call.emit("div", call.emit("sub", count, call.scalar(1, I64)), call.scalar(2, I64))
    middle = call.emit("maximum", middle, call.scalar(0, I64))
    found = (call.emit("gather_elements", part, middle, axis=axis) for part in ordered)
    return tuple(_kept(call, part, axis, keepdim) for part in found)


@aten("median")
def median_of_all(call: Call, x: Value) -> Value:
    return median(call, call.reshape(x, (product(x.shape),)), 0)[0]


@aten("nanmedian")
def nanmedian_of_all(call: Call, x: Value) -> Value:
    return nanmedian(call, call.reshape(x, (product(x.shape),)), 0)[0]


@aten("searchsorted.Tensor", "searchsorted.Scalar")
def searchsorted(
    call: Call,
    sorted_sequence: Value,
    x: Operand,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    """How many elements of the sequence lie before each value."""
    if sorter is not None:
        axis = sorted_sequence.rank - 1
        sorted_sequence = call.emit("gather_elements", sorted_sequence, sorter, axis=axis)
    sequence, values = call.promoted(sorted_sequence, x)
    after = right if side is None else side == "right"
    *lead, length = sequence.shape
    if len(lead):  # one sequence per row of values
        sequence = call.reshape(sequence, (*lead, 1, length))
    column = call.reshape(values, (*values.shape, 1))
    return _count_before(call, sequence, column, after)


@aten("bucketize.Tensor", "bucketize.Scalar")
def bucketize(
    call: Call, x: Operand, boundaries: Value, out_int32: bool = False, right: bool = False
) -> Value:
    values, bounds = call.promoted(x, boundaries)
    return _count_before(call, bounds, call.reshape(values, (*values.shape, 1)), right)


def _count_before(call: Call, sequence: Value, values: Value, right: bool) -> Value:
    """NaN lies behind all numbers."""
    before = call.emit("less_equal" if right else "less", sequence, values)
    if values.dtype.is_float:
        before = call.emit("logical_or", before, call.emit("not_equal", values, values))
    counted = call.cast(before, call.dtype)
    return call.emit("reduce_sum", counted, axes=(counted.rank - 1,), keepdims=False)


@aten("isin.Tensor_Tensor")
def isin(
    call: Call,
    elements: Value,
    test_elements: Value,
    assume_unique: bool = False,
    invert: bool = False,
) -> Value:
    a, b = call.promoted(elements, test_elements)
    flat = call.reshape(b, (product(b.shape),))
    same = call.emit("equal", call.reshape(a, (*a.shape, 1)), flat)
    found = call.emit("reduce_any", same, axes=(same.rank - 1,), keepdims=False)
    return call.emit("logical_not", found) if invert else found


@aten("histc")
def histc(call: Call, x: Value, bins: int = 100, low: float = 0, high: float = 0) -> Value:
    """Bins of equal width; equal bounds are the extremes of the data."""
    flat = call.reshape(x, (product(x.shape),))
    ends = [call.scalar(bound, x.dtype) for bound in (low, high)]
    if low == high:
        ends = [
            call.emit(op, flat, axes=(0,), keepdims=False) for op in ("reduce_min", "reduce_max")
        ]
    start, end = ends
    if low == high:  # of one number: a width of 2 around it
        flat_range = call.emit("equal", start, end)
        one, zero = call.scalar(1, x.dtype), call.scalar(0, x.dtype)
        spread = call.emit("where", flat_range, one, zero)
        start, end = call.emit("sub", start, spread), call.emit("add", end, spread)
    count = call.scalar(bins, x.dtype)
    share = call.emit("div", call.emit("sub", flat, start), call.emit("sub", end, start))
    place = call.cast(call.emit("floor", call.emit("mul", share, count)), I64)
    place = call.emit("minimum", place, call.scalar(bins - 1, I64))
    inside = call.emit(
        "logical_and",
        call.emit("greater_equal", flat, start),
        call.emit("less_equal", flat, end),
    )
    numbers = call.reshape(call.emit("iota", size=bins, dtype=I64), (bins, 1))
    member = call.emit("logical_and", call.emit("equal", place, numbers), inside)
    return call.emit("reduce_sum", call.cast(member, x.dtype), axes=(1,), keepdims=False)
