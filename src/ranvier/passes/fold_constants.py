"""Evaluates at compile time what depends on constants only."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim, Polynomial
from ranvier.ir.graph import Graph, Node, TensorType, Value
from ranvier.ir.operators import OPERATORS, evaluate
from ranvier.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class FoldConstants:
    """A node with constant operands is replaced by its value, computed by the NumPy definition.

    Kept as they are: nodes whose result has more than `most_bytes` and more bytes than their
    operands together (it would grow the artifact), and nodes with symbolic sizes. Casts fold at any
    size: contractions pack weights that are constants, and small types are for storage alone.
    """

    most_bytes: int = 1 << 20
    name: str = "fold_constants"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with constants in the place of constant expressions."""
        foldable = OPERATORS.keys() - {"constant", "foreign"}  # a framework runs at run time only
        return rewrite(graph, tuple((op, self._fold) for op in OPERATORS if op in foldable))

    def _fold(self, m: Match) -> tuple[Value, ...] | None:
        arrays = [m.stored(operand) for operand in m.node.operands]
        known = [array for array in arrays if array is not None]
        if len(known) != len(arrays) or not self._worthwhile(m.node):
            return None
        operands = [operand.type for operand in m.node.operands]
        results = [result.type for result in m.node.results]
        found = evaluate(
            m.node.op, known, operands, m.node.attributes, results, source=m.node.source
        )
        return m.become_constants(*found)

    def _worthwhile(self, node: Node) -> bool:
        given = sum(_bytes(operand.type) or 0 for operand in node.operands)
        sizes = [_bytes(result.type) for result in node.results]
        if _symbolic(tuple(node.attributes.values())):
            return False
        if node.op == "cast":
            return True
        known = [size for size in sizes if size is not None]
        return len(known) == len(sizes) and sum(known) <= max(given, self.most_bytes)


def _symbolic(attribute: object) -> bool:
    """Whether a symbol occurs in an attribute."""
    if isinstance(attribute, tuple):
        return any(map(_symbolic, attribute))
    return isinstance(attribute, Polynomial)


def _bytes(type: TensorType) -> int | None:
    """Size of a tensor, or None when a dim is symbolic."""
    size: Dim = type.dtype.size
    for dim in type.shape:
        size = size * dim
    return size if isinstance(size, int) else None
