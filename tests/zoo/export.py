"""Models of the zoo as ONNX, by PyTorch's exporter."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from tests.zoo.entry import ZooModel

if TYPE_CHECKING:
    import onnx


def exported_to_onnx(entry: ZooModel, module: Any) -> onnx.ModelProto:
    """What `torch.onnx.export` makes of a model, with the symbolic sizes of its entry."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            module,
            entry.example_inputs(),
            dynamo=True,
            dynamic_shapes=entry.dynamic_shapes(),
            verbose=False,
        )
    assert program is not None
    return program.model_proto
