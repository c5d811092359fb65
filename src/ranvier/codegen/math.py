"""Mathematical functions by name, for f32 and f64 values of any lane count.

The frequent functions of f32 are written inline (`math_f32`). Rare ones, and those of f64, are
functions of the module, emitted once per name, type and lane count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ranvier.codegen import math_f32, math_f64, trigonometry
from ranvier.codegen.builder import (
    DOUBLE,
    FLOAT,
    FunctionBuilder,
    Val,
    element_of,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.math_context import Context, integer_type, intrinsic, like
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
_F64: dict[str, Callable[..., Val]] = {
    **math_f64.FUNCTIONS,
    "pow": math_f64.power,
    "atan2": trigonometry.atan2,
}
FUNCTIONS = (*_ANY, *(name for name in _F64 if name not in ("pow", "gelu", "gelu_tanh")))


def call(context: Context, name: str, values: Sequence[Val]) -> Val:
    """The function `name` of f32 or f64 values of equal type.

    Raises UnsupportedOperatorError if there is no such function.
    """
    if name in _ANY:
        return _ANY[name](context, values[0])
    if element_of(values[0].type) == FLOAT and name in _F32:
        return _F32[name](context, values[0])
    if name not in _F64:
        raise UnsupportedOperatorError(f"no native code for {name}")
    return _shared(context, name, values, lambda inner, a: _in_f64(inner, name, a))


def _in_f64(context: Context, name: str, values: Sequence[Val]) -> Val:
    """Compute in f64, and round the result when the values are f32."""
    f, type = context.builder, values[0].type
    wide = vector(lanes_of(type), DOUBLE)
    if type == wide:
        return _F64[name](context, *values)
    result = _F64[name](context, *(f.cast("fpext", v, wide) for v in values))
    return f.cast("fptrunc", result, type)


def _shared(
    context: Context,
    name: str,
    values: Sequence[Val],
    body: Callable[[Context, Sequence[Val]], Val],
) -> Val:
    """Call a function of the module that is written when it is first needed."""
    f, type = context.builder, values[0].type
    symbol = f"ranvier.{name}.{element_of(type)}.{lanes_of(type)}"
    if not f.module.has_function(symbol):
        parameters = [(f"x{k}", type) for k in range(len(values))]
        inner = FunctionBuilder(f.module, symbol, parameters, type, "nounwind noinline", "internal")
        arguments = [inner.arg(n) for n, _ in parameters]
        inner.ret(body(Context(inner, context.target), arguments))
        inner.finish()
    return f.call(symbol, type, *values)


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


# Remainders --------------------------------------------------------------------------------------
def fmod(context: Context, a: Val, b: Val) -> Val:
    """C's fmod: exact, with the sign of `a`."""
    return _shared(context, "fmod", [a, b], lambda inner, v: _fmod_body(inner, v[0], v[1]))


def _fmod_body(context: Context, a: Val, b: Val) -> Val:
    """Subtract multiples of |b| until the rest is smaller.

    The rest of a division by its rounded-down quotient is exact, and at least 20 bits shorter.
    """
    f = context.builder
    lanes = lanes_of(a.type)
    size, by = intrinsic(f, "fabs", a), intrinsic(f, "fabs", b)
    infinity, zero = like(a, float("inf")), like(a, 0.0)
    valid = f.binary("and", f.compare("fcmp olt", size, infinity), f.compare("fcmp ogt", by, zero))
    start, divisor = f.select(valid, size, zero), by
    by = f.select(valid, divisor, like(a, 1.0))
    grow = 2.0**100 if element_of(a.type) == FLOAT else 2.0**1000
    before, head, done = f.block, f.label("head"), f.label("done")
    f.jump(head)
    f.begin(head)
    rest = Val(f.name_value("rest"), a.type)
    after = f.name_value("after")
    f.raw(f"{rest.text} = phi {a.type} [{start.text}, %{before}], [{after}, %{head}]")
    step = by
    for _ in range(2):  # a quotient beyond the range: take a multiple of `by` first
        endless = f.compare("fcmp oeq", f.binary("fdiv", rest, step), infinity)
        grown = f.binary("fmul", step, like(a, grow))
        step = f.select(endless, grown, step)
    quotient = intrinsic(f, "trunc", f.binary("fdiv", rest, step))
    quotient = _largest_multiple(context, rest, step, quotient)
    reduced = intrinsic(f, "fma", f.emit(f"fneg {quotient}", a.type), step, rest)
    large = f.compare("fcmp oge", rest, by)
    f.raw(f"{after} = select {large}, {reduced}, {rest}")
    again = f.compare("fcmp oge", Val(after, a.type), by)
    more = again if lanes == 1 else f.call(f"llvm.vector.reduce.or.v{lanes}i1", "i1", again)
    f.branch(more, head, done)
    f.begin(done)
    value = intrinsic(f, "copysign", Val(after, a.type), a)
    ordered = f.compare("fcmp ord", a, b)
    return f.select(f.binary("and", valid, ordered), value, like(a, float("nan")))


def _largest_multiple(context: Context, rest: Val, by: Val, quotient: Val) -> Val:
    """`quotient`, or the next smaller number if rounding made quotient * by exceed `rest`."""
    f = context.builder
    left = intrinsic(f, "fma", f.emit(f"fneg {quotient}", rest.type), by, rest)
    over = f.compare("fcmp olt", left, like(rest, 0.0))
    bits = f.cast("bitcast", quotient, integer_type(quotient))
    smaller = f.cast("bitcast", f.binary("sub", bits, int_const(1, bits.type)), rest.type)
    lower = f.binary("fsub", quotient, like(rest, 1.0))
    lower = f.select(f.compare("fcmp olt", lower, quotient), lower, smaller)
    return f.select(over, lower, quotient)


def remainder(context: Context, a: Val, b: Val) -> Val:
    """fmod moved to the sign of the divisor, as Python's and PyTorch's `%`."""
    f = context.builder
    rest = fmod(context, a, b)
    zero = like(a, 0.0)
    opposite = f.binary("xor", f.compare("fcmp olt", rest, zero), f.compare("fcmp olt", b, zero))
    wrong = f.binary("and", opposite, f.compare("fcmp one", rest, zero))
    return f.select(wrong, f.binary("fadd", rest, b), rest)


def floor_divide(context: Context, a: Val, b: Val) -> Val:
    """floor(a / b) of the exact quotient, as Python's and PyTorch's `//`: (a - fmod(a, b)) / b,
    rounded, and one less where fmod and the divisor have different signs.
    """
    f = context.builder
    zero = like(a, 0.0)
    exact = f.binary("fdiv", a, b)
    rest = fmod(context, a, b)
    quotient = intrinsic(f, "roundeven", f.binary("fdiv", f.binary("fsub", a, rest), b))
    opposite = f.binary("xor", f.compare("fcmp olt", rest, zero), f.compare("fcmp olt", b, zero))
    is_over = f.binary("and", opposite, f.compare("fcmp one", rest, zero))
    quotient = f.select(is_over, f.binary("fsub", quotient, like(a, 1.0)), quotient)
    quotient = f.select(
        f.compare("fcmp oeq", quotient, zero), intrinsic(f, "copysign", zero, exact), quotient
    )
    return f.select(f.compare("fcmp oeq", b, zero), exact, quotient)


def integer_power(context: Context, base: Val, exponent: Val, dtype: DType) -> Val:
    """base ** exponent by squaring, wrapping; a negative one keeps 1 and -1, all else gives 0."""
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
