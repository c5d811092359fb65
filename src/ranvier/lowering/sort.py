"""`sort` and `top_k` -> a sort step that writes values and positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Node
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.kernels.sort import POSITION, ROW, Place, Sort, scratch_bytes
from ranvier.lowering.nests import moved_bytes
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope, delinearize, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def lower_sort(lowering: Lowering, node: Node) -> None:
    """Rows are the lines along the axis, wherever they lie in memory."""
    x, (values, positions) = node.operands[0], node.results
    axis = node.attribute("axis")
    source = lowering.materialize(x)
    results = [lowering.allocate(value) for value in (values, positions)]
    lines = (*x.shape[:axis], *x.shape[axis + 1 :])
    rows, extent, count = dims.product(lines), x.shape[axis], values.shape[axis]
    scope = KernelScope()
    scope.bound |= {ROW, POSITION}
    renaming = Renaming(frozenset(scope.bound))
    line = delinearize(dims.symbol(ROW, 0, rows - 1), lines)

    def place(tensor: Tensor, size: Dim, written: bool = False) -> Place:
        indices = (*line[:axis], dims.symbol(POSITION, 0, size - 1), *line[axis:])
        offset = linear_offset(indices, tensor.strides)
        return Place(scope.operand(tensor, written), renaming.dim(offset))

    scratch = lowering.scratch_of_threads(scratch_bytes(extent))
    kernel = Sort(
        renaming.dim(rows),
        renaming.dim(extent),
        renaming.dim(count),
        bool(node.attribute("descending" if node.op == "sort" else "largest")),
        x.dtype,
        place(source, extent),
        place(results[0], count, written=True),
        place(results[1], count, written=True),
        scope.operand(scratch, written=True),
        len(scope.tensors),
        renaming.names,
    )
    lowering.add_step(
        Step(
            kernel,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            values.name,
            node.source,
            (node.op,),
            rows * extent,
            moved_bytes(scope),
            (),
            results[0],
        )
    )
    lowering.tensors.update(zip(node.results, results, strict=True))
