"""Artifacts with segments: without their framework, altered, inspected, measured, sent around."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import ranvier
from ranvier.artifact.document import to_document
from ranvier.artifact.format import Manifest, Program, Step
from ranvier.artifact.parser import load_document, parse_manifest, parse_program
from ranvier.artifact.reader import Artifact
from ranvier.bench import bench
from ranvier.cli.app import app
from ranvier.errors import ArtifactError
from ranvier.inspection import inspect_artifact
from ranvier.runtime.plan import Planner

pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime", "llvmlite")

ROOT = Path(__file__).resolve().parents[2]
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An artifact for each framework."""
    from tests.fallback import models

    folder = tmp_path_factory.mktemp("artifacts")
    model, args, kwargs, shapes = models.scattered()
    torch_path, onnx_path = folder / "torch.rvr", folder / "onnxruntime.rvr"
    ranvier.trace(model, args, kwargs, dynamic_shapes=shapes, fallback="torch").save(torch_path)
    source = models.onnx_model(folder / "model.onnx")
    ranvier.trace(source, dynamic_shapes={"batch": (1, 64)}, fallback="onnxruntime").save(onnx_path)
    return {"torch": torch_path, "onnxruntime": onnx_path}


WITHOUT = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnxruntime"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Nothing())
import ranvier
try:
    ranvier.load(sys.argv[1])
except ranvier.errors.FrameworkError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("framework", "operator"),
    [
        ("torch", "aten.special_bessel_j0.default"),
        ("onnxruntime", "com.microsoft::CDist, Reshape, com.microsoft::SampleOp"),
    ],
)
def test_a_missing_framework_is_an_error_when_the_artifact_is_loaded(
    paths: dict[str, Path], framework: str, operator: str
) -> None:
    command = [sys.executable, "-c", WITHOUT, str(paths[framework])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"{paths[framework]} needs {framework} for {operator}" in done.stdout
    assert f"No module named '{framework}'" in done.stdout
    assert f"pip install {framework}" in done.stdout


def test_a_native_artifact_imports_no_framework(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "native.rvr"
    ranvier.trace(torch.nn.ReLU(), (torch.randn(3),)).save(path)
    code = (
        "import sys, numpy, ranvier\n"
        "ranvier.load(sys.argv[1])(numpy.zeros(3, 'f4'))\n"
        "print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("framework", ["torch", "onnxruntime"])
def test_every_byte_of_a_segment_is_checked(
    paths: dict[str, Path], framework: str, tmp_path: Path
) -> None:
    with Artifact(paths[framework]) as artifact:
        (name, *_) = (name for name in artifact.entry_names if name.startswith("segments/"))
        offset, size = artifact.extent(name)
    data = bytearray(paths[framework].read_bytes())
    data[offset + size // 2] ^= 1
    altered = tmp_path / "altered.rvr"
    altered.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"'{name}' does not match its checksum"):
        ranvier.load(altered, verify="none")


def parts(path: Path) -> tuple[Manifest, Program, int]:
    """The manifest, a program, and the number of its first step for a framework."""
    with Artifact(path) as artifact:
        program = artifact.program(0)
    number = next(i for i, step in enumerate(program.steps) if step.foreign is not None)
    return artifact.manifest, program, number


def test_the_manifest_says_what_a_framework_runs(paths: dict[str, Path]) -> None:
    manifest, program, number = parts(paths["torch"])
    document = json.loads(json.dumps(to_document(manifest, [program])))
    assert document["format"] == 2
    step = document["programs"][0]["steps"][number]["foreign"]
    assert step["framework"] == "torch"
    assert step["entry"] == "segments/0.json"
    assert step["operands"][0]["shape"] == ["batch", 8]
    assert parse_program(document, manifest, 0) == program


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("entry", "segments/9.json", "not in manifest.entries"),
        ("framework", 3, "expected a string"),
        ("operands", {}, "expected a list"),
        ("more", 1, "unknown key 'more'"),
        ("sizes", ["q"], "unknown symbol 'q'"),
        ("dtype", "f9", "unknown dtype"),
        ("shape", [["*", "u", 2]], "unknown symbol 'u'"),
        ("buffer", True, "expected an integer"),
        ("buffer", 10_000, "does not use buffer 10000"),
    ],
)
def test_malformed_manifests(paths: dict[str, Path], key: str, value: object, message: str) -> None:
    manifest, program, number = parts(paths["torch"])
    document = json.loads(json.dumps(to_document(manifest, [program])))
    foreign = document["programs"][0]["steps"][number]["foreign"]
    place = foreign["results"][0] if key in ("dtype", "shape", "buffer") else foreign
    place[key] = value
    text = json.dumps(document).encode()
    with pytest.raises(ArtifactError, match=message):
        parse_program(load_document(text), parse_manifest(document), 0)


@pytest.mark.parametrize("change", [{"shape": ("batch", 9)}, {"offset": 4}, {"offset": -4}])
def test_a_framework_gets_no_memory_outside_of_a_buffer(
    paths: dict[str, Path], change: dict[str, Any]
) -> None:
    manifest, program, number = parts(paths["torch"])
    step: Step = program.steps[number]
    assert step.foreign is not None
    (result,) = step.foreign.results
    altered = step._replace(foreign=step.foreign._replace(results=(result._replace(**change),)))
    steps = (*program.steps[:number], altered, *program.steps[number + 1 :])
    with pytest.raises(ArtifactError, match="gives torch bytes"):
        Planner(program._replace(steps=steps), manifest).plan({"batch": 2}, 1)


@pytest.mark.parametrize("framework", ["torch", "onnxruntime"])
def test_a_profile_has_the_time_of_segments(paths: dict[str, Path], framework: str) -> None:
    shape = (64, 3, 8, 8) if framework == "torch" else (64, 6)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for cores in (1, 2):
        with ranvier.load(paths[framework], cores=cores) as model:
            inputs = {model.inputs[0].name: x}
            model.run(inputs)
            profile = model.profile(inputs)
            results = model.intermediates(inputs)
        foreign = [i for i, step in enumerate(profile.steps) if step.foreign is not None]
        assert len(foreign) == 2
        spent = profile.finishes.astype(np.int64) - profile.ticks[:, :-1].astype(np.int64)
        assert (spent >= 0).all()
        assert (np.diff(profile.ticks.astype(np.int64), axis=1) >= 0).all()
        # Crossing over to a framework and back takes microseconds, thousands of ticks.
        assert (spent[:, foreign] > 1000).all()
        labels = [profile.steps[i].label for i in foreign]
        assert set(labels) <= results.keys()


def test_a_model_with_segments_can_be_pickled_and_closed(paths: dict[str, Path]) -> None:
    x = np.ones((2, 6), np.float32)
    with ranvier.load(paths["onnxruntime"], cores=1) as model:
        expected = model(x)
        again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again(x)[0], expected[0])
    again.close()


