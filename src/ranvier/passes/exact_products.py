"""Integer products as products of floats, where those are exact.

f32 holds every integer up to 2 ** 24. A sum of products of integers that cannot exceed that,
whatever the data are, is the same in f32 in any order of addition, and the kernels for f32 are many
times faster than a plain loop over integers. How large the data can be follows from what computes
them (an 8-bit type, less a zero point). Where the whole sum could exceed 2 ** 24, it is cut into
parts that cannot, which are added as integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranvier.ir.dtype import BOOL, F32, I32, I64, DType
from ranvier.ir.graph import Graph, Value
from ranvier.ir.narrow import IntegerFormat
from ranvier.ir.operators.operator import Numbers
from ranvier.passes.rewrite import Match, Table, rewrite

EXACT = 1 << 24
MOST_PARTS = 8
_MOVES = frozenset({"reshape", "transpose", "broadcast", "slice", "reverse", "roll"})


@dataclass(frozen=True)
class ExactProducts:
    """Leaves integer products as they are where it can prove nothing.

    Runs after everything that may change the element type of floats.
    """

    name: str = "exact_products"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with exact products of floats."""
        return rewrite(graph, RULES)


def exact_matmul(m: Match) -> Value | None:
    """cast(matmul(cast(a), cast(b))), in parts over the depth."""
    a, b = m.node.operands
    most, depth = _largest(m, a), b.shape[-2]
    if a.dtype not in (I32, I64) or most is None or not isinstance(depth, int):
        return None
    factors, other = m.stored(b), _largest(m, b)
    if other is None or depth == 0:
        return None
    sizes = np.full((1, depth), float(other))
    if factors is not None:
        sizes = np.abs(np.moveaxis(factors, -2, -1).astype(np.float64)).reshape(-1, depth)
    parts = _parts(sizes * most, MOST_PARTS)
    if parts is None:
        return None
    left = m.add("cast", a, dtype=F32)
    if factors is None:
        right = m.add("cast", b, dtype=F32)
    else:
        right = m.new_constant(factors.astype(np.float32))
    totals = []
    for first, last in parts:
        rows = _slice(m, left, a.rank - 1, first, last)
        total = m.add("matmul", rows, _slice(m, right, b.rank - 2, first, last))
        totals.append(m.add("cast", total, dtype=a.dtype))
    return _sum(m, totals)


def exact_conv(m: Match) -> Value | None:
    """cast(conv(cast(x), cast(w))), in parts over the channels, plus the bias."""
    x, w, *bias = m.node.operands
    most, weights = _largest(m, x), m.stored(w)
    if x.dtype not in (I32, I64) or weights is None or most is None:
        return None
    sizes = np.abs(weights.astype(np.float64)).reshape(*weights.shape[:2], -1).sum(axis=2)
    parts = _parts(sizes * most, MOST_PARTS if m.attribute("groups") == 1 else 1)
    if parts is None:
        return None
    image, totals = m.add("cast", x, dtype=F32), []
    for first, last in parts:
        own = m.new_constant(weights[:, first:last].astype(np.float32))
        seen = image if len(parts) == 1 else _slice(m, image, 1, first, last)
        total = m.add("conv", seen, own, **m.node.attributes)
        totals.append(m.add("cast", total, dtype=x.dtype))
    totals += [m.add("reshape", b, shape=(*b.shape, *(1,) * (x.rank - 2))) for b in bias]
    return _sum(m, totals)


def _slice(m: Match, x: Value, axis: int, first: int, last: int) -> Value:
    if (first, last) == (0, x.shape[axis]):
        return x
    array = m.stored(x)
    if array is not None:
        return m.new_constant(np.take(array, range(first, last), axis=axis))
    starts = tuple(first if i == axis else 0 for i in range(x.rank))
    stops = tuple(last if i == axis else size for i, size in enumerate(x.shape))
    return m.add("slice", x, starts=starts, stops=stops, steps=(1,) * x.rank)


def _sum(m: Match, totals: list[Value]) -> Value:
    """The sum of all parts, under the name of the node."""
    if len(totals) == 1:
        return totals[0]
    result = totals[0]
    for total in totals[1:-1]:
        result = m.add("add", result, total)
    return m.become("add", result, totals[-1])


def _parts(sizes: Numbers, most: int) -> list[tuple[int, int]] | None:
    """At most `most` ranges of columns whose sums, for every row, do not exceed `EXACT`.

    `sizes[row, column]` is what one step of the sum adds at the most.
    """
    parts, first = [], 0
    total = np.zeros(len(sizes))
    for column, size in enumerate(sizes.T):
        if size.max(initial=0) > EXACT:
            return None
        if (total + size).max(initial=0) > EXACT:
            parts.append((first, column))
            first, total = column, np.zeros(len(sizes))
        total = total + size
    parts.append((first, sizes.shape[1]))
    return parts if len(parts) <= most else None


def _largest(m: Match, value: Value) -> int | None:
    """The largest magnitude that an integer value can have, where that is known."""
    found = bounds(m, value)
    return None if found is None else max(map(abs, found))


def bounds(m: Match, value: Value) -> tuple[int, int] | None:
    """The least and the greatest number that an integer value can have, where that is known."""
    array = m.stored(value)
    if array is not None and value.dtype.is_integer:
        return (int(array.min()), int(array.max())) if array.size else (0, 0)
    node = m.producer(value)
    if node is None:
        return _limits(value.dtype)
    if node.op in _MOVES:
        return bounds(m, node.operands[0])
    if node.op == "cast":
        return _of_cast(m, node.operands[0], value.dtype)
    if node.op not in ("add", "sub"):
        return _limits(value.dtype)
    found = [bounds(m, operand) for operand in node.operands]
    if found[0] is None or found[1] is None:
        return None
    (a, b), (c, d) = found[0], found[1]
    result = (a + c, b + d) if node.op == "add" else (a - d, b - c)
    return result if _fits(result, value.dtype) else _limits(value.dtype)


def _of_cast(m: Match, source: Value, target: DType) -> tuple[int, int] | None:
    found = bounds(m, source)
    return found if found is not None and _fits(found, target) else _limits(target)


def _fits(range_: tuple[int, int], dtype: DType) -> bool:
    if not dtype.is_integer:
        return False
    limits = np.iinfo(dtype.storage.name)
    return bool(limits.min <= range_[0] and range_[1] <= limits.max)


def _limits(dtype: DType) -> tuple[int, int] | None:
    """The range of an integer type of up to 16 bits; None for one too wide to be of use."""
    if dtype == BOOL:
        return (0, 1)
    if dtype.is_narrow and isinstance(dtype.format, IntegerFormat):
        bits, signed = dtype.format.bits, dtype.format.signed
    elif dtype.is_integer and dtype.bits <= 16:
        bits, signed = dtype.bits, dtype.kind == "int"
    else:
        return None
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


RULES: Table = (("conv", exact_conv), ("matmul", exact_matmul))
