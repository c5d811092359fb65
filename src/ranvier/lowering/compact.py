"""`nonzero` -> a compact step that writes positions in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.graph import Node
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.kernels.compact import Compact
from ranvier.lowering.nests import moved_bytes
from ranvier.lowering.program import Step
from ranvier.lowering.scope import KernelScope

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def lower_nonzero(lowering: Lowering, node: Node) -> None:
    """The mask is read in its logical order."""
    (mask,) = node.operands
    source = lowering.dense(mask)
    tensor = lowering.allocate(node.result)
    scope = KernelScope()
    scope.operand(source)
    scope.operand(tensor, written=True)
    renaming = Renaming(frozenset())
    extent = dims.product(mask.shape)
    kernel = Compact(renaming.dim(extent), renaming.dim(node.attribute("count")), renaming.names)
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
            extent,
            moved_bytes(scope),
            (),
            tensor,
        )
    )
    lowering.tensors[node.result] = tensor
