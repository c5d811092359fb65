"""ATen operators that reduce dims."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

import math
from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, axes_of, axis_of
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Polynomial, product
from ranvier.ir.dtype import I64, DType
from ranvier.ir.graph import Value

Axes = int | Sequence[int] | None


def _reduce(call: Call, op: str, x: Value, dim: Axes, keepdim: bool) -> Value:
    """A reduction; over no dims it is the identity."""
    axes = axes_of(dim, x.rank)
    return call.emit(op, x, axes=axes, keepdims=keepdim) if axes else x


def _summable(call: Call, x: Value, dtype: DType | None) -> Value:
    """`x` in the element type that sums and products are taken in: integers become i64."""
    if dtype is not None:
        return call.cast(x, dtype)
    return x if x.dtype.is_float else call.cast(x, I64)


@aten("sum", "sum.dim_IntList")
def sum_(
    call: Call, x: Value, dim: Axes = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    return _reduce(call, "reduce_sum", _summable(call, x, dtype), dim, keepdim)


@aten("prod", "prod.dim_int")
def prod(
    call: Call, x: Value, dim: Axes = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    return _reduce(call, "reduce_prod", _summable(call, x, dtype), dim, keepdim)


@aten("mean", "mean.dim")
def mean(
    call: Call, x: Value, dim: Axes = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    return _reduce(call, "reduce_mean", call.cast(x, dtype or x.dtype), dim, keepdim)


@aten("amax", "max")
def amax(call: Call, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
    return _reduce(call, "reduce_max", x, dim, keepdim)


@aten("amin", "min")
def amin(call: Call, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
    return _reduce(call, "reduce_min", x, dim, keepdim)


@aten("max.dim")
def max_dim(call: Call, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return amax(call, x, dim, keepdim), _position(call, "arg_max", x, dim, keepdim)


@aten("min.dim")
def min_dim(call: Call, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return amin(call, x, dim, keepdim), _position(call, "arg_min", x, dim, keepdim)


@aten("aminmax")
def aminmax(
    call: Call, x: Value, dim: int | None = None, keepdim: bool = False
) -> tuple[Value, Value]:
    return amin(call, x, dim, keepdim), amax(call, x, dim, keepdim)


@aten("argmax")
def argmax(call: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _position(call, "arg_max", x, dim, keepdim)


@aten("argmin")
def argmin(call: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _position(call, "arg_min", x, dim, keepdim)


def _position(call: Call, op: str, x: Value, dim: int | None, keepdim: bool) -> Value:
    """Without a dim: the position in the flattened tensor."""
    if dim is None:
        total = call.emit(op, _flat(call, x), axis=0, keepdims=False)
        return call.reshape(total, (1,) * x.rank) if keepdim else total
    if not x.rank:
        return call.scalar(0, I64)
    return call.emit(op, x, axis=axis_of(dim, x.rank), keepdims=keepdim)


def _flat(call: Call, x: Value) -> Value:
    return call.reshape(x, (product(x.shape),))


@aten("any", "any.dim", "any.dims")
def any_(call: Call, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
    return call.cast(_reduce(call, "reduce_any", call.truth(x), dim, keepdim), call.dtype)


@aten("all", "all.dim", "all.dims")
def all_(call: Call, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
    return call.cast(_reduce(call, "reduce_all", call.truth(x), dim, keepdim), call.dtype)


@aten("var.correction", "var", "var.dim")
def var(
    call: Call,
    x: Value,
    dim: Axes = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> Value:
    axes = axes_of(dim, x.rank)
    if isinstance(correction, Polynomial):
        raise Refusal(f"correction is symbolic ({correction})")
    spare = (1 if unbiased else 0) if correction is None else correction
    return call.emit("reduce_variance", x, axes=axes, keepdims=keepdim, correction=spare)


@aten("std.correction", "std", "std.dim")
def std(
    call: Call,
    x: Value,
    dim: Axes = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> Value:
    return call.emit("sqrt", var(call, x, dim, correction, keepdim, unbiased))


@aten("var_mean.correction", "var_mean", "var_mean.dim")
def var_mean(
    call: Call,
    x: Value,
    dim: Axes = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> tuple[Value, Value]:
    variance = var(call, x, dim, correction, keepdim, unbiased)
    return variance, mean(call, x, dim, keepdim)


@aten("std_mean.correction", "std_mean", "std_mean.dim")
def std_mean(
    call: Call,
    x: Value,
    dim: Axes = None,
    correction: Scalar | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> tuple[Value, Value]:
    return std(call, x, dim, correction, keepdim, unbiased), mean(call, x, dim, keepdim)


@aten("cumsum")
def cumsum(call: Call, x: Value, dim: int, dtype: DType | None = None) -> Value:
    terms = _summable(call, x, dtype)
    return call.emit("cumsum", terms, axis=axis_of(dim, x.rank)) if x.rank else terms


@aten("logsumexp")
def logsumexp(call: Call, x: Value, dim: Axes, keepdim: bool = False) -> Value:
    """max + log(sum(exp(x - max))), with an infinite maximum taken as 0."""
    x = call.floating(x)
    largest = _reduce(call, "reduce_max", x, dim, True)
    finite = call.emit("is_finite", largest)
    shift = call.emit("where", finite, largest, call.scalar(0.0, x.dtype))
    powers = call.emit("exp", call.emit("sub", x, shift))
    total = call.emit("log", _reduce(call, "reduce_sum", powers, dim, True))
    return call.reshape(call.emit("add", total, shift), call.shape)


@aten("linalg_vector_norm", "norm.ScalarOpt_dim", "norm.Scalar")
def vector_norm(
    call: Call,
    x: Value,
    ord: Scalar | None = 2,
    p: Scalar | None = None,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Value:
    x = call.cast(x, dtype or x.dtype)
    order = _order(ord if p is None else p)
    size = call.emit("abs", x)
    if math.isinf(order):
        return _reduce(call, "reduce_max" if order > 0 else "reduce_min", size, dim, keepdim)
    if order == 1:
        return _reduce(call, "reduce_sum", size, dim, keepdim)
    if order == 2:
        squares = call.emit("mul", x, x)
        return call.emit("sqrt", _reduce(call, "reduce_sum", squares, dim, keepdim))
    if order == 0:
        nonzero = call.cast(call.emit("not_equal", x, call.scalar(0.0, x.dtype)), x.dtype)
        return _reduce(call, "reduce_sum", nonzero, dim, keepdim)
    powers = call.emit("pow", size, call.scalar(order, x.dtype))
    total = _reduce(call, "reduce_sum", powers, dim, keepdim)
    return call.emit("pow", total, call.scalar(1 / order, x.dtype))


def _order(value: Scalar | None) -> float:
    if isinstance(value, Polynomial):
        raise Refusal(f"the order of the norm is symbolic ({value})")
    return 2.0 if value is None else float(value)
