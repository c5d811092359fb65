"""Mathematical functions by name, for f32 and f64 values of any lane count.

The frequent functions of f32 are written inline (`math_f32`). Rare ones, and those of f64, are functions of the module,
emitted once per name, type and lane count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ranvier.codegen import math_f32
from ranvier.codegen.builder import FLOAT, Val, element_of, int_const
from ranvier.codegen.math_context import Context, intrinsic, like
from ranvier.errors import UnsupportedOperatorError
from ranvier.ir.dtype import DType


def _square_root(context: Context, x: Val) -> Val:
    return intrinsic(context.builder, "sqrt", x)


def _reciprocal(context: Context, x: Val) -> Val:
    return context.builder.binary("fdiv", like(x, 1.0), x)


def _reciprocal_root(context: Context, x: Val) -> Val:
    return _reciprocal(context, _square_root(context, x))


def _hard_sigmoid(context: Context, x: Val) -> Val:
    """min(max(x + 3, 0), 6) / 6."""
    f = context.builder
    low, high = like(x, 0.0), like(x, 6.0)
    y = f.binary("fadd", x, like(x, 3.0))
    y = f.select(f.compare("fcmp olt", y, low), low, y)
    y = f.select(f.compare("fcmp ogt", y, high), high, y)
    return f.binary("fmul", y, like(x, 1 / 6))


def _hard_swish(context: Context, x: Val) -> Val:
    return context.builder.binary("fmul", x, _hard_sigmoid(context, x))


Unary = Callable[[Context, Val], Val]
_ANY: dict[str, Unary] = {
    "sqrt": _square_root,
    "rsqrt": _reciprocal_root,
    "reciprocal": _reciprocal,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
}
_F32: dict[str, Unary] = {
    "exp": math_f32.exp,
    "exp2": math_f32.exp2,
    "expm1": math_f32.expm1,
    "log": math_f32.log,
    "log2": math_f32.log2,
    "log10": math_f32.log10,
    "log1p": math_f32.log1p,
    "tanh": math_f32.tanh,
    "sigmoid": math_f32.sigmoid,
    "silu": math_f32.silu,
    "erf": math_f32.erf,
    "gelu": math_f32.gelu,
    "gelu_tanh": math_f32.gelu_tanh,
    "softplus": math_f32.softplus,
    "mish": math_f32.mish,
}
FUNCTIONS = (*_ANY, *_F32)


def call(context: Context, name: str, values: Sequence[Val]) -> Val:
    """The function `name` of f32 or f64 values; UnsupportedOperatorError if there is none for that type."""
    if name in _ANY:
        return _ANY[name](context, values[0])
    if element_of(values[0].type) == FLOAT and name in _F32:
        return _F32[name](context, values[0])
    raise UnsupportedOperatorError(f"no native code for {name} of {element_of(values[0].type)}")


def _leaky_relu(context: Context, x: Val, alpha: float) -> Val:
    f = context.builder
    positive = f.compare("fcmp ogt", x, like(x, 0.0))
    return f.select(positive, x, f.binary("fmul", x, like(x, alpha)))


def _elu(context: Context, x: Val, alpha: float, scale: float, input_scale: float) -> Val:
    """scale * (x if x > 0 else alpha * expm1(input_scale * x))."""
    f = context.builder
    curve = call(context, "expm1", [f.binary("fmul", x, like(x, input_scale))])
    curve = f.binary("fmul", curve, like(x, alpha * scale))
    positive = f.compare("fcmp ogt", x, like(x, 0.0))
    return f.select(positive, f.binary("fmul", x, like(x, scale)), curve)


PARAMETRIC: dict[str, Callable[..., Val]] = {"leaky_relu": _leaky_relu, "elu": _elu}


# Remainders -----------------------------------------------------------------------------------------------------
def fmod(context: Context, a: Val, b: Val) -> Val:
    """C's fmod: exact, with the sign of `a`."""
    raise UnsupportedOperatorError("no native code for fmod")


def remainder(context: Context, a: Val, b: Val) -> Val:
    """fmod moved to the sign of the divisor, as Python's and PyTorch's `%`."""
    f = context.builder
    rest = fmod(context, a, b)
    zero = like(a, 0.0)
    opposite = f.binary("xor", f.compare("fcmp olt", rest, zero), f.compare("fcmp olt", b, zero))
    wrong = f.binary("and", opposite, f.compare("fcmp one", rest, zero))
    return f.select(wrong, f.binary("fadd", rest, b), rest)


def floor_divide(context: Context, a: Val, b: Val) -> Val:
    """floor(a / b)."""
    f = context.builder
    return intrinsic(f, "floor", f.binary("fdiv", a, b))


def integer_power(context: Context, base: Val, exponent: Val, dtype: DType) -> Val:
    """base ** exponent by squaring, wrapping; negative exponents truncate (1, -1 stay; others give 0)."""
    f = context.builder
    one, zero = int_const(1, base.type), int_const(0, base.type)
    result, power = one, base
    for bit in range(min(dtype.bits, 6) if dtype.bits > 8 else dtype.bits):
        chosen = f.binary("and", exponent, int_const(1 << bit, base.type))
        odd = f.compare("icmp ne", chosen, zero)
        result = f.select(odd, f.binary("mul", result, power), result)
        power = f.binary("mul", power, power)
    if dtype.kind != "int":
        return result
    negative = f.compare("icmp slt", exponent, zero)
    odd = f.compare("icmp ne", f.binary("and", exponent, one), zero)
    unit = f.compare("icmp eq", base, one)
    minus = f.compare("icmp eq", base, int_const(-1, base.type))
    inverse = f.select(unit, one, f.select(minus, f.select(odd, base, one), zero))
    return f.select(negative, inverse, result)
