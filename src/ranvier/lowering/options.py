"""What the caller of the compiler may decide about lowering."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoweringOptions:
    """`winograd`: convolutions may take fewer multiplications, which changes their rounding."""

    winograd: bool = True
