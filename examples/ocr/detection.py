"""Text detection by differentiable binarisation (Liao et al., arXiv 1911.08947): picture -> boxes.

The network gives the probability that a pixel is in the shrunken core of a line of text.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from components import components, pixels_of
from numpy.typing import NDArray
from PIL import Image
from rectangles import Rectangle, grown, sides, smallest_rectangle

Array = NDArray[np.float32]
Network = Callable[[Array], Array]
"""One input, one output."""

SHORT_SIDE = 736
_STEP = 32
_PIXEL_THRESHOLD = 0.3
_BOX_THRESHOLD = 0.6
_GROWTH = 1.8
_LEAST_SIDE = 3


def find_lines(detect: Network, picture: Image.Image) -> list[Rectangle]:
    """Boxes around the lines of text of a picture, in its pixels and in reading order.

    `detect` takes `[1, 3, height, width]`, multiples of 32, and gives `[1, 1, height, width]`.
    """
    width, height = network_size(picture.size)
    image = normalized(picture.resize((width, height), Image.Resampling.BILINEAR))
    scale = np.array([picture.width / width, picture.height / height])
    most = np.array(picture.size)
    found = boxes(detect(image[None])[0, 0])
    return in_reading_order([np.clip(np.round(box * scale), 0, most) for box in found])


def network_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height for the network: the short side is 736 or longer."""
    ratio = max(1.0, SHORT_SIDE / min(size))
    width, height = (max(round(int(side * ratio) / _STEP), 1) * _STEP for side in size)
    return width, height


def normalized(picture: Image.Image) -> Array:
    """Blue, green and red planes `[3, height, width]` from -1 to 1."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)[..., ::-1]
    return np.ascontiguousarray((pixels / 255 - 0.5).transpose(2, 0, 1) / 0.5)


def boxes(probability: Array) -> list[Rectangle]:
    """Rectangles around the components of a probability map, as large as the text itself."""
    found = []
    for points in components(_dilated(probability > _PIXEL_THRESHOLD)):
        core, pixels = smallest_rectangle(points), pixels_of(probability, points)
        if min(sides(core)) < _LEAST_SIDE or pixels.mean() < _BOX_THRESHOLD:
            continue
        # Cores are shrunken by a distance in proportion to area / perimeter. The area is that of
        # the pixels, much less than that of the rectangle where a line is curved.
        box = grown(core, _GROWTH * pixels.size / (2 * sum(sides(core))))
        if min(sides(box)) >= _LEAST_SIDE + 2:
            found.append(box)
    return found


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask, and those to the right of, below, and diagonally below one."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    tall = wide.copy()
    tall[1:] |= wide[:-1]
    return tall


def in_reading_order(found: list[Rectangle], same_line: float = 10) -> list[Rectangle]:
    """Boxes from top to bottom; those whose tops differ by less than 10 pixels from the left."""
    ordered = sorted(found, key=lambda box: (box[0, 1], box[0, 0]))
    for end in range(1, len(ordered)):
        for i in range(end, 0, -1):
            above, below = ordered[i - 1][0], ordered[i][0]
            if below[1] - above[1] >= same_line or below[0] >= above[0]:
                break
            ordered[i - 1], ordered[i] = ordered[i], ordered[i - 1]
    return ordered
