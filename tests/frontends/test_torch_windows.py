"""Windows, grids, scales and distances against PyTorch, interpreted and compiled."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812

from ranvier.errors import UnsupportedOperatorError
from ranvier.frontends.torch import import_torch
from tests.frontends.comparison import Function, check, run
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


@pytest.fixture(scope="module")
def roi_align() -> Any:
    """`torchvision::roi_align` by torchvision's Python code, where its library does not load."""
    from tests.zoo.torchvision_import import import_torchvision_operators

    import_torchvision_operators()
    python = import_module("torchvision.ops.roi_align")
    if not hasattr(torch.ops.torchvision, "roi_align"):
        torch.library.define(
            "torchvision::roi_align",
            "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
            "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
        )
        eager = python._roi_align.__wrapped__  # not through torch.compile, anew for every size
        torch.library.impl("torchvision::roi_align", "CPU", eager)
        torch.library.register_fake("torchvision::roi_align", _pooled)
    return torch.ops.torchvision.roi_align.default


def _pooled(x: Any, rois: Any, scale: float, height: int, width: int, *options: Any) -> Any:
    return x.new_empty(rois.shape[0], x.shape[1], height, width)


@pytest.mark.parametrize("aligned", [False, True])
def test_pooling_of_boxes(roi_align: Any, aligned: bool) -> None:
    def pooled(x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return roi_align(x, boxes, 0.5, 3, 4, 2, aligned)

    def boxes(count: int) -> torch.Tensor:
        corners = torch.rand(count, 4, generator=torch.Generator().manual_seed(count)) * 11
        return torch.cat([torch.arange(count)[:, None] % 2, corners], 1).float()

    count = Dim("count", min=1, max=50)
    check(
        pooled,
        IMAGE,
        boxes(5),
        dynamic=({2: HEIGHT, 3: WIDTH}, {0: count}),
        others=[(randn(2, 3, 20, 6), boxes(1)), (randn(2, 3, 7, 31), boxes(50))],
        tolerance=1e-4,
    )


def test_samples_outside_of_the_image_count_as_zeros(roi_align: Any) -> None:
    """As in torchvision's native code; its Python code takes the nearest element."""
    boxes = torch.tensor([[0.0, 40, 40, 50, 50], [1.0, 0, 0, 22, 4]])
    graph = import_torch(
        Function(lambda x, b: roi_align(x, b, 1.0, 1, 2, 1, True)), (torch.ones(2, 3, 9, 11), boxes)
    )
    (found,) = run(graph, (torch.ones(2, 3, 9, 11), boxes))
    assert found[0].tolist() == [[[0.0, 0.0]]] * 3
    assert found[1].tolist() == [[[1.0, 0.0]]] * 3


def test_pooling_of_boxes_by_their_sizes_is_refused(roi_align: Any) -> None:
    with pytest.raises(UnsupportedOperatorError, match="sampling_ratio is 0"):
        check(lambda x, b: roi_align(x, b, 1.0, 2, 2, 0, False), IMAGE, torch.zeros(1, 5))
