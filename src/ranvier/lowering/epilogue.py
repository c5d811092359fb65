"""Which element-wise operators a contraction computes before it stores: its epilogue.

A chain starts at a contraction and follows single readers as long as they are element-wise and keep
the shape. Later contractions choose first, so `add(conv_a, conv_b)` joins the one that runs last,
when the other operand is in memory. A value that has been rounded already is stored as it is: a
cast that makes it wider again is left to its readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ranvier.ir.dtype import BF16, F32
from ranvier.ir.graph import Graph, Node, Value
from ranvier.lowering.layout import ELEMENTWISE

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


@dataclass(frozen=True)
class Epilogue:
    """The values of a chain, the contraction's result first; the last one, `end`, is stored."""

    nodes: tuple[Node, ...]
    values: tuple[Value, ...]

    @property
    def end(self) -> Value:
        """The value that the contraction stores."""
        return self.values[-1]


def plan_epilogues(graph: Graph, lowering: Lowering) -> dict[Node, Epilogue]:
    """The epilogue of every contraction that a contraction kernel computes."""
    claimed: set[Node] = set()
    outputs = set(graph.outputs)
    position = {node: index for index, node in enumerate(graph.nodes)}
    chosen: dict[Node, Epilogue] = {}
    for node in reversed(graph.nodes):
        if not is_contraction(node, graph):
            continue
        nodes: list[Node] = []
        values = [node.result]
        while True:
            current = values[-1]
            readers = lowering.consumers.get(current, [])
            if current in outputs or len(readers) != 1 or readers[0] in claimed:
                break
            reader = readers[0]
            if reader.op not in ELEMENTWISE or reader.results[0].shape != current.shape:
                break
            nodes.append(reader)
            values.append(reader.results[0])
        if len(nodes) > 1 and _undoes(nodes[-1], nodes[-2]) and values[-1] not in outputs:
            nodes.pop()
            values.pop()
        claimed.update(nodes)
        chosen[node] = Epilogue(tuple(nodes), tuple(values))
    return dict(sorted(chosen.items(), key=lambda item: position[item[0]]))


def _undoes(node: Node, before: Node) -> bool:
    """Whether two successive casts go to a narrower type and back."""
    if node.op != "cast" or before.op != "cast":
        return False
    return before.result.dtype.size < node.result.dtype.size


def is_contraction(node: Node, graph: Graph) -> bool:
    """Whether a contraction or attention kernel (not a plain nest) computes this node."""
    if node.op not in ("matmul", "conv", "attention"):
        return False
    a, b = node.operands[:2]
    if a.dtype not in (F32, BF16) or a.dtype is not b.dtype:
        return False
    if node.op == "conv":
        return graph.constant(b) is not None
    if node.op == "attention":
        return isinstance(a.shape[-1], int) and isinstance(node.operands[2].shape[-1], int)
    return True
