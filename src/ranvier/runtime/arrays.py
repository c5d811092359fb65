"""What may be an input: NumPy arrays and what has `__array__` or `__dlpack__`, no library imported.

A dtype must be the model's, or widen to it without loss (int32 for i64, f16 for f32); nothing
narrows in silence. bf16 and the narrow types have no NumPy dtype: their bits are accepted as
uint16 or as one byte per element, and in the types of `ml_dtypes` and PyTorch.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.expression import expr_to_text
from ranvier.artifact.format import DTYPES, TensorSpec
from ranvier.errors import InputError

Array: TypeAlias = NDArray[Any]

_FAMILIES = {"f": "f", "i": "i", "u": "i", "b": "b"}
_FOREIGN = {
    "bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2", "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0": "float8_e8m0fnu",
    "f6e2m3": "float6_e2m3fn", "f6e3m2": "float6_e3m2fn", "f4e2m1": "float4_e2m1fn",
    "i4": "int4", "u4": "uint4", "i2": "int2", "u2": "uint2",
}  # fmt: skip
"""Types that NumPy lacks, by the names they have in `ml_dtypes` and PyTorch."""
_BITS = {"f6e2m3": 6, "f6e3m2": 6, "f4e2m1": 4, "i4": 4, "u4": 4, "i2": 2, "u2": 2}
"""Types that leave bits of their byte unused."""


def native_dtype(spec: TensorSpec) -> np.dtype[Any] | None:
    """The dtype of arrays that can be used as they come; None where elements must be checked."""
    return None if spec.dtype in _BITS else np.dtype(DTYPES[spec.dtype])


def to_array(value: object, spec: TensorSpec) -> Array:
    """Return `value` as a C-contiguous, aligned, native-endian array of the dtype of `spec`.

    The array may share memory with `value`; it is a copy where layout, byte order or dtype ask for
    one.

    Raises:
        InputError: not an array, on another device, or a dtype that could lose values.
    """
    array = value if isinstance(value, np.ndarray) else _import_array(value, spec)
    expected = np.dtype(DTYPES[spec.dtype])
    if spec.dtype in _FOREIGN and array.dtype.name == _FOREIGN[spec.dtype]:
        array = _without_unused_bits(array.view(expected), spec.dtype)
    if array.dtype != expected:
        _check_widening(array.dtype, expected, spec)
    if spec.dtype in _BITS:
        _check_range(array, spec)
    return np.require(array, dtype=expected, requirements=("C", "A")).view(np.ndarray)


def _without_unused_bits(array: Array, dtype: str) -> Array:
    """Elements of `ml_dtypes` may have anything in the bits that their type does not use."""
    if dtype not in _BITS:
        return array
    low: Array = np.asarray(array & array.dtype.type((1 << _BITS[dtype]) - 1))
    if array.dtype.kind == "u":
        return low
    half = array.dtype.type(1 << (_BITS[dtype] - 1))
    return np.asarray((low ^ half) - half)


def _check_range(array: Array, spec: TensorSpec) -> None:
    if not array.size:
        return
    count = 1 << _BITS[spec.dtype]
    least, most = (-count // 2, count // 2 - 1) if array.dtype.kind == "i" else (0, count - 1)
    low, high = int(array.min()), int(array.max())
    if low < least or high > most:
        raise InputError(
            f"input {spec.name!r} has elements from {low} to {high}; {spec.dtype} has one element "
            f"per byte, from {least} to {most}"
        )


def _check_widening(given: np.dtype[Any], expected: np.dtype[Any], spec: TensorSpec) -> None:
    family = _FAMILIES.get(expected.kind)
    same_family = _FAMILIES.get(given.kind) == family and family is not None
    foreign = _FOREIGN.get(spec.dtype)
    if foreign is None and same_family and np.can_cast(given, expected, "safe"):
        return
    if foreign is not None:
        wanted, cast = f"the bits of {spec.dtype} as {expected}, or {foreign}", ""
    else:
        wanted = str(expected)
        cast = f"; cast it with x.astype(numpy.{expected.name}) if that is meant"
    raise InputError(
        f"input {spec.name!r} has dtype {given}; expected {wanted} for "
        f"{spec.dtype}[{', '.join(expr_to_text(dim) for dim in spec.shape)}]{cast}"
    )


def _import_array(value: Any, spec: TensorSpec) -> Array:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _from_torch(value, torch, spec)
    if isinstance(value, (list, tuple, str, bytes, dict)) or value is None:
        raise InputError(
            f"input {spec.name!r} is a {type(value).__name__}; expected an array, "
            "such as numpy.ndarray"
        )
    try:
        if hasattr(value, "__array__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except Exception as error:  # the exporter's own error, of any type: it becomes the cause
        raise InputError(
            f"input {spec.name!r}: {type(value).__name__} gives no NumPy array: {error}"
        ) from error
    raise InputError(
        f"input {spec.name!r} is a {type(value).__name__}; expected an array "
        "(numpy.ndarray, or an object with __array__ or __dlpack__)"
    )


def _from_torch(tensor: Any, torch: Any, spec: TensorSpec) -> Array:
    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        raise InputError(
            f"input {spec.name!r} is on {tensor.device}; move it to the CPU with x.cpu()"
        )
    name = str(tensor.dtype).removeprefix("torch.")
    if name in _FOREIGN.values():
        if _FOREIGN.get(spec.dtype) != name:
            raise InputError(f"input {spec.name!r} has dtype torch.{name}; expected {spec.dtype}")
        bits = torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8
        raw = np.asarray(tensor.contiguous().view(bits).numpy())
        return _without_unused_bits(raw.view(DTYPES[spec.dtype]), spec.dtype)
    array: Array = tensor.resolve_conj().resolve_neg().numpy()
    return array
