"""Segments of ONNX Runtime: in place, in another process, and what goes wrong."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from ranvier.errors import FrameworkError
from ranvier.segments import Segment, Tensor, open_segment

pytestmark = pytest.mark.needs("onnx", "onnxruntime")


def model(code: int = 1, op: str = "FastGelu", domain: str = "com.microsoft") -> bytes:
    from onnx import helper

    inputs, outputs = ([helper.make_tensor_value_info(name, code, ["n", 4])] for name in ("a", "b"))
    node = helper.make_node(op, ["a"], ["b"], domain=domain)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return Tensor(array.ctypes.data, array.shape)


X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def run(segment: Segment) -> np.ndarray[Any, Any]:
    y = np.zeros_like(X)
    segment.run([tensor(X)], [], [tensor(y)])
    return y


def test_results_are_written_in_place() -> None:
    expected = 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))
    np.testing.assert_allclose(
        run(open_segment("onnxruntime", model(), ["f32"], ["f32"], threads=1)), expected, atol=1e-6
    )


def test_bits_of_bf16() -> None:
    bits = (X.view(np.uint32) >> 16).astype(np.uint16)
    found = np.zeros_like(bits)
    segment = open_segment("onnxruntime", model(16, "Identity", ""), ["bf16"], ["bf16"])
    segment.run([tensor(bits)], [], [tensor(found)])
    assert np.array_equal(found, bits)


def test_a_forked_child_opens_the_segment_again() -> None:
    segment = open_segment("onnxruntime", model(), ["f32"], ["f32"], threads=2)
    expected = run(segment)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if np.array_equal(run(segment), expected) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_errors_have_a_type() -> None:
    with pytest.raises(FrameworkError, match="cannot run a segment"):
        open_segment("onnxruntime", b"no model", ["f32"], ["f32"])
    with pytest.raises(FrameworkError, match=r"com\.microsoft:Nothing"):
        open_segment("onnxruntime", model(op="Nothing"), ["f32"], ["f32"])
    with pytest.raises(FrameworkError, match="1 inputs and 1 outputs, for 2 and 1"):
        open_segment("onnxruntime", model(), ["f32", "f32"], ["f32"])
    with pytest.raises(FrameworkError, match="no element type i4"):
        open_segment("onnxruntime", model(), ["i4"], ["f32"])
    segment = open_segment("onnxruntime", model(), ["f32"], ["f32"])
    with pytest.raises(FrameworkError, match="failed in ONNX Runtime"):
        segment.run([tensor(X)], [], [tensor(np.zeros((3, 5), np.float32))])
