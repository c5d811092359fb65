"""Operators of the IR on elements that are numbers and sizes: the rules of `Contents`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.frontends.onnx.elements import OPEN, Elements, Ratio, Unknown
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, DType, decode, encode
from ranvier.ir.graph import Node, Value

MOST_FLOATS = 64
"""Float constants with more elements are weights."""
_MOST_DENOMINATOR = 1 << 8  # of a float that multiplies a size: f32 has bits for both


# Sources ------------------------------------------------------------------------------------------
def _constant(node: Node) -> Elements:
    array = node.attributes["value"]
    assert isinstance(array, np.ndarray)
    if node.result.dtype.is_float and array.size > MOST_FLOATS:
        raise Unknown
    return decode(array, node.result.dtype).astype(object)


def _iota(node: Node) -> Elements:
    size = node.attributes["size"]
    if not isinstance(size, int):
        raise Unknown
    return np.array(list(range(size)), dtype=object)


# Arithmetic ---------------------------------------------------------------------------------------
def _elementwise(apply: Callable[..., Any]) -> Callable[..., Elements]:
    """A rule that applies a function of (dtype, elements) at every position."""

    def rule(node: Node, *operands: Elements) -> Elements:
        dtype = node.operands[0].dtype
        grids: Any = np.broadcast_arrays(*operands)
        result = np.empty(grids[0].shape, dtype=object)
        for place in np.ndindex(*grids[0].shape):
            elements = [grid[place] for grid in grids]
            try:
                is_open = any(element is OPEN for element in elements)
                result[place] = OPEN if is_open else _in_range(apply(dtype, *elements), node)
            except Unknown:
                result[place] = OPEN
        return result

    return rule


def _in_range(element: Any, node: Node) -> Any:
    """Integers wrap around at run time: what does not fit its type is left to it."""
    dtype = node.result.dtype
    if dtype.is_integer and isinstance(element, int):
        info = np.iinfo(dtype.storage.name)
        if not info.min <= element <= info.max:
            raise Unknown
    if dtype.is_integer and isinstance(element, (float, Ratio)):
        raise Unknown
    return element


def _is_plain(*elements: Any) -> bool:
    return all(isinstance(x, (int, float)) for x in elements)


def _rounded(dtype: DType, value: Any) -> Any:
    """A plain number as the type holds it; of one operation on such numbers, what it gives."""
    if not dtype.is_float or not isinstance(value, float):
        return value
    return float(decode(encode(np.asarray(value, np.float64), dtype), dtype))


def _is_power_of_two(number: int) -> bool:
    return abs(number).bit_count() == 1


def _exact(*elements: Any) -> None:
    """Unknown where an element has been rounded at run time: what follows may differ in a bit."""
    for element in elements:
        if isinstance(element, Ratio) and not _is_power_of_two(element.denominator):
            raise Unknown


def _parts(element: Any) -> tuple[Dim, int]:
    """An element as (numerator, denominator), exactly."""
    if isinstance(element, Ratio):
        return element.numerator, element.denominator
    if isinstance(element, float):
        if not math.isfinite(element):
            raise Unknown
        top, bottom = element.as_integer_ratio()
        if bottom > _MOST_DENOMINATOR:
            raise Unknown
        return top, bottom
    return element, 1


def _ratio(dtype: DType, numerator: Dim, denominator: int) -> Any:
    if denominator < 0:
        numerator, denominator = numerator * -1, -denominator
    if isinstance(numerator, int):
        return _rounded(dtype, numerator / denominator)
    if dims.divides(denominator, numerator):
        return numerator // denominator
    return Ratio(numerator, denominator)


def _add(dtype: DType, a: Any, b: Any, sign: int = 1) -> Any:
    if _is_plain(a, b) or not dtype.is_float:
        return _rounded(dtype, a + b * sign)
    _exact(a, b)
    (p, q), (r, s) = _parts(a), _parts(b)
    return _ratio(dtype, p * s + r * q * sign, q * s)


def _mul(dtype: DType, a: Any, b: Any) -> Any:
    if _is_plain(a, b) or not dtype.is_float:
        return _rounded(dtype, a * b)
    (p, q), (r, s) = _parts(a), _parts(b)
    if not _scales(r, s):
        _exact(a)
    if not _scales(p, q):
        _exact(b)
    return _ratio(dtype, p * r, q * s)


def _scales(numerator: Dim, denominator: int) -> bool:
    """Whether multiplying by the ratio is exact, whatever it multiplies."""
    powers = isinstance(numerator, int) and _is_power_of_two(numerator)
    return powers and _is_power_of_two(denominator)


def _div(dtype: DType, a: Any, b: Any) -> Any:
    if _is_plain(a, b):
        if b == 0:
            raise Unknown
        if dtype.is_float:
            return _rounded(dtype, a / b)
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if not dtype.is_float:
        if not _non_negative(a) or not _positive(b):
            raise Unknown
        return a // b
    (p, q), (r, s) = _parts(a), _parts(b)
    if not isinstance(r, int):
        _exact(a, b)
        if p == r:
            return _ratio(dtype, s, q)
        if dims.divides(r, p):
            return _ratio(dtype, dims.floordiv(p, r) * s, q)
        raise Unknown
    if r == 0:
        raise Unknown
    if not _scales(r, s):
        _exact(a)
    return _ratio(dtype, p * s, q * r)


def _remainder(dtype: DType, a: Any, b: Any) -> Any:
    if dtype.is_float or (_is_plain(b) and b == 0) or (not _is_plain(a, b) and not _positive(b)):
        raise Unknown
    return a % b


def _extremum(greatest: bool) -> Callable[..., Any]:
    def apply(dtype: DType, a: Any, b: Any) -> Any:
        if _is_plain(a, b):
            if a != a or b != b:
                return math.nan
            return max(a, b) if greatest else min(a, b)
        if isinstance(a, (float, Ratio)) or isinstance(b, (float, Ratio)):
            raise Unknown
        return dims.maximum(a, b) if greatest else dims.minimum(a, b)

    return apply


def _neg(dtype: DType, a: Any) -> Any:
    return _mul(dtype, a, -1) if dtype.is_float else a * -1


def _abs(dtype: DType, a: Any) -> Any:
    if _is_plain(a):
        return abs(a)
    if isinstance(a, Ratio) or not _non_negative(a):
        raise Unknown
    return a


def _floor(dtype: DType, a: Any) -> Any:
    if isinstance(a, Ratio):
        return a.numerator // a.denominator
    return math.floor(a) if isinstance(a, float) and math.isfinite(a) else a


def _ceil(dtype: DType, a: Any) -> Any:
    if isinstance(a, Ratio):
        return (a.numerator + (a.denominator - 1)) // a.denominator
    return math.ceil(a) if isinstance(a, float) and math.isfinite(a) else a


def _sqrt(dtype: DType, a: Any) -> Any:
    if not _is_plain(a) or a < 0:
        raise Unknown
    return _rounded(dtype, math.sqrt(a))


def _cast(node: Node, x: Elements) -> Elements:
    target = node.result.dtype

    def apply(dtype: DType, a: Any) -> Any:
        if target == BOOL:
            return _truth(a)
        if target.size < 4 and not _is_plain(a):
            raise Unknown  # a size may be too large for the type
        if not target.is_integer:
            return _rounded(target, a)
        if isinstance(a, float) and not math.isfinite(a):
            raise Unknown
        if isinstance(a, Ratio):
            if not _non_negative(a.numerator):
                raise Unknown
            return a.numerator // a.denominator
        return int(a) if _is_plain(a) else a

    return _elementwise(apply)(node, x)


def _truth(a: Any) -> bool:
    if _is_plain(a):
        return bool(a != 0)
    if isinstance(a, Ratio):
        a = a.numerator
    return not _compare_dims("==", a, 0)


# Comparisons --------------------------------------------------------------------------------------
def _non_negative(dim: Dim) -> bool:
    low, _ = dims.bounds(dim)
    return low is not None and low >= 0


def _positive(dim: Dim) -> bool:
    low, _ = dims.bounds(dim)
    return low is not None and low > 0


def _compare_dims(relation: str, a: Dim, b: Dim) -> bool:
    """A comparison that holds, or fails, for all values of the symbols."""
    low, high = dims.bounds(a - b)
    if relation == "==":
        if low == high == 0:
            return True
        if (low is not None and low > 0) or (high is not None and high < 0):
            return False
        raise Unknown
    if relation == "<":
        if high is not None and high < 0:
            return True
        if low is not None and low >= 0:
            return False
        raise Unknown
    if high is not None and high <= 0:
        return True
    if low is not None and low > 0:
        return False
    raise Unknown


def _compare(dtype: DType, relation: str, a: Any, b: Any) -> bool:
    if _is_plain(a, b):
        return bool({"==": a == b, "<": a < b, "<=": a <= b}[relation])
    (p, q), (r, s) = _parts(a), _parts(b)
    return _compare_dims(relation, p * s, r * q)


_COMPARISONS: dict[str, Callable[..., Any]] = {
    "equal": lambda t, a, b: _compare(t, "==", a, b),
    "not_equal": lambda t, a, b: not _compare(t, "==", a, b),
    "less": lambda t, a, b: _compare(t, "<", a, b),
    "less_equal": lambda t, a, b: _compare(t, "<=", a, b),
    "greater": lambda t, a, b: _compare(t, "<", b, a),
    "greater_equal": lambda t, a, b: _compare(t, "<=", b, a),
    "logical_and": lambda t, a, b: _truth(a) and _truth(b),
    "logical_or": lambda t, a, b: _truth(a) or _truth(b),
    "logical_xor": lambda t, a, b: _truth(a) != _truth(b),
    "logical_not": lambda t, a: not _truth(a),
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": lambda t, a, b: _add(t, a, b, -1),
    "mul": _mul,
    "div": _div,
    "remainder": _remainder,
    "maximum": _extremum(True),
    "minimum": _extremum(False),
    "neg": _neg,
    "abs": _abs,
    "floor": _floor,
    "ceil": _ceil,
    "sqrt": _sqrt,
}


def _where(node: Node, condition: Elements, a: Elements, b: Elements) -> Elements:
    grids: Any = np.broadcast_arrays(condition, a, b)
    result = np.empty(grids[0].shape, dtype=object)
    for place in np.ndindex(*grids[0].shape):
        holds, x, y = (grid[place] for grid in grids)
        result[place] = OPEN if holds is OPEN else (x if holds else y)
    return result


# Views and reductions -----------------------------------------------------------------------------
def _ints(node: Node, name: str) -> tuple[int, ...]:
    found: Any = node.attributes[name]
    if not all(isinstance(entry, int) for entry in found):
        raise Unknown
    return tuple(found)


def _slice(node: Node, x: Elements) -> Elements:
    entries = zip(*(_ints(node, name) for name in ("starts", "stops", "steps")), strict=True)
    return x[tuple(slice(*entry) for entry in entries)]


def _pad(node: Node, x: Elements) -> Elements:
    low, high = _ints(node, "low"), _ints(node, "high")
    if node.attributes["mode"] != "constant" or min((*low, *high), default=0) < 0:
        raise Unknown
    result = np.empty(tuple(a + n + b for a, n, b in zip(low, x.shape, high, strict=True)), object)
    result[...] = node.attributes["value"]
    result[tuple(slice(a, a + n) for a, n in zip(low, x.shape, strict=True))] = x
    return result


def _positions(indices: Elements) -> npt.NDArray[np.int64]:
    if not _is_plain(*indices.reshape(-1).tolist()):
        raise Unknown
    return indices.astype(np.int64)


def _gather(node: Node, data: Elements, indices: Elements) -> Elements:
    axis: Any = node.attributes["axis"]
    where = _positions(indices)
    if where.size and not -data.shape[axis] <= where.min() <= where.max() < data.shape[axis]:
        raise Unknown
    return np.asarray(np.take(data, where, axis=axis), dtype=object)


def _reduction(apply: Callable[..., Any], first: int | None) -> Callable[..., Elements]:
    def rule(node: Node, x: Elements) -> Elements:
        axes, dtype = _ints(node, "axes"), node.operands[0].dtype
        order = (*(i for i in range(x.ndim) if i not in axes), *axes)
        kept = tuple(x.shape[i] for i in range(x.ndim) if i not in axes)
        rows = np.transpose(x, order).reshape(*kept, -1)
        result = np.empty(kept, dtype=object)
        for place in np.ndindex(*kept):
            entries = rows[place].tolist()
            if OPEN in entries:
                raise Unknown
            if first is None and not entries:
                raise Unknown
            total = entries.pop(0) if first is None else first
            for entry in entries:
                total = apply(dtype, total, entry)
            result[place] = _in_range(total, node)
        return result.reshape(static_shape(node.result))

    return rule


def static_shape(value: Value) -> tuple[int, ...]:
    """The sizes of a value that has no symbolic ones."""
    return tuple(size for size in value.shape if isinstance(size, int))


RULES: dict[str, Callable[..., Any]] = {
    "constant": _constant,
    "full": lambda node: node.attributes["value"],
    "iota": _iota,
    "dim": lambda node: _symbolic(node.attributes["value"]),
    **{name: _elementwise(apply) for name, apply in (_COMPARISONS | _ARITHMETIC).items()},
    "cast": _cast,
    "where": _where,
    "reshape": lambda node, x: x.reshape(static_shape(node.result)),
    "transpose": lambda node, x: np.transpose(x, _ints(node, "permutation")),
    "broadcast": lambda node, x: np.broadcast_to(x, static_shape(node.result)),
    "slice": _slice,
    "reverse": lambda node, x: np.flip(x, _ints(node, "axes")),
    "concat": lambda node, *parts: np.concatenate(parts, axis=node.attributes["axis"]),
    "pad": _pad,
    "gather": _gather,
    "reduce_sum": _reduction(_add, 0),
    "reduce_prod": _reduction(_mul, 1),
    "reduce_max": _reduction(_extremum(True), None),
    "reduce_min": _reduction(_extremum(False), None),
}


def _symbolic(value: Any) -> Elements:
    element = np.empty((), dtype=object)
    element[()] = value
    return element
