"""The whole pipeline over three networks, each of them a function from array to array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detection import Network, find_lines
from PIL import Image
from recognition import cut_out, recognized, upright
from rectangles import Rectangle

_LEAST_SCORE = 0.5


@dataclass(frozen=True)
class Line:
    """A line of text, how sure its characters are (0 to 1), and where it is, in pixels."""

    text: str
    score: float
    box: Rectangle


@dataclass(frozen=True)
class Reader:
    """Finds lines, turns them upright and reads them; `characters` are those of `recognize`."""

    detect: Network
    orient: Network
    recognize: Network
    characters: Sequence[str]

    def read(self, picture: Image.Image) -> list[Line]:
        """The lines of a picture in reading order; doubtful ones are left out."""
        rgb = picture.convert("RGB")
        boxes = find_lines(self.detect, rgb)
        lines = upright(self.orient, [cut_out(rgb, box) for box in boxes])
        texts = recognized(self.recognize, self.characters, lines)
        found = zip(texts, boxes, strict=True)
        return [Line(text, score, box) for (text, score), box in found if score >= _LEAST_SCORE]
