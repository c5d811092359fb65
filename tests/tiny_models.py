"""Small models as a user would give them to the command line: `FILE.py:FUNCTION`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim


class Classifier(nn.Module):
    """One convolution, one linear layer; returns logits and probabilities in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """f32[batch, 3, h, w] -> {"logits", "probabilities"}, each f32[batch, 10]."""
        features = torch.relu(self.conv(image)).mean((2, 3))
        logits = self.head(features)
        return {"logits": logits, "probabilities": torch.softmax(logits, -1)}


class Lookup(nn.Module):
    """An embedding table, whose indices have to be valid."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, tokens: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """i64[batch, length] -> f32[batch, length, 4]."""
        rows: torch.Tensor = self.table(tokens)
        return rows * scale


class Refused(nn.Module):
    """Uses an operator that has no native lowering."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """f32[n, n] -> f32[n, n]."""
        return torch.linalg.matrix_exp(x)


def classifier() -> tuple[Any, ...]:
    """Symbolic batch of 1 to 64."""
    torch.manual_seed(0)
    module = Classifier().eval()
    image = torch.randn(2, 3, 8, 8)
    return module, (image,), {}, {"image": {0: Dim("batch", min=1, max=64)}}


def fixed() -> tuple[Any, ...]:
    """The same weights, every size fixed."""
    return classifier()[:2]


def sized() -> tuple[Any, ...]:
    """Symbolic batch and height."""
    module, args, kwargs, _ = classifier()
    shapes = {"image": {0: Dim("batch", min=1, max=64), 2: Dim("height", min=4, max=64)}}
    return module, args, kwargs, shapes


def lookup() -> tuple[Any, ...]:
    """Symbolic length, and a constant among the arguments."""
    torch.manual_seed(0)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 4]])
    shapes = {"tokens": {1: Dim("length", min=1, max=32)}, "scale": None}
    return Lookup().eval(), (tokens,), {"scale": 2.0}, shapes


def refused() -> tuple[Any, ...]:
    """Cannot be compiled."""
    return Refused(), (torch.eye(3),)


def broken() -> None:
    """Fails as a user's code may."""
    raise ValueError("no weights here")


def wrong() -> int:
    """Returns no model."""
    return 3
