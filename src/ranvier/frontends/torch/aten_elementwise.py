"""Element-wise ATen operators."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Callable

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.dtypes import Operand, Scalar, largest_and_epsilon, result_dtype
from ranvier.frontends.torch.registry import aten, operator
from ranvier.ir.dim import Polynomial
from ranvier.ir.dtype import BOOL, DType
from ranvier.ir.graph import Value

_FLOATING = {
    "exp": "exp", "exp2": "exp2", "log": "log", "log2": "log2", "log10": "log10",
    "log1p": "log1p", "expm1": "expm1", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "reciprocal": "reciprocal", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin",
    "acos": "acos", "atan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
    "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "sigmoid": "sigmoid", "erf": "erf",
    "special_erf": "erf", "special_expit": "sigmoid", "special_expm1": "expm1",
    "special_log1p": "log1p", "special_exp2": "exp2", "silu": "silu", "mish": "mish",
    "hardsigmoid": "hard_sigmoid", "hardswish": "hard_swish",
}  # fmt: skip
_SAME = {
    "neg": "neg",
    "_neg_view": "neg",
    "abs": "abs",
    "sign": "sign",
    "sgn": "sign",
    "relu": "relu",
}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "round": "round", "trunc": "trunc", "fix": "trunc"}
_TESTS = {
    "isnan": ("is_nan", "not_equal"), "isfinite": ("is_finite", "equal"),
    "isinf": ("is_inf", "not_equal"),
}  # fmt: skip
_ARITHMETIC = {
    "remainder.Tensor": "remainder", "remainder.Scalar": "remainder",
    "remainder.Scalar_Tensor": "remainder", "fmod.Tensor": "fmod", "fmod.Scalar": "fmod",
    "maximum": "maximum", "minimum": "minimum",
    "floor_divide": "floor_div", "floor_divide.Scalar": "floor_div",
    "bitwise_and.Tensor": "bitwise_and", "bitwise_and.Scalar": "bitwise_and",
    "bitwise_and.Scalar_Tensor": "bitwise_and",
    "bitwise_or.Tensor": "bitwise_or", "bitwise_or.Scalar": "bitwise_or",
    "bitwise_or.Scalar_Tensor": "bitwise_or",
    "bitwise_xor.Tensor": "bitwise_xor", "bitwise_xor.Scalar": "bitwise_xor",
    "bitwise_xor.Scalar_Tensor": "bitwise_xor",
    "bitwise_left_shift.Tensor": "shift_left", "bitwise_left_shift.Tensor_Scalar": "shift_left",
    "bitwise_right_shift.Tensor": "shift_right", "bitwise_right_shift.Tensor_Scalar": "shift_right",
    "__and__.Tensor": "bitwise_and", "__and__.Scalar": "bitwise_and",
    "__or__.Tensor": "bitwise_or", "__or__.Scalar": "bitwise_or",
    "__xor__.Tensor": "bitwise_xor", "__xor__.Scalar": "bitwise_xor",
    "__lshift__.Scalar": "shift_left", "__lshift__.Tensor": "shift_left",
    "__rshift__.Scalar": "shift_right", "__rshift__.Tensor": "shift_right",
}  # fmt: skip
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal",
}  # fmt: skip
_LOGICAL = ("logical_and", "logical_or", "logical_xor")


def _floating(op: str) -> Callable[[Call, Value], Value]:
    return lambda call, x: call.emit(op, call.floating(x))


def _same(op: str) -> Callable[[Call, Value], Value]:
    return lambda call, x: call.emit(op, x)


def _rounding(op: str) -> Callable[[Call, Value], Value]:
    return lambda call, x: call.emit(op, x) if x.dtype.is_float else x


def _test(op: str, of_integers: str) -> Callable[[Call, Value], Value]:
    """On integers the answer is known: `of_integers(x, x)`."""

    def translate(call: Call, x: Value) -> Value:
        return call.emit(op, x) if x.dtype.is_float else call.emit(of_integers, x, x)

    return translate


def _arithmetic(op: str) -> Callable[[Call, Operand, Operand], Value]:
    return lambda call, x, other: call.emit(op, *call.promoted(x, other))


def _logical(op: str) -> Callable[[Call, Value, Value], Value]:
    return lambda call, x, other: call.emit(op, call.truth(x), call.truth(other))


for _name, _op in _FLOATING.items():
    aten(_name)(_floating(_op))
for _name, _op in _SAME.items():
    aten(_name)(_same(_op))
for _name, _op in _ROUNDING.items():
    aten(_name)(_rounding(_op))
for _name, (_op, _of_integers) in _TESTS.items():
    aten(_name)(_test(_op, _of_integers))
for _name, _op in _ARITHMETIC.items():
    aten(_name)(_arithmetic(_op))
for _name, _op in _COMPARISONS.items():
    aten(f"{_name}.Tensor", f"{_name}.Scalar")(_arithmetic(_op))
for _op in _LOGICAL:
    aten(_op)(_logical(_op))


@aten("logical_not")
def logical_not(call: Call, x: Value) -> Value:
    return call.emit("logical_not", x)


@aten("bitwise_not")
def bitwise_not(call: Call, x: Value) -> Value:
    return call.emit("logical_not" if x.dtype == BOOL else "bitwise_not", x)


@aten("add.Tensor", "add.Scalar")
def add(call: Call, x: Operand, other: Operand, alpha: Scalar = 1) -> Value:
    return _scaled_sum(call, "add", x, other, alpha)


@aten("sub.Tensor", "sub.Scalar")
def sub(call: Call, x: Operand, other: Operand, alpha: Scalar = 1) -> Value:
    return _scaled_sum(call, "sub", x, other, alpha)


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(call: Call, x: Operand, other: Operand, alpha: Scalar = 1) -> Value:
    b, a = call.promoted(x, other)
    return call.emit("sub", a, _scaled(call, b, alpha))


def _scaled_sum(call: Call, op: str, x: Operand, other: Operand, alpha: Scalar) -> Value:
    a, b = call.promoted(x, other)
    return call.emit(op, a, _scaled(call, b, alpha))


def _scaled(call: Call, x: Value, factor: Scalar) -> Value:
    if not isinstance(factor, Polynomial) and factor == 1:
        return x
    return call.emit("mul", x, call.scalar(factor, x.dtype))


@aten("mul.Tensor", "mul.Scalar")
def mul(call: Call, x: Operand, other: Operand) -> Value:
    return call.emit("mul", *call.promoted(x, other))


@aten("div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode")
def div(call: Call, x: Operand, other: Operand, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return call.emit("div", *call.promoted(x, other, to_float=True))
    a, b = call.promoted(x, other)
    if rounding_mode == "floor":
        return call.emit("floor_div", a, b)
    quotient = call.emit("div", a, b)
    return call.emit("trunc", quotient) if a.dtype.is_float else quotient


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
def power(call: Call, x: Operand, exponent: Operand) -> Value:
    if exponent == 2 and isinstance(x, Value) and not isinstance(exponent, Value):
        base = call.tensor(x, result_dtype((x, exponent)))
        return call.emit("mul", base, base)
    return call.emit("pow", *call.promoted(x, exponent))


@aten("square")
def square(call: Call, x: Value) -> Value:
    return call.emit("mul", x, x)


@aten("atan2")
def atan2(call: Call, x: Value, other: Value) -> Value:
    return call.emit("atan2", *call.promoted(x, other, to_float=True))


@aten("clamp", "clip")
def clamp(call: Call, x: Value, low: Scalar | None = None, high: Scalar | None = None) -> Value:
    given = [bound for bound in (low, high) if bound is not None]
    x = call.cast(x, result_dtype([x, *given]))
    if any(isinstance(bound, Polynomial) for bound in given):
        return clamp_tensor(call, x, low, high)
    return call.emit("clamp", x, min=_number(low, x.dtype), max=_number(high, x.dtype))


def _number(value: Scalar | None, dtype: DType) -> float | int | None:
    if value is None or isinstance(value, Polynomial):
        return None
    return float(value) if dtype.is_float else int(value)


@aten("clamp.Tensor")
def clamp_tensor(call: Call, x: Value, low: Operand | None, high: Operand | None) -> Value:
    dtype = result_dtype([x, *(bound for bound in (low, high) if bound is not None)])
    x = call.cast(x, dtype)
    if low is not None:
        x = call.emit("maximum", x, call.tensor(low, dtype))
    if high is not None:
        x = call.emit("minimum", x, call.tensor(high, dtype))
    return x


@aten("clamp_min", "clamp_min.Tensor")
def clamp_min(call: Call, x: Value, low: Operand) -> Value:
    return clamp_tensor(call, x, low, None) if isinstance(low, Value) else clamp(call, x, low)


@aten("clamp_max", "clamp_max.Tensor")
def clamp_max(call: Call, x: Value, high: Operand) -> Value:
    if isinstance(high, Value):
        return clamp_tensor(call, x, None, high)
    return clamp(call, x, None, high)


@aten("hardtanh")
def hardtanh(call: Call, x: Value, min_val: float, max_val: float) -> Value:
    return call.emit("clamp", x, min=_number(min_val, x.dtype), max=_number(max_val, x.dtype))


@aten("relu6")
def relu6(call: Call, x: Value) -> Value:
    return hardtanh(call, x, 0, 6)


@aten("leaky_relu")
def leaky_relu(call: Call, x: Value, negative_slope: float) -> Value:
    return call.emit("leaky_relu", x, alpha=float(negative_slope))


@aten("elu")
def elu(call: Call, x: Value, alpha: float, scale: float, input_scale: float) -> Value:
    factors = {"alpha": float(alpha), "scale": float(scale), "input_scale": float(input_scale)}
    return call.emit("elu", x, **factors)


@aten("celu")
def celu(call: Call, x: Value, alpha: float) -> Value:
    return elu(call, x, alpha, 1.0, 1.0 / alpha)


@aten("selu")
def selu(call: Call, x: Value) -> Value:
    """The constants of arXiv 1706.02515."""
    return elu(call, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


@aten("gelu")
def gelu(call: Call, x: Value, approximate: str) -> Value:
    return call.emit("gelu", x, approximate=approximate)


@aten("softplus")
def softplus(call: Call, x: Value, beta: float, threshold: float) -> Value:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x is above the threshold."""
    scaled = x if beta == 1 else call.emit("mul", x, call.scalar(beta, x.dtype))
    result = call.emit("softplus", scaled)
    if beta != 1:
        result = call.emit("div", result, call.scalar(beta, x.dtype))
    above = call.emit("greater", scaled, call.scalar(threshold, x.dtype))
    return call.emit("where", above, x, result)


