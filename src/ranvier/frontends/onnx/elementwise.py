"""Element-wise operators."""

from __future__ import annotations

import math

from ranvier.frontends.onnx.agreement import broadcastable
from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.value_list import Result
from ranvier.ir.dtype import BOOL, F32, F64, I64, DType
from ranvier.ir.graph import Value

_UNARY = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh",
    "Atan": "atan", "Atanh": "atanh", "BitwiseNot": "bitwise_not", "Cos": "cos", "Cosh": "cosh",
    "Erf": "erf", "Exp": "exp", "HardSwish": "hard_swish", "IsNaN": "is_nan", "Log": "log",
    "Mish": "mish", "Neg": "neg", "Not": "logical_not", "Reciprocal": "reciprocal",
    "Relu": "relu", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Sinh": "sinh",
    "Softplus": "softplus", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip
_ROUNDING = {"Ceil": "ceil", "Floor": "floor", "Round": "round"}
_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "And": "logical_and",
    "Or": "logical_or", "Xor": "logical_xor", "Equal": "equal", "Less": "less",
    "LessOrEqual": "less_equal", "Greater": "greater", "GreaterOrEqual": "greater_equal",
    "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor",
}  # fmt: skip
_LEGACY = (
    "Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Equal", "Less", "Greater", "Pow",
)  # fmt: skip
_VARIADIC = {"Max": "maximum", "Min": "minimum", "Sum": "add"}


SAME_SHAPE = frozenset({*_UNARY, *_ROUNDING, "Cast", "CastLike", "Identity"})
"""Operators whose result has the shape of their first operand."""


def _register_unary(name: str, op: str) -> None:
    @onnx_operator(name)
    def unary(call: Call, x: Value) -> Value:
        return call.emit(op, x)


def _register_rounding(name: str, op: str) -> None:
    @onnx_operator(name)
    def rounding(call: Call, x: Value) -> Value:
        return call.emit(op, x) if x.dtype.is_float else x


def _register_binary(name: str, op: str) -> None:
    @onnx_operator(name, since=7)
    def binary(call: Call, a: Value, b: Value) -> Value:
        return call.emit(op, *broadcastable(call, (a, b)))


def _register_legacy(name: str) -> None:
    @onnx_operator(name)
    def legacy(
        call: Call, a: Value, b: Value, *, broadcast: int = 0, axis: int | None = None
    ) -> Value:
        """Before operator set 7, dims of `b` line up with those of `a` from `axis` on."""
        if broadcast and axis is not None and b.rank:
            behind = a.rank - axis_of(axis, a.rank) - b.rank
            b = call.reshape(b, (*b.shape, *(1,) * max(behind, 0)))
        return power(call, a, b) if name == "Pow" else call.emit(_BINARY[name], a, b)


def _register_variadic(name: str, op: str) -> None:
    @onnx_operator(name)
    def variadic(call: Call, x: Value, *others: Value) -> Value:
        return call.chain(op, broadcastable(call, (x, *others)))


for _name, _op in _UNARY.items():
    _register_unary(_name, _op)
for _name, _op in _ROUNDING.items():
    _register_rounding(_name, _op)
for _name, _op in _BINARY.items():
    _register_binary(_name, _op)
for _name in _LEGACY:
    _register_legacy(_name)
for _name, _op in _VARIADIC.items():
    _register_variadic(_name, _op)


@onnx_operator("Mean")
def mean(call: Call, x: Value, *others: Value) -> Value:
    """The mean of all operands, position by position."""
    total = call.chain("add", (x, *others))
    return call.number("div", total, 1 + len(others))


@onnx_operator("Pow", since=7)
def power(call: Call, x: Value, y: Value) -> Value:
    """x to the power of y, in the element type of x."""
    x, y = broadcastable(call, (x, y))
    if x.dtype == y.dtype:
        return call.emit("pow", x, y)
    if x.dtype.is_float:
        return call.emit("pow", x, call.cast(y, x.dtype))
    if y.dtype.is_float:
        inexact = call.emit("pow", call.cast(x, F64), call.cast(y, F64))
        whole = call.emit("equal", y, call.emit("trunc", y))
        exact = call.emit("pow", call.cast(x, I64), call.cast(y, I64))
        found = call.emit("where", whole, exact, call.cast(inexact, I64))
        return call.cast(found, x.dtype)
    found = call.emit("pow", call.cast(x, I64), call.cast(y, I64))
    return call.cast(found, x.dtype)


