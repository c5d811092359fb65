"""Reductions over dims, positions of extremes and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.operators.operator import (
    BOOLEAN,
    INT,
    INTS,
    NUMBER,
    Call,
    Infer,
    Numbers,
    Types,
    unary,
)
from ranvier.ir.operators.shapes import axis, reduced, require_float

_REDUCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "reduce_sum": ("number", np.sum), "reduce_mean": ("float", np.mean),
    "reduce_max": ("any", np.max), "reduce_min": ("any", np.min),
    "reduce_prod": ("number", np.prod),
    "reduce_any": ("bool", np.any), "reduce_all": ("bool", np.all),
}  # fmt: skip


def _infer_reduction(domain: str) -> Infer:
    def infer(call: Call) -> Types:
        dtype = call.first.dtype
        fits = {
            "any": True,
            "number": dtype != BOOL,
            "float": dtype.is_float,
            "bool": dtype == BOOL,
        }
        if not fits[domain]:
            raise call.error(f"is not defined on {dtype}")
        return call.same(reduced(call, call.ints("axes"), call.flag("keepdims")))

    return infer


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def definition(call: Call, x: Numbers) -> Numbers:
        result = function(x, axis=call.ints("axes"), keepdims=call.flag("keepdims"))
        return np.asarray(result)

    return definition


def _infer_position(call: Call) -> Types:
    along = call.integer("axis")
    return call.same(reduced(call, (along,), call.flag("keepdims")), I64)


def _position(function: Callable[..., Any]) -> Callable[..., Any]:
    def definition(call: Call, x: Numbers) -> Numbers:
        return np.asarray(function(x, axis=call.integer("axis"), keepdims=call.flag("keepdims")))

    return definition


def _infer_cumsum(call: Call) -> Types:
    axis(call, call.integer("axis"))
    if call.first.dtype == BOOL:
        raise call.error("is not defined on bool")
    return call.same()


def _infer_variance(call: Call) -> Types:
    require_float(call)
    return call.same(reduced(call, call.ints("axes"), call.flag("keepdims")))


def _variance(call: Call, x: Numbers) -> Numbers:
    """Sum of squared deviations over (count - correction); nothing is left to divide by: NaN."""
    over, keep = call.ints("axes"), call.flag("keepdims")
    deviation = x - np.mean(x, axis=over, keepdims=True)
    count = np.prod([x.shape[i] for i in over], dtype=np.float64)
    squares = np.asarray(np.sum(deviation * deviation, axis=over, keepdims=keep))
    return np.asarray(squares / np.maximum(count - call.number("correction"), 0))


def _cumsum(call: Call, x: Numbers) -> Numbers:
    return np.cumsum(x, axis=call.integer("axis"), dtype=x.dtype)


_AXES = {"axes": INTS, "keepdims": BOOLEAN}
_AXIS = {"axis": INT, "keepdims": BOOLEAN}

OPERATORS = (
    *(
        unary(name, _infer_reduction(domain), _reduction(f), _AXES, "wide")
        for name, (domain, f) in _REDUCTIONS.items()
    ),
    unary("reduce_variance", _infer_variance, _variance, {**_AXES, "correction": NUMBER}, "wide"),
    unary("arg_max", _infer_position, _position(np.argmax), _AXIS),
    unary("arg_min", _infer_position, _position(np.argmin), _AXIS),
    unary("cumsum", _infer_cumsum, _cumsum, {"axis": INT}, "wide"),
)