def test_bench_and_inspect(paths: dict[str, Path]) -> None:
    found = bench(paths["torch"], batches=(1, 4), seconds=0.05, cores=1)
    assert [measurement.batch for measurement in found.measurements] == [1, 4]
    inspection = inspect_artifact(paths["onnxruntime"])
    assert inspection.programs[0].kernel_counts["foreign"] == 2
    assert {"segments/0.onnx", "segments/1.onnx"} <= inspection.entries.keys()


def test_the_command_line(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = f"{ROOT / 'tests/fallback/models.py'}:scattered"
    runner = CliRunner()

    def run(*words: str) -> Any:
        return runner.invoke(app, list(words))

    refused = run("compile", source, "-o", "a.rvr", "--fallback", "torch", "--max-segments", "1")
    assert refused.exit_code == 1
    assert not Path("a.rvr").exists()
    options = ("--fallback", "torch", "--min-native-percent", "60")
    done = run("compile", source, "-o", "a.rvr", *options, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)["report"]
    assert report["fallback"]["framework"] == "torch"
    assert report["fallback"]["operators"][0]["operator"] == "aten.special_bessel_j0.default"
    analysis = run("analyze", source, *options)
    assert "torch runs 2 segments" in analysis.output
    assert "fallback" in analysis.output
    analysed = json.loads(run("analyze", source, *options, "--json").stdout)
    assert analysed["native_percent"] == pytest.approx(100 * 7 / 11)
    inspected = run("inspect", "a.rvr")
    assert "torch runs 2 steps: aten.special_bessel_j0.default" in inspected.output
    verified = run("verify", source, "a.rvr", "--layers", "--set", "batch=1,64")
    assert verified.exit_code == 0, verified.output
