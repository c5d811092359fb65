"""Words from the score maps of CRAFT (Baek et al., arXiv 1904.01941): picture -> boxes.

The network gives, at half the size of the picture, the probability that a pixel is in the middle of
a character, and that it is between two characters of one word.
"""

from __future__ import annotations

import math

import numpy as np
from components import components, pixels_of
from detection import Array, Network
from PIL import Image
from rectangles import Rectangle, grown, sides, smallest_rectangle

LONG_SIDE = 1280
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_REGION_THRESHOLD = 0.4
_AFFINITY_THRESHOLD = 0.4
_PEAK = 0.7
_LEAST_PIXELS = 10


def find_words(score: Network, picture: Image.Image) -> list[Rectangle]:
    """Boxes around the words of a picture, in its pixels.

    `score` takes `[1, 3, height, width]` of any size and gives `[1, height // 2, width // 2, 2]`.
    """
    ratio = LONG_SIDE / max(picture.size)
    width, height = (max(round(side * ratio), 32) for side in picture.size)
    image = normalized(picture.resize((width, height), Image.Resampling.BILINEAR))
    scale = np.array([2 * picture.width / width, 2 * picture.height / height])
    return [box * scale for box in words(score(image[None])[0])]


def normalized(picture: Image.Image) -> Array:
    """Red, green and blue planes `[3, height, width]`, with ImageNet's mean and deviation."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return np.ascontiguousarray(((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1))


def words(scores: Array) -> list[Rectangle]:
    """Rectangles around characters that belong together, from scores `[height, width, 2]`."""
    region, affinity = scores[..., 0], scores[..., 1]
    found = []
    for points in components((region > _REGION_THRESHOLD) | (affinity > _AFFINITY_THRESHOLD)):
        pixels = pixels_of(region, points)
        if pixels.size < _LEAST_PIXELS or pixels.max() < _PEAK:
            continue
        core = smallest_rectangle(points)
        # As the paper's code widens a word: by the root of what part of its height is filled.
        filled = pixels.size / max(*sides(core), 1)
        found.append(grown(core, math.sqrt(filled)))
    return found
