"""The scatter kernel: elements go where other elements say, in order.

    for parts (split over threads):
        for updates (in order):
            positions = ...                          -- integers, read from memory
            if every position is within its limit:
                operand[store.offset] = store.value  -- the offset mentions the positions

Iterations of `parts` write different elements. `store.value` may read the element that it replaces.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim
from ranvier.lowering.expression import Expression, Loop
from ranvier.lowering.kernels.nest import Store


@dataclass(frozen=True)
class Position:
    """An index read from memory: its symbol, its value, and the size that it must not reach."""

    name: str
    value: Expression
    limit: Dim


@dataclass(frozen=True)
class Scatter:
    """A scatter over `parts` and `updates`; operands and scalars as in `Nest`."""

    parts: Loop
    updates: Loop
    positions: tuple[Position, ...]
    store: Store
    operand_count: int
    scalars: tuple[str, ...]
