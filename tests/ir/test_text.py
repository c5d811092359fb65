"""Printing and parsing round-trip; malformed text is a GraphError that names the line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ranvier.errors import GraphError
from ranvier.ir.dim import maximum, minimum, symbol
from ranvier.ir.dtype import ALL, BF16, F32, NARROW, Array, DType, decode, encode
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.ir.parser import parse
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify
from tests.passes.random_graphs import graphs

N, H = symbol("n", 1), symbol("h", 8, 64)


def round_trip(graph: Graph, inline_elements: int = 16) -> Graph:
    tensors: dict[str, Array] = {}
    text = format_graph(graph, tensors, inline_elements)
    again = verify(parse(text, tensors))
    assert format_graph(again, inline_elements=inline_elements) == text
    assert [v.type for v in again.inputs] == [v.type for v in graph.inputs]
    assert [v.type for v in again.outputs] == [v.type for v in graph.outputs]
    return again


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(graphs())
def test_random_graphs_round_trip(graph: Graph) -> None:
    again = round_trip(graph)
    for old, new in zip(graph.nodes, again.nodes, strict=True):
        assert (old.op, old.source) == (new.op, new.source)
        assert [v.type for v in old.results] == [v.type for v in new.results]


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_constants_of_narrow_types_round_trip(dtype: DType) -> None:
    every = np.arange(256, dtype=np.uint8).view(dtype.storage)
    array = encode(decode(every, dtype), dtype)  # one kind of NaN, no unused bits
    b = GraphBuilder("constants")
    for part in np.split(array, 32):
        b.constant(part, dtype)
    graph = b.finish([node.result for node in b.nodes])
    for old, new in zip(graph.nodes, round_trip(graph).nodes, strict=True):
        f, w = (decode(np.asarray(n.attributes["value"]), dtype) for n in (new, old))
        np.testing.assert_array_equal(f, w)
        np.testing.assert_array_equal(np.signbit(f) & (f == 0), np.signbit(w) & (w == 0))


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_constants_round_trip(dtype: object) -> None:
    kind = next(known for known in ALL if known is dtype)
    numbers = [0, 1, 1] if kind.kind != "float" else [0.1, -0.0, np.inf, -np.inf, np.nan, 1e-30]
    array = encode(np.array(numbers, np.float64 if kind.is_float else kind.storage), kind)
    b = GraphBuilder("constants")
    graph = b.finish([b.constant(array, kind)])
    again = round_trip(graph).nodes[0].attributes["value"]
    assert isinstance(again, np.ndarray)
    assert again.tobytes() == array.tobytes()


def test_large_constants_are_out_of_line() -> None:
    b = GraphBuilder("large")
    weights = np.arange(100, dtype=np.float32)
    graph = b.finish([b.constant(weights)])
    text = format_graph(graph)
    assert "tensor#" in text
    with pytest.raises(GraphError, match="line 2: no tensor #"):
        parse(text)
    assert round_trip(graph).nodes[0].attributes["value"] is weights


def test_dims_names_and_trees_round_trip() -> None:
    b = GraphBuilder('quoted "name"')
    x = b.input("strange name: 1", TensorType(BF16, (N, H * 2 - 1, maximum(N, H))))
    y = b.add("reshape", x, shape=(N * (H * 2 - 1), maximum(N, H)), name="layer.0/y-1")
    sizes = (0, 0), (minimum(N * (H * 2 - 1), 5), 1), (1, 1)
    z = b.add("slice", y, starts=sizes[0], stops=sizes[1], steps=sizes[2], source='a "b".py:3')
    trees = {"input_tree": {"tuple": [{"leaf": 0}]}, "output_tree": {"dict": {"é": {"leaf": 0}}}}
    graph = b.finish([z, x], ["first", "second"], **trees)
    again = round_trip(graph)
    assert again.name == graph.name
    assert again.output_names == ("first", "second")
    assert (again.input_tree, again.output_tree) == (graph.input_tree, graph.output_tree)
    assert again.nodes[1].source == 'a "b".py:3'
    assert again.nodes[1].attributes == graph.nodes[1].attributes


MALFORMED = {
    "no graph": "",
    "no end": 'graph "f" {\n input %x: f32[]',
    "unknown dtype": 'graph "f" {\n input %x: f31[]\n}',
    "unknown symbol": 'graph "f" {\n input %x: f32[n]\n}',
    "undefined value": 'graph "f" {\n output "y" = %y\n}',
    "defined twice": 'graph "f" {\n input %x: f32[]\n input %x: f32[]\n}',
    "rest of line": 'graph "f" {\n input %x: f32[] f32\n}',
    "no operands": 'graph "f" {\n input %x: f32[]\n %y: f32[] = relu\n}',
    "unknown word": 'graph "f" {\n %y: f32[] = full() {value=maybe}\n}',
    "character": 'graph "f" {\n input %x: f32[] ?\n}',
    "element count": 'graph "f" {\n %y: f32[2] = constant() {value=tensor[1.0]}\n}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match=r"line \d|written as"):
        parse(text)


def test_reading_an_f32_scalar() -> None:
    graph = parse('graph "f" {\n %y: f32[] = constant() {value=tensor[0.1]}\n output "y" = %y\n}')
    value = graph.nodes[0].attributes["value"]
    assert isinstance(value, np.ndarray)
    assert value.dtype == F32.storage
    assert value.shape == ()
