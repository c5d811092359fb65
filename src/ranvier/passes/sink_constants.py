"""Moves constants that branches and loop bodies read into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ranvier.ir.definitions import inner_graphs
from ranvier.ir.graph import Graph, Node, Value


@dataclass(frozen=True)
class SinkConstants:
    """A constant that a graph inside a node captures becomes a constant of that graph.

    There it can be folded, packed as a weight and chosen kernels for; it is stored once all the
    same. What a loop carries stays an operand.
    """

    name: str = "sink_constants"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with fewer captured operands."""
        constants = {n.results[0]: n for n in graph.nodes if n.op == "constant"}
        nodes = tuple(_sunk(n, constants) if inner_graphs(n) else n for n in graph.nodes)
        return replace(graph, nodes=nodes)


def _sunk(node: Node, constants: Mapping[Value, Node]) -> Node:
    first = first_captured(node)
    moved = [i for i in range(first, len(node.operands)) if node.operands[i] in constants]
    if not moved:
        return node
    ahead = first - kept_inputs(node)
    inner = {
        name: _with_constants(each, {i - ahead: constants[node.operands[i]] for i in moved})
        for name, each in inner_graphs(node).items()
    }
    operands = tuple(v for i, v in enumerate(node.operands) if i not in moved)
    return replace(node, operands=operands, attributes={**node.attributes, **inner})


def first_captured(node: Node) -> int:
    """The number of the first operand that an `if` or a `loop` hands to its graphs unchanged."""
    if node.op == "if":
        return 1
    return int(node.attribute("conditional")) + int(node.attribute("carried"))


def kept_inputs(node: Node) -> int:
    """How many inputs of the graphs inside stand before those for captured operands."""
    return 0 if node.op == "if" else int(node.attribute("carried"))


def _with_constants(graph: Graph, constants: Mapping[int, Node]) -> Graph:
    """`graph` with some of its inputs, by number, replaced by constants of its own."""
    made = tuple(
        replace(node, results=(graph.inputs[i],), operands=()) for i, node in constants.items()
    )
    inputs = tuple(v for i, v in enumerate(graph.inputs) if i not in constants)
    return replace(graph, inputs=inputs, nodes=(*made, *graph.nodes))
