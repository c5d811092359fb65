"""The backend that ONNX's tools call."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

import ml_dtypes
import numpy as np
from onnx import helper, parser
from onnx.backend.base import Backend

from ranvier import onnx_backend
from ranvier.errors import InputError, UnsupportedOperatorError

MODEL = parser.parse_model("""<ir_version: 10, opset_import: ["": 21]>
  g (float[n, 3] a, float[3] b) => (float[n, 3] total, float[n] most) {
    total = Add(a, b)  axis = Constant<value_ints=[1]>()
    most = ReduceMax<keepdims=0>(total, axis) }""")
A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)


def test_inputs_in_order_and_by_name_give_outputs_with_names() -> None:
    prepared = onnx_backend.prepare(MODEL, cores=1)
    for inputs in ([A, B], {"b": B, "a": A}):
        outputs = prepared.run(inputs)
        np.testing.assert_array_equal(outputs[0], A + 1)
        np.testing.assert_array_equal(outputs.most, [3, 6])  # type: ignore[attr-defined]


def test_a_wrong_number_of_inputs_is_an_error() -> None:
    with pytest.raises(InputError, match="takes 2 inputs, got 1"):
        onnx_backend.prepare(MODEL, cores=1).run([A])


def test_a_model_runs_at_once() -> None:
    np.testing.assert_array_equal(onnx_backend.run_model(MODEL, [A, B], cores=1)[0], A + 1)


def test_a_node_runs_by_itself() -> None:
    node = helper.make_node("Gemm", ["x", "w", ""], ["y"], transB=1)
    (found,) = onnx_backend.run_node(node, [A, A], cores=1)
    np.testing.assert_array_equal(found, A @ A.T)


def test_a_node_may_be_told_the_shape_of_its_result() -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    (found,) = onnx_backend.run_node(node, [A], outputs_info=[(np.int64, (2, 5))], cores=1)
    np.testing.assert_array_equal(found, np.stack(np.nonzero(A)))


def test_element_types_that_numpy_has_not_are_those_of_ml_dtypes() -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    (found,) = onnx_backend.run_node(node, [A.astype(ml_dtypes.bfloat16)], cores=1)
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.astype(np.float32), -A)


def test_only_cpus() -> None:
    assert issubclass(onnx_backend.RanvierBackend, Backend)
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA:0")


def test_what_has_no_native_form_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="Multinomial"):
        onnx_backend.run_node(helper.make_node("Multinomial", ["x"], ["y"]), [A])
