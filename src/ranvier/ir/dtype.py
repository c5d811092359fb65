"""Element types. bf16 has no NumPy dtype: its arrays are uint16, the upper half of an f32.

*Narrow* types (8-bit and smaller floats, integers of 4 and 2 bits; `narrow.py` has their formats)
are for storage: operators copy them and cast them, nothing computes in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranvier.ir import narrow

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class DType:
    """An element type: `name`, `size` in bytes, `kind` in float | int | uint | bool | narrow."""

    name: str
    size: int
    kind: str

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return _by_name, (self.name,)  # element types are compared by identity

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type to compute with."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer to compute with; bool is neither."""
        return self.kind in ("int", "uint")

    @property
    def is_narrow(self) -> bool:
        """Whether it is for storage alone: cast it to compute with it."""
        return self.kind == "narrow"

    @property
    def format(self) -> narrow.Format:
        """The format of a narrow type; KeyError for any other."""
        return narrow.FORMATS[self.name]

    @property
    def storage(self) -> np.dtype[np.generic]:
        """The NumPy dtype that holds the bits (uint16 for bf16, one byte for narrow types)."""
        return np.dtype(_STORAGE[self.name])

    @property
    def bits(self) -> int:
        """Size in memory, in bits."""
        return self.size * 8


_BLOCK = 1 << 16  # elements that are rounded at a time


def _by_name(name: str) -> DType:
    return BY_NAME[name]


F16, BF16 = DType("f16", 2, "float"), DType("bf16", 2, "float")
F32, F64 = DType("f32", 4, "float"), DType("f64", 8, "float")
I8, I16, I32, I64 = (DType(f"i{8 * n}", n, "int") for n in (1, 2, 4, 8))
U8, U16, U32, U64 = (DType(f"u{8 * n}", n, "uint") for n in (1, 2, 4, 8))
BOOL = DType("bool", 1, "bool")
NARROW = tuple(DType(name, 1, "narrow") for name in narrow.FORMATS)

ALL = (F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL)  # to compute with
BY_NAME = {dtype.name: dtype for dtype in (*ALL, *NARROW)}
_STORAGE = {
    "f16": "float16", "bf16": "uint16", "f32": "float32", "f64": "float64",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "bool": "bool",
    **{name: "int8" if name in ("i4", "i2") else "uint8" for name in narrow.FORMATS},
}  # fmt: skip
_FROM_NUMPY = {np.dtype(dtype.storage): dtype for dtype in ALL if dtype is not BF16}


def from_numpy(dtype: npt.DTypeLike) -> DType:
    """The element type of a NumPy dtype (uint16 is u16); KeyError for one that Ranvier has not."""
    return _FROM_NUMPY[np.dtype(dtype)]


def to_bf16(values: Array) -> npt.NDArray[np.uint16]:
    """Round f32 to the nearest bf16, ties to even; NaN stays NaN. Returns the bits as uint16."""
    single = np.asarray(values, dtype=np.float32, order="C")
    bits, result = single.reshape(-1).view(np.uint32), np.empty(single.size, np.uint16)
    for start in range(0, single.size, _BLOCK):  # blocks stay in cache, and so do the temporaries
        block = bits[start : start + _BLOCK]
        rounded = ((block + 0x7FFF + ((block >> 16) & 1)) >> 16).astype(np.uint16)
        nan = (block & 0x7FFFFFFF) > 0x7F800000
        if nan.any():
            rounded[nan] = ((block[nan] >> 16) | 0x40).astype(np.uint16)
        result[start : start + _BLOCK] = rounded
    return result.reshape(single.shape)


def from_bf16(bits: Array) -> npt.NDArray[np.float32]:
    """The f32 values of bf16 bits held as uint16."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def decode(array: Array, dtype: DType) -> Array:
    """Storage array -> array to compute with.

    The bits of bf16 and of narrow floats become f32; others are unchanged.
    """
    if dtype.is_narrow:
        return narrow.from_bits(array, dtype.format)
    return from_bf16(array) if dtype is BF16 else array


def encode(array: Array, dtype: DType) -> Array:
    """Computed array -> storage array of `dtype`: rounds to bf16, else casts as NumPy does.

    Narrow floats do not saturate: what a decoded array holds comes back, infinities included.
    """
    if dtype.is_narrow:
        return narrow.to_bits(np.asarray(array), dtype.format, saturate=False)
    return to_bf16(array) if dtype is BF16 else np.asarray(array).astype(dtype.storage)
