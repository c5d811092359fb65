"""Pictures of single lines: cut out, turned upright, read by a network with CTC output."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from detection import Array, Network, normalized
from numpy.typing import NDArray
from PIL import Image
from rectangles import Rectangle, sides

HEIGHT = 48
ORIENTATION_WIDTH = 192
_LEAST_WIDTH = 320
_BATCH = 6
_SURE = 0.9
_STANDING = 1.5
"""Boxes that are this much higher than wide hold text that runs upwards."""


def cut_out(picture: Image.Image, box: Rectangle) -> Image.Image:
    """The part of a picture in a box, as a picture of its own that is wider than high."""
    width, height = (max(int(side), 1) for side in sides(box))
    top_left, top_right, bottom_right, bottom_left = box
    corners = np.concatenate([top_left, bottom_left, bottom_right, top_right])
    line = picture.transform(
        (width, height), Image.Transform.QUAD, corners.tolist(), Image.Resampling.BICUBIC
    )
    return line.transpose(Image.Transpose.ROTATE_90) if height >= _STANDING * width else line


def upright(orient: Network, lines: Sequence[Image.Image]) -> list[Image.Image]:
    """The lines; those that surely stand on their heads are turned.

    `orient` takes `[batch, 3, 48, 192]` and gives `[batch, 2]`: probabilities of 0 and 180 degrees.
    """
    turned = list(lines)
    for batch in batches(lines):
        probabilities = orient(padded([lines[i] for i in batch], ORIENTATION_WIDTH))
        for i, (_, upside_down) in zip(batch, probabilities.tolist(), strict=True):
            if upside_down > _SURE:
                turned[i] = lines[i].transpose(Image.Transpose.ROTATE_180)
    return turned


def recognized(
    recognize: Network, characters: Sequence[str], lines: Sequence[Image.Image]
) -> list[tuple[str, float]]:
    """The text of every line with its score.

    `recognize` takes `[batch, 3, 48, width]` and gives, for every eighth column, the probability of
    every character, `[batch, (width + 3) // 8, len(characters) + 2]`.
    """
    texts = [("", 0.0)] * len(lines)
    for batch in batches(lines):
        chosen = [lines[i] for i in batch]
        width = max(_LEAST_WIDTH, *(int(HEIGHT * line.width / line.height) for line in chosen))
        probabilities = recognize(padded(chosen, width))
        for i, row in zip(batch, probabilities, strict=True):
            texts[i] = decoded(row, characters)
    return texts


def batches(lines: Sequence[Image.Image]) -> list[NDArray[np.int64]]:
    """Numbers of lines of similar shape, six at a time."""
    order = np.argsort([line.width / line.height for line in lines], kind="stable")
    return [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]


def padded(lines: Sequence[Image.Image], width: int) -> Array:
    """Lines of height 48 in one batch; grey fills what is free to their right."""
    batch = np.zeros((len(lines), 3, HEIGHT, width), dtype=np.float32)
    for image, line in zip(batch, lines, strict=True):
        own = min(width, math.ceil(HEIGHT * line.width / line.height))
        image[:, :, :own] = normalized(line.resize((own, HEIGHT), Image.Resampling.BILINEAR))
    return batch


def decoded(probabilities: Array, characters: Sequence[str]) -> tuple[str, float]:
    """The best path of connectionist temporal classification, and the mean of its probabilities.

    Class 0 is the blank and the last one the space; repetitions count once.
    """
    best = probabilities.argmax(axis=1)
    kept = (best != 0) & np.concatenate(([True], best[1:] != best[:-1]))
    if not kept.any():
        return "", 0.0
    alphabet = ("", *characters, " ")
    text = "".join(alphabet[index] for index in best[kept])
    return text, float(probabilities.max(axis=1)[kept].mean())


def alphabet_of(text: str) -> list[str]:
    """The characters that a recognition model carries, one on each line."""
    return text.removesuffix("\n").split("\n")
