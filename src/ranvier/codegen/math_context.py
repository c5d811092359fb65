"""What every emitter of arithmetic needs: builder, target, literals shaped like an operand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranvier.codegen.builder import (
    DOUBLE,
    FLOAT,
    I32,
    I64,
    FunctionBuilder,
    Val,
    element_of,
    float_const,
    lanes_of,
    vector,
)
from ranvier.target import Target

_SUFFIX = {FLOAT: "f32", DOUBLE: "f64"}


@dataclass(frozen=True)
class Context:
    """Where instructions go, and for which CPU."""

    builder: FunctionBuilder
    target: Target


def like(x: Val, value: float) -> Val:
    """A floating literal of the type of `x`."""
    return float_const(value, x.type)


def intrinsic(f: FunctionBuilder, name: str, *arguments: Val) -> Val:
    """An LLVM intrinsic whose result and arguments have one type, e.g. fabs, smax."""
    type = arguments[0].type
    element = _SUFFIX.get(element_of(type), element_of(type))
    suffix = element if lanes_of(type) == 1 else f"v{lanes_of(type)}{element}"
    return f.call(f"llvm.{name}.{suffix}", type, *arguments)


def fma(f: FunctionBuilder, a: Val, b: Val, c: Val) -> Val:
    """a * b + c, rounded once."""
    return intrinsic(f, "fma", a, b, c)


def negate(context: Context, x: Val) -> Val:
    """-x, exact."""
    return context.builder.emit(f"fneg {x}", x.type)


def polynomial(f: FunctionBuilder, x: Val, coefficients: Sequence[float]) -> Val:
    """Horner's rule with fused steps; the highest power's coefficient comes first."""
    value = like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fma(f, value, x, like(x, coefficient))
    return value


def integer_type(x: Val) -> str:
    """The integer type with the lanes and width of a floating value."""
    return vector(lanes_of(x.type), I32 if element_of(x.type) == FLOAT else I64)


def clamp_keeping_nan(f: FunctionBuilder, x: Val, low: float, high: float) -> Val:
    """min(max(x, low), high) where NaN stays NaN: one instruction each on x86."""
    low_value, high_value = like(x, low), like(x, high)
    x = f.select(f.compare("fcmp ogt", x, high_value), high_value, x)
    return f.select(f.compare("fcmp olt", x, low_value), low_value, x)
