"""Detectors with suppression of overlapping boxes inside: a YOLO-like and an SSD-like one.

They return as many boxes as they find; how many depends on the image.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.entry import Sizes
from tests.zoo.images import image_batch
from tests.zoo.random_weights import build_seeded
from tests.zoo.torchvision_import import (
    import_torchvision_models,
    import_torchvision_operators,
)

_operators = import_torchvision_operators()
CLASSES = 5
_MOST_PIXELS = 4096.0
"""Beyond every coordinate: boxes of different groups, moved apart by it, do not overlap."""


class Convolution(nn.Sequential):
    """A convolution, batch norm and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
        )


class CrossStage(nn.Module):
    """Half of the channels pass a residual pair of convolutions; all meet in a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.before = Convolution(channels, channels, 1)
        self.inside = nn.Sequential(Convolution(half, half), Convolution(half, half))
        self.after = Convolution(channels + half, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, h, w]`, in and out."""
        left, right = self.before(x).chunk(2, dim=1)
        result: torch.Tensor = self.after(
            torch.cat([left, right, right + self.inside(right)], dim=1)
        )
        return result


class Pyramid(nn.Module):
    """Feature maps of 32, 48 and 64 channels at 1/8, 1/16 and 1/32 of the size, mixed top down."""

    channels = (32, 48, 64)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Convolution(3, 16, 3, 2), Convolution(16, 24, 3, 2))
        widths = (24, *self.channels)
        self.falls = nn.ModuleList(
            nn.Sequential(Convolution(a, b, 3, 2), CrossStage(b)) for a, b in pairwise(widths)
        )
        self.laterals = nn.ModuleList(Convolution(a + b, a, 1) for a, b in pairwise(self.channels))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """`[batch, 3, height, width]` -> three maps, the finest first."""
        x = self.stem(image)
        maps: list[torch.Tensor] = []
        for fall in self.falls:
            x = fall(x)
            maps.append(x)
        for level in (1, 0):
            coarse = functional.interpolate(maps[level + 1], size=maps[level].shape[2:])
            maps[level] = self.laterals[level](torch.cat([maps[level], coarse], dim=1))
        return maps