@onnx_operator("Mod")
def mod(call: Call, a: Value, b: Value, *, fmod: int = 0) -> Value:
    """The remainder with the sign of the divisor, or of the dividend with `fmod`."""
    return call.emit("fmod" if fmod else "remainder", *broadcastable(call, (a, b)))


@onnx_operator("BitShift")
def bit_shift(call: Call, x: Value, amount: Value, *, direction: str) -> Value:
    """Bits moved to the left or to the right; what comes in is zero, or the sign on the left."""
    if direction == "RIGHT" and x.dtype.kind == "int":
        most = call.number("minimum", amount, x.dtype.bits - 1)
        return call.emit("shift_right", x, most)
    moved = call.emit("shift_left" if direction == "LEFT" else "shift_right", x, amount)
    inside = call.number("less", amount, x.dtype.bits)
    return call.where(inside, moved, 0)


@onnx_operator("Where")
def where(call: Call, condition: Value, x: Value, y: Value) -> Value:
    """x where the condition holds, y elsewhere."""
    return call.emit("where", *broadcastable(call, (condition, x, y)))


@onnx_operator("IsInf")
def is_inf(call: Call, x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Value:
    """Whether an element is an infinity of one of the signs asked for."""
    found = call.emit("is_inf", x)
    if not detect_negative:
        found = call.emit("logical_and", found, call.number("greater", x, 0))
    if not detect_positive:
        found = call.emit("logical_and", found, call.number("less", x, 0))
    return found


@onnx_operator("Clip")
def clip_attributes(
    call: Call, x: Value, *, min: float = -math.inf, max: float = math.inf
) -> Value:
    """Limits given as attributes, before operator set 11."""
    low = None if min == -math.inf else min
    high = None if max == math.inf else max
    return call.emit("clamp", x, min=low, max=high)


@onnx_operator("Clip", since=11)
def clip(call: Call, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    """x between two limits, each of them optional."""
    limits = call.plain(low) if low else [None], call.plain(high) if high else [None]
    if limits[0] is not None and limits[1] is not None and x.dtype != BOOL:
        return call.emit("clamp", x, min=limits[0][0], max=limits[1][0])
    if low is not None:
        x = call.emit("maximum", x, call.reshape(low, ()))
    return x if high is None else call.emit("minimum", x, call.reshape(high, ()))


# Activations --------------------------------------------------------------------------------------
def wide(call: Call, x: Value) -> Value:
    """16-bit floats as f32: what is composed of several steps is rounded once."""
    return call.cast(x, F32) if x.dtype.is_float and x.dtype.size == 2 else x


@onnx_operator("LeakyRelu")
def leaky_relu(call: Call, x: Value, *, alpha: float = 0.01) -> Value:
    """x, or alpha * x below zero."""
    return call.emit("leaky_relu", x, alpha=alpha)


@onnx_operator("PRelu")
def p_relu(call: Call, x: Value, slope: Value) -> Value:
    """x, or slope * x below zero; before operator set 7 a slope of rank 1 is per channel."""
    if call.version < 7 and slope.rank == 1 and x.rank > 2 and slope.shape[0] != 1:
        slope = call.reshape(slope, (*slope.shape, *(1,) * (x.rank - 2)))
    below = call.number("less", x, 0)
    return call.where(below, call.emit("mul", slope, x), x)


@onnx_operator("Elu")
def elu(call: Call, x: Value, *, alpha: float = 1.0) -> Value:
    """x, or alpha * (exp(x) - 1) below zero."""
    return call.emit("elu", x, alpha=alpha, scale=1.0, input_scale=1.0)


@onnx_operator("Celu")
def celu(call: Call, x: Value, *, alpha: float = 1.0) -> Value:
    """x, or alpha * (exp(x / alpha) - 1) below zero."""
    return call.emit("elu", x, alpha=alpha, scale=1.0, input_scale=1.0 / alpha)


@onnx_operator("Selu")
def selu(
    call: Call, x: Value, *, alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> Value:  # fmt: skip
    """gamma * elu(x)."""
    return call.emit("elu", x, alpha=alpha, scale=gamma, input_scale=1.0)


@onnx_operator("ThresholdedRelu")
def thresholded_relu(call: Call, x: Value, *, alpha: float = 1.0) -> Value:
    """x above alpha, else zero."""
    return call.where(call.number("greater", x, alpha), x, 0)


@onnx_operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    """alpha * x + beta between 0 and 1."""
    inner = call.number("add", call.number("mul", wide(call, x), alpha), beta)
    return call.cast(call.emit("clamp", inner, min=0.0, max=1.0), x.dtype)


@onnx_operator("Softsign")
def softsign(call: Call, x: Value) -> Value:
    """x / (1 + |x|)."""
    inner = wide(call, x)
    below = call.number("add", call.emit("abs", inner), 1)
    return call.cast(call.emit("div", inner, below), x.dtype)


@onnx_operator("Gelu")
def gelu(call: Call, x: Value, *, approximate: str = "none") -> Value:
    """x * Phi(x), exactly or by the tanh approximation."""
    if approximate not in ("none", "tanh"):
        raise Refusal(f"has the approximation {approximate}")
    return call.emit("gelu", x, approximate=approximate)


@onnx_operator("Swish")
def swish(call: Call, x: Value, *, alpha: float = 1.0) -> Value:
    """x * sigmoid(alpha * x)."""
    if alpha == 1.0:
        return call.emit("silu", x)
    inner = wide(call, x)
    gate = call.emit("sigmoid", call.number("mul", inner, alpha))
    return call.cast(call.emit("mul", inner, gate), x.dtype)


@onnx_operator("Shrink")
def shrink(call: Call, x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Value:
    """x + bias below -lambd, x - bias above lambd, zero between."""
    inner = x if x.dtype.is_float else call.cast(x, F32)
    below = call.number("less", inner, -lambd)
    above = call.number("greater", inner, lambd)
    upper = call.where(above, call.number("sub", inner, bias), 0)
    return call.cast(call.where(below, call.number("add", inner, bias), upper), x.dtype)


@onnx_operator("Identity")
def identity(call: Call, x: Result) -> Result:
    """x."""
    return x


@onnx_operator("Dropout")
def dropout_attributes(
    call: Call, x: Value, *, ratio: float = 0.5, is_test: int = 1
) -> tuple[Value, Value]:
    """In inference x; everything is kept."""
    return _dropout(call, x)


@onnx_operator("Dropout", since=12)
def dropout(
    call: Call, x: Value, ratio: Value | None = None, training: Value | None = None,
    *, seed: int = 0,
) -> tuple[Value, Value]:  # fmt: skip
    """In inference, and with a ratio of zero, x; everything is kept."""
    mode, share = call.plain(training), call.plain(ratio)
    trains = training is not None and (mode is None or bool(mode[0]))
    if not trains or share == [0.0]:
        return _dropout(call, x)
    if (mode is not None and ratio is None) or (mode is not None and share is not None):
        raise Refusal("drops elements at random in training")
    # refused when the model runs, if it would drop anything
    drops = call.scalar(True, BOOL) if training is None else call.reshape(training, ())
    if ratio is not None:
        rate = call.reshape(ratio, ())
        drops = call.emit("logical_and", drops, call.number("greater", rate, 0))
    call.checks.append(call.cast(drops, I64))
    return _dropout(call, x)


def _dropout(call: Call, x: Value) -> tuple[Value, Value]:
    kept = BOOL if call.version >= 10 else x.dtype
    return x, call.full(x.shape, _one(kept), kept)


def _one(dtype: DType) -> bool | float | int:
    return True if dtype == BOOL else 1.0 if dtype.is_float else 1
