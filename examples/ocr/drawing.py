"""Boxes on a picture, and what was read beside it at the same places."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from reader import Line
from rectangles import Rectangle, sides

_ZOOM = 2
_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")


def with_boxes(picture: Image.Image, boxes: Sequence[Rectangle]) -> Image.Image:
    """The picture at twice its size with the boxes on it."""
    shown = picture.convert("RGB").resize(
        (picture.width * _ZOOM, picture.height * _ZOOM), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(shown)
    for i, box in enumerate(boxes):
        draw.polygon(_corners(box), outline=_COLOURS[i % len(_COLOURS)], width=2)
    return shown


def with_text(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """The picture with boxes, and to the right of it a sheet with the text in its places."""
    left = with_boxes(picture, [line.box for line in lines])
    sheet = Image.new("RGB", left.size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        colour = _COLOURS[i % len(_COLOURS)]
        draw.polygon(_corners(line.box), outline=colour)
        _write(draw, line, colour)
    both = Image.new("RGB", (left.width + sheet.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(sheet, (left.width, 0))
    return both


def _corners(box: Rectangle) -> list[tuple[float, float]]:
    return [(float(x) * _ZOOM, float(y) * _ZOOM) for x, y in box]


def _write(draw: ImageDraw.ImageDraw, line: Line, colour: str) -> None:
    """The text at the left of its box, as large as the box allows.

    Pillow's own font has the plain forms of the wide letters and signs of Chinese typography.
    """
    text = unicodedata.normalize("NFKC", line.text)
    width, height = (side * _ZOOM for side in sides(line.box))
    font = ImageFont.load_default(size=max(0.7 * height, 8))
    wide = draw.textlength(text, font=font)
    if wide > width:
        font = ImageFont.load_default(size=max(0.7 * height * width / wide, 8))
    x, y = (float(c) for c in np.mean(line.box[[0, 3]], axis=0) * _ZOOM)
    draw.text((x + 3, y), text, fill=colour, font=font, anchor="lm")