class YoloLike(nn.Module):
    """Anchor-free: every cell of three maps has a box and a score per class.

    Cells with a score above `least_score` are candidates; torchvision's `nms` keeps the best, per
    image and class.
    """

    def __init__(self, least_score: float = 0.6, overlap: float = 0.45) -> None:
        super().__init__()
        self.least_score = least_score
        self.overlap = overlap
        self.pyramid = Pyramid()
        self.heads = nn.ModuleList(
            nn.Sequential(Convolution(width, width), nn.Conv2d(width, 4 + CLASSES, 1))
            for width in Pyramid.channels
        )

    def forward(
        self, image: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """`[batch, 3, height, width]` -> corners `[n, 4]`; scores, classes and images `[n]`."""
        maps = [head(x) for head, x in zip(self.heads, self.pyramid(image), strict=True)]
        boxes = torch.cat([_boxes(x[:, :4], 8 << level) for level, x in enumerate(maps)], dim=1)
        scores = torch.cat([x[:, 4:].flatten(2).transpose(1, 2) for x in maps], dim=1).sigmoid()
        best, classes = scores.max(-1)
        images, cells = torch.nonzero(best > self.least_score, as_tuple=True)
        boxes, best, classes = boxes[images, cells], best[images, cells], classes[images, cells]
        groups = (images * CLASSES + classes).to(boxes.dtype)
        kept = _operators.nms(boxes + groups[:, None] * _MOST_PIXELS, best, self.overlap)
        return boxes[kept], best[kept], classes[kept], images[kept]


def _boxes(sides: torch.Tensor, stride: int) -> torch.Tensor:
    """Distances to the sides `[batch, 4, rows, columns]` -> corners `[batch, cells, 4]`."""
    rows, columns = sides.shape[2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre = (torch.stack([x, y]) + 0.5) * stride
    low, high = functional.softplus(sides).mul(2 * stride).chunk(2, dim=1)
    return torch.cat([centre - low, centre + high], dim=1).flatten(2).transpose(1, 2)


class SsdLike(nn.Module):
    """Default boxes of three shapes per cell, moved and scaled by the network, per class.

    For one image. The best `candidates` of every class go to torchvision's `batched_nms`; what is
    left with a score above `least_score` is returned, the best first.
    """

    shapes = ((1.0, 1.0), (1.6, 0.8), (0.8, 1.6))

    def __init__(
        self, least_score: float = 0.3, overlap: float = 0.5, candidates: int = 40
    ) -> None:
        super().__init__()
        self.least_score = least_score
        self.overlap = overlap
        self.candidates = candidates
        self.pyramid = Pyramid()
        outputs = len(self.shapes) * (4 + CLASSES + 1)
        self.heads = nn.ModuleList(
            nn.Conv2d(width, outputs, 3, padding=1) for width in Pyramid.channels
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """`[1, 3, height, width]` -> `boxes` (corners `[n, 4]`), `scores` and `labels` `[n]`."""
        maps = [head(x) for head, x in zip(self.heads, self.pyramid(image), strict=True)]
        found = torch.cat([self._rows(x) for x in maps])
        boxes = self._decoded(found[:, :4], torch.cat([self._defaults(x) for x in maps]), image)
        scores = functional.softmax(found[:, 4:], dim=-1)
        chosen: list[tuple[torch.Tensor, ...]] = []
        for label in range(1, CLASSES + 1):  # 0 is the background
            score, rows = scores[:, label].topk(self.candidates)
            chosen.append((boxes[rows], score, torch.full_like(rows, label)))
        boxes, score, labels = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        kept = _operators.batched_nms(boxes, score, labels, self.overlap)
        kept = kept[score[kept] > self.least_score]
        return {"boxes": boxes[kept], "scores": score[kept], "labels": labels[kept]}

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        """`[1, shapes * outputs, rows, columns]` -> `[rows * columns * shapes, outputs]`."""
        return x[0].permute(1, 2, 0).reshape(-1, 4 + CLASSES + 1)

    def _defaults(self, x: torch.Tensor) -> torch.Tensor:
        """Centres and sizes `[rows * columns * shapes, 4]`, where the image has the size 1."""
        rows, columns = x.shape[2:]
        cy = (torch.arange(rows) + 0.5) / rows
        cx = (torch.arange(columns) + 0.5) / columns
        y, x_ = torch.meshgrid(cy, cx, indexing="ij")
        sizes = torch.tensor(self.shapes)
        centres = torch.stack([x_, y], dim=-1).reshape(-1, 1, 2).expand(-1, len(sizes), 2)
        cells = torch.stack([cx[0], cy[0]]) * 4
        return torch.cat([centres, (sizes * cells).expand_as(centres)], dim=-1).reshape(-1, 4)

    def _decoded(
        self, moves: torch.Tensor, defaults: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Corners in pixels, within the image."""
        centre = defaults[:, :2] + moves[:, :2] * 0.1 * defaults[:, 2:]
        half = defaults[:, 2:] * torch.exp(moves[:, 2:] * 0.2) / 2
        height, width = image.shape[2:]
        boxes = torch.cat([centre - half, centre + half], dim=1).clamp(0, 1)
        return boxes * torch.tensor([width, height, width, height])


def build_yolo() -> nn.Module:
    """The YOLO-like detector, seeded."""
    return build_seeded(YoloLike, (image_batch({"batch": 2, "height": 128, "width": 128}),))


def build_ssd() -> nn.Module:
    """The SSD-like detector, seeded."""
    return build_seeded(SsdLike, (image_batch({"batch": 1, "height": 128, "width": 128}),))


def build_ssdlite() -> nn.Module:
    """torchvision's SSDLite with a MobileNetV3, five classes and a background, seeded."""
    make = import_torchvision_models().detection.ssdlite320_mobilenet_v3_large
    options = {"weights": None, "weights_backbone": None, "num_classes": 1 + CLASSES}
    picture = image_batch({"batch": 1, "height": 200, "width": 240})[0]
    return build_seeded(lambda: make(**options, score_thresh=0.4), ([picture],))


def picture_batch(sizes: Sizes) -> torch.Tensor:
    """A seeded batch `[batch, 3, height, width]`; one picture where the batch has no size."""
    return image_batch({"batch": 1, **sizes})
