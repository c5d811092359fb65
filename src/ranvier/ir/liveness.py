"""Which nodes of a graph matter to its outputs."""

from __future__ import annotations

from dataclasses import replace

from ranvier.ir.definitions import defined_symbols, needed_symbols, symbols_of
from ranvier.ir.graph import Graph, Node


def without_dead_nodes(graph: Graph) -> Graph:
    """Drop nodes of which no output needs a result, nor a size that they define.

    A size that may have one value only is a check of that value, and stays.
    """
    needed = set(graph.outputs)
    sizes = symbols_of([tuple(value.shape) for value in graph.outputs])
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        defined = defined_symbols(node)
        is_size = not sizes.keys().isdisjoint(defined)
        is_check = any(symbol.minimum == symbol.maximum for symbol in defined.values())
        if is_size or is_check or _is_check(node) or not needed.isdisjoint(node.results):
            needed.update(node.operands)
            sizes |= needed_symbols(node)
            kept.append(node)
    return graph if len(kept) == len(graph.nodes) else replace(graph, nodes=tuple(kept[::-1]))


def _is_check(node: Node) -> bool:
    return node.op == "bind_dim" and all(
        symbol.minimum == symbol.bounds()[1] for symbol in defined_symbols(node).values()
    )
