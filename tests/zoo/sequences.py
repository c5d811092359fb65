"""Networks over sequences of any length: a temporal convolutional network and an LSTM tagger."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from tests.zoo.entry import Sizes
from tests.zoo.random_weights import build_seeded, seeded

WORDS = 500
"""The vocabulary of the tagger."""


class CausalConvolution(nn.Module):
    """A dilated convolution with normalised weights that sees no later step."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.behind = (kernel - 1) * dilation
        convolution = nn.Conv1d(inputs, outputs, kernel, padding=self.behind, dilation=dilation)
        self.convolution = weight_norm(convolution)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inputs, steps]` -> `[batch, outputs, steps]`."""
        result: torch.Tensor = self.convolution(x)[:, :, : -self.behind]
        return result


class TemporalBlock(nn.Module):
    """Two causal convolutions and a residual."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.first = CausalConvolution(inputs, outputs, kernel, dilation)
        self.second = CausalConvolution(outputs, outputs, kernel, dilation)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inputs, steps]` -> `[batch, outputs, steps]`."""
        y = functional.relu(self.second(functional.relu(self.first(x))))
        return functional.relu(y + self.shortcut(x))


class TemporalConvolutionalNetwork(nn.Module):
    """Bai et al., 2018 (arXiv 1803.01271): each of the `levels` doubles the dilation."""

    def __init__(
        self, inputs: int = 12, width: int = 32, levels: int = 5, classes: int = 7
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(TemporalBlock(width if i else inputs, width, 3, 1 << i) for i in range(levels))
        )
        self.head = nn.Linear(width, classes)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """`[batch, inputs, steps]` -> scores `[batch, steps, classes]`."""
        result: torch.Tensor = self.head(self.blocks(signal).transpose(1, 2))
        return result


class LstmTagger(nn.Module):
    """Scores of a tag for every word: embedding, LSTM in both directions, linear layer."""

    def __init__(self, tags: int = 9, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, tags)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Word numbers `[batch, words]` -> scores `[batch, words, tags]`."""
        states, _ = self.lstm(self.embedding(words))
        result: torch.Tensor = self.head(states)
        return result


def build_temporal_network() -> nn.Module:
    """The temporal convolutional network, seeded."""
    return build_seeded(TemporalConvolutionalNetwork)


def build_lstm_tagger() -> nn.Module:
    """The tagger, seeded."""
    return build_seeded(LstmTagger)


def signal_batch(sizes: Sizes) -> torch.Tensor:
    """A seeded batch of signals `[batch, 12, steps]`, deviation 1."""
    with seeded(1):
        return torch.randn(sizes["batch"], 12, sizes["steps"])


def word_batch(sizes: Sizes) -> torch.Tensor:
    """Seeded word numbers `[batch, words]`."""
    with seeded(1):
        return torch.randint(0, WORDS, (sizes["batch"], sizes["words"]))
