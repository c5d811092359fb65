"""ONNX models on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import ranvier
from ranvier.cli.app import app

pytestmark = pytest.mark.needs("onnx", "llvmlite")

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[batch, 3, height, width] image) => (float[batch, 4, pixels] features)
<float[4, 3, 3, 3] weight, int64[1] zero = {0}, int64[1] two = {2}, int64[1] rest = {-1}>
{
  mapped = Conv <pads = [1, 1, 1, 1]> (image, weight)
  active = Relu (mapped)
  sizes = Shape (active)
  kept = Slice (sizes, zero, two)
  wanted = Concat <axis = 0> (kept, rest)
  features = Reshape (active, wanted)
}"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    import onnx

    proto = onnx.parser.parse_model(MODEL)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    return path


def test_compile_run_and_verify(model: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "net.rvr"
    compiled = run("compile", model, "-o", artifact, "--dim", "batch=1:8", "--dim", "height=8:512")
    assert compiled.exit_code == 0, compiled.output
    shown = json.loads(run("inspect", artifact, "--json").stdout)
    assert shown["inputs"] == ["image: f32[batch, 3, height, width]"]
    assert shown["outputs"] == ["features: f32[batch, 4, height*width]"]
    ranges = {s["name"]: (s["minimum"], s["maximum"]) for s in shown["symbols"]}
    assert ranges["batch"] == (1, 8)
    assert ranges["height"] == (8, 512)
    sizes = ("--set", "height=17", "--set", "width=5,40", "--set", "batch=1,3")
    verified = run("verify", model, artifact, *sizes)
    assert verified.exit_code == 0, verified.output
    assert "passed" in verified.stdout
    loaded = ranvier.load(artifact)
    assert loaded(np.zeros((2, 3, 8, 9), np.float32)).shape == (2, 4, 72)


def test_a_dim_may_be_fixed(model: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "net.rvr"
    compiled = run("compile", model, "-o", artifact, "--dim", "batch=2,height=8,width=8")
    assert compiled.exit_code == 0, compiled.output
    assert ranvier.load(artifact).symbols == ()


@pytest.mark.parametrize(
    ("dim", "message"),
    [("batch", "NAME=LOW:HIGH"), ("batch=8:1", "more than"), ("depth=1:2", "depth")],
)
def test_bad_dims_are_refused(model: Path, dim: str, message: str) -> None:
    result = run("compile", model, "--dim", dim)
    assert result.exit_code != 0
    assert message in str(result.output) + str(result.exception)


def test_dims_of_a_pytorch_model_are_refused() -> None:
    pytest.importorskip("torch")
    models = Path(__file__).with_name("tiny_models.py")
    result = run("compile", f"{models}:fixed", "--dim", "batch=1:2")
    assert result.exit_code != 0
    assert "--dim is for ONNX models" in str(result.output) + str(result.exception)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    result = run("compile", broken, "-o", tmp_path / "x.rvr")
    assert result.exit_code != 0
    assert not (tmp_path / "x.rvr").exists()
