"""Models of the zoo that PyTorch exported to ONNX: the artifact gives its numbers at all sizes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests import zoo
from tests.test_zoo_models import check, marks

pytestmark = pytest.mark.needs("torch", "llvmlite", "onnx", "onnxscript")

NAMES = ("minilm", "tcn", "lstm_tagger", "yolo")
LARGE = ("bert_base", "deeplabv3_mobilenet_v3_large", "parseq_5", "unet", "ssd", "t5", "bart")
_PICTURES = ((200, 240), (320, 320), (260, 410), (97, 64))
"""At others PyTorch's coordinates of the first resize, rounded to f32, may swap near equals."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks(zoo.model(name))) for name in NAMES]
    + [pytest.param(name, marks=[*marks(zoo.model(name)), pytest.mark.slow]) for name in LARGE],
)
def test_exported_model_gives_pytorchs_numbers(name: str, tmp_path: Path) -> None:
    from ranvier.frontends.onnx import import_onnx
    from tests.zoo.export import exported_to_onnx
    from tests.zoo.report import pytorchs_cases

    entry = zoo.model(name)
    module = entry.build().requires_grad_(False)
    sizes = {symbol.name: (symbol.low, symbol.high) for symbol in entry.symbols}
    graph = import_onnx(exported_to_onnx(entry, module), sizes)
    cases = pytorchs_cases(entry, module, [value.name for value in graph.inputs])
    for precision in entry.precisions:
        check_compiled(graph, precision, cases, tmp_path / f"{precision}.rvr")


@pytest.mark.slow
@pytest.mark.needs("torchvision")
def test_torchvisions_own_detector_from_torchscript(tmp_path: Path) -> None:
    """SSDLite as it is: resizing, network, a threshold and suppression per class, true sizes."""
    import torch

    from ranvier.frontends.onnx import import_onnx
    from tests.zoo.detection import build_ssdlite, picture_batch

    module = build_ssdlite()
    pictures = [picture_batch({"height": h, "width": w})[0] for h, w in _PICTURES]
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            ([pictures[0]],),
            written,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["boxes", "scores", "labels"],
            dynamic_axes={"image": {1: "height", 2: "width"}},
        )
    graph = import_onnx(written.getvalue(), {"height": (64, 1024), "width": (64, 1024)})
    cases = []
    for picture in pictures:
        with torch.inference_mode():
            (found,) = module([picture])
        expected = tuple(found[name].numpy() for name in graph.output_names)
        cases.append(({"image": picture.numpy()}, expected))
    assert len({expected[0].shape for _, expected in cases}) > 1
    check_compiled(graph, "f32", cases, tmp_path / "ssdlite.rvr")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=marks(zoo.model(name))) for name in ("t5", "bart")]
)
def test_a_loop_whose_ids_grow(name: str, tmp_path: Path) -> None:
    from ranvier.frontends.onnx import import_onnx
    from tests.zoo.growing_loop import growing_loop_model
    from tests.zoo.report import pytorchs_cases

    entry = zoo.model(name)
    module: Any = entry.build()
    sizes = {symbol.name: (symbol.low, symbol.high) for symbol in entry.symbols}
    graph = import_onnx(growing_loop_model(module), sizes)
    assert any(node.op == "loop" for node in graph.nodes)
    cases = pytorchs_cases(entry, module, [value.name for value in graph.inputs])
    check_compiled(graph, "f32", cases, tmp_path / "loop.rvr")


def check_compiled(graph: Any, precision: str, cases: Any, path: Path) -> None:
    """The artifact of a graph is all native and gives the outputs of every case."""
    import ranvier
    from ranvier.api import resolve_targets
    from ranvier.compiler import compile_graph

    compiled = compile_graph(graph, resolve_targets("native"), precision)
    assert compiled.report.native_percent == 100.0
    ranvier.CompiledModel(compiled).save(path)
    with ranvier.load(path) as model:
        for inputs, expected in cases:
            check(model, inputs, expected)
