"""Every rule of the verifier finds its fault and shows where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ranvier.errors import GraphError
from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BF16, F32, I64
from ranvier.ir.graph import Graph, GraphBuilder, Node, TensorType, Value
from ranvier.ir.verifier import RULES, verify

N = symbol("n", 1)
TYPE = TensorType(F32, (N,))


def chain() -> Graph:
    b = GraphBuilder("chain")
    x = b.input("x", TYPE)
    y = b.add("relu", x, source="model.py:1")
    z = b.add("exp", y, source="model.py:2")
    return b.finish([z])


def with_node(graph: Graph, index: int, node: Node) -> Graph:
    nodes = list(graph.nodes)
    nodes[index] = node
    return replace(graph, nodes=tuple(nodes))


def repeated_definition() -> Graph:
    graph = chain()
    return replace(graph, nodes=(*graph.nodes, graph.nodes[0]))


def same_name() -> Graph:
    graph = chain()
    again = Node("neg", graph.inputs, (Value("relu", TYPE),))
    return replace(graph, nodes=(*graph.nodes, again))


def wrong_order() -> Graph:
    graph = chain()
    return replace(graph, nodes=graph.nodes[::-1])


def unnamed_output() -> Graph:
    return replace(chain(), output_names=("a", "b"))


def wrong_type() -> Graph:
    graph = chain()
    node = graph.nodes[1]
    wrong = Value("exp", TensorType(F32, (N + 1,)))
    return replace(with_node(graph, 1, replace(node, results=(wrong,))), outputs=(wrong,))


def unknown_operator() -> Graph:
    graph = chain()
    return with_node(graph, 0, replace(graph.nodes[0], op="rlu"))


def unknown_attribute() -> Graph:
    graph = chain()
    return with_node(graph, 0, replace(graph.nodes[0], attributes={"alpha": 1.0}))


def attribute_of_no_kind() -> Graph:
    graph = chain()
    return with_node(graph, 0, replace(graph.nodes[0], attributes={"alpha": [1.0]}))


def wrong_constant() -> Graph:
    value = Value("c", TensorType(BF16, (2,)))
    node = Node("constant", (), (value,), {"value": np.zeros(2, np.float32)})
    return Graph("constant", (), (value,), (node,))


def two_ranges() -> Graph:
    b = GraphBuilder("ranges")
    x = b.input("x", TensorType(F32, (symbol("n", 1, 4),)))
    b.input("y", TensorType(F32, (symbol("n", 1, 8),)))
    return b.finish([x])


def two_definitions() -> Graph:
    b = GraphBuilder("definitions")
    x = b.input("x", TensorType(I64, ()))
    size = symbol("size", 0, 4)
    return b.finish([b.add("bind_dim", x, dim=size), b.add("bind_dim", x, dim=size)])


FAULTS = {
    "single assignment": repeated_definition,
    "names": same_name,
    "order": wrong_order,
    "outputs": unnamed_output,
    "types": wrong_type,
    "attributes": attribute_of_no_kind,
    "symbols": two_ranges,
    "sizes": two_definitions,
}


def test_every_rule_has_a_fault() -> None:
    assert FAULTS.keys() == RULES.keys()


@pytest.mark.parametrize("rule", FAULTS)
def test_fault_is_found(rule: str) -> None:
    with pytest.raises(GraphError, match=f"{rule}: "):
        verify(FAULTS[rule](), "some_pass")


@pytest.mark.parametrize("graph", [unknown_operator(), unknown_attribute(), wrong_constant()])
def test_types_rule_checks_operators_and_attributes(graph: Graph) -> None:
    with pytest.raises(GraphError, match="types: "):
        verify(graph)


def test_message_shows_the_nodes_around_the_fault() -> None:
    with pytest.raises(GraphError) as caught:
        verify(wrong_type(), "canonicalize")
    message = str(caught.value)
    assert "after canonicalize" in message
    assert "  >> %exp: f32[n + 1] = exp(%relu)" in message
    assert '     %relu: f32[n] = relu(%x) @ "model.py:1"' in message


def test_well_formed_graph_is_returned() -> None:
    graph = chain()
    assert verify(graph) is graph
