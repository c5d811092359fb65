"""Distances between vectors of ATen."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

import math

import numpy as np

from ranvier.frontends.torch.aten_reductions import vector_norm
from ranvier.frontends.torch.call import Call, static
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.graph import Value


@aten("_cdist_forward")
def cdist(
    call: Call, x1: Value, x2: Value, p: float = 2.0, compute_mode: int | None = None
) -> Value:
    """Norms of the differences of all pairs of rows; how they are computed is no part of it."""
    *lead, rows, width = x1.shape
    *others, columns, _ = x2.shape
    left = call.reshape(x1, (*lead, rows, 1, width))
    right = call.reshape(x2, (*others, 1, columns, width))
    return _norm_of_rows(call, call.emit("sub", left, right), p)


def _norm_of_rows(call: Call, gaps: Value, p: float) -> Value:
    if math.isinf(p):
        size = call.emit("abs", gaps)
        return call.emit("reduce_max", size, axes=(gaps.rank - 1,), keepdims=False)
    return vector_norm(call, gaps, p, dim=-1)


@aten("_pdist_forward")
def pdist(call: Call, x: Value, p: float = 2.0) -> Value:
    """Norms of the differences of rows i < j, in the order of the upper triangle."""
    rows, columns = np.triu_indices(static(x.shape[0], "the number of rows"), 1)
    left, right = (
        call.emit("gather", x, call.builder.constant(side.astype(np.int64)), axis=0)
        for side in (rows, columns)
    )
    return _norm_of_rows(call, call.emit("sub", left, right), p)


@aten("dist")
def dist(call: Call, x: Value, other: Value, p: Scalar = 2) -> Value:
    return vector_norm(call, call.emit("sub", *call.promoted(x, other)), p)
