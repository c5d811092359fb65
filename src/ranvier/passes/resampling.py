"""`resize` as gathers and weighted sums, one spatial dim after the other.

The formulas are those of `ir/operators/resize.py`, written as graph nodes over `iota` in f64: with
known sizes they fold to constants, with symbolic sizes they are computed at run time.
"""

from __future__ import annotations

import numpy as np

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32, F64, I64, DType
from ranvier.ir.graph import Value
from ranvier.ir.operators.resize import CUBIC_COEFFICIENT
from ranvier.passes.rewrite import Match

ANTIALIAS_COEFFICIENT = -0.5


def resize(m: Match) -> Value | None:
    """Every spatial dim whose size changes, or whose grid is shifted, is resampled on its own."""
    mode, dtype = str(m.attribute("mode")), m.x.dtype
    is_narrow = dtype.is_float and dtype.size == 2 and mode != "nearest"
    x = m.add("cast", m.x, dtype=F32) if is_narrow else m.x
    for i, out in enumerate(m.attribute("size")):
        if x.shape[i + 2] != out:  # equal sizes: every rule gives the identity
            x = _resampled(m, x, i + 2, out, mode)
    return m.add("cast", x, dtype=dtype) if is_narrow else x


def _resampled(m: Match, x: Value, axis: int, out: Dim, mode: str) -> Value:
    if mode == "nearest":
        return m.add("gather", x, _nearest(m, out, x.shape[axis]), axis=axis)
    if m.attribute("antialias"):
        return _by_matrix(m, x, axis, out, mode)
    return _by_taps(m, x, axis, out, mode)


# Coordinates --------------------------------------------------------------------------------------
def _places(m: Match, out: Dim, dtype: DType) -> Value:
    return m.add("iota", size=out, dtype=dtype)


def _number(m: Match, value: Dim | float, dtype: DType) -> Value:
    """A number, or the number that a dim has at run time, as a rank-0 value."""
    if isinstance(value, (int, float)):
        return m.new_constant(np.asarray(value, dtype.storage), dtype)
    return m.add("cast", m.add("dim", value=value, dtype=I64), dtype=dtype)


def _coordinates(m: Match, out: Dim, size: Dim) -> Value:
    """Input coordinate of every output position, in f64."""
    places, rule = _places(m, out, F64), m.attribute("coordinates")
    if rule == "align_corners":
        if out == 1:
            return m.add("mul", places, _number(m, 0.0, F64))
        scaled = m.add("mul", places, _number(m, size - 1, F64))
        return m.add("div", scaled, m.add("maximum", _number(m, out - 1, F64), _number(m, 1, F64)))
    if rule == "half_pixel":
        places = m.add("add", places, _number(m, 0.5, F64))
    scaled = m.add("mul", places, _number(m, size, F64))
    where = m.add("div", scaled, _number(m, out, F64))
    return m.add("sub", where, _number(m, 0.5, F64)) if rule == "half_pixel" else where


def _nearest(m: Match, out: Dim, size: Dim) -> Value:
    """Position read by every output position."""
    rule = m.attribute("coordinates")
    if rule == "align_corners":
        half = _number(m, 0.5, F64)
        found = m.add("floor", m.add("add", _coordinates(m, out, size), half))
        return _clipped(m, m.add("cast", found, dtype=I64), size)
    places, extent = _places(m, out, I64), _number(m, size, I64)
    if rule == "asymmetric":
        return m.add("div", m.add("mul", places, extent), _number(m, out, I64))
    two = _number(m, 2, I64)
    odd = m.add("add", m.add("mul", places, two), _number(m, 1, I64))
    return m.add("div", m.add("mul", odd, extent), m.add("mul", _number(m, out, I64), two))


def _clipped(m: Match, positions: Value, size: Dim) -> Value:
    low = m.add("maximum", positions, _number(m, 0, I64))
    return m.add("minimum", low, _number(m, size - 1, I64))


# Weights ------------------------------------------------------------------------------------------
def _by_taps(m: Match, x: Value, axis: int, out: Dim, mode: str) -> Value:
    """Two or four neighbours, gathered and weighted."""
    where = _coordinates(m, out, x.shape[axis])
    if mode == "linear":
        where = m.add("maximum", where, _number(m, 0.0, F64))
    base = m.add("floor", where)
    shape = (out, *(1,) * (x.rank - 1 - axis))
    total: Value | None = None
    for offset in range(2) if mode == "linear" else range(-1, 3):
        place = m.add("add", base, _number(m, float(offset), F64))
        weight = _kernel(m, m.add("sub", where, place), mode, CUBIC_COEFFICIENT)
        weight = m.add("reshape", m.add("cast", weight, dtype=x.dtype), shape=shape)
        positions = _clipped(m, m.add("cast", place, dtype=I64), x.shape[axis])
        part = m.add("mul", m.add("gather", x, positions, axis=axis), weight)
        total = part if total is None else m.add("add", total, part)
    assert total is not None
    return total


def _by_matrix(m: Match, x: Value, axis: int, out: Dim, mode: str) -> Value:
    """The kernel stretched by the scale where the dim shrinks: a matrix product."""
    size = x.shape[axis]
    ratio = m.add("div", _number(m, size, F64), _number(m, out, F64))
    scale = m.add("maximum", ratio, _number(m, 1.0, F64))
    rows = m.add("reshape", _places(m, size, F64), shape=(size, 1))
    distance = m.add("div", m.add("sub", rows, _coordinates(m, out, size)), scale)
    matrix = _kernel(m, distance, mode, ANTIALIAS_COEFFICIENT)
    total = m.add("reduce_sum", matrix, axes=(0,), keepdims=True)
    matrix = m.add("cast", m.add("div", matrix, total), dtype=x.dtype)
    order = (*(i for i in range(x.rank) if i != axis), axis)
    back = tuple(order.index(i) for i in range(x.rank))
    product = m.add("matmul", m.add("transpose", x, permutation=order), matrix)
    return m.add("transpose", product, permutation=back)


def _kernel(m: Match, distance: Value, mode: str, cubic: float) -> Value:
    """Weight at a distance: a triangle, or Keys' cubic convolution."""
    d = m.add("abs", distance)
    one, zero = _number(m, 1.0, F64), _number(m, 0.0, F64)
    if mode == "linear":
        return m.add("maximum", m.add("sub", one, d), zero)
    near = _polynomial(m, d, (cubic + 2, -(cubic + 3), 0.0, 1.0))
    far = _polynomial(m, d, (cubic, -5 * cubic, 8 * cubic, -4 * cubic))
    inside = m.add("less_equal", d, one)
    within = m.add("less", d, _number(m, 2.0, F64))
    return m.add("where", inside, near, m.add("where", within, far, zero))


def _polynomial(m: Match, x: Value, coefficients: tuple[float, ...]) -> Value:
    """Horner's scheme, highest power first."""
    total = _number(m, coefficients[0], F64)
    for coefficient in coefficients[1:]:
        total = m.add("add", m.add("mul", total, x), _number(m, coefficient, F64))
    return total
