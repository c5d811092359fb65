from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.artifact.format import DTYPES, TensorSpec
from ranvier.errors import InputError
from ranvier.runtime.arrays import to_array


def spec(dtype: str) -> TensorSpec:
    return TensorSpec("x", dtype, ("n",))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exact_dtype_is_taken_as_it_is(dtype: str) -> None:
    array = np.zeros(3, DTYPES[dtype])
    assert np.shares_memory(to_array(array, spec(dtype)), array)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [("i4", "i64"), ("u1", "i32"), ("f2", "f32"), ("f4", "f64"), ("u4", "u64"), ("i1", "i16")],
)
def test_widening(given: str, dtype: str) -> None:
    result = to_array(np.array([1, 2, 3], given), spec(dtype))
    assert result.dtype == DTYPES[dtype]
    assert result.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ("f8", "f32"),
        ("i8", "i32"),
        ("i4", "f32"),
        ("i4", "f64"),
        ("u8", "i64"),
        ("i4", "u64"),
        ("b1", "i32"),
        ("i1", "bool"),
        ("f4", "bf16"),
        ("u1", "bf16"),
        ("c8", "f32"),
        ("M8[s]", "i64"),
        ("O", "f32"),
        ("U3", "f32"),
    ],
)
def test_nothing_else_is_converted(given: str, dtype: str) -> None:
    with pytest.raises(InputError, match="input 'x' has dtype"):
        to_array(np.zeros(3, given), spec(dtype))


def test_the_message_says_how_to_cast() -> None:
    with pytest.raises(InputError, match=r"expected float32 for f32\[n\]; cast it with x.astype"):
        to_array(np.zeros(3), spec("f32"))


@given(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.booleans())
def test_any_layout(skip: int, step: int, big_endian: bool, transposed: bool) -> None:
    values = np.arange(60, dtype=">f4" if big_endian else "<f4").reshape(6, 10)[skip::step, ::step]
    values = values.T if transposed else values
    result = to_array(values, spec("f32"))
    assert result.flags.c_contiguous
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, values)


def test_misaligned() -> None:
    raw = np.zeros(17, np.uint8)
    misaligned = raw[1:].view(np.float32)
    assert to_array(misaligned, spec("f32")).flags.aligned


@pytest.mark.parametrize("value", [None, [1.0], (1.0,), "a", b"a", {}, object(), 1.0, int])
def test_not_an_array(value: object) -> None:
    with pytest.raises(InputError, match="input 'x'"):
        to_array(value, spec("f32"))


class Exporter:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.ones(2, np.float32)


class Packed:
    def __init__(self) -> None:
        self.array = np.ones(2, np.float32)

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> object:
        return self.array.__dlpack_device__()


class Broken:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("it is on the moon")


@pytest.mark.parametrize("value", [Exporter(), Packed(), np.float32(1), np.ma.ones(2, "f4")])
def test_protocols(value: object) -> None:
    result = to_array(value, spec("f32"))
    assert type(result) is np.ndarray
    assert set(result.reshape(-1).tolist()) == {1.0}


def test_an_exporter_that_fails() -> None:
    with pytest.raises(InputError, match="it is on the moon"):
        to_array(Broken(), spec("f32"))


@pytest.mark.needs("torch")
def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32, requires_grad=True).reshape(2, 3).T
    np.testing.assert_array_equal(to_array(tensor, spec("f32")), tensor.detach().numpy())
    bf16 = torch.tensor([1.0, -2.0], dtype=torch.bfloat16)
    assert to_array(bf16, spec("bf16")).tolist() == [0x3F80, 0xC000]
    with pytest.raises(InputError, match=r"torch.bfloat16"):
        to_array(bf16, spec("f32"))
    with pytest.raises(InputError, match="dtype float64"):
        to_array(torch.zeros(2, dtype=torch.float64), spec("f32"))


def test_narrow_types_come_as_bytes_or_in_their_own_type() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    floats = np.array([1.0, -2.0, 448.0], np.float32).astype(ml_dtypes.float8_e4m3fn)
    assert to_array(floats, spec("f8e4m3fn")).tolist() == [0x38, 0xC0, 0x7E]
    assert to_array(floats.view(np.uint8), spec("f8e4m3fn")).tolist() == [0x38, 0xC0, 0x7E]
    integers = np.array([-8, -1, 7], np.int8)
    assert to_array(integers.astype(ml_dtypes.int4), spec("i4")).tolist() == [-8, -1, 7]
    assert to_array(np.array([1, 15]).astype(ml_dtypes.uint4), spec("u4")).tolist() == [1, 15]
    beyond = np.array([0x3F], np.uint8)
    assert to_array(beyond.view(ml_dtypes.int4), spec("i4")).tolist() == [-1]
    assert to_array(beyond.view(ml_dtypes.uint2), spec("u2")).tolist() == [3]
    with pytest.raises(InputError, match="the bits of f8e5m2 as uint8, or float8_e5m2"):
        to_array(floats, spec("f8e5m2"))


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [("i4", -8, 7), ("u4", 0, 15), ("i2", -2, 1), ("u2", 0, 3), ("f4e2m1", 0, 15)],
)
def test_elements_that_a_narrow_type_does_not_have_are_refused(
    dtype: str, least: int, most: int
) -> None:
    given = np.array([least, most], DTYPES[dtype])
    assert to_array(given, spec(dtype)).tolist() == [least, most]
    with pytest.raises(InputError, match=f"{dtype} has one element per byte, from {least}"):
        to_array(given + given.dtype.type(1), spec(dtype))


def test_narrow_floats_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    floats = torch.tensor([1.0, -2.0]).to(torch.float8_e5m2)
    assert to_array(floats, spec("f8e5m2")).tolist() == [0x3C, 0xC0]
    with pytest.raises(InputError, match=r"torch.float8_e5m2"):
        to_array(floats, spec("f8e4m3fn"))
