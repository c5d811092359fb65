"""What may be an input: NumPy arrays and what has `__array__` or `__dlpack__`, no library imported.

A dtype must be the model's, or widen to it without loss (int32 for i64, f16 for f32); nothing
narrows in silence. bf16 has no NumPy dtype: its bits are accepted as uint16, as
`ml_dtypes.bfloat16` and as `torch.bfloat16`.
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


def to_array(value: object, spec: TensorSpec) -> Array:
    """Return `value` as a C-contiguous, aligned, native-endian array of the dtype of `spec`.

    The array may share memory with `value`; it is a copy where layout, byte order or dtype ask for
    one.

    Raises:
        InputError: not an array, on another device, or a dtype that could lose values.
    """
    array = value if isinstance(value, np.ndarray) else _import_array(value, spec)
    expected = np.dtype(DTYPES[spec.dtype])
    if spec.dtype == "bf16" and array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    if array.dtype != expected:
        _check_widening(array.dtype, expected, spec)
    return np.require(array, dtype=expected, requirements=("C", "A")).view(np.ndarray)


def _check_widening(given: np.dtype[Any], expected: np.dtype[Any], spec: TensorSpec) -> None:
    family = _FAMILIES.get(expected.kind)
    same_family = _FAMILIES.get(given.kind) == family and family is not None
    if spec.dtype != "bf16" and same_family and np.can_cast(given, expected, "safe"):
        return
    wanted = (
        "the bits of bf16 as uint16, or torch.bfloat16" if spec.dtype == "bf16" else str(expected)
    )
    cast = (
        ""
        if spec.dtype == "bf16"
        else f"; cast it with x.astype(numpy.{expected.name}) if that is meant"
    )
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
    if tensor.dtype is torch.bfloat16:
        if spec.dtype != "bf16":
            raise InputError(f"input {spec.name!r} has dtype torch.bfloat16; expected {spec.dtype}")
        tensor = tensor.contiguous().view(torch.int16)
        return np.asarray(tensor.numpy()).view(np.uint16)
    array: Array = tensor.resolve_conj().resolve_neg().numpy()
    return array
