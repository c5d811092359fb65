"""Element types of 8 bits and fewer that no CPU computes with: formats, decoding, rounding.

    float = sign | exponent (biased) | mantissa         -- OCP 8-bit and microscaling formats, FNUZ
    e8m0  = exponent                                    -- 2 ** (code - 127), 255 is NaN
    int   = two's complement or plain binary of 4 or 2 bits

In memory every element has a byte of its own, as in arrays of `ml_dtypes`: the bits of a float as
uint8, an integer as uint8 or int8 with its value. What becomes of numbers out of range is ONNX's
rule (https://onnx.ai/onnx/technical/float8.html and the text of the operator `Cast`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.generic]
Bits = npt.NDArray[np.uint8]

ROUNDINGS = ("nearest", "up", "down")
"""Ways to round to f8e8m0; all other formats round to nearest, ties to even."""


@dataclass(frozen=True)
class FloatFormat:
    """A float of 4 to 8 bits; codes are those of magnitudes, without the sign.

    `top` is the largest finite number. `overflow` is what stands for infinity and for what rounds
    to more than `top` when it does not saturate; None where the format has neither infinity nor
    NaN. NaN is `nan`, with the sign of its source if the format has signed NaN.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    top: int
    overflow: int | None
    nan: int
    has_negative_zero: bool = True

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.exponent_bits + self.mantissa_bits)

    @property
    def infinity(self) -> int | None:
        """The code of infinity, in formats that have it."""
        return self.overflow if self.overflow != self.nan else None

    @property
    def has_signed_nan(self) -> bool:
        """Whether NaN with the sign bit set is NaN too, and `nan` has no sign bit of its own."""
        return self.overflow is not None and self.nan < self.sign


@dataclass(frozen=True)
class ExponentFormat:
    """f8e8m0: a power of two, no sign, no zero."""

    bias: int = 127
    top: int = 254
    nan: int = 255


@dataclass(frozen=True)
class IntegerFormat:
    """An integer of 4 or 2 bits."""

    bits: int
    signed: bool


Format = FloatFormat | ExponentFormat | IntegerFormat

FORMATS: dict[str, Format] = {
    "f8e4m3fn": FloatFormat(4, 3, 7, 0x7E, overflow=0x7F, nan=0x7F),
    "f8e4m3fnuz": FloatFormat(4, 3, 8, 0x7F, overflow=0x80, nan=0x80, has_negative_zero=False),
    "f8e5m2": FloatFormat(5, 2, 15, 0x7B, overflow=0x7C, nan=0x7E),
    "f8e5m2fnuz": FloatFormat(5, 2, 16, 0x7F, overflow=0x80, nan=0x80, has_negative_zero=False),
    "f8e8m0": ExponentFormat(),
    "f6e2m3": FloatFormat(2, 3, 1, 0x1F, overflow=None, nan=0x20),
    "f6e3m2": FloatFormat(3, 2, 3, 0x1F, overflow=None, nan=0x20),
    "f4e2m1": FloatFormat(2, 1, 1, 0x07, overflow=None, nan=0x08),
    "i4": IntegerFormat(4, signed=True),
    "u4": IntegerFormat(4, signed=False),
    "i2": IntegerFormat(2, signed=True),
    "u2": IntegerFormat(2, signed=False),
}  # `nan` of a format without NaN is what NaN is rounded to: -0


def from_bits(bits: Numbers, format: Format) -> Numbers:
    """The numbers that stored elements stand for: f32 for floats, int8 or uint8 for integers."""
    if isinstance(format, IntegerFormat):
        return bits
    return values(format)[np.asarray(bits).view(np.uint8)]


def to_bits(numbers: Numbers, format: Format, saturate: bool, rounding: str = "nearest") -> Numbers:
    """Numbers rounded once to a format, as stored elements.

    Integers are truncated and keep their low bits. Floats out of range become the nearest number
    of the format if they are to `saturate`, else infinity or NaN, whichever it has.
    """
    if isinstance(format, IntegerFormat):
        return _low_bits(numbers, format)
    exact = np.asarray(numbers, dtype=np.float64)
    if isinstance(format, ExponentFormat):
        return _to_power_of_two(exact, format, saturate, rounding)
    return _to_float(exact, format, saturate)


