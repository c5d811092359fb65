"""Operators without operands."""

from __future__ import annotations

from typing import cast

import numpy as np

from ranvier.ir.dtype import Array, from_numpy
from ranvier.ir.graph import TensorType
from ranvier.ir.operators.operator import (
    DIM,
    DIMS,
    DTYPE,
    SCALAR,
    TENSOR,
    Call,
    Numbers,
    Operator,
    Types,
)


def _infer_constant(call: Call) -> Types:
    """The array's own element type; a node may say bf16 for a uint16 array (see the verifier)."""
    array = cast(Array, call.attributes["value"])
    return (TensorType(from_numpy(array.dtype), tuple(array.shape)),)


def _full(call: Call) -> Numbers:
    """The value, rounded once to the element type by the caller."""
    kind = np.float64 if call.dtype().is_float else call.dtype().storage
    return np.full(call.sizes("shape"), call.attributes["value"], dtype=kind)


def _infer_iota(call: Call) -> Types:
    return (TensorType(call.dtype(), (call.dim("size"),)),)


OPERATORS = (
    Operator(
        "constant",
        0,
        0,
        _infer_constant,
        lambda call: call.attributes["value"],
        {"value": TENSOR},
        "raw",
    ),
    Operator(
        "full",
        0,
        0,
        lambda call: (TensorType(call.dtype(), call.dims("shape")),),
        _full,
        {"shape": DIMS, "value": SCALAR, "dtype": DTYPE},
    ),
    Operator(
        "iota",
        0,
        0,
        _infer_iota,
        lambda call: np.arange(call.size(call.dim("size"))),
        {"size": DIM, "dtype": DTYPE},
    ),
    Operator(
        "dim",
        0,
        0,
        lambda call: (TensorType(call.dtype(), ()),),
        lambda call: np.asarray(call.size(call.dim("value"))),
        {"value": DIM, "dtype": DTYPE},
    ),
)
