"""Which element-wise steps join the product behind them, and that both are right in any bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from ranvier.ir import dim as dims
from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BF16, F32, DType, decode, encode
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.lowering import claims
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.depth_first import DepthFirst
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.lower import lower
from ranvier.lowering.options import LoweringOptions, Schedule
from ranvier.target import TARGETS
from tests.lowering.native import run_native
from tests.targets import HOST

ASKED = LoweringOptions(schedule=Schedule(depth_first=True))
STEPWISE = LoweringOptions(schedule=Schedule(depth_first=False))
V3 = TARGETS["x86-64-v3"]


def normalized(layer: Layer, b: GraphBuilder, x: Value) -> Value:
    """As in DenseNet: a factor and a summand of every channel, which images share."""
    scale, shift = (layer.constant(b, layer.channels, 1, 1, seed=s) for s in (1, 2))
    return b.add("relu", b.add("add", b.add("mul", x, scale), shift))


def excited(layer: Layer, b: GraphBuilder, x: Value) -> Value:
    """As at the end of a squeeze-and-excitation: a factor of every channel and image."""
    gate = b.input("gate", TensorType(layer.dtype, (x.shape[0], layer.channels, 1, 1)))
    return b.add("mul", x, b.add("relu", gate))


def sliced(layer: Layer, b: GraphBuilder, x: Value) -> Value:
    """The last channels of an image: pixels lie further apart than they are long."""
    part = b.add("slice", x, starts=(0, 8, 0, 0), stops=x.shape, steps=(1,) * 4)
    return b.add("relu", part)


STEPS: dict[str, Callable[[Layer, GraphBuilder, Value], Value]] = {
    "normalized": normalized,
    "excited": excited,
    "sliced": sliced,
}


@dataclass(frozen=True)
class Layer:
    """An element-wise step, and a 1x1 convolution behind it."""

    steps: str = "normalized"
    size: tuple[Any, Any] = (9, 9)
    channels: int = 40
    outputs: int = 24
    stride: int = 1
    residual: bool = False
    dtype: DType = F32

    def constant(self, b: GraphBuilder, *shape: int, seed: int) -> Value:
        values = np.random.default_rng(seed).standard_normal(shape, np.float32)
        return b.constant(encode(values / np.prod(shape[1:]) ** 0.5, self.dtype), self.dtype)

    def graph(self) -> Graph:
        b = GraphBuilder("layer")
        shape = (symbol("n", 0, 64), self.channels, *self.size)
        x = b.input("x", TensorType(self.dtype, shape))
        image = b.add("neg", self.conv(b, x, self.channels, 3))
        beside = self.conv(b, x, self.outputs, 3) if self.residual else None
        y = STEPS[self.steps](self, b, image)
        y = self.conv(b, y, self.outputs, 1, self.stride)
        if beside is not None:
            y = b.add("add", y, beside)
        return b.finish([y, b.add("relu", image)], ["y", "image"])

    def conv(self, b: GraphBuilder, x: Value, outputs: int, size: int, stride: int = 1) -> Value:
        weight = self.constant(b, outputs, dims.static(x.shape[1]), size, size, seed=outputs)
        return b.add(
            "conv", x, weight, self.constant(b, outputs, seed=3), strides=(stride, stride),
            padding=((size // 2,) * 2,) * 2, dilations=(1, 1), groups=1,
        )  # fmt: skip


LAYERS = {
    "normalized": Layer(),
    "excited": Layer("excited"),
    "sliced": Layer("sliced"),
    "residual": Layer("excited", residual=True),
    "few columns": Layer(outputs=5),
    "free size": Layer(size=(symbol("h", 3, 64), symbol("w", 3, 64))),
    "free size, excited": Layer("excited", size=(symbol("h", 3, 64), symbol("w", 3, 64))),
    "bf16": Layer(dtype=BF16, channels=41),
    "bf16, excited": Layer("excited", dtype=BF16),
}


def count(graph: Graph, kind: type, options: LoweringOptions = ASKED, cache: int = 0) -> int:
    target = replace(V3, l2_bytes=cache) if cache else V3
    return sum(isinstance(step.kernel, kind) for step in lower(graph, target, options).steps)


def inputs(graph: Graph, images: int, size: tuple[int, int]) -> dict[str, Any]:
    rng, given = np.random.default_rng(images), {}
    for value in graph.inputs:
        shape = (images, dims.static(value.shape[1]), *(size if value.name == "x" else (1, 1)))
        given[value.name] = encode(rng.standard_normal(shape, np.float32), value.dtype)
    return given


def check(layer: Layer, graph: Graph, runs: list[dict[str, Any]], cache: int) -> None:
    for target in HOST:
        small = replace(target, l2_bytes=cache)
        for found in run_native(graph, runs, small, options=ASKED):
            for given, outputs in zip(runs, found, strict=True):
                wanted = decode(interpret(graph, given)["y"], layer.dtype)
                error = np.abs(decode(outputs["y"], layer.dtype) - wanted).max(initial=0.0)
                assert error < (2e-5 if layer.dtype is F32 else 0.1)


@pytest.mark.parametrize("cache", [1, 16000, 1 << 20], ids=["tiles", "bands", "image"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, cache: int) -> None:
    """Bands of single register tiles, of some, and of the whole image."""
    layer = LAYERS[name]
    graph = layer.graph()
    assert count(graph, DepthFirst, cache=cache) == 1
    sizes = [(9, 9)] if isinstance(layer.size[0], int) else [(9, 9), (20, 3), (3, 33)]
    check(layer, graph, [inputs(graph, n, size) for size in sizes for n in (1, 3, 0)], cache)


def test_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pieces as there may be, more than bands."""
    monkeypatch.setattr(claims, "_PIECE_WORK", 1)
    layer = Layer("excited", size=(30, 7))
    graph = layer.graph()
    steps = lower(graph, replace(V3, l2_bytes=6000), ASKED).steps
    (step,) = (s for s in steps if isinstance(s.kernel, DepthFirst))
    assert step.pieces is not None
    check(layer, graph, [inputs(graph, n, (30, 7)) for n in (1, 2, 5)], 6000)


