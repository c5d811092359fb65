"""The compact kernel: positions of the elements of a mask that are true, in order.

    position = 0
    for i in 0 .. extent - 1:
        if mask[i] and position < count:
            positions[position++] = i

Each thread counts what lies before its part of the mask and then writes the positions of its part,
so the work is split without an exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim


@dataclass(frozen=True)
class Compact:
    """Operand 0 is the mask (bool, dense), operand 1 the positions (i64); scalars as in `Nest`."""

    extent: Dim
    count: Dim
    scalars: tuple[str, ...]
