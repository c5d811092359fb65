"""Writes the forms of a model from which engines start fastest, beside those for the comparison.

usage: python -m benchmarks.prepare_startup '{"sizes": ..., "folder": ...}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.job import Material
from tests.zoo.torchvision_import import define_detection_operators


def main(sizes: Mapping[str, int], folder: Path) -> None:
    """Write inputs as `.npy`, OpenVINO's IR, ONNX Runtime's optimised file, PyTorch's programs."""
    material = Material(folder)
    inputs = folder / "inputs"
    inputs.mkdir(exist_ok=True)
    with np.load(material.inputs(sizes)) as file:
        arrays = [file[name] for name in file.files]
    for number, array in enumerate(arrays):
        np.save(inputs / f"{number}.npy", array)
    _openvino(material.onnx(sizes), folder)
    _onnx_runtime(material.onnx(sizes), folder)
    for precision in ("f32", "bf16"):
        _torch(material.module, arrays, precision, folder)
    (folder / "startup.json").write_text("{}")


def _openvino(path: Path, folder: Path) -> None:
    """Weights stay f32, as everywhere in the comparison."""
    import openvino

    model = openvino.Core().read_model(str(path))
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)


def _onnx_runtime(path: Path, folder: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    for name, value in (("file_name", "optimised.bin"), ("min_size_in_bytes", "1024")):
        key = f"session.optimized_model_external_initializers_{name}"
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _torch(path: Path, arrays: list[Any], precision: str, folder: Path) -> None:
    import torch

    define_detection_operators()
    module = torch.load(path, weights_only=False)
    inputs = [torch.from_numpy(array) for array in arrays]
    if precision == "bf16":
        module = module.bfloat16()
        inputs = [v.bfloat16() if v.is_floating_point() else v for v in inputs]
    program = torch.export.export(module, tuple(inputs))
    torch.export.save(program, folder / f"{precision}.pt2")


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    main(order["sizes"], Path(order["folder"]))
