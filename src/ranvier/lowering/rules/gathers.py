"""Rules of gathers: an index read from memory becomes a data symbol of the access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.errors import UnsupportedOperatorError
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Node, Value
from ranvier.lowering.expression import Apply, Expression, Index, Literal
from ranvier.lowering.rules.indices import Guards, Indices, Rule

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _data_index(
    inliner: Inliner, indices_value: Value, indices: Indices, size: Dim, guards: Guards
) -> tuple[tuple[str, Expression], Dim]:
    """A data symbol for an index read from memory, with what binds it.

    Negative indices count from the end; all are clamped, so that no read leaves the data.
    """
    raw = inliner.element(indices_value, indices, guards)
    wide = raw if raw.dtype is I64 else Apply("cast", (raw,), I64)
    extent = Index(size, I64)
    wrapped = Apply(
        "where",
        (Apply("less", (wide, Literal(0, I64)), BOOL), Apply("add", (wide, extent), I64), wide),
        I64,
    )
    high = Apply("minimum", (wrapped, Index(size - 1, I64)), I64)
    name, symbol = inliner.scope.data_symbol(size - 1)
    return (name, Apply("maximum", (high, Literal(0, I64)), I64)), symbol


def _read_indirect(
    inliner: Inliner,
    data: Value,
    indices: Indices,
    guards: Guards,
    bound: tuple[tuple[str, Expression], ...],
) -> Expression:
    tensor = inliner.lowering.tensors.get(data) or inliner.lowering.materialize(data)
    return inliner.scope.access(tensor, indices, guards, bound)


def _gather(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    data, positions = node.operands
    axis = node.attribute("axis")
    inner = indices[axis : axis + positions.rank]
    bound, symbol = _data_index(inliner, positions, inner, data.shape[axis], guards)
    source = (*indices[:axis], symbol, *indices[axis + positions.rank :])
    return _read_indirect(inliner, data, source, guards, (bound,))


def _gather_elements(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    data, positions = node.operands
    axis = node.attribute("axis")
    bound, symbol = _data_index(inliner, positions, indices, data.shape[axis], guards)
    source = (*indices[:axis], symbol, *indices[axis + 1 :])
    return _read_indirect(inliner, data, source, guards, (bound,))


def _gather_nd(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    data, positions = node.operands
    batch = node.attribute("batch_dims")
    depth = positions.shape[-1]
    if not isinstance(depth, int):
        raise UnsupportedOperatorError(f"gather_nd with a symbolic index depth @ {node.source}")
    outer = indices[: positions.rank - 1]
    bound, source = [], list(indices[:batch])
    for axis in range(depth):
        entry, symbol = _data_index(
            inliner, positions, (*outer, axis), data.shape[batch + axis], guards
        )
        bound.append(entry)
        source.append(symbol)
    source.extend(indices[positions.rank - 1 :])
    return _read_indirect(inliner, data, tuple(source), guards, tuple(bound))


RULES: dict[str, Rule] = {
    "gather": _gather,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
}
