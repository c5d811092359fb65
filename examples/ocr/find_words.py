"""Draws the words that CRAFT finds in pictures, with its artifact, NumPy and Pillow.

usage: python examples/ocr/find_words.py [--folder FOLDER] [--precision f32|bf16] [PICTURE...]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import craft
from drawing import with_boxes
from PIL import Image
from read_text import FOLDER, pictures

import ranvier


def main() -> None:
    """Find the words of every picture and write it with boxes into the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("pictures", type=Path, nargs="*")
    given = parser.parse_args()
    with ranvier.load(given.folder / f"craft.{given.precision}.rvr") as score:
        for path in given.pictures or pictures():
            picture = Image.open(path)
            start = time.perf_counter()
            boxes = craft.find_words(score, picture)
            seconds = time.perf_counter() - start
            print(f"{path.name}: {len(boxes)} words in {seconds * 1000:.0f} ms")
            drawn = with_boxes(picture, boxes)
            drawn.save(given.folder / f"{path.stem}.craft.{given.precision}.png")


if __name__ == "__main__":
    main()
