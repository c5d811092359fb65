"""Which convolutions become Winograd steps, and that whole graphs with them are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BF16, F32, DType, encode
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.lowering.kernels.winograd import Winograd
from ranvier.lowering.lower import lower
from ranvier.lowering.options import LoweringOptions
from ranvier.target import TARGETS, Target
from tests.lowering.native import difference, run_native
from tests.targets import HOST

V3, BEST = TARGETS["x86-64-v3"], TARGETS["x86-64-v4-bf16"]
GEOMETRY: dict[str, Any] = {
    "strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilations": (1, 1), "groups": 1,
}  # fmt: skip
Shape = tuple[Any, ...]


def conv(b: GraphBuilder, x: Value, columns: int, kernel: int = 3, **changes: Any) -> Value:
    """A convolution with random weights that keeps the size of its values."""
    geometry = {**GEOMETRY, **changes}
    channels = x.shape[1] // geometry["groups"]
    shape = (columns, channels, kernel, kernel)
    weights = np.random.default_rng(columns).standard_normal(shape) / (3 * channels**0.5)
    constant = b.constant(encode(weights.astype(np.float32), x.dtype), x.dtype)
    return b.add("conv", x, constant, **geometry)


def single(shape: Shape, columns: int, dtype: DType = F32, **changes: Any) -> Graph:
    """One convolution."""
    b = GraphBuilder("conv")
    x = b.input("x", TensorType(dtype, shape))
    return b.finish([conv(b, x, columns, **changes)], ["y"])


def tiles(graph: Graph, target: Target = BEST, winograd: bool = True) -> list[int]:
    """The sizes of the tiles of all Winograd steps."""
    steps = lower(graph, target, LoweringOptions(winograd=winograd)).steps
    return [step.kernel.tile for step in steps if isinstance(step.kernel, Winograd)]


@pytest.mark.parametrize("target", [V3, BEST], ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda d: d.name)
def test_large_tiles_where_pixels_are_many(target: Target, dtype: DType) -> None:
    graph = single((1, 64, 56, 56), 64, dtype)
    assert tiles(graph, target) == [4]
    assert tiles(graph, target, winograd=False) == []


def test_small_tiles_where_weights_weigh_more() -> None:
    assert tiles(single((1, 256, 14, 14), 256)) == [2]


def test_few_pixels_and_many_channels_stay_direct() -> None:
    assert tiles(single((1, 512, 4, 4), 512)) == []
    assert tiles(single((32, 512, 4, 4), 512)) == [4]


def test_symbolic_sizes_are_judged_by_a_typical_image() -> None:
    n, h, w = symbol("n", 1, 64), symbol("h", 32, 2048), symbol("w", 32, 2048)
    assert tiles(single((n, 64, h // 4, w // 4), 64)) == [4]
    assert tiles(single((n, 512, h // 64, w // 64), 512)) == []


@pytest.mark.parametrize(
    "changes",
    [{"strides": (2, 1)}, {"dilations": (1, 2)}, {"groups": 2}, {"kernel": 1}, {"kernel": 4}],
    ids=str,
)
def test_other_geometries_stay_direct(changes: dict[str, Any]) -> None:
    assert tiles(single((1, 64, 40, 40), 64, **changes)) == []


def test_few_channels_stay_direct() -> None:
    graph = single((1, 12, 224, 224), 64)
    assert tiles(graph, BEST) == []
    assert tiles(graph, V3) == [4]


def block(dtype: DType, batch: Any, height: Any, width: Any) -> Graph:
    """Two convolutions with a residual sum, and a concatenation that another one reads."""
    b = GraphBuilder("block")
    x = b.input("x", TensorType(dtype, (batch, 48, height, width)))
    first = b.add("relu", conv(b, x, 48))
    second = b.add("relu", b.add("add", conv(b, first, 48), x))
    both = b.add("concat", second, first, axis=1)
    last = b.add("sigmoid", conv(b, both, 20, kernel=5, padding=((2, 2), (0, 3))))
    return b.finish([last, conv(b, both, 80, padding=((2, 0), (-1, 2)))], ["y", "z"])


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda d: d.name)
def test_blocks_of_any_size(target: Target, dtype: DType) -> None:
    graph = block(dtype, symbol("n", 0, 8), symbol("h", 5, 300), symbol("w", 5, 300))
    assert tiles(graph, target) == [4, 4, 2, 4]
    runs = []
    for sizes in ((1, 29, 18), (3, 12, 33), (2, 5, 6), (0, 9, 9)):
        shape = (sizes[0], 48, *sizes[1:])
        x = np.random.default_rng(sizes[1]).standard_normal(shape).astype(np.float32)
        runs.append({"x": encode(x, dtype)})
    units = 40.0 if dtype is F32 else 8.0  # of the largest result
    for found in run_native(graph, runs, target):
        for inputs, results in zip(runs, found, strict=True):
            wanted = interpret(graph, inputs)
            for name in ("y", "z"):
                assert not difference(results[name], wanted[name], dtype, units, is_sum=True)
