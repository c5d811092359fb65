"""Which symbols the nodes of a graph define and need, and graphs inside nodes.

A symbol of a dim comes from the shape of an input, or from a node: `bind_dim` gives it a number
from the data, `if` and `loop` give it a size that differs between branches or iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ranvier.ir.dim import Polynomial, Symbol, symbols
from ranvier.ir.graph import Attribute, Graph, Node


def inner_graphs(node: Node) -> dict[str, Graph]:
    """The graphs among the attributes of a node, by attribute."""
    return {name: value for name, value in node.attributes.items() if isinstance(value, Graph)}


def all_graphs(graph: Graph) -> Iterator[Graph]:
    """A graph, then the graphs inside its nodes, depth first."""
    yield graph
    for node in graph.nodes:
        for inner in inner_graphs(node).values():
            yield from all_graphs(inner)


def map_inner_graphs(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """`graph` with every graph directly inside its nodes replaced by `change` of it."""
    nodes = []
    for node in graph.nodes:
        inner = {name: change(each) for name, each in inner_graphs(node).items()}
        same = all(inner[name] is node.attributes[name] for name in inner)
        nodes.append(node if same else replace(node, attributes={**node.attributes, **inner}))
    unchanged = all(new is old for new, old in zip(nodes, graph.nodes, strict=True))
    return graph if unchanged else replace(graph, nodes=tuple(nodes))


def symbols_of(entries: Iterable[Attribute]) -> dict[str, Symbol]:
    """The symbols of dims in attributes, and in tuples of them, in order; inner graphs apart."""
    found: dict[str, Symbol] = {}
    for entry in entries:
        if isinstance(entry, Polynomial):
            found.update(symbols(entry))
        elif isinstance(entry, tuple):
            found.update(symbols_of(entry))
    return found


def defined_symbols(node: Node) -> dict[str, Symbol]:
    """The symbols that have their value from this node on."""
    if node.op == "bind_dim":
        return symbols_of([node.attributes["dim"]])
    return symbols_of([node.attributes.get("defines", ())])


def inside_symbols(node: Node) -> dict[str, Symbol]:
    """The symbols that change in the body of a loop: its iteration, sizes that are carried."""
    if node.op != "loop":
        return {}
    return symbols_of([node.attributes["iteration"], node.attributes["varying"]])


def computed_symbols(graph: Graph) -> dict[str, Symbol]:
    """All symbols that nodes define, here and inside: known only while the graph runs."""
    nodes = [node for each in all_graphs(graph) for node in each.nodes]
    found: dict[str, Symbol] = {}
    for node in nodes:
        found |= defined_symbols(node) | inside_symbols(node)
    return found


def needed_symbols(node: Node) -> dict[str, Symbol]:
    """The symbols that types and attributes of a node mention, and those of the graphs inside."""
    found = symbols_of([*node.attributes.values(), *(tuple(v.shape) for v in node.results)])
    for inner in inner_graphs(node).values():
        for each in all_graphs(inner):
            for value in (*each.inputs, *each.outputs):
                found.update(symbols_of([tuple(value.shape)]))
            for child in each.nodes:
                found.update(symbols_of([*child.attributes.values()]))
                found.update(symbols_of([tuple(v.shape) for v in child.results]))
    return found
