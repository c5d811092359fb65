"""Symbolic sizes: names, ranges, derived sizes, sizes as data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812

from ranvier.ir.dim import symbols
from tests.frontends.comparison import check

BATCH, LENGTH = Dim("batch", min=1, max=64), Dim("length", min=1, max=128)
HEIGHT, WIDTH = Dim("height", min=16, max=512), Dim("width", min=16, max=512)


def test_names_and_ranges_are_the_users() -> None:
    graph = check(
        lambda x: x * 2,
        torch.randn(3, 5),
        dynamic=({0: BATCH, 1: LENGTH},),
        others=[(torch.randn(1, 1),), (torch.randn(9, 128),)],
    )
    assert str(graph.inputs[0].type) == "f32[batch, length]"
    (batch,) = symbols(graph.inputs[0].shape[0]).values()
    assert (batch.minimum, batch.maximum) == (1, 64)


def test_sizes_of_convolutions_and_pools() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> Any:
            y = F.relu(self.norm(self.conv(x)), inplace=True)
            y += F.max_pool2d(y, 3, 1, 1)
            z = F.avg_pool2d(y, 3, 2, 1)
            up = F.interpolate(z, size=(7, 5), mode="bilinear")
            return self.head(F.adaptive_avg_pool2d(z, 1).flatten(1)), (y + 1).flatten(2), up

    others = [(torch.randn(1, 3, 16, 17),), (torch.randn(3, 3, 31, 64),)]
    graph = check(
        Net(), torch.randn(2, 3, 32, 48), dynamic=({0: BATCH, 2: HEIGHT, 3: WIDTH},), others=others,
        tolerance=1e-4,
    )  # fmt: skip
    assert str(graph.inputs[0].type) == "f32[batch, 3, height, width]"


def test_sizes_that_pytorch_writes_differently() -> None:
    """Channel shuffle after three halvings: nested floor divisions reach a reshape."""

    def shuffle(x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = F.max_pool2d(x, 3, 2, 1)
        batch, channels, height, width = x.shape
        grouped = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return grouped.reshape(batch, channels, height, width)

    check(
        shuffle,
        torch.randn(2, 4, 32, 48),
        dynamic=({0: BATCH, 2: HEIGHT, 3: WIDTH},),
        others=[(torch.randn(1, 4, 17, 31),)],
    )


def test_derived_dims() -> None:
    unit = Dim("unit", min=1, max=4)
    graph = check(
        lambda x: F.max_pool2d(x, 8).flatten(1),
        torch.randn(1, 2, 16, 24),
        dynamic=({2: 8 * unit},),
        others=[(torch.randn(1, 2, 8, 24),), (torch.randn(1, 2, 32, 24),)],
    )
    assert str(graph.inputs[0].type) == "f32[1, 2, 8*unit, 24]"


def test_automatic_dims_are_symbols() -> None:
    graph = check(
        lambda x: x.sum(1),
        torch.randn(3, 4),
        dynamic=({0: Dim.AUTO},),
        others=[(torch.randn(6, 4),)],
    )
    assert not isinstance(graph.inputs[0].shape[0], int)


def test_sequences() -> None:
    def attend(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        positions = torch.arange(length)
        x = x + positions[None, :, None] / length
        q = x.view(batch, length, 2, width // 2).transpose(1, 2)
        causal = positions[None, :] <= positions[:, None]
        keep = mask[:, None, None, :].bool() & causal
        out = F.scaled_dot_product_attention(q, q, q, attn_mask=keep)
        return out.transpose(1, 2).reshape(batch, length, width)[:, -1]

    others = [(torch.randn(1, 9, 8), torch.ones(1, 9, dtype=torch.int64))]
    check(
        attend,
        torch.randn(2, 5, 8),
        torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]),
        dynamic=({0: BATCH, 1: LENGTH}, {0: BATCH, 1: LENGTH}),
        others=others,
    )


def test_sizes_as_data() -> None:
    def scaled(x: torch.Tensor) -> Any:
        n = x.shape[0]
        return x * n + torch.full((2,), n), x.sum() / (n * 2), n, torch.ones(n, 2) * (n // 2)

    graph = check(lambda x: scaled(x)[:2], torch.randn(5, 2), dynamic=({0: BATCH},), others=[
        (torch.randn(8, 2),)])  # fmt: skip
    assert any(node.op == "dim" for node in graph.nodes)


def test_slices_by_symbolic_bounds() -> None:
    def halves(x: torch.Tensor) -> Any:
        n = x.shape[1]
        return x[:, : n - 2], x[:, 1:-1], x[:, ::2], x[:, -3:], x[:, n - 1], x[:, 1::3]

    wide = Dim("wide", min=6, max=64)
    check(
        halves,
        torch.randn(2, 8),
        dynamic=({1: wide},),
        others=[(torch.randn(2, 7),), (torch.randn(2, 6),)],
    )


def test_upsampling_by_a_factor() -> None:
    check(
        lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
        torch.randn(1, 2, 18, 19),
        dynamic=({2: HEIGHT, 3: WIDTH},),
        others=[(torch.randn(1, 2, 21, 16),)],
    )


def test_joins_of_symbolic_sizes() -> None:
    check(
        lambda x, y: torch.cat([x, y], 1).repeat(1, 2),
        torch.randn(2, 3),
        torch.randn(2, 4),
        dynamic=({1: Dim("a", max=9)}, {1: Dim("b", max=9)}),
        others=[(torch.randn(2, 6), torch.randn(2, 2))],
    )
