"""Running products, extremes and sums of logarithms of ATen.

A scan by doubling (Hillis and Steele, CACM 29, 1986): after the step of width w, element i holds
the combination of the elements i - 2w + 1 .. i. Positions of symbolic sizes need their bound.
"""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Callable

from ranvier.frontends.torch.call import Call, Refusal, axis_of
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, bounds
from ranvier.ir.dtype import I64, DType
from ranvier.ir.graph import Value

Values = tuple[Value, ...]
Combine = Callable[[Values, Values], Values]


def _scan(call: Call, values: Values, axis: int, combine: Combine) -> Values:
    """`combine(earlier, later)` over every prefix of one dim."""
    size = values[0].shape[axis]
    positions = call.emit("iota", size=size, dtype=I64)
    column = (size, *(1,) * (values[0].rank - axis - 1))
    width = 1
    while width < _most(size):
        before = call.emit("sub", positions, call.scalar(width, I64))
        reached = call.emit("greater_equal", before, call.scalar(0, I64))
        before = call.emit("maximum", before, call.scalar(0, I64))
        earlier = tuple(call.emit("gather", v, before, axis=axis) for v in values)
        inside = call.reshape(reached, column)
        combined = combine(earlier, values)
        pairs = zip(combined, values, strict=True)
        values = tuple(call.emit("where", inside, new, old) for new, old in pairs)
        width *= 2
    return values


def _most(size: Dim) -> int:
    _, high = bounds(size)
    if high is None:
        raise Refusal(f"runs along the size {size}, which has no bound: give its Dim a max=")
    return high


@aten("cumprod")
def cumprod(call: Call, x: Value, dim: int, dtype: DType | None = None) -> Value:
    x = call.cast(x, call.dtype)
    if not x.rank:
        return x
    (result,) = _scan(
        call, (x,), axis_of(dim, x.rank), lambda a, b: (call.emit("mul", a[0], b[0]),)
    )
    return result


@aten("logcumsumexp")
def logcumsumexp(call: Call, x: Value, dim: int) -> Value:
    if not x.rank:
        return x
    (result,) = _scan(call, (x,), axis_of(dim, x.rank), lambda a, b: (_log_sum(call, a[0], b[0]),))
    return result


def _log_sum(call: Call, a: Value, b: Value) -> Value:
    """log(exp(a) + exp(b)): max + log1p(exp(min - max)), and the maximum where it is infinite."""
    high, low = call.emit("maximum", a, b), call.emit("minimum", a, b)
    rest = call.emit("log1p", call.emit("exp", call.emit("sub", low, high)))
    infinite = call.emit("is_inf", high)
    return call.emit("where", infinite, high, call.emit("add", high, rest))


@aten("cummax")
def cummax(call: Call, x: Value, dim: int) -> Values:
    return _extreme(call, x, dim, "greater_equal")


@aten("cummin")
def cummin(call: Call, x: Value, dim: int) -> Values:
    return _extreme(call, x, dim, "less_equal")


def _extreme(call: Call, x: Value, dim: int, comparison: str) -> Values:
    """The extreme of every prefix and its last position; NaN is more extreme than any number."""
    if not x.rank:
        return x, call.scalar(0, I64)
    axis = axis_of(dim, x.rank)
    positions = call.emit("iota", size=x.shape[axis], dtype=I64)
    column = call.reshape(positions, (x.shape[axis], *(1,) * (x.rank - axis - 1)))

    def combine(a: Values, b: Values) -> Values:
        newer = call.emit(comparison, b[0], a[0])
        if x.dtype.is_float:
            both = call.emit("logical_and", newer, call.emit("equal", a[0], a[0]))
            newer = call.emit("logical_or", both, call.emit("is_nan", b[0]))
        pairs = zip(a, b, strict=True)
        return tuple(call.emit("where", newer, after, before) for before, after in pairs)

    return _scan(call, (x, call.broadcast(column, x.shape)), axis, combine)
