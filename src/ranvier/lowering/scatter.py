"""Scatters -> a copy of the data, then a step that overwrites elements in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Node, Value
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.expression import Access, Apply, Expression, Index, Literal, Loop
from ranvier.lowering.inline import Inliner
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.scatter import Position, Scatter
from ranvier.lowering.nests import moved_bytes
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope, delinearize, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

COMBINE = {"add": "add", "mul": "mul", "max": "maximum", "min": "minimum"}


@dataclass(frozen=True)
class _Plan:
    """Loops of a scatter, and where an iteration reads and writes."""

    parts: Loop
    updates: Loop
    positions: tuple[Position, ...]
    target: tuple[Dim, ...]
    source: tuple[Dim, ...]


def lower_scatter(lowering: Lowering, node: Node) -> None:
    """`scatter_elements` and `scatter_nd`: positions outside the data are left out."""
    data, _, updates = node.operands
    for operand in node.operands:
        lowering.materialize(operand)
    tensor = lowering.allocate(node.result)
    lowering.write_nest(data, tensor)
    lowering.tensors[node.result] = tensor
    scope = KernelScope()
    inliner = Inliner(lowering, scope)
    number = scope.operand(tensor, written=True)
    plan = _elements(inliner, node) if node.op == "scatter_elements" else _slices(inliner, node)
    offset = linear_offset(plan.target, tensor.strides)
    value: Expression = inliner.read(updates, plan.source)
    combine = COMBINE.get(str(node.attributes.get("reduction", "none")))
    if combine is not None:
        value = Apply(combine, (Access(number, offset, tensor.dtype), value), value.dtype)
    _add_step(lowering, node, scope, plan, Store(number, offset, tensor.dtype, value), tensor)


def _elements(inliner: Inliner, node: Node) -> _Plan:
    """Lines along the axis write different elements, so they are the parts."""
    data, indices, _ = node.operands
    axis = node.attribute("axis")
    lines = (*indices.shape[:axis], *indices.shape[axis + 1 :])
    parts = inliner.scope.loop(dims.product(lines))
    updates = inliner.scope.loop(indices.shape[axis])
    line = delinearize(parts.variable, lines)
    source = (*line[:axis], updates.variable, *line[axis:])
    position, symbol = _position(inliner, indices, source, data.shape[axis])
    target = (*line[:axis], symbol, *line[axis:])
    return _Plan(parts, updates, (position,), target, source)


def _slices(inliner: Inliner, node: Node) -> _Plan:
    """Elements of a slice are different ones, so they are the parts."""
    data, indices, _ = node.operands
    depth = indices.shape[-1]
    assert isinstance(depth, int)
    inner, outer = data.shape[depth:], indices.shape[:-1]
    parts = inliner.scope.loop(dims.product(inner))
    updates = inliner.scope.loop(dims.product(outer))
    element, number = delinearize(parts.variable, inner), delinearize(updates.variable, outer)
    found = [_position(inliner, indices, (*number, i), data.shape[i]) for i in range(depth)]
    target = (*(symbol for _, symbol in found), *element)
    return _Plan(parts, updates, tuple(p for p, _ in found), target, (*number, *element))


def _position(
    inliner: Inliner, indices: Value, place: tuple[Dim, ...], size: Dim
) -> tuple[Position, Dim]:
    """An index read from memory, negative ones counted from the end, and its symbol."""
    raw: Expression = inliner.read(indices, place)
    wide = raw if raw.dtype is I64 else Apply("cast", (raw,), I64)
    is_negative = Apply("less", (wide, Literal(0, I64)), BOOL)
    from_end = Apply("add", (wide, Index(size, I64)), I64)
    name, symbol = inliner.scope.data_symbol(size - 1)
    return Position(name, Apply("where", (is_negative, from_end, wide), I64), size), symbol


def _add_step(
    lowering: Lowering, node: Node, scope: KernelScope, plan: _Plan, store: Store, tensor: Tensor
) -> None:
    renaming = Renaming(frozenset(scope.bound))
    kernel = Scatter(
        renaming.loop(plan.parts),
        renaming.loop(plan.updates),
        tuple(
            Position(p.name, renaming.expression(p.value), renaming.dim(p.limit))
            for p in plan.positions
        ),
        renaming.store(store),
        len(scope.tensors),
        renaming.names,
    )
    updates = plan.parts.extent * plan.updates.extent
    lowering.add_step(
        Step(
            kernel,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            node.result.name,
            node.source,
            (node.op,),
            updates,
            moved_bytes(scope),
            (),
            tensor,
        )
    )