@pytest.mark.parametrize(
    ("layer", "fused"),
    [
        (Layer(size=(56, 56), channels=128), True),
        (Layer("excited", size=(56, 56), channels=128), True),
        (Layer(size=(56, 56), channels=128, dtype=BF16), False),  # 784 KB
        (Layer(size=(112, 56), channels=128, dtype=BF16), True),
        (Layer(size=(28, 28), channels=128), False),  # stays in the cache as it is
        (Layer(size=(56, 56), channels=512, outputs=512), False),  # many weights
        (Layer(size=(symbol("h", 64), symbol("w", 64)), channels=32), True),  # typical images
    ],
    ids=str,
)
def test_what_is_larger_than_the_cache_is_fused(layer: Layer, fused: bool) -> None:
    graph = layer.graph()
    assert count(graph, DepthFirst, LoweringOptions()) == fused
    assert count(graph, DepthFirst, STEPWISE) == 0


def test_what_a_convolution_does_not_read_pixel_by_pixel_is_left_alone() -> None:
    assert count(Layer(stride=2).graph(), DepthFirst) == 0


def test_a_reduction_is_left_alone() -> None:
    """A layer norm computes sums of rows; its product is a linear layer."""
    b = GraphBuilder("norm")
    x = b.input("x", TensorType(F32, (symbol("n", 1, 64), 300, 64)))
    ones, zeros = (b.constant(np.full(64, k, np.float32), F32) for k in (1, 0))
    norm = b.add("layer_norm", x, ones, zeros, axis=2, epsilon=1e-5)
    weight = b.constant(np.ones((64, 32), np.float32), F32)
    graph = b.finish([b.add("matmul", norm, weight)])
    assert (count(graph, DepthFirst), count(graph, Nest), count(graph, Contraction)) == (0, 1, 1)


def test_what_others_read_is_left_alone() -> None:
    layer = Layer()
    b = GraphBuilder("twice")
    x = b.input("x", TensorType(F32, (1, 40, 9, 9)))
    y = normalized(layer, b, layer.conv(b, x, 40, 3))
    graph = b.finish([layer.conv(b, y, 24, 1), layer.conv(b, y, 8, 1)])
    assert count(graph, DepthFirst) == 0


def test_it_takes_no_memory_for_what_lies_between() -> None:
    graph, scope = Layer(size=(112, 112), channels=96).graph(), {"n": 1, "threads": 1}

    def temporaries(options: LoweringOptions) -> int:
        sizes = (b.size_bytes for b in lower(graph, V3, options).buffers if b.kind == "temporary")
        return sum(dims.evaluate(size, scope) for size in sizes)

    image = 112 * 112 * 96 * 4
    band = V3.l2_bytes / 4
    assert temporaries(STEPWISE) - temporaries(LoweringOptions()) > image - 1.1 * band
