"""Gathers and scatters: the position of an element is read from another operand."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranvier.ir.graph import TensorType
from ranvier.ir.operators.operator import INT, Call, Numbers, Operator, Types, choice
from ranvier.ir.operators.shapes import axis

_COMBINE: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _require_indices(call: Call) -> TensorType:
    indices = call.operands[1]
    if not indices.dtype.is_integer:
        raise call.error(f"indices must be integers, got {indices.dtype}")
    return indices


def _infer_gather(call: Call) -> Types:
    data, indices, along = call.first, _require_indices(call), axis(call, call.integer("axis"))
    return call.same(data.shape[:along] + indices.shape + data.shape[along + 1 :])


def _infer_gather_elements(call: Call) -> Types:
    indices, along = _require_indices(call), axis(call, call.integer("axis"))
    _require_elements(call, indices, along)
    return call.same(indices.shape)


def _require_elements(call: Call, indices: TensorType, along: int) -> None:
    data = call.first
    if indices.rank != data.rank:
        raise call.error(f"data of rank {data.rank} needs indices of the same rank")
    for i, (size, count) in enumerate(zip(data.shape, indices.shape, strict=True)):
        larger = isinstance(size, int) and isinstance(count, int) and count > size
        if i != along and larger:
            raise call.error(f"dim {i} of the indices ({count}) exceeds the data's ({size})")


def _gather_elements(call: Call, data: Numbers, indices: Numbers) -> Numbers:
    along = call.integer("axis")
    kept = tuple(slice(None if i == along else n) for i, n in enumerate(indices.shape))
    return np.take_along_axis(data[kept], indices.astype(np.int64), along)


def _depth(call: Call, indices: TensorType) -> int:
    depth = indices.shape[-1] if indices.rank else None
    if not isinstance(depth, int):
        raise call.error("the last dim of the indices must be a constant")
    return depth


def _infer_gather_nd(call: Call) -> Types:
    data, indices, batch = call.first, _require_indices(call), call.integer("batch_dims")
    depth = _depth(call, indices)
    if not 0 <= batch < indices.rank or batch + depth > data.rank:
        raise call.error(f"{batch} batch dims and {depth} index dims do not fit the data")
    if data.shape[:batch] != indices.shape[:batch]:
        raise call.error("batch dims differ")
    return call.same(indices.shape[:-1] + data.shape[batch + depth :])


def _gather_nd(call: Call, data: Numbers, indices: Numbers) -> Numbers:
    batch = call.integer("batch_dims")
    grid: tuple[Numbers, ...] = np.indices(indices.shape[:batch], sparse=True)
    extra = indices.ndim - 1 - batch
    leading = tuple(g.reshape(g.shape + (1,) * extra) for g in grid)
    return np.asarray(data[(*leading, *np.moveaxis(indices, -1, 0))])


def _infer_scatter_nd(call: Call) -> Types:
    data, indices, updates = call.first, _require_indices(call), call.operands[2]
    depth = _depth(call, indices)
    if depth > data.rank or updates.shape != indices.shape[:-1] + data.shape[depth:]:
        raise call.error("updates do not have the shape that indices and data call for")
    if updates.dtype != data.dtype:
        raise call.error("updates and data need equal element types")
    return call.same()


def _scatter_nd(call: Call, data: Numbers, indices: Numbers, updates: Numbers) -> Numbers:
    result = data.copy()
    result[tuple(np.moveaxis(indices, -1, 0))] = updates
    return result


def _infer_scatter_elements(call: Call) -> Types:
    indices, updates = _require_indices(call), call.operands[2]
    _require_elements(call, indices, axis(call, call.integer("axis")))
    if updates.shape != indices.shape or updates.dtype != call.first.dtype:
        raise call.error("updates need the indices' shape and the data's element type")
    return call.same()


def _scatter_elements(call: Call, data: Numbers, indices: Numbers, updates: Numbers) -> Numbers:
    result = data.copy()
    where: list[Numbers] = list(np.indices(indices.shape, sparse=True))
    where[call.integer("axis")] = indices
    reduction = call.text("reduction")
    if reduction == "none":
        result[tuple(where)] = updates
    else:
        _COMBINE[reduction].at(result, tuple(where), updates)
    return result


def _gather(call: Call, data: Numbers, indices: Numbers) -> Numbers:
    return np.take(data, indices, axis=call.integer("axis"))


OPERATORS = (
    Operator("gather", 2, 2, _infer_gather, _gather, {"axis": INT}, "raw"),
    Operator(
        "gather_elements", 2, 2, _infer_gather_elements, _gather_elements, {"axis": INT}, "raw"
    ),
    Operator("gather_nd", 2, 2, _infer_gather_nd, _gather_nd, {"batch_dims": INT}, "raw"),
    Operator("scatter_nd", 3, 3, _infer_scatter_nd, _scatter_nd, {}, "raw"),
    Operator(
        "scatter_elements",
        3,
        3,
        _infer_scatter_elements,
        _scatter_elements,
        {"axis": INT, "reduction": choice("none", *_COMBINE)},
    ),
)