@aten("log_sigmoid")
def log_sigmoid(call: Call, x: Value) -> Value:
    return call.emit("neg", call.emit("softplus", call.emit("neg", x)))


@aten("prelu", "_prelu_kernel")
def prelu(call: Call, x: Value, weight: Value) -> Value:
    if weight.rank == 1 and x.rank > 1:
        weight = call.reshape(weight, (weight.shape[0], *(1,) * (x.rank - 2)))
    positive = call.emit("greater", x, call.scalar(0.0, x.dtype))
    return call.emit("where", positive, x, call.emit("mul", x, weight))


@aten("threshold")
def threshold(call: Call, x: Value, threshold: Scalar, value: Scalar) -> Value:
    above = call.emit("greater", x, call.scalar(threshold, x.dtype))
    # NaN is not above, yet it passes through
    kept = call.emit("logical_or", above, call.emit("not_equal", x, x))
    return call.emit("where", kept, x, call.scalar(value, x.dtype))


@aten("glu")
def glu(call: Call, x: Value, dim: int) -> Value:
    axis = dim % x.rank
    half = x.shape[axis] // 2
    gate = call.emit("sigmoid", call.slice(x, axis, half, x.shape[axis]))
    return call.emit("mul", call.slice(x, axis, 0, half), gate)


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(call: Call, condition: Value, x: Operand, other: Operand) -> Value:
    return call.emit("where", call.truth(condition), *call.promoted(x, other))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(call: Call, x: Value, mask: Value, value: Operand) -> Value:
    return call.emit("where", mask, call.tensor(value, x.dtype), x)


