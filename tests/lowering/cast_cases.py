"""Cases for the operators that change element types: casts of numbers and of bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ranvier.ir.dtype import ALL, BF16, BOOL, BY_NAME, F16, F32, F64, NARROW, DType, decode
from ranvier.ir.narrow import IntegerFormat
from tests.lowering.operator_cases import RANDOM, Case, Operand, edges, numbers

SMALL = [dtype for dtype in NARROW if isinstance(dtype.format, IntegerFormat)]
TINY_FLOATS = [dtype for dtype in NARROW if dtype not in SMALL]


def casts() -> Iterator[Case]:
    """Every pair of element types but for narrow floats as targets."""
    yield from _casts()
    yield from _doubles_near_ties()
    yield from _narrow_to_wide()
    yield from _wide_to_small_integers()


def _casts() -> Iterator[Case]:
    """Every pair of element types; floats to integers only within their range."""
    for source in ALL:
        for target in ALL:
            x = edges(source)
            if source.is_float and target.is_integer:
                high = 100.0
                x = numbers(source, 33, low=0 if target.kind == "uint" else -high, high=high)
            yield Case("cast", (x,), {"dtype": target})


def _doubles_near_ties() -> Iterator[Case]:
    """Numbers that go wrong when f64 is rounded to f32 first and then to f16."""
    near_ties = 1 + np.array([1, 3, 5, 7])[:, None] * 2.0**-11 + np.array([-1, 0, 1]) * 2.0**-40
    doubles = np.concatenate([near_ties, near_ties * 2.0**-20, -near_ties * 65472, [[1e300] * 3]])
    yield Case("cast", (Operand(doubles, F64),), {"dtype": F16})


def _narrow_to_wide() -> Iterator[Case]:
    """Every byte of every narrow type; to integers only what they can hold."""
    for source in NARROW:
        for target in (*ALL, BY_NAME["i4"]):
            x = edges(source).array
            if target is not BOOL and not target.is_float:
                number = decode(x, source).astype(np.float64)
                least = 0 if target.kind == "uint" else -100
                x = x[(number >= least) & (number <= 100)]
            yield Case("cast", (Operand(x, source),), {"dtype": target})


def _wide_to_small_integers() -> Iterator[Case]:
    for source in ALL:
        for target in SMALL:
            yield Case("cast", (edges(source),), {"dtype": target})


def narrow_casts() -> Iterator[Case]:
    """Every way to round to every narrow float."""
    for dtype in TINY_FLOATS:
        for saturate in (False, True):
            for rounding in ("nearest", "up", "down") if dtype.name == "f8e8m0" else ("nearest",):
                for x in (*map(edges, (F16, BF16, F32, F64)), *_near(dtype), *_any_bits()):
                    attributes = {"dtype": dtype, "saturate": saturate, "rounding": rounding}
                    yield Case("narrow_cast", (x,), attributes)


def _near(dtype: DType) -> Iterator[Operand]:
    """The numbers of a format, the midpoints between them, and the neighbours of all of these."""
    known = np.unique(np.abs(decode(edges(dtype).array, dtype).astype(np.float64)))
    known = known[np.isfinite(known)]
    known = np.append(known, [2 * known[-1] - known[-2], 3 * known[-1]])
    near = np.concatenate([known, (known[1:] + known[:-1]) / 2])
    with np.errstate(over="ignore"):
        single = near.astype(np.float32)
    below, above = np.nextafter(single, np.float32(0)), np.nextafter(single, np.float32(np.inf))
    singles = np.concatenate([single, below, above])
    yield Operand(np.concatenate([singles, -singles]), F32)
    doubles = np.concatenate([near, near * (1 - 2.0**-50), near * (1 + 2.0**-50)])
    yield Operand(np.concatenate([doubles, -doubles]), F64)


def _any_bits() -> Iterator[Operand]:
    """Floats of all sizes, denormal numbers and every kind of NaN among them."""
    for dtype in (F16, BF16, F32, F64):
        bits = RANDOM.integers(0, 256, (500, dtype.size), np.uint8)
        yield Operand(bits.view(dtype.storage).reshape(-1), dtype)


def bit_casts() -> Iterator[Case]:
    """Every pair of element types of one size."""
    for source in (*ALL, *NARROW):
        for target in (*ALL, *NARROW):
            if source.size == target.size and target is not BOOL:
                yield Case("bit_cast", (edges(source),), {"dtype": target})


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "cast": casts,
    "narrow_cast": narrow_casts,
    "bit_cast": bit_casts,
}
