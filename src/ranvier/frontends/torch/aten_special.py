"""Element-wise ATen operators that are a few operators of the IR each."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

import math

from ranvier.frontends.torch.call import Call
from ranvier.frontends.torch.dtypes import Operand
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dtype import BOOL
from ranvier.ir.graph import Value


def is_negative(call: Call, x: Value) -> Value:
    """Whether the sign bit is set; -0.0 has one, and NaN counts as positive."""
    below = call.emit("less", x, call.scalar(0, x.dtype))
    if not x.dtype.is_float:
        return below
    inverse = call.emit("less", call.emit("reciprocal", x), call.scalar(0, x.dtype))
    return call.emit("logical_or", below, inverse)


@aten("signbit")
def signbit(call: Call, x: Value) -> Value:
    if x.dtype == BOOL:
        return call.emit("full", shape=x.shape, value=False, dtype=BOOL)
    return is_negative(call, x)


@aten("copysign.Tensor", "copysign.Scalar")
def copysign(call: Call, x: Value, other: Operand) -> Value:
    size, sign = call.promoted(x, other, to_float=True)
    size = call.emit("abs", size)
    return call.emit("where", is_negative(call, sign), call.emit("neg", size), size)


@aten("fmax")
def fmax(call: Call, x: Value, other: Value) -> Value:
    return _prefer_numbers(call, "maximum", x, other)


@aten("fmin")
def fmin(call: Call, x: Value, other: Value) -> Value:
    return _prefer_numbers(call, "minimum", x, other)


def _prefer_numbers(call: Call, op: str, x: Value, other: Value) -> Value:
    """The other operand where one is NaN."""
    a, b = call.promoted(x, other)
    result = call.emit(op, a, b)
    if not a.dtype.is_float:
        return result
    result = call.emit("where", call.emit("is_nan", a), b, result)
    return call.emit("where", call.emit("is_nan", b), a, result)


@aten("ldexp.Tensor")
def ldexp(call: Call, x: Value, other: Value) -> Value:
    a, b = call.promoted(x, other, to_float=True)
    return call.emit("mul", a, call.emit("exp2", b))


@aten("hypot")
def hypot(call: Call, x: Value, other: Value) -> Value:
    """large * sqrt(1 + (small / large)^2), which overflows only where the result does."""
    a, b = (call.emit("abs", v) for v in call.promoted(x, other))
    large, small = call.emit("maximum", a, b), call.emit("minimum", a, b)
    ratio = call.emit("div", small, large)
    one, infinity = call.scalar(1.0, a.dtype), call.scalar(float("inf"), a.dtype)
    root = call.emit("sqrt", call.emit("add", one, call.emit("mul", ratio, ratio)))
    result = call.emit("where", _is_zero(call, large), large, call.emit("mul", large, root))
    infinite = call.emit("logical_or", call.emit("is_inf", a), call.emit("is_inf", b))
    return call.emit("where", infinite, infinity, result)


def _is_zero(call: Call, x: Value) -> Value:
    return call.emit("equal", x, call.scalar(0, x.dtype))


@aten("erfc", "special_erfc")
def erfc(call: Call, x: Value) -> Value:
    """1 - erf(x); in front of 0.5 it is 2 * gelu(-sqrt(2) x) / (-sqrt(2) x), which keeps the tail.

    gelu(y) = y * Phi(y), and erfc(x) = 2 * Phi(-sqrt(2) x).
    """
    x = call.floating(x)
    argument = call.emit("mul", x, call.scalar(-math.sqrt(2), x.dtype))
    tail = call.emit("div", call.emit("gelu", argument, approximate="none"), argument)
    tail = call.emit("add", tail, tail)
    near = call.emit("sub", call.scalar(1.0, x.dtype), call.emit("erf", x))
    far = call.emit("greater", x, call.scalar(0.5, x.dtype))
    infinite = call.emit("is_inf", x)
    far = call.emit("logical_and", far, call.emit("logical_not", infinite))
    return call.emit("where", far, tail, near)


@aten("round.decimals")
def round_decimals(call: Call, x: Value, decimals: int) -> Value:
    if not x.dtype.is_float:
        return x
    ten = call.scalar(10.0 ** abs(decimals), x.dtype)
    inwards, outwards = ("mul", "div") if decimals >= 0 else ("div", "mul")
    return call.emit(outwards, call.emit("round", call.emit(inwards, x, ten)), ten)


@aten("angle")
def angle(call: Call, x: Value) -> Value:
    """Of real numbers: 0, and pi below zero."""
    x = call.floating(x)
    below = call.emit("less", x, call.scalar(0.0, x.dtype))
    turned = call.emit("where", below, call.scalar(math.pi, x.dtype), call.scalar(0.0, x.dtype))
    return call.emit("where", call.emit("is_nan", x), x, turned)
