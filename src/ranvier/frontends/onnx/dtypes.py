"""Element types of TensorProto, and its data as storage arrays."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from ranvier.frontends.onnx.refusal import Refusal
from ranvier.ir.dtype import BY_NAME, Array, DType
from ranvier.ir.narrow import IntegerFormat

_NAMES = {
    "FLOAT": "f32", "DOUBLE": "f64", "FLOAT16": "f16", "BFLOAT16": "bf16", "BOOL": "bool",
    "INT8": "i8", "INT16": "i16", "INT32": "i32", "INT64": "i64",
    "UINT8": "u8", "UINT16": "u16", "UINT32": "u32", "UINT64": "u64",
    "INT4": "i4", "UINT4": "u4", "INT2": "i2", "UINT2": "u2",
    "FLOAT8E4M3FN": "f8e4m3fn", "FLOAT8E4M3FNUZ": "f8e4m3fnuz", "FLOAT8E5M2": "f8e5m2",
    "FLOAT8E5M2FNUZ": "f8e5m2fnuz", "FLOAT8E8M0": "f8e8m0", "FLOAT4E2M1": "f4e2m1",
    "FLOAT6E2M3": "f6e2m3", "FLOAT6E3M2": "f6e3m2",
}  # fmt: skip
_REASONS = {
    "STRING": "strings have no native form",
    "COMPLEX64": "complex numbers have no native form",
    "COMPLEX128": "complex numbers have no native form",
    "UNDEFINED": "the element type is undefined",
}


def from_onnx(code: int) -> DType:
    """The element type behind a number of TensorProto.DataType; Refusal for one without."""
    try:
        name = TensorProto.DataType.Name(code)
    except ValueError:
        raise Refusal(f"element type {code} is not one that ONNX defines") from None
    dtype = BY_NAME.get(_NAMES.get(name, ""))
    if dtype is None:
        raise Refusal(_REASONS.get(name, f"the element type {name} is not supported"))
    return dtype


def to_onnx(dtype: DType) -> int:
    """The number of TensorProto.DataType for an element type."""
    (name,) = (name for name, ours in _NAMES.items() if ours == dtype.name)
    return int(TensorProto.DataType.Value(name))


def to_array(tensor: TensorProto) -> Array:
    """The storage array of a tensor: types that NumPy has not are bits, one element each."""
    dtype = from_onnx(tensor.data_type)
    array = onnx.numpy_helper.to_array(tensor)
    return storage_of(array, dtype)


def storage_of(array: Array, dtype: DType) -> Array:
    """An array in NumPy's or ml_dtypes' types as Ranvier stores it."""
    if array.dtype == dtype.storage:
        return array
    if _holds_bits(dtype):
        return array.view(dtype.storage)
    return array.astype(dtype.storage)


def from_storage(array: Array, code: int) -> Array:
    """A storage array in the NumPy or ml_dtypes type that ONNX's own tools use for `code`."""
    wanted = onnx.helper.tensor_dtype_to_np_dtype(code)
    if array.dtype == wanted:
        return array
    if np.dtype(wanted).itemsize == array.itemsize and _holds_bits(from_onnx(code)):
        return array.view(wanted)
    return array.astype(wanted)


def _holds_bits(dtype: DType) -> bool:
    """Whether storage arrays hold the bits of floats, not numbers."""
    return dtype.is_float or (dtype.is_narrow and not isinstance(dtype.format, IntegerFormat))
