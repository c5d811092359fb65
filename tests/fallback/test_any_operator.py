"""Operators that Ranvier knows, taken away from it: PyTorch runs whatever is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier

pytestmark = pytest.mark.needs("torch", "llvmlite")

MISSING = (
    ("where.self", "cumsum.default", "topk.default", "embedding.default", "amax.default"),
    ("upsample_bilinear2d.vec", "tril.default", "select.int", "flip.default", "sigmoid.default"),
    ("split_with_sizes.default", "slice.Tensor", "bmm.default", "linear.default", "relu.default"),
)


def network() -> Any:
    """Convolutions, norms, attention, tables, sorting, resampling."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
            self.second = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=4)
            self.groups, self.layer = nn.GroupNorm(4, 16), nn.LayerNorm(16)
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
            self.table, self.head = nn.Embedding(10, 16), nn.Linear(16, 7)

        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
            image = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
            image = nn.functional.silu(self.groups(self.second(image)))
            image = torch.cat([image, image.flip(-1)], 1)[:, ::2]
            tokens = image.flatten(2).transpose(1, 2)
            tokens = self.layer(tokens + self.table(ids)[:, None, :])
            tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
            left, right = tokens.split([8, 8], -1)
            gated = torch.sigmoid(left) * right
            tokens = torch.cat([gated, torch.where(left > 0, left, right.abs())], -1)
            values, places = torch.topk(tokens.mean(1), 3, -1)
            large = nn.functional.interpolate(image, scale_factor=2.0, mode="bilinear")
            products = torch.einsum("bij,bkj->bik", tokens, tokens).tril()
            rows = self.head(tokens).softmax(-1), values, places, large.amax((2, 3))
            return (*rows, tokens.cumsum(1)[:, -1], products)

    torch.manual_seed(0)
    return Network().eval()


@pytest.mark.parametrize("missing", MISSING, ids=lambda names: names[0])
def test_whatever_is_missing_runs_in_pytorch(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from ranvier.frontends.torch.translations import TABLE

    for name in missing:
        monkeypatch.delitem(TABLE, f"aten.{name}")
    batch = torch.export.Dim("batch", min=1, max=16)
    model, path = network(), tmp_path / "network.rvr"
    compiled = ranvier.trace(
        model, (torch.randn(2, 3, 16, 16), torch.randint(0, 10, (2,))),
        dynamic_shapes=({0: batch}, {0: batch}), fallback="torch", max_segments=9,
    )  # fmt: skip
    assert compiled.report.fallback is not None
    assert compiled.report.fallback.segments >= 1
    compiled.save(path)
    for cores in (1, 2):
        with ranvier.load(path, cores=cores) as loaded:
            for size in (1, 16, 3):
                given = torch.randn(size, 3, 16, 16), torch.randint(0, 10, (size,))
                with torch.no_grad():
                    expected = model(*given)
                for ours, theirs in zip(loaded(*given), expected, strict=True):
                    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=2e-5)
