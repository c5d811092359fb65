"""CRAFT, the detector of text in photos: VGG-16 with batch norm, and a U-shaped way back up.

Baek et al., Character Region Awareness for Text Detection, 2019 (arXiv 1904.01941), figure 2. The
names of the parameters are those of the authors' release, so that its trained weights load.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo.entry import Sizes
from tests.zoo.page import page

_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512)
"""VGG-16 up to its last but one convolution: output channels, 0 for a halving max pool."""
_STAGE_ENDS = (13, 20, 30, 39)
"""A feature map goes to the way up before the layer of this index, in torchvision's counting."""


class Backbone(nn.Module):
    """VGG-16 with a wide last block; gives five feature maps, the deepest first."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _WIDTHS:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
                layers += [nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2, 2))
        first = 0
        for number, end in enumerate(_STAGE_ENDS, 1):
            stage = nn.Sequential()
            for index in range(first, end):
                stage.add_module(str(index), layers[index])
            self.add_module(f"slice{number}", stage)
            first = end
        self.slice5 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.Conv2d(1024, 1024, 1),
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """`[batch, 3, height, width]` -> maps at 1/16, 1/16, 1/8, 1/4 and 1/2 of the size."""
        maps = []
        for stage in self.children():
            image = stage(image)
            maps.append(image)
        return maps[::-1]


class Merge(nn.Module):
    """A step of the way up: a 1x1 convolution mixes two maps, a 3x3 convolution smooths them."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Conv2d(inputs + middle, middle, 1), nn.BatchNorm2d(middle), nn.ReLU()),
            *(nn.Conv2d(middle, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inputs + middle, height, width]` -> `[batch, outputs, height, width]`."""
        result: torch.Tensor = self.conv(x)
        return result


class Craft(nn.Module):
    """Region and affinity scores of characters, at half the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.basenet = Backbone()
        self.upconv1 = Merge(1024, 512, 256)
        self.upconv2 = Merge(512, 256, 128)
        self.upconv3 = Merge(256, 128, 64)
        self.upconv4 = Merge(128, 64, 32)
        self.conv_cls = nn.Sequential(
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 1), nn.ReLU()),
            nn.Conv2d(16, 2, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`[batch, 3, height, width]` -> scores `[batch, height // 2, width // 2, 2]`."""
        maps = self.basenet(image)
        y = self.upconv1(torch.cat([maps[0], maps[1]], dim=1))
        for merge, skipped in zip(
            (self.upconv2, self.upconv3, self.upconv4), maps[2:], strict=True
        ):
            y = functional.interpolate(y, size=skipped.shape[2:], mode="bilinear")
            y = merge(torch.cat([y, skipped], dim=1))
        scores: torch.Tensor = self.conv_cls(y)
        return scores.permute(0, 2, 3, 1)


def build_craft() -> nn.Module:
    """CRAFT with the weights that its authors trained."""
    spec = importlib.util.find_spec("easyocr_en_models")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "models" / "craft_mlt_25k.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = Craft()
    model.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
    return model.eval()


def page_batch(sizes: Sizes) -> torch.Tensor:
    """Corners `[batch, 3, height, width]` of scikit-image's photo of a page, normalised."""
    pages = [page(sizes["height"], sizes["width"], k) for k in range(sizes["batch"])]
    return torch.from_numpy(np.concatenate(pages))
