"""The metadata of an ONNX model, and what the user adds, travel in the artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

import ranvier

onnx = pytest.importorskip("onnx")

_TEXT = """<ir_version: 10, opset_import: ["": 17]>
g (float[n] x) => (float[n] y) { y = Relu(x) }"""


def test_metadata_of_the_model_and_of_the_user_are_in_the_artifact(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(_TEXT)
    onnx.helper.set_model_props(model, {"alphabet": "a\n疗", "by": "x"})
    ranvier.trace(model, metadata={"by": "me", "labels": "cat"}).save(tmp_path / "a.rvr")
    with ranvier.load(tmp_path / "a.rvr") as loaded:
        assert loaded.metadata == {"alphabet": "a\n疗", "by": "me", "labels": "cat"}
        assert loaded.manifest.entries["metadata.json"].size > 0


def test_a_model_without_metadata_has_none(tmp_path: Path) -> None:
    ranvier.trace(onnx.parser.parse_model(_TEXT)).save(tmp_path / "a.rvr")
    with ranvier.load(tmp_path / "a.rvr") as loaded:
        assert loaded.metadata == {}
        assert "metadata.json" not in loaded.manifest.entries