@cache
def values(format: FloatFormat | ExponentFormat) -> npt.NDArray[np.float32]:
    """What each of the 256 bytes stands for, bits above the format's left out."""
    codes = np.arange(256)
    if isinstance(format, ExponentFormat):
        powers = np.ldexp(1.0, codes - format.bias)
        return np.where(codes == format.nan, np.nan, powers).astype(np.float32)
    magnitude = codes & (format.sign - 1)
    found = _magnitudes(magnitude, format)
    if format.overflow is not None:
        found = np.where(magnitude > format.top, np.nan, found)
    if format.infinity is not None:
        found = np.where(magnitude == format.infinity, np.inf, found)
    found = np.where(codes & format.sign, -found, found)
    if not format.has_negative_zero:
        found = np.where(codes == format.nan, np.nan, found)
    return found.astype(np.float32)


def _magnitudes(codes: npt.NDArray[np.int64], format: FloatFormat) -> npt.NDArray[np.float64]:
    """The numbers of codes without a sign, as if none of them were infinity or NaN."""
    exponent, fraction = codes >> format.mantissa_bits, codes & ((1 << format.mantissa_bits) - 1)
    leading = np.where(exponent > 0, 1 << format.mantissa_bits, 0)
    power = np.maximum(exponent, 1) - format.bias - format.mantissa_bits
    return np.asarray(np.ldexp((leading + fraction).astype(np.float64), power))


def _to_float(numbers: npt.NDArray[np.float64], format: FloatFormat, saturate: bool) -> Bits:
    """Counts the midpoints below each number; one that lies on a midpoint goes to the even code."""
    known = _magnitudes(np.arange(format.top + 2), format)
    midpoints = (known[:-1] + known[1:]) / 2
    size = np.abs(numbers)
    code = np.searchsorted(midpoints, size)
    tie = size == midpoints[np.minimum(code, format.top)]
    code += tie & (code % 2 == 1)
    beyond = format.top if saturate or format.overflow is None else format.overflow
    code = np.where(code > format.top, beyond, code)
    signed = np.where(np.signbit(numbers), code | format.sign, code)
    if not format.has_negative_zero:
        signed = np.where(code == 0, 0, signed)
    nan = np.isnan(numbers)
    sign = np.where(np.signbit(numbers), format.sign, 0) if format.has_signed_nan else 0
    return np.asarray(np.where(nan, format.nan | sign, signed)).astype(np.uint8)


def _to_power_of_two(
    numbers: npt.NDArray[np.float64], format: ExponentFormat, saturate: bool, rounding: str
) -> Bits:
    """Powers of two; ties go up. Negative numbers are NaN."""
    least, most = np.ldexp(1.0, -format.bias), np.ldexp(1.0, format.top - format.bias)
    fraction, exponent = np.frexp(np.clip(numbers, least, most))  # fraction in [1/2, 1)
    above = {"up": fraction > 0.5, "nearest": fraction >= 0.75, "down": fraction > 1}[rounding]
    code = exponent - 1 + above + format.bias
    invalid = np.isnan(numbers) | (numbers < 0)
    if not saturate:
        invalid |= (numbers < least) | (numbers > most)
    return np.asarray(np.where(invalid, format.nan, code)).astype(np.uint8)


def _low_bits(numbers: Numbers, format: IntegerFormat) -> Numbers:
    """The low bits of integers, or of floats truncated to i32 (NaN is 0, the rest saturates)."""
    given = np.asarray(numbers)
    if np.issubdtype(given.dtype, np.floating):
        limits = np.iinfo(np.int32)
        given = np.clip(np.nan_to_num(given.astype(np.float64)), limits.min, limits.max)
    low = given.astype(np.int64) & ((1 << format.bits) - 1)
    if not format.signed:
        return low.astype(np.uint8)
    half = 1 << (format.bits - 1)
    return ((low ^ half) - half).astype(np.int8)
