"""Division of integers that cannot trap: by zero it gives 0, and INT_MIN / -1 wraps."""

from __future__ import annotations

from ranvier.codegen.builder import Val, int_const
from ranvier.codegen.math_context import Context
from ranvier.ir.dtype import DType


def divide(context: Context, a: Val, b: Val, dtype: DType) -> tuple[Val, Val]:
    """(quotient, remainder) truncated toward zero; by zero both are 0; INT_MIN / -1 wraps."""
    f = context.builder
    zero, one = int_const(0, a.type), int_const(1, a.type)
    by_zero = f.compare("icmp eq", b, zero)
    if dtype.kind != "int":
        safe = f.select(by_zero, one, b)
        quotient, rest = f.binary("udiv", a, safe), f.binary("urem", a, safe)
        return f.select(by_zero, zero, quotient), f.select(by_zero, zero, rest)
    by_minus_one = f.compare("icmp eq", b, int_const(-1, a.type))
    safe = f.select(f.binary("or", by_zero, by_minus_one), one, b)
    quotient, rest = f.binary("sdiv", a, safe), f.binary("srem", a, safe)
    quotient = f.select(by_minus_one, f.binary("sub", zero, a), quotient)
    special = f.binary("or", by_zero, by_minus_one)
    return f.select(by_zero, zero, quotient), f.select(special, zero, rest)


def _signs_differ(context: Context, rest: Val, divisor: Val) -> Val:
    """Whether a non-zero remainder has another sign than the divisor."""
    f, zero = context.builder, int_const(0, rest.type)
    opposite = f.compare("icmp slt", f.binary("xor", rest, divisor), zero)
    return f.binary("and", opposite, f.compare("icmp ne", rest, zero))


def floor_divide(context: Context, a: Val, b: Val, dtype: DType) -> Val:
    """The quotient rounded toward minus infinity."""
    f = context.builder
    quotient, rest = divide(context, a, b, dtype)
    if dtype.kind != "int":
        return quotient
    return f.binary("sub", quotient, f.cast("zext", _signs_differ(context, rest, b), a.type))


def remainder(context: Context, a: Val, b: Val, dtype: DType) -> Val:
    """The remainder with the sign of the divisor."""
    f = context.builder
    _, rest = divide(context, a, b, dtype)
    if dtype.kind != "int":
        return rest
    fix = f.select(_signs_differ(context, rest, b), b, int_const(0, a.type))
    return f.binary("add", rest, fix)
