"""Models of the zoo that PyTorch exported to ONNX: the artifact gives its numbers at all sizes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests import zoo
from tests.test_zoo_models import check, marks, pytorchs_cases

pytestmark = pytest.mark.needs("torch", "llvmlite", "onnx", "onnxscript")

NAMES = ("minilm", "tcn", "unet", "parseq_5")
LARGE = ("bert_base", "deeplabv3_mobilenet_v3_large")


def exported(name: str) -> tuple[Any, Any]:
    """A model of the zoo, and what `torch.onnx.export` makes of it."""
    import torch

    entry = zoo.model(name)
    module = entry.build().requires_grad_(False)
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
    return module, program.model_proto


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks(zoo.model(name))) for name in NAMES]
    + [pytest.param(name, marks=[*marks(zoo.model(name)), pytest.mark.slow]) for name in LARGE],
)
def test_exported_model_gives_pytorchs_numbers(name: str, tmp_path: Path) -> None:
    import ranvier
    from ranvier.api import resolve_targets
    from ranvier.compiler import compile_graph
    from ranvier.frontends.onnx import import_onnx

    entry = zoo.model(name)
    module, proto = exported(name)
    graph = import_onnx(proto, {symbol.name: (symbol.low, symbol.high) for symbol in entry.symbols})
    cases = pytorchs_cases(entry, module, graph)
    for precision in entry.precisions:
        compiled = compile_graph(graph, resolve_targets("native"), precision)
        assert compiled.report.native_percent == 100.0
        ranvier.CompiledModel(compiled).save(tmp_path / f"{precision}.rvr")
        with ranvier.load(tmp_path / f"{precision}.rvr") as model:
            for inputs, expected in cases:
                check(model, inputs, expected)
