"""Quantised ONNX operators and narrow casts in native code, against ONNX Runtime and the standard.

Where ONNX Runtime lacks a type or a form, the reference evaluator of ONNX is the judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from ranvier import onnx_backend  # noqa: E402
from ranvier.errors import UnsupportedOperatorError  # noqa: E402

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(17)


def model_of(
    nodes: Sequence[Any], inputs: Mapping[str, Array], outputs: Mapping[str, int],
    constants: Mapping[str, Array] | None = None, version: int = 25,
) -> Any:  # fmt: skip
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, code, None) for name, code in outputs.items()]
    stored = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "quantised", given, results, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)


def native(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    return list(onnx_backend.prepare(model, cores=1).run(dict(inputs)))


def runtime(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return list(session.run(None, dict(inputs)))


def reference(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    return list(ReferenceEvaluator(model).run(None, dict(inputs)))


def same(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype
        np.testing.assert_array_equal(f, w)


def integers(dtype: Any, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def floats(*shape: int, scale: float = 4.0) -> npt.NDArray[np.float32]:
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


# QuantizeLinear, DequantizeLinear -----------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("zero", [0, 3])
def test_quantize_saturates_and_rounds_halves_to_even(dtype: Any, zero: int) -> None:
    halves = np.arange(-400, 400, dtype=np.float32) / 4
    x = np.concatenate([halves, [3e38, -3e38, np.inf, -np.inf, 1e5, -1e5]]).astype(np.float32)
    constants = {"scale": np.float32(0.5), "zero": np.asarray(zero, dtype)}
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    model = model_of([node], {"x": x}, {"y": code}, constants, 21)
    (found,) = native(model, {"x": x})
    limits = np.iinfo(dtype)
    wanted = np.clip(np.rint(x.astype(np.float64) / 0.5) + zero, limits.min, limits.max)
    np.testing.assert_array_equal(found, wanted.astype(dtype))
    same([found], runtime(model, {"x": x}))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_scales_of_an_axis(op: str, axis: int) -> None:
    shape = (3, 4, 5)
    x = floats(*shape, scale=50) if op == "QuantizeLinear" else integers(np.int8, *shape)
    inputs = {
        "x": x,
        "scale": RANDOM.uniform(0.25, 2, shape[axis]).astype(np.float32),
        "zero": integers(np.int8, shape[axis]),
    }
    code = TensorProto.INT8 if op == "QuantizeLinear" else TensorProto.FLOAT
    node = helper.make_node(op, [*inputs], ["y"], axis=axis)
    model = model_of([node], inputs, {"y": code}, version=21)
    same(native(model, inputs), runtime(model, inputs))


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize(("axis", "size", "block"), [(0, 6, 2), (1, 7, 3), (-1, 10, 4)])
def test_scales_of_blocks(op: str, axis: int, size: int, block: int) -> None:
    shape = [4, 5]
    shape[axis] = size
    blocks = list(shape)
    blocks[axis] = -(-size // block)
    x = floats(*shape, scale=50) if op == "QuantizeLinear" else integers(np.uint8, *shape)
    inputs = {
        "x": x,
        "scale": RANDOM.uniform(0.25, 2, blocks).astype(np.float32),
        "zero": integers(np.uint8, *blocks),
    }
    code = TensorProto.UINT8 if op == "QuantizeLinear" else TensorProto.FLOAT
    node = helper.make_node(op, [*inputs], ["y"], axis=axis, block_size=block)
    model = model_of([node], inputs, {"y": code}, version=21)
    same(native(model, inputs), reference(model, inputs))


@pytest.mark.parametrize(
    "name",
    ["UINT4", "INT4", "UINT2", "INT2", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2",
     "FLOAT8E5M2FNUZ", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2"],
)  # fmt: skip
def test_there_and_back_in_narrow_types(name: str) -> None:
    code = TensorProto.DataType.Value(name)
    inputs = {"x": floats(7, 9, scale=6)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"], output_dtype=code),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    outputs = {"q": code, "y": TensorProto.FLOAT}
    model = model_of(nodes, inputs, outputs, {"scale": np.float32(0.5)}, version=28)
    found, wanted = native(model, inputs), reference(model, inputs)
    same([array.astype(np.float32) for array in found], [a.astype(np.float32) for a in wanted])
    assert found[0].dtype == wanted[0].dtype


def test_a_scale_that_is_a_power_of_two() -> None:
    inputs = {"x": integers(np.int8, 3, 4)}
    scale = numpy_helper.to_float8e8m0(np.array([0.25, 0.5, 2.0, 8.0], np.float32))
    node = helper.make_node(
        "DequantizeLinear", ["x", "scale"], ["y"], axis=1, output_dtype=TensorProto.FLOAT16
    )
    model = model_of([node], inputs, {"y": TensorProto.FLOAT16}, {"scale": scale}, version=25)
    (found,) = native(model, inputs)
    wanted = inputs["x"] * scale.astype(np.float32)
    np.testing.assert_array_equal(found, wanted.astype(np.float16))


def test_i32_is_dequantised_without_a_zero_point() -> None:
    inputs = {"x": integers(np.int32, 50)}
    node = helper.make_node("DequantizeLinear", ["x", "scale"], ["y"])
    model = model_of([node], inputs, {"y": TensorProto.FLOAT}, {"scale": np.float32(0.1)}, 21)
    same(native(model, inputs), runtime(model, inputs))


@pytest.mark.parametrize("low", [-3.0, 0.0, 1.0])
def test_dynamic_quantisation_finds_the_range(low: float) -> None:
    x = RANDOM.uniform(low, low + 4, (5, 7)).astype(np.float32)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    outputs = {"y": TensorProto.UINT8, "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8}
    model = model_of([node], {"x": x}, outputs, version=11)
    same(native(model, {"x": x}), runtime(model, {"x": x}))


def test_dynamic_quantisation_of_zeros() -> None:
    x = np.zeros((3,), np.float32)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    outputs = {"y": TensorProto.UINT8, "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8}
    model = model_of([node], {"x": x}, outputs, version=11)
    same(native(model, {"x": x}), reference(model, {"x": x}))


# Products -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kinds", [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8)])
@pytest.mark.parametrize("shapes", [((5, 300), (300, 9)), ((2, 3, 8), (8, 4)), ((8,), (8, 4))])
def test_integer_products_are_exact(kinds: tuple[Any, Any], shapes: Any) -> None:
    inputs = {"a": integers(kinds[0], *shapes[0]), "b": integers(kinds[1], *shapes[1])}
    zeros = {"a_zero": np.asarray(7, kinds[0]), "b_zero": np.asarray(3, kinds[1])}
    node = helper.make_node("MatMulInteger", ["a", "b", "a_zero", "b_zero"], ["y"])
    model = model_of([node], inputs, {"y": TensorProto.INT32}, zeros, version=21)
    same(native(model, inputs), reference(model, inputs))


def test_integer_products_with_zero_points_of_rows_and_columns() -> None:
    inputs = {"a": integers(np.uint8, 5, 6), "b": integers(np.int8, 6, 4),
              "a_zero": integers(np.uint8, 5), "b_zero": integers(np.int8, 4)}  # fmt: skip
    node = helper.make_node("MatMulInteger", [*inputs], ["y"])
    model = model_of([node], inputs, {"y": TensorProto.INT32}, version=21)
    a, b, a_zero, b_zero = (array.astype(np.int32) for array in inputs.values())
    same(native(model, inputs), [(a - a_zero[:, None]) @ (b - b_zero)])


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 1, 0)])
def test_integer_convolution_pads_with_the_zero_point(group: int, pads: tuple[int, ...]) -> None:
    inputs = {"x": integers(np.uint8, 2, 4, 7, 6)}
    constants = {"w": integers(np.int8, 6, 4 // group, 3, 3), "x_zero": np.asarray(9, np.uint8)}
    node = helper.make_node("ConvInteger", ["x", *constants], ["y"], pads=pads, group=group)
    model = model_of([node], inputs, {"y": TensorProto.INT32}, constants, version=21)
    same(native(model, inputs), reference(model, inputs))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER"])
def test_quantised_convolution(per_channel: bool, auto_pad: str) -> None:
    inputs = {"x": integers(np.uint8, 2, 5, 9, 8)}
    count = (6,) if per_channel else ()
    constants: dict[str, Array] = {
        "x_scale": np.float32(0.02), "x_zero": np.asarray(121, np.uint8),
        "w": integers(np.int8, 6, 5, 3, 3),
        "w_scale": RANDOM.uniform(0.001, 0.01, count).astype(np.float32),
        "w_zero": np.zeros(count, np.int8), "y_scale": np.float32(0.11),
        "y_zero": np.asarray(131, np.uint8),
        "bias": RANDOM.integers(-9000, 9000, 6).astype(np.int32),
    }  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], auto_pad=auto_pad,
                            strides=[2, 1])  # fmt: skip
    model = model_of([node], inputs, {"y": TensorProto.UINT8}, constants, version=21)
    close(native(model, inputs), runtime(model, inputs))


def has_vnni() -> bool:
    """Whether the CPU multiplies 8-bit integers into 32 bits by one instruction."""
    return "vnni" in Path("/proc/cpuinfo").read_text()


def close(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    """Equal but for results next to a tie, which the order of three factors decides."""
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype
        if not has_vnni():
            pytest.skip("ONNX Runtime saturates sums of two products in 16 bits on a CPU w/o VNNI")
        gap = np.abs(f.astype(np.int32) - w.astype(np.int32))
        assert gap.max() <= 1
        assert np.count_nonzero(gap) <= gap.size // 200


@pytest.mark.parametrize("rows", [False, True])
def test_quantised_products(rows: bool) -> None:
    inputs = {"a": integers(np.uint8, 9, 40)}
    constants: dict[str, Array] = {
        "a_scale": np.float32(0.01), "a_zero": np.asarray(128, np.uint8),
        "b": integers(np.int8, 40, 12),
        "b_scale": RANDOM.uniform(0.01, 0.03, (12,) if rows else ()).astype(np.float32),
        "b_zero": np.zeros((12,) if rows else (), np.int8),
        "y_scale": np.float32(0.1), "y_zero": np.asarray(100, np.uint8),
    }  # fmt: skip
    node = helper.make_node("QLinearMatMul", ["a", *constants], ["y"])
    model = model_of([node], inputs, {"y": TensorProto.UINT8}, constants, version=21)
    close(native(model, inputs), runtime(model, inputs))


def test_a_network_of_quantised_and_dequantised_tensors() -> None:
    inputs = {"x": floats(3, 4, 10, 10, scale=1)}
    constants: dict[str, Array] = {
        "s": np.float32(0.03), "z": np.asarray(128, np.uint8), "w": integers(np.int8, 8, 4, 3, 3),
        "ws": RANDOM.uniform(0.001, 0.01, 8).astype(np.float32), "wz": np.zeros(8, np.int8),
        "b": RANDOM.integers(-500, 500, 8).astype(np.int32),
        "bs": RANDOM.uniform(0.0001, 0.001, 8).astype(np.float32), "bz": np.zeros(8, np.int32),
        "m": integers(np.int8, 8, 5), "ms": np.float32(0.01), "mz": np.asarray(0, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"], axis=0),
        helper.make_node("Conv", ["xf", "wf", "bf"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["rf"]),
        helper.make_node("GlobalAveragePool", ["rf"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("DequantizeLinear", ["m", "ms", "mz"], ["mf"]),
        helper.make_node("MatMul", ["f", "mf"], ["y"]),
    ]
    model = model_of(nodes, inputs, {"y": TensorProto.FLOAT}, constants, version=21)
    (found,), (wanted,) = native(model, inputs), reference(model, inputs)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


# Casts --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("source", "target"), [("INT4", "UINT4"), ("UINT4", "INT4"),
                                                ("UINT2", "INT2"), ("FLOAT4E2M1", "INT4"),
                                                ("UINT4", "FLOAT4E2M1")])  # fmt: skip
def test_bits_of_narrow_types(source: str, target: str) -> None:
    codes = [TensorProto.DataType.Value(name) for name in (source, target)]
    kinds = [helper.tensor_dtype_to_np_dtype(code) for code in codes]
    bits = np.arange(4 if source.endswith("2") else 16, dtype=np.uint8)
    inputs = {"x": bits.view(kinds[0])}
    model = model_of(
        [helper.make_node("BitCast", ["x"], ["y"], to=codes[1])], inputs, {"y": codes[1]}, None, 26
    )
    (found,) = native(model, inputs)
    assert found.dtype == kinds[1]
    np.testing.assert_array_equal(found, bits.view(kinds[1]))


@pytest.mark.parametrize("name", ["FLOAT8E5M2", "FLOAT4E2M1", "INT4", "UINT2"])
def test_copies_and_padding_of_narrow_types(name: str) -> None:
    code = TensorProto.DataType.Value(name)
    kind = helper.tensor_dtype_to_np_dtype(code)
    inputs = {"x": RANDOM.integers(0, 4, (3, 4)).astype(np.float32).astype(kind)}
    value = numpy_helper.from_array(np.array([1.0], np.float32).astype(kind))
    constants = {"pads": np.array([1, 0, 0, 2]), "one": np.array(1.0, np.float32).astype(kind),
                 "shape": np.array([2, 6])}  # fmt: skip
    nodes = [
        helper.make_node("Pad", ["x", "pads", "one"], ["padded"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=value),
        helper.make_node("Concat", ["padded", "ones"], ["both"], axis=0),
        helper.make_node("Transpose", ["both"], ["turned"]),
        helper.make_node("Identity", ["turned"], ["y"]),
    ]
    (found,) = native(model_of(nodes, inputs, {"y": code}, constants, version=25), inputs)
    one = np.array(1.0, np.float32).astype(kind)
    padded = np.full((6, 6), one, kind)
    padded[1:4, :4] = inputs["x"]
    assert found.dtype == kind
    np.testing.assert_array_equal(found.view(np.uint8), padded.T.view(np.uint8))


def test_bits_of_another_width_are_refused() -> None:
    x = np.zeros(3, np.float32)
    node = helper.make_node("BitCast", ["x"], ["y"], to=TensorProto.INT64)
    with pytest.raises(UnsupportedOperatorError, match="f32 has 32 bits, but i64 64"):
        onnx_backend.prepare(model_of([node], {"x": x}, {"y": TensorProto.INT64}, None, 26))


def test_the_type_of_a_zero_point_has_to_fit() -> None:
    x = np.zeros(3, np.float32)
    constants = {"s": np.float32(1), "z": np.asarray(0, np.int8)}
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"],
                            output_dtype=TensorProto.UINT8)  # fmt: skip
    model = model_of([node], {"x": x}, {"y": TensorProto.UINT8}, constants, 21)
    with pytest.raises(UnsupportedOperatorError, match="output_dtype is u8, but the zero point i8"):
        onnx_backend.prepare(model)
