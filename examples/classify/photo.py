"""The photo and its preprocessing, with NumPy and Pillow alone: both sides of the demo use it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 224
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def cat_photo() -> Path:
    """The photo of a cat that scikit-image ships; found without importing scikit-image."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the demo's photo comes with scikit-image, which is not installed")
    return Path(spec.origin).parent / "data" / "chelsea.png"


def preprocess(path: Path) -> NDArray[np.float32]:
    """Crop the centre square, resize to 224, normalise: `[1, 3, 224, 224]` in f32."""
    photo = Image.open(path).convert("RGB")
    pixels: NDArray[np.float32] = np.asarray(photo, dtype=np.float32) / np.float32(255)
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side]
    rows = _interpolate(square, SIDE)
    resized = _interpolate(rows.swapaxes(0, 1), SIDE).swapaxes(0, 1)
    normalised = (resized - _MEAN) / _DEVIATION
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def _interpolate(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Linear interpolation of the first axis to `size`, pixel centres at half-integers."""
    length = pixels.shape[0]
    centres = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    below = np.minimum(centres.astype(np.int64), length - 2)
    weight = (centres - below).astype(np.float32)[:, None, None]
    blended: NDArray[np.float32] = pixels[below] * (1 - weight) + pixels[below + 1] * weight
    return blended


def top_labels(
    logits: NDArray[np.float32], labels: list[str], count: int = 5
) -> list[tuple[str, float]]:
    """The `count` most probable labels of one row of logits, with their probabilities."""
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = shifted / shifted.sum()
    best = np.argsort(-probabilities)[:count]
    return [(labels[index], float(probabilities[index])) for index in best]
