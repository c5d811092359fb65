"""Sizes of ONNX models that nobody can prove equal: right where they are, an error elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import parser  # noqa: E402

from ranvier import onnx_backend  # noqa: E402
from ranvier.errors import InputError, UnsupportedOperatorError  # noqa: E402
from ranvier.frontends.onnx import import_onnx  # noqa: E402
from ranvier.ir.graph import Graph  # noqa: E402

_HEAD = '<ir_version: 10, opset_import: ["": 12]>'
_UNET = f"""{_HEAD}
unet (float[1, 1, h, w] x) => (float[n, c, i, j] y) {{
  a = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (x)
  b = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (a)
  scales = Constant <value = float[4] {{1.0, 1.0, 2.0, 2.0}}> ()
  roi = Constant <value = float[0] {{}}> ()
  c = Resize <mode = "nearest", nearest_mode = "floor",
              coordinate_transformation_mode = "asymmetric"> (b, roi, scales)
  JOIN
}}"""


def _numpy_unet(x: Any) -> tuple[Any, Any]:
    a = x[:, :, ::2, ::2]
    return a, a[:, :, ::2, ::2].repeat(2, axis=2).repeat(2, axis=3)


_JOINS = {
    "y = Add(a, c)": lambda a, c: a + c,
    "y = Sum(a, c, a)": lambda a, c: a + c + a,
    "y = Concat <axis = 1> (a, c)": lambda a, c: np.concatenate((a, c), axis=1),
}


@pytest.mark.parametrize("join", _JOINS)
def test_maps_of_two_ways_agree_at_sizes_that_fit_and_are_refused_at_others(join: str) -> None:
    model = onnx_backend.prepare(parser.parse_model(_UNET.replace("JOIN", join)), cores=1)
    for height, width in ((4, 8), (7, 12), (16, 3)):
        x = np.arange(height * width, dtype=np.float32).reshape(1, 1, height, width)
        np.testing.assert_array_equal(model.run([x])[0], _JOINS[join](*_numpy_unet(x)))
    for height, width in ((5, 8), (8, 10), (1, 1)):
        with pytest.raises(InputError, match="mismatch_at_y"):
            model.run([np.zeros((1, 1, height, width), np.float32)])


def test_a_reshape_holds_a_dim_to_what_its_target_needs() -> None:
    text = f"""{_HEAD}
    squeezed (float[2, h, w] x) => (float[i, j] y) {{
      s = MaxPool <kernel_shape = [3], strides = [3]> (x)
      shape = Shape(x)
      two = Constant <value = int64[1] {{1}}> ()
      one = Constant <value = int64[1] {{0}}> ()
      rows = Slice(shape, one, two)
      minus = Constant <value = int64[1] {{-1}}> ()
      target = Concat <axis = 0> (rows, minus)
      axes = Constant <value = int64[1] {{2}}> ()
      z = Squeeze <axes = [2]> (s)
      y = Reshape(z, target)
    }}"""
    model = onnx_backend.prepare(parser.parse_model(text), cores=1)
    x = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    np.testing.assert_array_equal(model.run([x])[0], x.max(axis=2))
    np.testing.assert_array_equal(model.run([x[:, :4].repeat(2, 2)[:, :, :5]])[0].shape, (2, 4))
    with pytest.raises(InputError, match="mismatch_at_z"):
        model.run([np.zeros((2, 5, 6), np.float32)])


def _imported(text: str) -> Graph:
    return import_onnx(parser.parse_model(_HEAD + text))


def test_a_head_for_one_size_behind_maps_of_any_size() -> None:
    text = f"""{_HEAD}
    head (float[n, 2, h, w] x, float[12, 3] weight, float[3] bias) => (float[n, 3] y) {{
      pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
      flat = Flatten(pooled)
      y = Gemm(flat, weight, bias)
    }}"""
    model = onnx_backend.prepare(parser.parse_model(text), cores=1)
    random = np.random.default_rng(5)
    weight, bias = random.standard_normal((12, 3), np.float32), np.ones(3, np.float32)
    for size in ((3, 2, 4, 6), (1, 2, 5, 7), (2, 2, 12, 2)):
        x = random.standard_normal(size, np.float32)
        even = x[:, :, : size[2] // 2 * 2, : size[3] // 2 * 2]
        pooled = even.reshape(size[0], 2, size[2] // 2, 2, size[3] // 2, 2).max((3, 5))
        wanted = pooled.reshape(size[0], 12) @ weight + bias
        np.testing.assert_allclose(model.run([x, weight, bias])[0], wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="mismatch_at_y"):
        model.run([np.zeros((3, 2, 4, 8), np.float32), weight, bias])


def test_a_plain_number_is_the_size_of_the_result() -> None:
    graph = _imported("g (float[n] a, float[512] b) => (float[m] y) { y = Add(a, b) }")
    assert graph.outputs[0].shape == (512,)


def test_sizes_that_can_never_be_equal_are_refused_at_once() -> None:
    with pytest.raises(UnsupportedOperatorError, match="cannot broadcast dims 3 and 4"):
        _imported("g (float[3] a, float[4] b) => (float[n] y) { y = Add(a, b) }")
    with pytest.raises(UnsupportedOperatorError, match="cannot broadcast"):
        _imported("g (float[n] a) => (float[m] y) { b = Concat<axis = 0>(a, a, a) y = Add(a, b) }")


def test_sizes_that_are_known_to_be_equal_cost_nothing() -> None:
    graph = _imported("g (float[n, 3] a, float[n, 1] b) => (float[n, 3] y) { y = Add(a, b) }")
    assert [node.op for node in graph.nodes] == ["add"]


@pytest.mark.parametrize("dim", [-1, "?"])
def test_dims_that_exporters_leave_open_are_different_symbols(dim: int | str) -> None:
    helper = onnx.helper
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [dim, 3, dim])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = import_onnx(helper.make_model(helper.make_graph([node], "open", [given], [result])))
    assert [str(size) for size in graph.inputs[0].shape] == ["x_0", "3", "x_2"]
