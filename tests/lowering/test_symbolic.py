"""One compiled program serves many sizes; what lies at the edges of validity does not crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ranvier.ir.dim import evaluate, symbol
from ranvier.ir.dtype import F32, I64
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from tests.lowering.native import difference, run_native

N, H, W = symbol("n", 0, 64), symbol("h", 1, 64), symbol("w", 1, 64)
SIZES = ((1, 5, 7), (3, 9, 2), (2, 17, 33), (0, 5, 7))
Arrays = dict[str, npt.NDArray[Any]]
RESIZE: dict[str, Any] = {"coordinates": "half_pixel", "antialias": False}


def image(b: GraphBuilder, channels: int = 3) -> Value:
    """An input of symbolic batch, height and width."""
    return b.input("x", TensorType(F32, (N, channels, H, W)))


def constant(b: GraphBuilder, *shape: int) -> Value:
    """Weights."""
    return b.constant(np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32))


def convolution(b: GraphBuilder, channels: int, groups: int = 1, stride: int = 1) -> Value:
    """A 3x3 convolution with padding."""
    x = image(b, channels)
    w = constant(b, 2 * channels, channels // groups, 3, 3)
    return b.add("conv", x, w, strides=(stride, 1), padding=((1, 1), (2, 1)), dilations=(1, 1),
                 groups=groups)  # fmt: skip


def transposed(b: GraphBuilder) -> Value:
    """A transposed convolution of stride 2."""
    x, w = image(b, 4), constant(b, 4, 3, 3, 3)
    return b.add("conv_transpose", x, w, strides=(2, 2), padding=((1, 1), (0, 1)),
                 dilations=(1, 1), output_padding=(1, 0), groups=1)  # fmt: skip


def window(op: str, **extra: Any) -> Callable[[GraphBuilder], Value]:
    """A pooling of stride 2."""
    edges: dict[str, Any] = {"kernel": (2, 2), "strides": (2, 2), "padding": ((1, 1), (1, 0))}
    return lambda b: b.add(op, image(b), **edges, **extra)


def products(b: GraphBuilder) -> Value:
    """Batched products whose inner dim is symbolic."""
    x = image(b)
    return b.add("matmul", x, b.add("transpose", x, permutation=(0, 1, 3, 2)))


def scattered(b: GraphBuilder) -> Value:
    """Updates of every column, the sizes symbolic."""
    x = image(b)
    indices = b.constant(np.array([[[[0]]]]))
    places = b.add("broadcast", indices, shape=(N, 3, 1, W))
    updates = b.add("slice", x, starts=(0, 0, H - 1, 0), stops=x.shape, steps=(1, 1, 1, 1))
    return b.add("scatter_elements", x, places, updates, axis=2, reduction="add")


def normalised(b: GraphBuilder) -> Value:
    """layer_norm over both spatial dims."""
    return b.add("layer_norm", image(b), axis=2, epsilon=1e-2)


CASES: dict[str, Callable[[GraphBuilder], Value]] = {
    "conv": lambda b: convolution(b, 9),
    "conv_few_channels": lambda b: convolution(b, 2, stride=2),
    "conv_groups": lambda b: convolution(b, 8, groups=2),
    "conv_depthwise": lambda b: convolution(b, 5, groups=5),
    "conv_transpose": transposed,
    "max_pool": window("max_pool", ceil_mode=True, dilations=(1, 1)),
    "avg_pool": window("avg_pool", ceil_mode=True, count_include_pad=True),
    "avg_pool_counted": window("avg_pool", ceil_mode=False, count_include_pad=False),
    "adaptive_avg_pool": lambda b: b.add("adaptive_avg_pool", image(b), output_size=(3, 2)),
    "adaptive_max_pool": lambda b: b.add("adaptive_max_pool", image(b), output_size=(5, 1)),
    "resize_double": lambda b: b.add("resize", image(b), size=(H * 2, W * 2), mode="linear",
                                     **RESIZE),
    "resize_fixed": lambda b: b.add("resize", image(b), size=(7, 5), mode="cubic", **RESIZE),
    "resize_nearest": lambda b: b.add("resize", image(b), size=(W, H), mode="nearest", **RESIZE),
    "resize_antialias": lambda b: b.add("resize", image(b), size=(4, 9), mode="linear",
                                        coordinates="half_pixel", antialias=True),
    "sort": lambda b: b.add_node("sort", [image(b)], {"axis": 2, "descending": True})[0],
    "top_k": lambda b: b.add_node("top_k", [image(b)], {"axis": 3, "k": 1, "largest": True})[1],
    "scatter_elements": scattered,
    "matmul": products,
    "softmax": lambda b: b.add("softmax", image(b), axis=3),
    "layer_norm": normalised,
    "cumsum": lambda b: b.add("cumsum", image(b), axis=2),
    "variance": lambda b: b.add("reduce_variance", image(b), axes=(2, 3), keepdims=True,
                                correction=1),
    "roll": lambda b: b.add("roll", image(b), shifts=(2, -1), axes=(2, 3)),
    "reflect": lambda b: b.add("pad", image(b), low=(0, 0, 0, 1), high=(0, 0, 0, 1),
                               mode="reflect", value=0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_program_serves_all_sizes(name: str) -> None:
    b = GraphBuilder(name)
    graph = b.finish([CASES[name](b)], ["y"])
    runs = [inputs_of(graph, {"n": n, "h": h, "w": w}) for n, h, w in SIZES]
    for results in run_native(graph, runs):
        for inputs, found in zip(runs, results, strict=True):
            wanted = interpret(graph, inputs)["y"]
            problem = difference(found["y"], wanted, graph.outputs[0].dtype, 64.0, is_sum=True)
            assert not problem, f"{inputs['x'].shape}: {problem}"


def inputs_of(graph: Graph, sizes: dict[str, int]) -> Arrays:
    """Random inputs of given sizes."""
    random = np.random.default_rng(sum(sizes.values()))
    return {
        value.name: random.uniform(
            -1, 3, tuple(evaluate(dim, sizes) for dim in value.shape)
        ).astype(np.float32)
        for value in graph.inputs
    }


def test_positions_out_of_range_stay_inside() -> None:
    b = GraphBuilder("gathers")
    x, at = b.input("x", TensorType(F32, (5, 3))), b.input("at", TensorType(I64, (4,)))
    places = b.add("broadcast", b.add("reshape", at, shape=(4, 1)), shape=(4, 3))
    updates = b.constant(np.full((4, 3), 9, np.float32))
    scattered = b.add("scatter_elements", x, places, updates, axis=0, reduction="none")
    rows = b.add("scatter_nd", x, b.add("reshape", at, shape=(4, 1)), updates)
    graph = b.finish([b.add("gather", x, at, axis=0), scattered, rows], ["g", "s", "r"])
    data = np.arange(15, dtype=np.float32).reshape(5, 3)
    far = np.array([7, -9, 2**62, -(2**63)])
    for (found,) in run_native(graph, [{"x": data, "at": far}]):
        np.testing.assert_array_equal(found["g"], data[[4, 0, 4, 0]])  # the nearest element
        np.testing.assert_array_equal(found["s"], data)  # left out
        np.testing.assert_array_equal(found["r"], data)
