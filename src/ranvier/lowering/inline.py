"""Values as expressions: element (i0, i1, ...) of a value in terms of a kernel's operands.

`RULES` maps an operator to a function that writes one element of its result (`rules/` has them). A
value that lies in memory is an `Access`; any other is inlined through its operator's rule, so a
chain of element-wise operators and index maps becomes one expression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir.graph import Value
from ranvier.lowering.expression import Access, Expression, Literal, compute_dtype
from ranvier.lowering.rules import (
    contractions,
    elementwise,
    gathers,
    normalization,
    reductions,
    sources,
    views,
    windows,
)
from ranvier.lowering.rules.indices import (
    Guards,
    Indices,
    Rule,
    broadcast_indices,
    guarded,
    row_major,
)
from ranvier.lowering.scope import KernelScope

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

__all__ = [
    "HAS_REDUCTION",
    "RULES",
    "VIEWS",
    "Inliner",
    "broadcast_indices",
    "guarded",
    "row_major",
]

REDUCING_RULES: dict[str, Rule] = {
    **reductions.RULES,
    **normalization.RULES,
    **windows.RULES,
    **contractions.RULES,
}
RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **views.RULES,
    **gathers.RULES,
    **sources.RULES,
    **REDUCING_RULES,
}

# Index maps and sources: recomputing an element costs no more than reading it.
VIEWS = frozenset({
    "reshape", "transpose", "broadcast", "slice", "reverse", "roll", "pad", "full", "iota", "dim",
    "constant", "cast", "bit_cast",
})  # fmt: skip
HAS_REDUCTION = frozenset(REDUCING_RULES)


class Inliner:
    """Writes elements of values for one kernel; the caller says what `pending` values are.

    Where the kernel has no `loops` of its own (an epilogue), reductions are read from memory.
    """

    def __init__(self, lowering: Lowering, scope: KernelScope, loops: bool = True) -> None:
        self.lowering = lowering
        self.scope = scope
        self.loops = loops
        self.pending: dict[Value, Expression] = {}
        self.operators: list[str] = []

    def element(self, value: Value, indices: Indices, guards: Guards = ()) -> Expression:
        """Element `indices` of `value`; reads happen only where all `guards` hold."""
        if value in self.pending:
            return self.pending[value]
        tensor = self.lowering.tensors.get(value)
        if tensor is not None:
            return self.scope.access(tensor, indices, guards)
        node = self.lowering.producer(value)
        if node.op == "constant" and (value.rank == 0 or self.lowering.is_splat(value)):
            return Literal(self.lowering.scalar_of(value), compute_dtype(value.dtype))
        is_loop = node.op in HAS_REDUCTION
        if not self.lowering.may_inline(value) or (is_loop and not self.loops):
            return self.scope.access(self.lowering.materialize(value), indices, guards)
        self.operators.append(node.op)
        return RULES[node.op](self, node, indices, guards)

    def read(self, value: Value, indices: Indices, guards: Guards = ()) -> Access:
        """Element `indices` of `value` as a memory read; `value` is materialised if need be."""
        found = self.lowering.tensors.get(value) or self.lowering.materialize(value)
        return self.scope.access(found, indices, guards)
