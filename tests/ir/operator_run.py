"""Runs one operator on arrays, and checks that its result has the inferred types."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.ir.dtype import from_numpy
from ranvier.ir.graph import TensorType
from ranvier.ir.operators import evaluate, infer

Numbers = npt.NDArray[Any]
RANDOM = np.random.default_rng(7)


def normal(*shape: int) -> npt.NDArray[np.float32]:
    """Standard normal f32 numbers."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def run_all(op: str, *arrays: Numbers, **attributes: object) -> tuple[Numbers, ...]:
    """All results of an operator."""
    types = [TensorType(from_numpy(array.dtype), array.shape) for array in arrays]
    results = infer(op, types, attributes)
    found = evaluate(op, arrays, types, attributes, results)
    for array, type in zip(found, results, strict=True):
        assert array.shape == type.shape
        assert array.dtype == type.dtype.storage
    return found


def run(op: str, *arrays: Numbers, **attributes: object) -> Numbers:
    """The only result of an operator."""
    (found,) = run_all(op, *arrays, **attributes)
    return found
