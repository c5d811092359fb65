"""What every rule is made of: tuples of indices, guards, and the index maps that rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Node, Value
from ranvier.lowering.expression import Apply, Expression, Guard, Index, Literal

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner

Indices = tuple[Dim, ...]
Guards = tuple[Guard, ...]
Rule = Callable[["Inliner", Node, Indices, Guards], Expression]
"""Writes element `indices` of the node's result; reads happen only where all guards hold."""


def broadcast_indices(operand: Value, indices: Indices) -> Indices:
    """The indices at which `operand` is read for element `indices` of a NumPy-broadcast result."""
    own = indices[len(indices) - operand.rank :]
    return tuple(0 if size == 1 else index for size, index in zip(operand.shape, own, strict=True))


def row_major(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Strides, in elements, of a dense row-major array."""
    strides: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def guarded(guards: Guards, body: Expression, otherwise: Expression) -> Expression:
    """`body` where every guard holds, else `otherwise`."""
    condition: Expression | None = None
    for guard in guards:
        for test in (
            Apply("greater_equal", (Index(guard.index, I64), Literal(0, I64)), BOOL),
            Apply("less", (Index(guard.index, I64), Index(guard.limit, I64)), BOOL),
        ):
            condition = test if condition is None else Apply("logical_and", (condition, test), BOOL)
    return body if condition is None else Apply("where", (condition, body, otherwise), body.dtype)
