"""Element-wise operators: one result element per broadcast position."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ranvier.ir import narrow
from ranvier.ir.dtype import BOOL, decode, encode
from ranvier.ir.graph import TensorType
from ranvier.ir.operators.operator import (
    BOOLEAN,
    DTYPE,
    NUMBER,
    OPTIONAL_NUMBER,
    Call,
    Infer,
    Numbers,
    Operator,
    Types,
    choice,
    unary,
)
from ranvier.ir.operators.shapes import broadcast, require_float, require_same_dtype

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Numbers) -> Numbers:
    """The error function in f64."""
    return np.asarray(_erf(x), dtype=np.float64)


def sigmoid(x: Numbers) -> Numbers:
    """1 / (1 + exp(-x)), without cancellation on either side."""
    power = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + power), power / (1 + power))


def gelu(call: Call, x: Numbers) -> Numbers:
    """x * Phi(x), exactly or by the tanh approximation (Hendrycks and Gimpel, arXiv 1606.08415)."""
    if call.text("approximate") == "none":
        return 0.5 * x * np.asarray(_erfc(-x / math.sqrt(2)), dtype=np.float64)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)))


def _elu(call: Call, x: Numbers) -> Numbers:
    negative = call.number("alpha") * np.expm1(np.minimum(x, 0) * call.number("input_scale"))
    return call.number("scale") * np.where(x > 0, x, negative)


def _clamp(call: Call, x: Numbers) -> Numbers:
    for name, bound in (("min", np.maximum), ("max", np.minimum)):
        limit = call.attributes[name]
        if limit is not None:
            x = bound(x, np.asarray(limit).astype(x.dtype))
    return x


def _infer_cast(call: Call) -> Types:
    target = call.dtype()
    if target.is_narrow and not isinstance(target.format, narrow.IntegerFormat):
        raise call.error(f"narrow_cast makes {target}: it says what becomes of large numbers")
    return call.same(dtype=target)


def _cast(call: Call, x: Numbers) -> Numbers:
    source, target = call.first.dtype, call.dtype()
    numbers = decode(x, source)
    if target == BOOL:
        return np.asarray(numbers != 0)
    is_half = source.is_float and source.size == 2
    return encode(numbers.astype(np.float32) if is_half else numbers, target)


def _infer_narrow_cast(call: Call) -> Types:
    require_float(call)
    target = call.dtype()
    if not target.is_narrow or isinstance(target.format, narrow.IntegerFormat):
        raise call.error(f"makes floats of 8 bits and fewer, not {target}: use cast")
    return call.same(dtype=target)


def _narrow_cast(call: Call, x: Numbers) -> Numbers:
    numbers, format = decode(x, call.first.dtype), call.dtype().format
    return narrow.to_bits(numbers, format, call.flag("saturate"), call.text("rounding"))


def _pow(a: Numbers, b: Numbers) -> Numbers:
    if np.issubdtype(a.dtype, np.integer) and (b < 0).any():
        powers = np.power(a, np.maximum(b, 0))
        with np.errstate(divide="ignore"):
            inverse = np.trunc(np.float_power(a, b)) if a.size else powers
        return np.where(b < 0, np.nan_to_num(inverse, posinf=0, neginf=0), powers).astype(a.dtype)
    return np.power(a, b)


def _div(a: Numbers, b: Numbers) -> Numbers:
    if not np.issubdtype(a.dtype, np.integer):
        return np.true_divide(a, b)
    quotient = np.floor_divide(a, b)
    inexact = (np.remainder(a, b) != 0) & ((a < 0) != (b < 0))
    return np.asarray(quotient + inexact.astype(a.dtype))


_WIDE: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "expm1": np.expm1, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": sigmoid, "erf": erf,
    "silu": lambda x: x * sigmoid(x), "softplus": lambda x: np.logaddexp(0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sqrt": np.sqrt, "reciprocal": lambda x: 1 / x,
}  # fmt: skip
_NUMERIC: dict[str, Callable[[Any], Any]] = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil,
    "round": lambda x: np.rint(x) if np.issubdtype(x.dtype, np.inexact) else x,
    "trunc": np.trunc, "relu": lambda x: np.maximum(x, x.dtype.type(0)),
}  # fmt: skip
_TESTS: dict[str, Callable[[Any], Any]] = {
    "logical_not": np.logical_not, "is_nan": np.isnan, "is_inf": np.isinf, "is_finite": np.isfinite,
}  # fmt: skip
_BINARY: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "add": ("any", np.add), "sub": ("number", np.subtract), "mul": ("any", np.multiply),
    "div": ("number", _div), "floor_div": ("number", np.floor_divide),
    "remainder": ("number", np.remainder), "fmod": ("number", np.fmod), "pow": ("number", _pow),
    "maximum": ("any", np.maximum), "minimum": ("any", np.minimum), "atan2": ("float", np.arctan2),
    "bitwise_and": ("bits", np.bitwise_and), "bitwise_or": ("bits", np.bitwise_or),
    "bitwise_xor": ("bits", np.bitwise_xor), "shift_left": ("integer", np.left_shift),
    "shift_right": ("integer", np.right_shift),
}  # fmt: skip
_WIDE_BINARY = ("pow", "atan2")
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip


def _require(call: Call, domain: str) -> None:
    dtype = call.first.dtype
    fits = {
        "any": True,
        "number": dtype != BOOL,
        "float": dtype.is_float,
        "integer": dtype.is_integer,
        "bits": not dtype.is_float,
    }
    if not fits[domain]:
        raise call.error(f"is not defined on {dtype}")


def _same(domain: str) -> Infer:
    def infer(call: Call) -> Types:
        _require(call, domain)
        return call.same()

    return infer


def _to_bool(call: Call) -> Types:
    return call.same(dtype=BOOL)


def _infer_float_test(call: Call) -> Types:
    require_float(call)
    return call.same(dtype=BOOL)


def _infer_binary(domain: str) -> Infer:
    def infer(call: Call) -> Types:
        dtype = require_same_dtype(call)
        _require(call, domain)
        return (TensorType(dtype, broadcast(call, *(t.shape for t in call.operands))),)

    return infer


def _infer_comparison(call: Call) -> Types:
    require_same_dtype(call)
    return (TensorType(BOOL, broadcast(call, *(t.shape for t in call.operands))),)


def _infer_where(call: Call) -> Types:
    if call.first.dtype != BOOL:
        raise call.error(f"the condition must be bool, got {call.first.dtype}")
    dtype = require_same_dtype(call, first=1)
    return (TensorType(dtype, broadcast(call, *(t.shape for t in call.operands))),)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function as a definition that needs nothing of the call."""
    return lambda call, *arrays: function(*arrays)


