"""Segments of a framework -> steps of their own, between which native code runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.errors import UnsupportedOperatorError
from ranvier.ir import dim as dims
from ranvier.ir.definitions import all_graphs, computed_symbols, needed_symbols, symbols_of
from ranvier.ir.graph import Graph, Node
from ranvier.ir.operators.foreign import document_of
from ranvier.lowering.kernels.foreign import Foreign
from ranvier.lowering.program import Argument, Step, Tensor
from ranvier.lowering.scope import sum_dims

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def lower_foreign(lowering: Lowering, node: Node) -> None:
    """Operands and results lie dense, in the order of their dims."""
    operands = [lowering.dense(value) for value in node.operands]
    results = [lowering.dense_result(value) for value in node.results]
    kernel = Foreign(
        node.attribute("framework"),
        document_of(node),
        tuple(value.type for value in node.operands),
        tuple(value.type for value in node.results),
        node.attribute("sizes"),
    )
    tensors = [*operands, *results]
    lowering.add_step(
        Step(
            kernel,
            tuple(Argument(t.buffer, t.offset * t.dtype.size) for t in tensors),
            (),
            tuple(sorted({t.buffer for t in operands})),
            tuple(sorted({t.buffer for t in results})),
            node.results[0].name,
            next(filter(None, node.attribute("sources")), node.source),
            node.attribute("operators"),
            0,
            sum_dims(_bytes(t) for t in tensors),
            result=results[0],
        )
    )
    lowering.tensors.update(zip(node.results, results, strict=True))


def require_outermost(graph: Graph) -> None:
    """Frameworks run between parts of the native program, on memory of known size.

    Raises UnsupportedOperatorError for segments in branches and loops, and for those whose tensors
    have sizes that only the data tell.
    """
    computed = computed_symbols(graph)
    faults = []
    for each in all_graphs(graph):
        for node in (node for node in each.nodes if node.op == "foreign"):
            sizes = needed_symbols(node) | symbols_of([tuple(v.shape) for v in node.operands])
            unknown = sorted(sizes.keys() & computed.keys())
            if each is not graph:
                faults.append((node, "stands in a branch or a loop"))
            elif unknown:
                faults.append((node, f"has sizes that depend on data ({', '.join(unknown)})"))
    if faults:
        lines = ["a framework cannot run these operators of the model:"]
        lines += [f"  {_shown(node)}: {reason}" for node, reason in faults]
        raise UnsupportedOperatorError("\n".join(lines))


def _shown(node: Node) -> str:
    uses = zip(node.attribute("operators"), node.attribute("sources"), strict=True)
    return ", ".join(f"{name} (at {source or 'unknown place'})" for name, source in uses)


def _bytes(tensor: Tensor) -> dims.Dim:
    return dims.product(tensor.shape) * tensor.dtype.size
