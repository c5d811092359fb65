"""Integer products by floats: exact for the largest data there can be, and left alone elsewhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ranvier.ir.dtype import F32, I8, I32, U8, Array, DType
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify
from ranvier.passes.exact_products import EXACT, MOST_PARTS, ExactProducts
from tests.lowering.native import run_native

PLAIN = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilations": (1, 1), "groups": 1}
RANDOM = np.random.default_rng(23)


def distance(b: GraphBuilder, x: Value, zero: int) -> Value:
    return b.add("sub", b.add("cast", x, dtype=I32), b.constant(np.asarray(zero, np.int32)))


def convolution(channels: int, weights: Array, zero: int = 0, groups: int = 1) -> Graph:
    b = GraphBuilder("conv")
    x = b.input("x", TensorType(U8, (1, channels, 5, 6)))
    w, bias = b.constant(weights.astype(np.int32)), b.constant(np.arange(len(weights), dtype="i4"))
    attributes = {**PLAIN, "groups": groups}
    return b.finish([b.add("conv", distance(b, x, zero), w, bias, **attributes)], ["y"])


def product(a: DType, depth: int, b_value: Array | DType) -> Graph:
    b = GraphBuilder("matmul")
    x = b.input("x", TensorType(a, (4, depth)))
    if isinstance(b_value, DType):
        other = b.add("cast", b.input("w", TensorType(b_value, (depth, 7))), dtype=I32)
    else:
        other = b.constant(b_value.astype(np.int32))
    return b.finish([b.add("matmul", b.add("cast", x, dtype=I32), other)], ["y"])


def parts(graph: Graph) -> int:
    """How many products of floats there are; none of integers is left."""
    changed = ExactProducts()(graph)
    verify(changed)
    products = [n for n in changed.nodes if n.op in ("conv", "matmul")]
    assert all(node.result.dtype is F32 for node in products)
    return len(products)


def agrees(graph: Graph, **inputs: Array) -> None:
    wanted = interpret(graph, inputs)["y"]
    np.testing.assert_array_equal(interpret(ExactProducts()(graph), inputs)["y"], wanted)
    for (found,) in run_native(graph, [inputs]):
        np.testing.assert_array_equal(found["y"], wanted)


@pytest.mark.parametrize(("channels", "count"), [(16, 1), (64, 2), (256, 5)])
def test_the_largest_sums_are_exact(channels: int, count: int) -> None:
    weights = np.full((3, channels, 3, 3), -127)
    weights[1] = 1 + 126 * (np.arange(9).reshape(3, 3) % 2)
    graph = convolution(channels, weights)
    assert parts(graph) == count
    agrees(graph, x=np.full((1, channels, 5, 6), 255, np.uint8))
    agrees(graph, x=RANDOM.integers(0, 256, (1, channels, 5, 6), np.uint8))


def test_the_zero_point_counts() -> None:
    weights = np.full((1, 114, 3, 3), 64)  # 114 * 9 * 64 * 255 < 2 ** 24 < 114 * 9 * 64 * 256
    assert 114 * 9 * 64 * 255 < EXACT < 114 * 9 * 64 * 256
    assert parts(convolution(114, weights, zero=0)) == 1
    assert parts(convolution(114, weights, zero=128)) == 1
    assert parts(convolution(114, weights, zero=256)) == 2


def test_groups_are_not_cut() -> None:
    small, large = np.full((4, 8, 3, 3), 100), np.full((4, 128, 3, 3), 127)
    assert parts(convolution(16, small, groups=2)) == 1
    agrees(convolution(16, small, 7, groups=2), x=np.full((1, 16, 5, 6), 255, np.uint8))
    assert left_alone(convolution(256, large, groups=2))


def left_alone(graph: Graph) -> bool:
    return Counter(n.op for n in ExactProducts()(graph).nodes) == Counter(n.op for n in graph.nodes)


def test_products_of_constants_and_of_computed_matrices() -> None:
    graph = product(U8, 1000, np.full((1000, 7), 127))
    assert parts(graph) == 2
    agrees(graph, x=np.full((4, 1000), 255, np.uint8))
    graph = product(I8, 1100, I8)
    assert parts(graph) == 2
    agrees(graph, x=np.full((4, 1100), -128, np.int8), w=np.full((1100, 7), -128, np.int8))


def test_nothing_is_proved_of_data_of_any_size() -> None:
    assert left_alone(product(I32, 8, np.ones((8, 7))))
    assert left_alone(product(U8, 8, I32))
    most = EXACT // (255 * 127)
    assert parts(product(U8, MOST_PARTS * most, np.full((MOST_PARTS * most, 7), 127))) == MOST_PARTS
    assert left_alone(product(U8, MOST_PARTS * most + 1, np.full((MOST_PARTS * most + 1, 7), 127)))


def test_winograd_does_not_round_integers() -> None:
    weights = RANDOM.integers(-20, 21, (64, 64, 3, 3))
    b = GraphBuilder("conv")
    x = b.input("x", TensorType(U8, (1, 64, 24, 24)))
    w = b.constant(weights.astype(np.int32))
    graph = b.finish([b.add("conv", distance(b, x, 128), w, **PLAIN)], ["y"])
    agrees(graph, x=RANDOM.integers(0, 256, (1, 64, 24, 24), np.uint8))
