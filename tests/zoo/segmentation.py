"""Networks that label every pixel: a U-Net, and torchvision's DeepLabV3 and FCN."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.images import image_batch
from tests.zoo.random_weights import build_seeded
from tests.zoo.torchvision_import import import_torchvision_models


class ConvolutionPair(nn.Sequential):
    """Twice a 3x3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            *(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)),
            nn.ReLU(inplace=True),
            *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)),
            nn.ReLU(inplace=True),
        )


class Rise(nn.Module):
    """A step of the way up: twice the size, padded to the map that it joins."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        self.convolutions = ConvolutionPair(inputs, outputs)

    def forward(self, x: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        """`[batch, inputs, h, w]` and `[batch, inputs / 2, H, W]` -> `[batch, outputs, H, W]`."""
        x = self.up(x)
        below = skipped.size(2) - x.size(2)
        right = skipped.size(3) - x.size(3)
        x = functional.pad(x, [right // 2, right - right // 2, below // 2, below - below // 2])
        result: torch.Tensor = self.convolutions(torch.cat([skipped, x], dim=1))
        return result


class UNet(nn.Module):
    """Ronneberger et al., 2015 (arXiv 1505.04597), with padded convolutions, for any size.

    `width` is the number of channels of the first level; each of `depth` levels doubles it.
    """

    def __init__(self, classes: int = 3, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.first = ConvolutionPair(3, widths[0])
        self.falls = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), ConvolutionPair(a, b)) for a, b in pairwise(widths)
        )
        self.rises = nn.ModuleList(
            Rise(deep, shallow) for deep, shallow in pairwise(reversed(widths))
        )
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`[batch, 3, height, width]` -> scores `[batch, classes, height, width]`."""
        maps = [self.first(image)]
        for fall in self.falls:
            maps.append(fall(maps[-1]))
        x = maps.pop()
        for rise in self.rises:
            x = rise(x, maps.pop())
        result: torch.Tensor = self.last(x)
        return result


def build_unet() -> nn.Module:
    """The U-Net, seeded."""
    return build_seeded(UNet, (image_batch({"batch": 2, "height": 64, "width": 64}),))


def build_torchvision_segmentation(name: str) -> nn.Module:
    """`torchvision.models.segmentation.<name>` with seeded random weights, 21 classes."""
    networks = import_torchvision_models().segmentation
    make = getattr(networks, name)
    calibration = image_batch({"batch": 2, "height": 96, "width": 96})
    return build_seeded(lambda: make(weights=None, weights_backbone=None), (calibration,))
