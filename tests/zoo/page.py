"""scikit-image's photo of a page as input of a text detector; without PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)


def page(height: int, width: int, shifted: int = 0) -> NDArray[np.float32]:
    """The page's corner `[1, 3, height, width]`, normalised.

    The page is repeated where it is too small, and moved to the upper left in steps of (31, 47).
    """
    from PIL import Image

    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    photo = Image.open(Path(spec.origin).parent / "data" / "page.png").convert("RGB")
    pixels = np.roll(np.asarray(photo, np.float32), (-31 * shifted, -47 * shifted), (0, 1))
    repeats = (-(-height // photo.height), -(-width // photo.width), 1)
    image = np.tile(pixels, repeats)[:height, :width] / np.float32(255)
    return np.ascontiguousarray(((image - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])
