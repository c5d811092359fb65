"""Concatenation without copies where possible: operands are computed in their slice of the result.

Later concatenations choose first. In a dense block, where each layer reads the concatenation of all
earlier results, every result goes into the last, largest concatenation, and the smaller ones are
prefixes of it: views, not copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.definitions import symbols_of
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Graph, Node, Value
from ranvier.lowering.program import Tensor

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


@dataclass(frozen=True)
class Placement:
    """A value's slot: the part of `result` that starts at `start` along `axis`."""

    value: Value
    result: Value
    axis: int
    start: Dim

    def slot(self, lowering: Lowering) -> Tensor:
        """The memory of the slot; allocates the result when it has none yet."""
        return slice_of(result_tensor(lowering, self.result), self.value, self.axis, self.start)


def result_tensor(lowering: Lowering, result: Value) -> Tensor:
    """The memory that was reserved for a concatenation's result."""
    reserved = lowering.reserved.get(result)
    if reserved is None:
        reserved = lowering.reserved[result] = lowering.allocate(result)
    return reserved


def slice_of(whole: Tensor, part: Value, axis: int, start: Dim) -> Tensor:
    """The tensor of `part` inside `whole`."""
    return Tensor(
        whole.buffer,
        whole.dtype,
        part.shape,
        whole.strides,
        whole.offset + start * whole.strides[axis],
    )


def plan_placements(graph: Graph, lowering: Lowering) -> dict[Value, Placement]:
    """Slots for operands of concatenations; inputs, constants, outputs and views get none."""
    placements: dict[Value, Placement] = {}
    fixed = {*graph.inputs, *graph.outputs}
    for node in reversed(graph.nodes):
        if node.op != "concat":
            continue
        start: Dim = 0
        axis = node.attribute("axis")
        for operand in node.operands:
            if (
                _can_be_placed(operand, node, lowering)
                and operand not in fixed
                and operand not in placements
            ):
                placements[operand] = Placement(operand, node.result, axis, start)
            start = start + operand.shape[axis]
    return placements


def _can_be_placed(operand: Value, node: Node, lowering: Lowering) -> bool:
    sizes = symbols_of([tuple(node.result.shape)])
    if not sizes.keys().isdisjoint(lowering.program.computed):
        return False  # the size of the result may become known later than the operand
    from ranvier.lowering.inline import VIEWS

    producer = lowering.producer_or_none(operand)
    if producer is None or producer.op in VIEWS or node.operands.count(operand) > 1:
        return False
    if lowering.stays_in_registers(operand):
        return False
    return (operand in lowering.channels_last) == (node.result in lowering.channels_last)


def lower_concat(lowering: Lowering, node: Node) -> None:
    """Place what is not in its slot yet; where all parts lie side by side, the result is a view."""
    view = _existing_view(lowering, node)
    if (
        view is not None
        and node.result not in lowering.reserved
        and node.result not in lowering.graph.outputs
    ):
        lowering.tensors[node.result] = view
        return
    axis = node.attribute("axis")
    whole = result_tensor(lowering, node.result)
    start: Dim = 0
    for operand in node.operands:
        slot = slice_of(whole, operand, axis, start)
        if lowering.tensors.get(operand) != slot and dims.product(operand.shape) != 0:
            _fill(lowering, operand, slot)
        start = start + operand.shape[axis]
    lowering.tensors[node.result] = whole


def _fill(lowering: Lowering, operand: Value, slot: Tensor) -> None:
    if operand not in lowering.tensors and not lowering.may_inline(operand):
        lowering.materialize(operand)
    lowering.write_nest(operand, slot)


def _existing_view(lowering: Lowering, node: Node) -> Tensor | None:
    """The tensor that covers all operands when they are adjacent slices of one buffer."""
    axis = node.attribute("axis")
    parts = [lowering.tensors.get(operand) for operand in node.operands]
    first = parts[0]
    if first is None:
        return None
    expected = first.offset
    for operand, part in zip(node.operands, parts, strict=True):
        if (
            part is None
            or part.buffer != first.buffer
            or part.strides != first.strides
            or part.offset != expected
        ):
            return None
        expected = expected + operand.shape[axis] * first.strides[axis]
    return Tensor(first.buffer, first.dtype, node.result.shape, first.strides, first.offset)
