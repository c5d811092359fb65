"""Which chains are computed band by band, and that they are right whatever the bands are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from ranvier.ir import dim as dims
from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BF16, F32, DType, decode, encode
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.lowering import claims, depth_first
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.depth_first import DepthFirst
from ranvier.lowering.kernels.depthwise import Depthwise
from ranvier.lowering.lower import lower
from ranvier.lowering.options import LoweringOptions, Schedule
from ranvier.lowering.program import Program
from ranvier.target import TARGETS
from tests.lowering.native import run_native
from tests.targets import HOST

ASKED = LoweringOptions(schedule=Schedule(depth_first=True))
LAYERED = LoweringOptions(schedule=Schedule(depth_first=False))
V3 = TARGETS["x86-64-v3"]


@dataclass(frozen=True)
class Block:
    """An inverted residual: expansion, depthwise convolution, projection."""

    size: tuple[Any, Any] = (9, 7)
    inputs: int = 8
    channels: int = 40
    outputs: int = 24
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (1, 1)
    before: bool = True
    after: bool = True
    residual: bool = False
    activation: str = "relu"
    dtype: DType = F32

    def graph(self) -> Graph:
        b, rng = GraphBuilder("block"), np.random.default_rng(3)
        n, dtype = symbol("n", 0, 64), self.dtype

        def constant(*shape: int) -> Value:
            values = rng.standard_normal(shape).astype(np.float32) / np.prod(shape[1:]) ** 0.5
            return b.constant(encode(values, dtype), dtype)

        def conv(x: Value, *weight: int, **window: Any) -> Value:
            y = b.add("conv", x, constant(*weight), constant(weight[0]), **{
                "strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilations": (1, 1), "groups": 1,
                **window,
            })  # fmt: skip
            return b.add(self.activation, y)

        first = self.inputs if self.before else self.channels
        x = y = b.input("x", TensorType(dtype, (n, first, *self.size)))
        if self.before:
            y = conv(y, self.channels, self.inputs, 1, 1)
        y = conv(
            y, self.channels, 1, self.kernel, self.kernel, groups=self.channels,
            strides=(self.stride,) * 2, padding=(self.padding,) * 2,
            dilations=(self.dilation,) * 2,
        )  # fmt: skip
        if self.after:
            y = conv(y, self.outputs, self.channels, 1, 1)
        if self.residual:
            y = b.add("add", y, b.add("mul", x, x) if y.shape == x.shape else constant(1))
        return b.finish([y], ["y"])


BLOCKS = {
    "plain": Block(),
    "residual": Block(inputs=24, residual=True),
    "stride": Block(stride=2),
    "stride beyond the kernel": Block(kernel=1, stride=2, padding=(0, 0)),
    "wide kernel": Block(kernel=5, padding=(2, 2)),
    "wide kernel and stride": Block(kernel=5, stride=2, padding=(1, 2)),
    "dilation": Block(dilation=2, padding=(2, 2)),
    "padding of one side": Block(padding=(0, 2)),
    "much padding": Block(padding=(4, 5)),
    "no padding": Block(padding=(0, 0)),
    "without expansion": Block(before=False),
    "without projection": Block(after=False),
    "long epilogue": Block(activation="silu"),
    "free size": Block(size=(symbol("h", 3, 64), symbol("w", 3, 64))),
    "bf16": Block(dtype=BF16, inputs=9),
    "bf16 and stride": Block(dtype=BF16, stride=2, channels=33),
}


def kernels(program: Program) -> list[type]:
    return [type(step.kernel) for step in program.steps]


def inputs(graph: Graph, images: int, size: tuple[int, int]) -> dict[str, Any]:
    (x,) = graph.inputs
    shape = (images, dims.static(x.shape[1]), *size)
    values = np.random.default_rng(images).standard_normal(shape, np.float32)
    return {"x": encode(values, x.dtype)}


@pytest.mark.parametrize("cache", [1, 6000, 1 << 20], ids=["rows", "bands", "image"])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str, cache: int) -> None:
    """Bands of single rows, of some, and of the whole image."""
    block = BLOCKS[name]
    graph = block.graph()
    sizes = [(9, 7)] if isinstance(block.size[0], int) else [(9, 7), (20, 3), (3, 33)]
    runs = [inputs(graph, images, size) for size in sizes for images in (1, 3, 0)]
    for target in HOST:
        small = replace(target, l2_bytes=cache)
        assert DepthFirst in kernels(lower(graph, small, ASKED))
        for found in run_native(graph, runs, small, options=ASKED):
            for given, outputs in zip(runs, found, strict=True):
                wanted = decode(interpret(graph, given)["y"], block.dtype)
                error = np.abs(decode(outputs["y"], block.dtype) - wanted).max(initial=0.0)
                assert error < (2e-5 if block.dtype is F32 else 0.1)


def test_pieces_begin_with_a_window_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pieces as there may be, so that some are single bands."""
    monkeypatch.setattr(claims, "_PIECE_WORK", 1)
    monkeypatch.setattr(depth_first, "_PIECE_ROWS", 1)
    graph, target = Block(size=(30, 7), kernel=5).graph(), replace(HOST[-1], l2_bytes=6000)
    (step,) = (s for s in lower(graph, target, ASKED).steps if isinstance(s.kernel, DepthFirst))
    assert step.pieces is not None
    runs = [inputs(graph, images, (30, 7)) for images in (1, 2, 5)]
    for found in run_native(graph, runs, target, options=ASKED):
        for given, outputs in zip(runs, found, strict=True):
            np.testing.assert_allclose(outputs["y"], interpret(graph, given)["y"], atol=2e-5)


