"""Windows, grids, scales and distances against PyTorch, interpreted and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812

from tests.frontends.comparison import check
from tests.frontends.test_torch_operators import randn

IMAGE, SIGNAL, VOLUME = randn(2, 3, 9, 11), randn(2, 3, 11), randn(1, 2, 5, 6, 7)
HEIGHT, WIDTH = Dim("height", min=5, max=64), Dim("width", min=5, max=64)

POSITIONS: dict[str, tuple[Callable[..., Any], torch.Tensor]] = {
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1, return_indices=True), SIGNAL),
    "max_pool2d": (lambda x: F.max_pool2d(x, (3, 2), 2, (1, 0), return_indices=True), IMAGE),
    "dilated": (lambda x: F.max_pool2d(x, 3, 2, 1, 2, return_indices=True), IMAGE),
    "ceil": (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True, return_indices=True), IMAGE),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2, return_indices=True), VOLUME),
    "unbatched": (lambda x: F.max_pool2d(x[0], 3, return_indices=True), IMAGE),
    "nothing_to_choose": (
        lambda x: F.max_pool2d(x - torch.inf, 3, 1, 1, return_indices=True),
        IMAGE,
    ),
    "adaptive1d": (lambda x: F.adaptive_max_pool1d(x, 4, return_indices=True), SIGNAL),
    "adaptive2d": (lambda x: F.adaptive_max_pool2d(x, (4, 7), return_indices=True), IMAGE),
    "adaptive3d": (lambda x: F.adaptive_max_pool3d(x, (2, 3, 3), return_indices=True), VOLUME),
    "unpool": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 11)),
        IMAGE,
    ),
}
SUMS: dict[str, Callable[..., Any]] = {
    "divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "divisor_ceil": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=2),
    "fold": lambda x: F.fold(F.unfold(x, 3, 1, 1, 2), (9, 11), 3, 1, 1, 2),
    "fold_dilated": lambda x: F.fold(F.unfold(x, (2, 3), 2), (9, 11), (2, 3), 2),
    "fold_smaller": lambda x: F.fold(x.flatten(2)[..., :16].repeat(1, 2, 1), (6, 5), (3, 2)),
    "fold_unbatched": lambda x: F.fold(F.unfold(x[0], 3, 1, 1, 3), (9, 11), 3, 1, 1, 3),
    "unfold": lambda x: F.unfold(x, (3, 2), (1, 2), (1, 0), (2, 1)),
}
SCALES: dict[str, Callable[..., Any]] = {
    "nearest": lambda x: F.interpolate(x, scale_factor=1.7),
    "nearest_down": lambda x: F.interpolate(x, scale_factor=(0.6, 1.3)),
    "exact": lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest-exact"),
    "linear": lambda x: F.interpolate(x[:, 0], scale_factor=2.3, mode="linear"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    "bilinear_down": lambda x: F.interpolate(x, scale_factor=0.6, mode="bilinear"),
    "corners": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=(1.7, 0.7), mode="bicubic"),
    "kept": lambda x: F.interpolate(x, scale_factor=1.05),
    "doubled": lambda x: F.interpolate(x, scale_factor=2.05),
    "kept_bilinear": lambda x: F.interpolate(x, scale_factor=(1.05, 1.7), mode="bilinear"),
    "kept_exact": lambda x: F.interpolate(x, scale_factor=1.05, mode="nearest-exact"),
    "recomputed": lambda x: F.interpolate(
        x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True
    ),
}
DISTANCES: dict[str, Callable[..., Any]] = {
    "cdist": lambda x, y: torch.cdist(x, y),
    "cdist1": lambda x, y: torch.cdist(x, y, 1.0),
    "cdist_inf": lambda x, y: torch.cdist(x, y, float("inf")),
    "cdist3": lambda x, y: torch.cdist(x, y, 3.0),
    "pdist": lambda x, y: torch.pdist(x[0]),
    "dist": lambda x, y: torch.dist(x, y[:, :1]),
    "pairwise": lambda x, y: F.pairwise_distance(x[:, 0], y[:, 0]),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_of_maxima(name: str) -> None:
    function, x = POSITIONS[name]
    check(function, x)


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_windows(name: str) -> None:
    check(SUMS[name], IMAGE)


@pytest.mark.parametrize("name", SCALES)
def test_scales_that_give_no_whole_size(name: str) -> None:
    check(SCALES[name], IMAGE, tolerance=1e-4)


@pytest.mark.parametrize("name", DISTANCES)
def test_distances(name: str) -> None:
    check(DISTANCES[name], randn(2, 5, 3), randn(2, 4, 3))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str, padding: str, corners: bool) -> None:
    def sample(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, grid, mode, padding, corners)

    check(sample, IMAGE, randn(2, 5, 4, 2) * 1.3, tolerance=1e-4)
    if mode != "bicubic":
        check(sample, VOLUME, randn(1, 3, 2, 4, 3) * 1.3, tolerance=1e-4)


def test_affine_grid() -> None:
    check(
        lambda x, theta: F.grid_sample(
            x, F.affine_grid(theta, [2, 3, 7, 5], align_corners=False), align_corners=False
        ),
        IMAGE,
        torch.tensor([[[1.0, 0.2, 0.1], [-0.2, 0.9, 0.0]]] * 2),
        tolerance=1e-4,
    )


def test_windows_of_symbolic_images() -> None:
    def both(x: torch.Tensor) -> Any:
        return (
            F.max_pool2d(x, 3, 2, 1, return_indices=True),
            F.avg_pool2d(x, 3, 2, 1, divisor_override=4),
            F.adaptive_max_pool2d(x, 3, return_indices=True),
        )

    images = [(randn(1, 2, 5, 64),), (randn(1, 2, 23, 8),)]
    check(both, randn(1, 2, 9, 12), dynamic=({2: HEIGHT, 3: WIDTH},), others=images)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_scales_of_symbolic_images(mode: str) -> None:
    check(
        lambda x: F.interpolate(x, scale_factor=1.125, mode=mode),
        randn(1, 2, 9, 12),
        dynamic=({2: HEIGHT, 3: WIDTH},),
        others=[(randn(1, 2, 5, 64),), (randn(1, 2, 7, 8),)],
        tolerance=1e-4,
    )


def test_grids_in_symbolic_images() -> None:
    def sample(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=True)

    count = Dim("count", min=1, max=50)
    check(
        sample,
        randn(2, 3, 9, 12),
        randn(2, 4, 1, 2),
        dynamic=({2: HEIGHT, 3: WIDTH}, {1: count}),
        others=[(randn(2, 3, 5, 31), randn(2, 1, 1, 2)), (randn(2, 3, 64, 7), randn(2, 50, 1, 2))],
        tolerance=1e-4,
    )


def test_distances_of_symbolic_numbers_of_rows() -> None:
    a, b = Dim("a", min=2, max=30), Dim("b", min=2, max=30)
    check(
        lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").argmin(1),
        randn(5, 3),
        randn(4, 3),
        dynamic=({0: a}, {0: b}),
        others=[(randn(2, 3), randn(17, 3)), (randn(30, 3), randn(2, 3))],
    )
