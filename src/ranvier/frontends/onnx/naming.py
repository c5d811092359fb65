"""Values of the graph carry the names that they have in the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ranvier.ir.graph import Graph, Node, Value


def renamed(graph: Graph, names: Mapping[Value, str]) -> Graph:
    """`graph` with names for some results of its nodes; a name that is taken is not given twice."""
    made = {value for node in graph.nodes for value in node.results}
    taken = {value.name for value in (*graph.inputs, *made)} - {v.name for v in names if v in made}
    new: dict[Value, Value] = {}
    for value in (value for node in graph.nodes for value in node.results):
        name = names.get(value, value.name)
        if value in names and name not in taken:
            new[value] = replace(value, name=name)
        taken.add(new.get(value, value).name)

    def of(value: Value) -> Value:
        return new.get(value, value)

    nodes: list[Node] = [
        replace(node, operands=tuple(map(of, node.operands)), results=tuple(map(of, node.results)))
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes), outputs=tuple(map(of, graph.outputs)))
