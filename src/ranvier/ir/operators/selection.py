"""Sorting and selection: values in the operand's type, positions in i64.

Equal elements keep their order; NaN counts as the largest value.
"""

from __future__ import annotations

import numpy as np

from ranvier.ir.dim import bounds
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import TensorType
from ranvier.ir.operators.operator import BOOLEAN, DIM, INT, Call, Numbers, Types, unary
from ranvier.ir.operators.shapes import axis


def _infer_sort(call: Call) -> Types:
    axis(call, call.integer("axis"))
    return (call.first, TensorType(I64, call.first.shape))


def _infer_top_k(call: Call) -> Types:
    along, count = axis(call, call.integer("axis")), call.dim("k")
    shape = call.first.shape
    spare = bounds(shape[along] - count)[1]
    if spare is not None and spare < 0:
        raise call.error(f"k is {count}, but dim {along} has {shape[along]} elements")
    shape = (*shape[:along], count, *shape[along + 1 :])
    return (TensorType(call.first.dtype, shape), TensorType(I64, shape))


def order(x: Numbers, along: int, descending: bool) -> Numbers:
    """Positions that sort `x` stably along one dim."""
    if not descending:
        return np.argsort(x, axis=along, kind="stable")
    last = x.shape[along] - 1
    backwards = np.argsort(np.flip(x, along), axis=along, kind="stable")
    return np.asarray(last - np.flip(backwards, along))


def _sort(call: Call, x: Numbers) -> tuple[Numbers, Numbers]:
    along = call.integer("axis")
    positions = order(x, along, call.flag("descending"))
    return np.take_along_axis(x, positions, along), positions


def _top_k(call: Call, x: Numbers) -> tuple[Numbers, Numbers]:
    along = call.integer("axis")
    kept = np.arange(call.size(call.dim("k")))
    positions = np.take(order(x, along, call.flag("largest")), kept, axis=along)
    return np.take_along_axis(x, positions, along), positions


def _infer_nonzero(call: Call) -> Types:
    if call.first.dtype != BOOL:
        raise call.error(f"takes a bool operand, got {call.first}")
    return (TensorType(I64, (call.dim("count"),)),)


def _nonzero(call: Call, x: Numbers) -> Numbers:
    """Positions in row-major order; as many as `count` says, zeros where fewer were found."""
    positions = np.zeros(call.size(call.dim("count")), np.int64)
    found = np.flatnonzero(x)[: len(positions)]
    positions[: len(found)] = found
    return positions


OPERATORS = (
    unary("nonzero", _infer_nonzero, _nonzero, {"count": DIM}, "raw"),
    unary("top_k", _infer_top_k, _top_k, {"k": DIM, "axis": INT, "largest": BOOLEAN}),
    unary("sort", _infer_sort, _sort, {"axis": INT, "descending": BOOLEAN}),
)