def _leaky_relu(call: Call, x: Numbers) -> Numbers:
    return np.where(x >= 0, x, x * x.dtype.type(call.number("alpha")))


OPERATORS = (
    *(unary(name, _same("float"), _plain(f), width="wide") for name, f in _WIDE.items()),
    *(unary(name, _same("number"), _plain(f)) for name, f in _NUMERIC.items()),
    unary("bitwise_not", _same("bits"), _plain(np.invert)),
    unary("gelu", _same("float"), gelu, {"approximate": choice("none", "tanh")}, "wide"),
    unary("leaky_relu", _same("float"), _leaky_relu, {"alpha": NUMBER}),
    unary(
        "elu",
        _same("float"),
        _elu,
        {"alpha": NUMBER, "scale": NUMBER, "input_scale": NUMBER},
        "wide",
    ),
    unary("clamp", _same("number"), _clamp, {"min": OPTIONAL_NUMBER, "max": OPTIONAL_NUMBER}),
    *(
        unary(name, _to_bool if name == "logical_not" else _infer_float_test, _plain(f))
        for name, f in _TESTS.items()
    ),
    unary("cast", _infer_cast, _cast, {"dtype": DTYPE}, "raw"),
    unary(
        "narrow_cast",
        _infer_narrow_cast,
        _narrow_cast,
        {"dtype": DTYPE, "saturate": BOOLEAN, "rounding": choice(*narrow.ROUNDINGS)},
        "raw",
    ),
    *(
        Operator(
            name,
            2,
            2,
            _infer_binary(domain),
            _plain(f),
            width="wide" if name in _WIDE_BINARY else "native",
        )
        for name, (domain, f) in _BINARY.items()
    ),
    *(Operator(name, 2, 2, _infer_comparison, _plain(f)) for name, f in _COMPARISONS.items()),
    Operator("where", 3, 3, _infer_where, _plain(np.where), width="raw"),
)
