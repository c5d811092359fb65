"""Element types and tensors of PyTorch as Ranvier's, and PyTorch's rules of type promotion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch

from ranvier.ir.dim import Polynomial
from ranvier.ir.dtype import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Array,
    DType,
)
from ranvier.ir.graph import Value

Scalar = bool | int | float | Polynomial
Operand = Value | Scalar

_FROM_TORCH = {
    torch.float16: F16, torch.bfloat16: BF16, torch.float32: F32, torch.float64: F64,
    torch.int8: I8, torch.int16: I16, torch.int32: I32, torch.int64: I64,
    torch.uint8: U8, torch.uint16: U16, torch.uint32: U32, torch.uint64: U64, torch.bool: BOOL,
}  # fmt: skip
_TO_TORCH = {ours: theirs for theirs, ours in _FROM_TORCH.items()}


def from_torch(dtype: torch.dtype) -> DType | None:
    """The element type of a torch dtype, or None when Ranvier has none (complex, quantised)."""
    return _FROM_TORCH.get(dtype)


def largest_and_epsilon(dtype: DType) -> tuple[float, float]:
    """The largest number of a float type, and the gap behind 1."""
    info = torch.finfo(_TO_TORCH[dtype])
    return info.max, info.eps


def to_array(tensor: torch.Tensor) -> Array:
    """The elements of a dense CPU tensor in logical order (bf16 bits as uint16); shares memory."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return np.asarray(plain.view(torch.uint16).numpy())
    return np.asarray(plain.numpy())


def result_dtype(operands: Sequence[Operand]) -> DType:
    """The element type that PyTorch computes in: tensors with dims decide before rank-0 tensors,

    and those before Python numbers, unless the latter are of a higher category
    (https://docs.pytorch.org/docs/stable/tensor_attributes.html, "type promotion").
    """
    tensors = [v for v in operands if isinstance(v, Value)]
    groups = (
        [_TO_TORCH[v.dtype] for v in tensors if v.rank],
        [_TO_TORCH[v.dtype] for v in tensors if not v.rank],
        [_scalar_dtype(v) for v in operands if not isinstance(v, Value)],
    )
    known = [reduce(torch.promote_types, group) for group in groups if group]
    return _FROM_TORCH[reduce(_dominate, known)]


def _scalar_dtype(value: Scalar) -> torch.dtype:
    if isinstance(value, bool):
        return torch.bool
    return torch.float32 if isinstance(value, float) else torch.int64


def _dominate(stronger: torch.dtype, weaker: torch.dtype) -> torch.dtype:
    """The stronger group keeps its type unless the weaker is of a higher category."""
    if _category(weaker) > _category(stronger):
        return torch.promote_types(stronger, weaker)
    return stronger


def _category(dtype: torch.dtype) -> int:
    return 2 if dtype.is_floating_point else 0 if dtype == torch.bool else 1
