"""Normalisations.

Scales and biases may be f32 beside f16 or bf16 data; results have the data's element type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranvier.ir.graph import Shape
from ranvier.ir.operators.operator import INT, NUMBER, Call, Numbers, Operator, Types, unary
from ranvier.ir.operators.shapes import axis, require_float, require_parameter_dtypes


def _infer_softmax(call: Call) -> Types:
    require_float(call)
    axis(call, call.integer("axis"))
    return call.same()


def softmax(x: Numbers, along: int = -1) -> Numbers:
    """exp(x - max) / sum(exp(x - max)) along one dim; NaN for a row of -inf."""
    power = np.exp(x - np.max(x, axis=along, keepdims=True))
    return np.asarray(power / np.sum(power, axis=along, keepdims=True))


def _softmax(call: Call, x: Numbers) -> Numbers:
    return softmax(x, call.integer("axis")) if x.size else x


def _log_softmax(call: Call, x: Numbers) -> Numbers:
    if not x.size:
        return x
    along = call.integer("axis")
    shifted = x - np.max(x, axis=along, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=along, keepdims=True)))


def _require_parameters(call: Call, shape: Shape) -> None:
    require_float(call)
    require_parameter_dtypes(call, 1)
    for operand in call.operands[1:]:
        if operand.shape != shape:
            expected = f"[{', '.join(map(str, shape))}]"
            raise call.error(f"parameters need the shape {expected}, got {operand}")


def _infer_over_trailing(call: Call) -> Types:
    first = axis(call, call.integer("axis"))
    _require_parameters(call, call.first.shape[first:])
    return call.same()


def _infer_over_channels(call: Call) -> Types:
    if call.first.rank < 2:
        raise call.error("needs data [N, C, ...]")
    _require_parameters(call, (call.first.shape[1],))
    return call.same()


def _infer_group_norm(call: Call) -> Types:
    types = _infer_over_channels(call)
    channels, groups = call.first.shape[1], call.integer("groups")
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise call.error(f"{channels} channels do not divide into {groups} groups")
    return types


def _standardised(x: Numbers, over: tuple[int, ...], epsilon: float) -> Numbers:
    centred = x - np.mean(x, axis=over, keepdims=True)
    variance = np.mean(centred * centred, axis=over, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + epsilon))


def _scaled(x: Numbers, parameters: Sequence[Numbers], shape: tuple[int, ...]) -> Numbers:
    """x * scale + bias, each of them optional, broadcast from `shape`."""
    for apply, parameter in zip((np.multiply, np.add), parameters, strict=False):
        x = np.asarray(apply(x, parameter.reshape(shape)))
    return x


def _layer_norm(call: Call, x: Numbers, *parameters: Numbers) -> Numbers:
    first = call.integer("axis")
    over = tuple(range(first, x.ndim))
    return _scaled(_standardised(x, over, call.number("epsilon")), parameters, x.shape[first:])


def _rms_norm(call: Call, x: Numbers, *parameters: Numbers) -> Numbers:
    first = call.integer("axis")
    over = tuple(range(first, x.ndim))
    mean_square: Any = np.mean(x * x, axis=over, keepdims=True)
    return _scaled(x / np.sqrt(mean_square + call.number("epsilon")), parameters, x.shape[first:])


def _per_channel(x: Numbers) -> tuple[int, ...]:
    return (-1,) + (1,) * (x.ndim - 2)


def _group_norm(call: Call, x: Numbers, *parameters: Numbers) -> Numbers:
    groups = call.integer("groups")
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    over = tuple(range(2, grouped.ndim))
    normal = _standardised(grouped, over, call.number("epsilon")).reshape(x.shape)
    return _scaled(normal, parameters, _per_channel(x))


def _batch_norm(
    call: Call, x: Numbers, scale: Numbers, bias: Numbers, mean: Numbers, variance: Numbers
) -> Numbers:
    factor = scale / np.sqrt(variance + call.number("epsilon"))
    shape = _per_channel(x)
    return (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)


_TRAILING = {"axis": INT, "epsilon": NUMBER}

OPERATORS = (
    unary("softmax", _infer_softmax, _softmax, {"axis": INT}, "wide"),
    unary("log_softmax", _infer_softmax, _log_softmax, {"axis": INT}, "wide"),
    Operator("layer_norm", 1, 3, _infer_over_trailing, _layer_norm, _TRAILING, "wide"),
    Operator("rms_norm", 1, 2, _infer_over_trailing, _rms_norm, _TRAILING, "wide"),
    Operator(
        "group_norm",
        1,
        3,
        _infer_group_norm,
        _group_norm,
        {"groups": INT, "epsilon": NUMBER},
        "wide",
    ),
    Operator("batch_norm", 5, 5, _infer_over_channels, _batch_norm, {"epsilon": NUMBER}, "wide"),
)
