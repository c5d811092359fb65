"""Running products and extremes, and small element-wise operators, interpreted and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim

from ranvier.errors import UnsupportedOperatorError
from tests.frontends.comparison import check
from tests.frontends.test_torch_operators import integers, randn

X = randn(3, 9, 5)
SPECIAL = torch.tensor([0.0, -0.0, 1.5, -2.5, torch.inf, -torch.inf, torch.nan, 1e-30, -3e7, 0.49])
SCANS: dict[str, Callable[..., Any]] = {
    "cumprod": lambda x: x.cumprod(1),
    "cumprod_last": lambda x: x.cumprod(-1, dtype=torch.float64),
    "cumprod_int": lambda x: (x * 2).int().cumprod(0),
    "cummax": lambda x: x.cummax(1),
    "cummin": lambda x: x.cummin(0),
    "cummax_ties": lambda x: (x * 1.5).round().cummax(1),
    "logcumsumexp": lambda x: (x * 30).logcumsumexp(2),
    "one": lambda x: (x[0, 0, 0].cumprod(0), x[0, 0, 0].cummax(0), x[0, 0, 0].logcumsumexp(0)),
}
SMALL: dict[str, Callable[..., Any]] = {
    "signbit": lambda x, y: torch.signbit(x[:6]),
    "copysign": lambda x, y: torch.copysign(x[:, None], y[:6]),
    "copysign_number": lambda x, y: torch.copysign(x, -0.0),
    "fmax": lambda x, y: torch.fmax(x[:, None], y),
    "fmin": lambda x, y: torch.fmin(x[:, None], y),
    "hypot": lambda x, y: torch.hypot(x[:, None], y),
    "ldexp": lambda x, y: torch.ldexp(x, torch.tensor(3)),
    "erfc": lambda x, y: torch.erfc(x) * torch.erfc(x / 1e7),
    "angle": lambda x, y: torch.angle(x),
    "round_decimals": lambda x, y: torch.round(x[1:5] * 1.2345, decimals=2),
    "round_hundreds": lambda x, y: torch.round(x, decimals=-2),
    "safe_softmax": lambda x, y: torch.ops.aten._safe_softmax(x[:6] - torch.inf, 0),
}


@pytest.mark.parametrize("name", SCANS)
def test_scan(name: str) -> None:
    check(SCANS[name], X)


@pytest.mark.parametrize("name", SMALL)
def test_small(name: str) -> None:
    check(SMALL[name], SPECIAL, SPECIAL.flip(0))


def test_integers() -> None:
    a, b = integers(9), integers(9, low=-3)
    check(lambda x, y: (torch.copysign(x, y), torch.signbit(x), torch.fmax(x, y)), a, b)


def test_tail_of_erfc() -> None:
    """Where 1 - erf(x) has no digits left."""
    check(lambda x: torch.erfc(x).log(), torch.linspace(-6.0, 9.0, 61), tolerance=1e-4)


def test_scans_keep_nan_and_infinity() -> None:
    rows = torch.stack([SPECIAL, SPECIAL.flip(0), -SPECIAL])
    check(lambda x: (x.cummax(1), x.cummin(1), x.cumprod(1)), rows)
    check(lambda x: x.logcumsumexp(1), rows[:, :5])


def test_scans_of_symbolic_size() -> None:
    length = Dim("length", min=1, max=100)
    check(
        lambda x: (x.cumprod(1), x.cummax(1), x.logcumsumexp(1)),
        randn(2, 6),
        dynamic=({1: length},),
        others=[(randn(2, 1),), (randn(2, 17),), (randn(2, 100),)],
    )


def test_scans_need_a_bound() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"no bound: give its Dim a max="):
        check(lambda x: x.cumprod(0), randn(6), dynamic=({0: Dim("n")},))
