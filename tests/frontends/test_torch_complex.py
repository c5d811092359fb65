"""Complex numbers and Fourier transforms against PyTorch, interpreted and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from ranvier.errors import CompileError
from ranvier.frontends.torch import import_torch
from tests.frontends.comparison import Function, check
from tests.frontends.test_torch_operators import randn

X, SIGNAL, WINDOW = randn(3, 5, 6), randn(2, 64), torch.hann_window(16)

TRANSFORMS: dict[str, Callable[..., Any]] = {
    "fft": lambda x: torch.view_as_real(torch.fft.fft(x)),
    "fft_odd": lambda x: torch.view_as_real(torch.fft.fft(x, dim=1)),
    "fft_first": lambda x: torch.view_as_real(torch.fft.fft(x, dim=0, norm="ortho")),
    "fft_of_one_dim": lambda x: torch.view_as_real(torch.fft.fft(x[0, 0])),
    "rfft_of_one_dim": lambda x: torch.fft.irfft(torch.fft.rfft(x[0, 0])),
    "ifft": lambda x: torch.fft.ifft(torch.complex(x, x.cos())).imag,
    "rfft": lambda x: torch.fft.rfft(x).abs(),
    "rfft_odd": lambda x: torch.fft.rfft(x, dim=1, norm="ortho")[:, 1:].angle(),
    "fft2": lambda x: torch.fft.fft2(x).real,
    "rfft2": lambda x: torch.view_as_real(torch.fft.rfft2(x)),
    "irfft2": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 2, s=(5, 6)),
    "rfftn": lambda x: torch.fft.irfftn(torch.fft.rfftn(x), s=(3, 5, 6)),
    "irfft": lambda x: torch.fft.irfft(torch.complex(x, x.sin())),
    "irfft_odd": lambda x: torch.fft.irfft(torch.complex(x, x.sin()), n=9),
    "hfft": lambda x: torch.fft.hfft(torch.complex(x, x.sin())),
    "padded": lambda x: torch.fft.fft(x, n=11).abs(),
    "shifted": lambda x: torch.fft.fftshift(torch.fft.fft(x)).abs(),
    "convolution": lambda x: torch.fft.irfft(torch.fft.rfft(x, 16) * torch.fft.rfft(x.flip(2), 16)),
}
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b * (1 + 2j),
    "sub": lambda a, b: 2.5 - a - torch.sub(b, a, alpha=2),
    "mul": lambda a, b: a * b * a.real,
    "div": lambda a, b: a / b + b / 2 + 1 / a,
    "conj": lambda a, b: a.conj() * b,
    "exp": lambda a, b: torch.exp(a) - b.exp(),
    "polar": lambda a, b: torch.polar(a.abs(), b.angle()),
    "views": lambda a, b: torch.cat([a[:, 1:], b.transpose(0, 1)[:, :2]], 1).reshape(-1, 2),
    "sums": lambda a, b: a.sum(1) + b.mean(0),
    "stacked": lambda a, b: torch.stack([a, -b]).unbind(1)[1],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform(name: str) -> None:
    check(TRANSFORMS[name], X, tolerance=2e-5)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name: str) -> None:
    def real(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a, b = torch.view_as_complex(x), torch.view_as_complex(y)
        return torch.view_as_real(ARITHMETIC[name](a, b))

    check(real, randn(3, 3, 2), randn(3, 3, 2) + 0.1)


def test_operators_of_complex_numbers_on_real_ones() -> None:
    check(lambda x: (torch.conj_physical(x) + 1, torch.real(x) * 2, x.abs(), x.angle()), X)


def test_short_time_transform() -> None:
    def magnitudes(x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(x, 16, 4, window=WINDOW, return_complex=True)
        return spectrum.abs().clamp(min=1e-5).log()

    check(magnitudes, SIGNAL, tolerance=1e-4)


def test_short_time_transform_and_back() -> None:
    def filtered(x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(x, 16, 4, window=WINDOW, return_complex=True)
        mask = torch.sigmoid(spectrum.abs())
        return torch.istft(spectrum * mask, 16, 4, window=WINDOW)

    check(filtered, SIGNAL, tolerance=1e-4)


def test_rotary_embedding() -> None:
    """Positions as rotations of pairs of features, with a complex buffer."""

    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turns: torch.Tensor
            angles = torch.outer(torch.arange(32.0), torch.tensor([1.0, 0.1, 0.01, 0.001]))
            self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
            return torch.view_as_real(pairs * self.turns[: x.shape[1]]).flatten(2)

    length = Dim("length", min=1, max=32)
    check(Rotary(), randn(2, 5, 8), dynamic=({1: length},), others=[(randn(2, 32, 8),)])


def test_transforms_of_symbolic_size() -> None:
    rows, columns = Dim("rows", min=2, max=20), Dim("columns", min=4, max=40)
    check(
        lambda x: (torch.fft.rfft(x, dim=1).abs(), torch.fft.fft(x, dim=0).real),
        randn(5, 12),
        dynamic=({0: rows, 1: columns},),
        others=[(randn(2, 4),), (randn(17, 39),)],
        tolerance=1e-4,
    )


def test_complex_inputs_are_refused() -> None:
    with pytest.raises(CompileError, match="complex64"):
        import_torch(Function(lambda x: x.abs()), (torch.ones(2, dtype=torch.complex64),))
