"""The compile side: PP-OCRv4's three ONNX files, as they are, become three artifacts.

usage: python examples/ocr/compile_models.py [PRECISION]   (writes build/ocr/*.PRECISION.rvr)
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import ranvier

MODELS = {
    "detection": "ch_PP-OCRv4_det_infer.onnx",
    "orientation": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognition": "ch_PP-OCRv4_rec_infer.onnx",
}
FOLDER = Path(__file__).resolve().parents[2] / "build" / "ocr"


def onnx_file(model: str) -> Path:
    """An ONNX file of rapidocr-onnxruntime; the package is found, not imported."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the models come with rapidocr-onnxruntime, which is not installed: "
            "pip install --no-deps rapidocr-onnxruntime==1.4.4"
        )
    return Path(spec.origin).parent / "models" / MODELS[model]


def compile_all(folder: Path, precision: str = "f32", progress: bool = False) -> list[Path]:
    """Compile the three models for any batch, height and width; the paths of the artifacts.

    The recognition model has its alphabet in its metadata, which its artifact carries, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in MODELS:
        compiled = ranvier.trace(
            onnx_file(model), name=model, precision=precision, progress=progress
        )
        paths.append(folder / f"{model}.{precision}.rvr")
        compiled.save(paths[-1])
        if progress:
            print(compiled.report, end="\n\n")
    return paths


if __name__ == "__main__":
    for written in compile_all(FOLDER, *sys.argv[1:2], progress=True):
        print(f"{written.stat().st_size / 1e6:6.1f} MB  {written}")
