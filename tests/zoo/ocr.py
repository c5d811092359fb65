"""PP-OCRv4's three ONNX models, sizes that they take, and the error beside ONNX Runtime.

usage: python -m tests.zoo.ocr FOLDER f32|bf16   (artifacts of examples/ocr; prints every size)
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ranvier
from tests.zoo.page import page

Size = tuple[int, int, int]
"""Batch, height, width."""

FILES = {
    "detection": "ch_PP-OCRv4_det_infer.onnx",
    "orientation": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognition": "ch_PP-OCRv4_rec_infer.onnx",
}
# Detection halves five times and doubles again, so its own additions fit where sides are multiples
# of 32 or up to three less; recognition needs one row after its last pooling.
SIZES: dict[str, tuple[Size, ...]] = {
    "detection": (
        (1, 32, 32), (1, 61, 94), (2, 64, 96), (1, 96, 32), (1, 127, 160), (3, 64, 64),
        (1, 128, 255), (1, 190, 62), (1, 256, 320), (1, 352, 480),
    ),
    "orientation": (
        (1, 48, 192), (6, 48, 192), (2, 33, 47), (1, 64, 320), (1, 97, 40), (3, 40, 41),
        (1, 48, 33), (4, 49, 191), (1, 128, 128), (2, 60, 100),
    ),
    "recognition": (
        (1, 48, 320), (6, 48, 320), (1, 48, 33), (2, 48, 500), (1, 48, 7), (1, 47, 321),
        (1, 64, 127), (3, 33, 99), (1, 80, 81), (2, 71, 250),
    ),
}  # fmt: skip
LARGE: dict[str, tuple[Size, ...]] = {
    "detection": ((1, 736, 1472), (1, 960, 959), (2, 544, 736)),
    "orientation": ((17, 48, 192), (1, 500, 333)),
    "recognition": ((1, 48, 2500), (16, 48, 640)),
}
OUTSIDE: dict[str, Size] = {"detection": (1, 50, 64), "recognition": (1, 81, 320)}
"""Sizes at which the model itself does not fit together."""


def session(model: str) -> Any:
    """A session of ONNX Runtime for a model."""
    import onnxruntime

    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    path = Path(spec.origin).parent / "models" / FILES[model]
    return onnxruntime.InferenceSession(path, options)


def images(size: Size) -> Any:
    """Corners `[batch, 3, height, width]` of a page of text, each at another place."""
    batch, height, width = size
    return np.concatenate([page(height, width, k) for k in range(batch)]) / np.float32(2)


@dataclass(frozen=True)
class Error:
    """Differences between an artifact's probabilities and ONNX Runtime's at one size."""

    size: Size
    greatest: float
    mean: float


def errors(artifact: Path, model: str, sizes: Sequence[Size]) -> Iterator[Error]:
    """The error of an artifact at every size."""
    reference = session(model)
    with ranvier.load(artifact) as compiled:
        for size in sizes:
            given = images(size)
            (wanted,) = reference.run(None, {"x": given})
            found = compiled(given)
            assert found.shape == wanted.shape
            difference = np.abs(found - wanted)
            yield Error(size, float(difference.max()), float(difference.mean()))


def main(folder: str, precision: str) -> None:
    """Print the error at every size."""
    for model in FILES:
        path = Path(folder) / f"{model}.{precision}.rvr"
        for error in errors(path, model, (*SIZES[model], *LARGE[model])):
            batch, height, width = error.size
            shown = f"greatest {error.greatest:.1e}  mean {error.mean:.1e}"
            print(f"{model:12} {precision:5} {batch:3} x {height:4} x {width:4}  {shown}")


if __name__ == "__main__":
    main(*sys.argv[1:])
