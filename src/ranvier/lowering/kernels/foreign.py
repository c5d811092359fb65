"""A step that a framework computes; native code only meets there."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim
from ranvier.ir.graph import TensorType


@dataclass(frozen=True)
class Foreign:
    """A segment and the types of its tensors; the step's arguments are operands, then results.

    `document` and `framework` are as `ranvier.segments` takes them, `sizes` the dims that the
    document refers to.
    """

    framework: str
    document: bytes
    operands: tuple[TensorType, ...]
    results: tuple[TensorType, ...]
    sizes: tuple[Dim, ...]
