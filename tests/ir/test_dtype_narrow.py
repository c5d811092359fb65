"""Narrow element types: every bit pattern, and rounding, against `ml_dtypes`."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ranvier.errors import CompileError
from ranvier.ir.dtype import BF16, BOOL, BY_NAME, F16, F32, F64, I8, I32, NARROW, U8, DType, decode
from ranvier.ir.graph import TensorType
from ranvier.ir.narrow import FloatFormat, IntegerFormat
from ranvier.ir.operators import evaluate, infer

Numbers = npt.NDArray[Any]
E8M0 = BY_NAME["f8e8m0"]
FLOATS = [t for t in NARROW if isinstance(t.format, FloatFormat)]
INTEGERS = [t for t in NARROW if isinstance(t.format, IntegerFormat)]
MAKERS: dict[str, Any] = {
    "f8e4m3fn": ml_dtypes.float8_e4m3fn, "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8e5m2": ml_dtypes.float8_e5m2, "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "f8e8m0": ml_dtypes.float8_e8m0fnu, "f6e2m3": ml_dtypes.float6_e2m3fn,
    "f6e3m2": ml_dtypes.float6_e3m2fn, "f4e2m1": ml_dtypes.float4_e2m1fn, "i4": ml_dtypes.int4,
    "u4": ml_dtypes.uint4, "i2": ml_dtypes.int2, "u2": ml_dtypes.uint2,
}  # fmt: skip
RANDOM = np.random.default_rng(5)


def narrow_cast(x: Numbers, source: DType, target: DType, saturate: bool, rounding: str) -> Numbers:
    attributes = {"dtype": target, "saturate": saturate, "rounding": rounding}
    types = [TensorType(source, x.shape)]
    results = infer("narrow_cast", types, attributes)
    return evaluate("narrow_cast", [x], types, attributes, results)[0]


def cast(x: Numbers, source: DType, target: DType) -> Numbers:
    types = [TensorType(source, x.shape)]
    results = infer("cast", types, {"dtype": target})
    return evaluate("cast", [x], types, {"dtype": target}, results)[0]


def all_bytes(dtype: DType) -> Numbers:
    return np.arange(256, dtype=np.uint8).view(dtype.storage)


def probes(dtype: DType) -> npt.NDArray[np.float32]:
    """Every number of the format, the midpoints between them and their neighbours, and more."""
    known = np.unique(np.abs(decode(all_bytes(dtype), dtype).astype(np.float64)))
    known = known[np.isfinite(known)]
    step = known[-1] - known[-2]
    known = np.append(known, [known[-1] + step, 2 * known[-1]]).astype(np.float32)
    middle = ((known[1:].astype(np.float64) + known[:-1]) / 2).astype(np.float32)
    near = np.concatenate([known, middle])
    near = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.inf)])
    rest = [0, 1e-45, 1e-40, 1e-30, 1e9, 3e38, np.inf, np.nan]
    wide = np.exp(RANDOM.uniform(-20, 20, 3000))
    positive = np.concatenate([near, np.asarray(rest), wide]).astype(np.float32)
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_byte_stands_for_the_same_number_as_in_ml_dtypes(dtype: DType) -> None:
    stored = all_bytes(dtype)
    if isinstance(dtype.format, IntegerFormat):
        stored = stored[: 1 << dtype.format.bits].view(MAKERS[dtype.name]).astype(dtype.storage)
    elif isinstance(dtype.format, FloatFormat):
        stored = stored[: 2 * dtype.format.sign]
    wanted = stored.view(MAKERS[dtype.name]).astype(np.float32)
    found = cast(stored, dtype, F32)
    np.testing.assert_array_equal(found, wanted)
    zeros = wanted == 0
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(wanted[zeros]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("source", [F32, F64, F16, BF16], ids=str)
def test_floats_round_once_to_nearest_even(dtype: DType, source: DType) -> None:
    x, wanted = given(probes(dtype), source)
    wanted_bits = wanted.astype(MAKERS[dtype.name]).view(np.uint8)
    found = narrow_cast(x, source, dtype, False, "nearest")
    told = ~np.isnan(wanted) | (dtype.format.overflow is not None)  # type: ignore[union-attr]
    np.testing.assert_array_equal(found[told], wanted_bits[told])
    assert (decode(found[~told], dtype) == 0).all()


def given(x: npt.NDArray[np.float32], source: DType) -> tuple[Numbers, Numbers]:
    """`x` stored as `source`, and as an array whose `astype` is that of `ml_dtypes`."""
    if source is BF16:
        narrowed = x.astype(ml_dtypes.bfloat16)
        return narrowed.view(np.uint16), narrowed
    if source is F64:
        wide = np.concatenate([x.astype(np.float64), x * (1 + 2.0**-40), x * (1 - 2.0**-40)])
        return wide, wide
    with np.errstate(over="ignore"):
        narrowed = x.astype(source.storage)
    return narrowed, narrowed


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_saturation_keeps_numbers_finite(dtype: DType) -> None:
    x = probes(dtype)
    maker = MAKERS[dtype.name]
    limits = ml_dtypes.finfo(maker)
    wanted = np.clip(x, np.float32(limits.min), np.float32(limits.max)).astype(maker)
    found = narrow_cast(x, F32, dtype, True, "nearest")
    number = ~np.isnan(x)
    np.testing.assert_array_equal(found[number], wanted.view(np.uint8)[number])
    if dtype.format.overflow is not None:  # type: ignore[union-attr]
        assert np.isnan(decode(found[~number], dtype).astype(np.float32)).all()


def test_powers_of_two_follow_the_table_of_the_standard() -> None:
    x = np.array([0, 2.0**-149, 2.0**-127, 1, 1.25, 1.5, 1.75, 3, 2.0**127, 3.4e38, np.inf, np.nan])
    up = [0, 0, 0, 127, 128, 128, 128, 129, 254, 254, 254, 255]
    down = [0, 0, 0, 127, 127, 127, 127, 128, 254, 254, 254, 255]
    nearest = [255, 255, 0, 127, 127, 128, 128, 129, 254, 255, 255, 255]
    assert narrow_cast(x, F64, E8M0, True, "up").tolist() == up
    assert narrow_cast(x, F64, E8M0, True, "down").tolist() == down
    assert narrow_cast(x, F64, E8M0, False, "nearest").tolist() == nearest
    assert narrow_cast(-x[3:6], F64, E8M0, True, "up").tolist() == [255] * 3


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_small_integers_keep_the_low_bits(dtype: DType) -> None:
    x = np.arange(-40, 40)
    wanted = x.astype(np.int32).astype(MAKERS[dtype.name]).astype(dtype.storage)
    np.testing.assert_array_equal(cast(x.astype(np.int32), I32, dtype), wanted)
    np.testing.assert_array_equal(cast(x.astype(np.float32), F32, dtype), wanted)
    np.testing.assert_array_equal(cast(x.astype(np.uint8), U8, dtype), wanted)
    np.testing.assert_array_equal(cast(np.array([1.9, 0.9, np.nan]), F64, dtype)[1:], [0, 0])


def test_casts_between_narrow_types_and_to_bool_go_by_value() -> None:
    e5m2, i4 = BY_NAME["f8e5m2"], BY_NAME["i4"]
    numbers = np.array([0, -3, 7], np.int8)
    assert cast(numbers, i4, BOOL).tolist() == [False, True, True]
    stored = narrow_cast(np.array([0, -3, 7], np.float32), F32, e5m2, True, "nearest")
    assert cast(stored, e5m2, i4).tolist() == [0, -3, 7]
    assert cast(stored, e5m2, I8).tolist() == [0, -3, 7]


@pytest.mark.parametrize("op", ["add", "equal", "neg", "relu", "reduce_max", "logical_not"])
def test_nothing_computes_in_a_narrow_type(op: str) -> None:
    type = TensorType(BY_NAME["f8e4m3fn"], (2,))
    operands = [type, type] if op in ("add", "equal") else [type]
    attributes = {"axes": (0,), "keepdims": False} if op == "reduce_max" else {}
    with pytest.raises(CompileError, match="f8e4m3fn is for storage alone: cast it"):
        infer(op, operands, attributes)


def test_a_cast_to_a_narrow_float_has_to_say_how_it_rounds() -> None:
    with pytest.raises(CompileError, match="narrow_cast makes f8e5m2"):
        infer("cast", [TensorType(F32, (2,))], {"dtype": BY_NAME["f8e5m2"]})
    with pytest.raises(CompileError, match="makes floats of 8 bits and fewer, not i4"):
        infer("narrow_cast", [TensorType(F32, ())],
              {"dtype": BY_NAME["i4"], "saturate": True, "rounding": "nearest"})  # fmt: skip


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_copies_take_narrow_types(dtype: DType) -> None:
    type = TensorType(dtype, (2, 3))
    for op, operands, attributes in (
        ("reshape", [type], {"shape": (3, 2)}),
        ("transpose", [type], {"permutation": (1, 0)}),
        ("concat", [type, type], {"axis": 0}),
        ("gather", [type, TensorType(I32, (4,))], {"axis": 1}),
        ("where", [TensorType(BOOL, (3,)), type, type], {}),
        ("bit_cast", [type], {"dtype": U8}),
    ):
        (result,) = infer(op, operands, attributes)  # type: ignore[arg-type]
        assert result.dtype is (U8 if op == "bit_cast" else dtype)


def test_bit_casts_keep_the_bits() -> None:
    x = np.array([1.0, -0.0, np.nan], np.float32)
    types, attributes = [TensorType(F32, (3,))], {"dtype": I32}
    results = infer("bit_cast", types, attributes)
    (found,) = evaluate("bit_cast", [x], types, attributes, results)
    np.testing.assert_array_equal(found, x.view(np.int32))
    with pytest.raises(CompileError, match="another size"):
        infer("bit_cast", types, {"dtype": U8})
    with pytest.raises(CompileError, match="a bool is 0 or 1"):
        infer("bit_cast", [TensorType(U8, ())], {"dtype": BOOL})