@aten("_to_copy", "to.dtype", "to.dtype_layout", "to.device")
def to_copy(call: Call, x: Value, dtype: DType | None = None) -> Value:
    return x if dtype is None else call.cast(x, dtype)


@operator("prims.convert_element_type.default")
def convert_element_type(call: Call, a: Value, dtype: DType) -> Value:
    return call.cast(a, dtype)


@aten("type_as", "to.other")
def type_as(call: Call, x: Value, other: Value) -> Value:
    return call.cast(x, other.dtype)


@aten("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "lift_fresh", "detach_copy",
      "alias_copy", "positive")  # fmt: skip
def identity(call: Call, x: Value) -> Value:
    return x


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(call: Call, x: Value, p: float, train: bool) -> Value:
    _refuse_training(p, train)
    return x


@aten("native_dropout")
def native_dropout(call: Call, x: Value, p: float, train: bool | None) -> tuple[Value, None]:
    _refuse_training(p, train)
    call.require_unused(1, "masks")
    return x, None


def _refuse_training(p: float, train: bool | None) -> None:
    if train and p > 0:
        raise Refusal("drops elements at random, as in training: call model.eval() first")


@aten("copy")
def copy(call: Call, x: Value, src: Value) -> Value:
    """`src` in the shape and element type of `x`."""
    return call.broadcast(call.cast(src, x.dtype), x.shape)


@aten("nan_to_num")
def nan_to_num(
    call: Call, x: Value, nan: float | None, posinf: float | None, neginf: float | None
) -> Value:
    if not x.dtype.is_float:
        return x
    largest, _ = largest_and_epsilon(x.dtype)
    ends = (largest if posinf is None else posinf, -largest if neginf is None else neginf)
    result = call.emit("where", call.emit("is_nan", x), call.scalar(nan or 0.0, x.dtype), x)
    for infinity, end in zip((float("inf"), float("-inf")), ends, strict=True):
        infinite = call.emit("equal", x, call.scalar(infinity, x.dtype))
        result = call.emit("where", infinite, call.scalar(end, x.dtype), result)
    return result
