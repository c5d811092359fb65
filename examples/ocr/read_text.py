"""The deploy side: reads pictures with three artifacts, NumPy and Pillow; nothing else is imported.

usage: python examples/ocr/read_text.py [--folder FOLDER] [--precision f32|bf16] [PICTURE...]

Without pictures it reads two that scikit-image ships. The pictures with boxes and text are written
into the folder of the artifacts.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

from drawing import with_text
from PIL import Image
from reader import Reader
from recognition import alphabet_of

import ranvier

FOLDER = Path(__file__).resolve().parents[2] / "build" / "ocr"


def pictures() -> list[Path]:
    """A page and handwriting, two photos of scikit-image, found without importing it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the pictures come with scikit-image; give others as arguments")
    return [Path(spec.origin).parent / "data" / name for name in ("page.png", "text.png")]


def load_reader(folder: Path, precision: str) -> Reader:
    """The three artifacts of a folder as a reader."""
    detect, orient, recognize = (
        ranvier.load(folder / f"{model}.{precision}.rvr")
        for model in ("detection", "orientation", "recognition")
    )
    return Reader(detect, orient, recognize, alphabet_of(recognize.metadata["character"]))


def main() -> None:
    """Read the pictures, print their text and write them with boxes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("pictures", type=Path, nargs="*")
    given = parser.parse_args()
    reader = load_reader(given.folder, given.precision)
    for path in given.pictures or pictures():
        picture = Image.open(path)
        start = time.perf_counter()
        lines = reader.read(picture)
        seconds = time.perf_counter() - start
        print(f"{path.name}: {len(lines)} lines in {seconds * 1000:.0f} ms")
        for line in lines:
            print(f"  {line.score:.3f}  {line.text}")
        with_text(picture, lines).save(given.folder / f"{path.stem}.{given.precision}.png")


if __name__ == "__main__":
    main()