@pytest.mark.parametrize(
    ("block", "is_fused"),
    [
        (Block(size=(112, 112), inputs=16, channels=96), True),
        (Block(size=(112, 112), inputs=16, channels=96, dtype=BF16), True),
        (Block(size=(28, 28), inputs=32, channels=192), False),  # stays in the cache as it is
        (Block(size=(112, 112), inputs=384, channels=384, outputs=384), False),  # many weights
        (Block(size=(112, 112), inputs=384, channels=384), True),  # the projection has few
        (Block(size=(symbol("h", 64), symbol("w", 64)), channels=96), True),  # typical images
        (Block(size=(symbol("h", 64, 64), symbol("w", 64, 64)), channels=40), False),
        (Block(size=(112, 112), channels=96, before=False), True),
        (Block(size=(112, 112), channels=96, after=False), True),
        (Block(size=(112, 112), channels=96, before=False, after=False), False),
    ],
    ids=str,
)
def test_what_is_larger_than_the_cache_is_fused(block: Block, is_fused: bool) -> None:
    assert (DepthFirst in kernels(lower(block.graph(), V3))) == is_fused
    assert DepthFirst not in kernels(lower(block.graph(), V3, LAYERED))


def test_a_chain_takes_no_memory_for_what_lies_between() -> None:
    graph = Block(size=(112, 112), inputs=16, channels=96, stride=2).graph()
    scope = {"n": 1, "threads": 1}

    def temporaries(options: LoweringOptions) -> int:
        buffers = lower(graph, V3, options).buffers
        sizes = (b.size_bytes for b in buffers if b.kind == "temporary")
        return sum(dims.evaluate(size, scope) for size in sizes)

    expanded = 112 * 112 * 96 * 4
    assert temporaries(LAYERED) > expanded * 1.25
    assert temporaries(LoweringOptions()) < expanded * 0.5


def test_what_others_read_is_not_fused() -> None:
    """Squeeze-and-excitation reads the convolution twice; the expansion still joins it."""
    b = GraphBuilder("squeeze")
    rng = np.random.default_rng(0)
    x = b.input("x", TensorType(F32, (1, 16, 112, 112)))

    def conv(x: Value, *weight: int, groups: int = 1, pad: int = 0) -> Value:
        return b.add(
            "conv", x, b.constant(rng.standard_normal(weight).astype(np.float32), F32),
            strides=(1, 1), padding=((pad, pad),) * 2, dilations=(1, 1), groups=groups,
        )  # fmt: skip

    wide = conv(conv(x, 96, 16, 1, 1), 96, 1, 3, 3, groups=96, pad=1)
    mean = b.add("reduce_mean", wide, axes=(2, 3), keepdims=True)
    graph = b.finish([conv(b.add("mul", wide, b.add("sigmoid", mean)), 24, 96, 1, 1)])
    found = kernels(lower(graph, V3))
    assert found.count(DepthFirst) == 1
    assert Depthwise not in found
    assert Contraction in found
