"""Element-wise operators on LLVM values of any lane count: one table from operator name to emitter.

Semantics are PyTorch's: `maximum`/`minimum`/`relu`/`clamp` propagate NaN, `round` ties to even,
`remainder` has the sign of the divisor. No input can trap (`integer_division.py`); casts are in
`conversions.py`.
"""

from __future__ import annotations

import math as pymath
from collections.abc import Callable, Sequence

from ranvier.codegen import integer_division, math, math_bf16, narrow_floats
from ranvier.codegen.builder import (
    I1,
    Val,
    element_of,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.conversions import bit_cast, cast, constant, convert, round_to_odd
from ranvier.codegen.math_context import Context, intrinsic, like
from ranvier.errors import UnsupportedOperatorError
from ranvier.ir.dtype import BOOL, DType
from ranvier.ir.narrow import IntegerFormat
from ranvier.lowering.expression import ROUNDED_TO_BF16, ROUNDED_TO_ODD, Apply

Emitter = Callable[[Context, Apply, list[Val], DType], Val]


def apply(context: Context, node: Apply, values: list[Val], types: Sequence[DType]) -> Val:
    """The value of `node` on operand values of equal lane count.

    Raises UnsupportedOperatorError if there is no emitter.
    """
    if node.op == "cast" and (ROUNDED_TO_ODD, True) in node.attributes:
        return round_to_odd(context, values[0])
    if node.op == "cast":
        return cast(context, values[0], types[0], node.dtype)
    emitter = _OPERATORS.get(node.op)
    if emitter is None:
        raise UnsupportedOperatorError(f"no native code for element-wise operator {node.op!r}")
    operand_type = types[1] if node.op == "where" else types[0]
    return emitter(context, node, values, operand_type)


# Arithmetic --------------------------------------------------------------------------------------
def _arithmetic(floating: str, integer: str, boolean: str) -> Emitter:
    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        opcode = floating if dtype.is_float else boolean if dtype is BOOL else integer
        return context.builder.binary(opcode, values[0], values[1])

    return emit


def _bitwise(opcode: str) -> Emitter:
    return lambda context, node, values, dtype: context.builder.binary(opcode, *values[:2])


def _logical(opcode: str) -> Emitter:
    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        a, b = (convert(context, v, dtype, BOOL) for v in values)
        return context.builder.binary(opcode, a, b)

    return emit


def _compare(floating: str, signed: str, unsigned: str) -> Emitter:
    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        kinds = {"float": f"fcmp {floating}", "int": f"icmp {signed}"}
        predicate = kinds.get(dtype.kind, f"icmp {unsigned}")
        return context.builder.compare(predicate, *values[:2])

    return emit


def _divide(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    if dtype.is_float:
        return context.builder.binary("fdiv", *values)
    return integer_division.divide(context, values[0], values[1], dtype)[0]


def _floor_divide(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    if dtype.is_float:
        return math.floor_divide(context, values[0], values[1])
    return integer_division.floor_divide(context, values[0], values[1], dtype)


def _remainder(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    if dtype.is_float:
        return math.remainder(context, values[0], values[1])
    return integer_division.remainder(context, values[0], values[1], dtype)


def _fmod(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    if dtype.is_float:
        return math.fmod(context, values[0], values[1])
    return integer_division.divide(context, values[0], values[1], dtype)[1]


def _power(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    if dtype.is_float:
        return math.call(context, "pow", values)
    return math.integer_power(context, values[0], values[1], dtype)


def _extremum(name: str) -> Emitter:
    """max or min; NaN if either operand is NaN (IEEE 754-2019 `maximum`, `minimum`)."""

    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        return extremum(context, name, values[0], values[1], dtype)

    return emit


def extremum(context: Context, name: str, a: Val, b: Val, dtype: DType) -> Val:
    """`max` or `min` of two values; NaN wins."""
    f = context.builder
    if dtype is BOOL:
        return f.binary("or" if name == "max" else "and", a, b)
    if not dtype.is_float:
        return intrinsic(f, f"{'s' if dtype.kind == 'int' else 'u'}{name}", a, b)
    better = f.select(f.compare("fcmp ogt" if name == "max" else "fcmp olt", a, b), a, b)
    return f.select(f.compare("fcmp uno", a, a), a, better)


def _shift(signed: str, unsigned: str) -> Emitter:
    """Shifts by the width or more (poison in LLVM) give what shifting bit by bit would give."""

    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        f = context.builder
        a, b = values
        opcode = signed if dtype.kind == "int" else unsigned
        fits = f.compare("icmp ult", b, int_const(dtype.bits, b.type))
        if opcode == "ashr":
            amount = f.select(fits, b, int_const(dtype.bits - 1, b.type))
            return f.binary(opcode, a, amount)
        shifted = f.binary(opcode, a, f.select(fits, b, int_const(0, b.type)))
        return f.select(fits, shifted, int_const(0, a.type))

    return emit


def _where(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    condition = values[0]
    if element_of(condition.type) != I1:
        condition = context.builder.compare("icmp ne", condition, int_const(0, condition.type))
    return context.builder.select(condition, values[1], values[2])


# Unary -------------------------------------------------------------------------------------------
def _negate(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    (x,) = values
    if dtype.is_float:
        return context.builder.emit(f"fneg {x}", x.type)
    return context.builder.binary("sub", int_const(0, x.type), x)


def _absolute(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    (x,) = values
    if dtype.is_float:
        return intrinsic(context.builder, "fabs", x)
    if dtype.kind != "int":
        return x
    f = context.builder
    negative = f.compare("icmp slt", x, int_const(0, x.type))
    return f.select(negative, f.binary("sub", int_const(0, x.type), x), x)


def _sign(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    """-1, 0 or 1; NaN gives NaN as NumPy does."""
    (x,) = values
    f = context.builder
    if dtype.is_float:
        one = intrinsic(f, "copysign", like(x, 1.0), x)
        ordinary = f.select(f.compare("fcmp oeq", x, like(x, 0.0)), like(x, 0.0), one)
        return f.select(f.compare("fcmp uno", x, x), x, ordinary)
    zero = int_const(0, x.type)
    if dtype is BOOL:
        return x
    if dtype.kind != "int":
        return f.cast("zext", f.compare("icmp ne", x, zero), x.type)
    above = f.cast("zext", f.compare("icmp sgt", x, zero), x.type)
    return f.binary("add", above, f.cast("sext", f.compare("icmp slt", x, zero), x.type))


def _bitwise_not(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    return context.builder.binary("xor", values[0], int_const(-1, values[0].type))


def _logical_not(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    truth = convert(context, values[0], dtype, BOOL)
    return context.builder.binary("xor", truth, int_const(-1, truth.type))


def _rounding(name: str) -> Emitter:
    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        return intrinsic(context.builder, name, values[0]) if dtype.is_float else values[0]

    return emit


def _classify(special: str, of_integer: int) -> Emitter:
    """is_nan, is_inf, is_finite by a comparison of |x| with infinity."""

    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        (x,) = values
        if not dtype.is_float:
            return int_const(of_integer, vector(lanes_of(x.type), I1))
        f = context.builder
        return f.compare(special, intrinsic(f, "fabs", x), like(x, pymath.inf))

    return emit


def _relu(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    return clamp(context, values[0], 0.0, None, dtype)


def clamp(context: Context, x: Val, low: float | None, high: float | None, dtype: DType) -> Val:
    """min(max(x, low), high); NaN stays NaN."""
    f = context.builder

    def splat(value: float) -> Val:
        return f.splat(constant(value, dtype), lanes_of(x.type))

    less, greater = ("fcmp olt", "fcmp ogt") if dtype.is_float else ("icmp slt", "icmp sgt")
    if dtype.kind in ("uint", "bool"):
        less, greater = "icmp ult", "icmp ugt"
    if low is not None:
        x = f.select(f.compare(less, x, splat(low)), splat(low), x)
    if high is not None:
        x = f.select(f.compare(greater, x, splat(high)), splat(high), x)
    return x


def _clamp(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    attributes = dict(node.attributes)
    low, high = (_number(attributes.get(name)) for name in ("min", "max"))
    if not dtype.is_float:
        low = None if low is None or low < _least(dtype) else pymath.ceil(low)
        high = None if high is None or high > _most(dtype) else pymath.floor(high)
    return clamp(context, values[0], low, high, dtype)


def _least(dtype: DType) -> int:
    return -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0


def _most(dtype: DType) -> int:
    return (1 << (dtype.bits - (dtype.kind == "int"))) - 1


def _number(value: object) -> float | int | None:
    return value if isinstance(value, (int, float)) else None


def _function(name: str) -> Emitter:
    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        if not dtype.is_float:
            raise UnsupportedOperatorError(f"{name} of {dtype}: the front end must cast to a float")
        if name in math_bf16.FUNCTIONS and (ROUNDED_TO_BF16, True) in node.attributes:
            return math_bf16.FUNCTIONS[name](context, values[0])
        return math.call(context, name, values)

    return emit


def _parametric(name: str, defaults: dict[str, float]) -> Emitter:
    """A function with number attributes, e.g. leaky_relu {alpha}."""

    def emit(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
        given = {k: v for k, v in node.attributes if isinstance(v, (int, float))}
        parameters = {k: float(given.get(k, d)) for k, d in defaults.items()}
        return math.PARAMETRIC[name](context, values[0], **parameters)

    return emit


def _gelu(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    attributes = dict(node.attributes)
    name = "gelu_tanh" if attributes.get("approximate") == "tanh" else "gelu"
    if attributes.get(ROUNDED_TO_BF16):
        return math_bf16.FUNCTIONS[name](context, values[0])
    return math.call(context, name, values)


def _bit_cast(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    target = dict(node.attributes)["dtype"]
    assert isinstance(target, DType)
    return bit_cast(context, values[0], dtype, target)


def _narrow_cast(context: Context, node: Apply, values: list[Val], dtype: DType) -> Val:
    attributes, format = dict(node.attributes), node.dtype.format
    assert not isinstance(format, IntegerFormat)
    saturate, rounding = bool(attributes["saturate"]), str(attributes["rounding"])
    return narrow_floats.encode(context, values[0], format, saturate, rounding)


_OPERATORS: dict[str, Emitter] = {
    "add": _arithmetic("fadd", "add", "or"),
    "sub": _arithmetic("fsub", "sub", "xor"),
    "mul": _arithmetic("fmul", "mul", "and"),
    "div": _divide,
    "floor_div": _floor_divide,
    "remainder": _remainder,
    "fmod": _fmod,
    "pow": _power,
    "maximum": _extremum("max"),
    "minimum": _extremum("min"),
    "bitwise_and": _bitwise("and"),
    "bitwise_or": _bitwise("or"),
    "bitwise_xor": _bitwise("xor"),
    "shift_left": _shift("shl", "shl"),
    "shift_right": _shift("ashr", "lshr"),
    "equal": _compare("oeq", "eq", "eq"),
    "not_equal": _compare("une", "ne", "ne"),
    "less": _compare("olt", "slt", "ult"),
    "less_equal": _compare("ole", "sle", "ule"),
    "greater": _compare("ogt", "sgt", "ugt"),
    "greater_equal": _compare("oge", "sge", "uge"),
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "where": _where,
    "bit_cast": _bit_cast,
    "narrow_cast": _narrow_cast,
    "neg": _negate,
    "abs": _absolute,
    "sign": _sign,
    "bitwise_not": _bitwise_not,
    "logical_not": _logical_not,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "round": _rounding("roundeven"),
    "is_nan": _classify("fcmp uno", 0),
    "is_inf": _classify("fcmp oeq", 0),
    "is_finite": _classify("fcmp olt", 1),
    "relu": _relu,
    "clamp": _clamp,
    "gelu": _gelu,
    "leaky_relu": _parametric("leaky_relu", {"alpha": 0.01}),
    "elu": _parametric("elu", {"alpha": 1.0, "scale": 1.0, "input_scale": 1.0}),
    **{name: _function(name) for name in math.FUNCTIONS},
}
OPERATORS = frozenset({*_OPERATORS, "cast"})

LONG = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "erf", "silu", "softplus",
    "mish", "gelu", "elu", "pow", "atan2", "fmod", "remainder", "floor_div", "narrow_cast",
})  # fmt: skip
"""Operators whose code is tens of instructions per vector."""
