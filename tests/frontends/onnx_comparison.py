"""Compiles ONNX models given as text, and compares native results with another engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, parser
from onnx.reference import ReferenceEvaluator

from ranvier import onnx_backend
from ranvier.frontends.onnx import import_onnx
from ranvier.ir.graph import Graph
from ranvier.ir.verifier import verify

Feeds = Mapping[str, Any]


def model_of(body: str, opset: int = 21, domains: str = "") -> ModelProto:
    """`name (inputs) => (outputs) { nodes }` as a model, with shapes inferred where they can be."""
    head = f'<ir_version: 10, opset_import: ["": {opset}{domains}]>'
    return parser.parse_model(f"{head}\n{body}")


def expected(model: ModelProto, feeds: Feeds) -> list[Any]:
    """What ONNX Runtime gives, or ONNX's reference evaluator where it knows no such model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:  # noqa: BLE001  (it says in many ways that it does not know an operator)
        return list(ReferenceEvaluator(model).run(None, dict(feeds)))
    return list(session.run(None, dict(feeds)))


def check(
    model: ModelProto | str,
    *runs: Feeds,
    dims: Mapping[str, Any] | None = None,
    tolerance: float = 1e-5,
) -> Graph:
    """One compiled artifact gives what the other engine gives, for all inputs."""
    model = model_of(model) if isinstance(model, str) else model
    graph = verify(import_onnx(model, dims))
    prepared = onnx_backend.prepare(model, dims=dims, cores=1)
    for feeds in runs:
        compare(prepared.run(feeds), expected(model, feeds), tolerance)
    return graph


def compare(found: Sequence[Any], wanted: Sequence[Any], tolerance: float) -> None:
    """Equal element types, shapes and values; sequences element by element."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        if isinstance(theirs, list):
            compare(ours, theirs, tolerance)
            continue
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def floats(*shape: int, seed: int = 0) -> Any:
    """Normally distributed f32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    """A row of i64."""
    return np.array(values, np.int64)
