"""Long running sums in two levels.

A nest computes every element of a running sum from all elements before it, which is fine for short
dims. A long one is cut into blocks: sums run within the blocks, and over the totals of the blocks
before (Blelloch, CMU-CS-90-190). Totals are cut again while there are many.
"""

from __future__ import annotations

from ranvier.ir.dim import Dim, bounds, substitute, symbol, symbols
from ranvier.ir.graph import Value
from ranvier.passes.rewrite import Match

_BLOCK = 256
_LONG = 1024
_UNBOUNDED = 2**31 - 1


def cumsum(m: Match) -> Value | None:
    """`[n]` -> `[blocks, 256]`: running sums of rows, plus the running sum of earlier totals."""
    (x,), axis = m.node.operands, int(m.attribute("axis"))
    size = x.shape[axis]
    if _most(size) <= _LONG:
        return None
    blocks = (size + (_BLOCK - 1)) // _BLOCK
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    padded = _padded(m, x, axis, 0, blocks * _BLOCK - size)
    rows = m.add("reshape", padded, shape=(*before, blocks, _BLOCK, *after))
    within = m.add("cumsum", rows, axis=axis + 1)
    totals = _sliced(m, within, axis + 1, _BLOCK - 1, _BLOCK)
    earlier = m.add("cumsum", _padded(m, totals, axis, 1, -1), axis=axis)
    sums = m.add("reshape", m.add("add", within, earlier), shape=padded.shape)
    return _sliced(m, sums, axis, 0, size)


def _most(size: Dim) -> int:
    """The largest size; symbols without a bound are taken to be below 2 ** 31."""
    limits = {
        name: symbol(name, found.minimum, _UNBOUNDED)
        for name, found in symbols(size).items()
        if found.bounds()[1] is None
    }
    most = bounds(substitute(size, limits))[1]
    return _UNBOUNDED if most is None else most


def _padded(m: Match, x: Value, axis: int, low: Dim, high: Dim) -> Value:
    """Zeros before and after one dim; a negative number crops."""
    sides = (tuple(side if i == axis else 0 for i in range(x.rank)) for side in (low, high))
    first, last = sides
    return m.add("pad", x, low=first, high=last, mode="constant", value=0)


def _sliced(m: Match, x: Value, axis: int, start: Dim, stop: Dim) -> Value:
    return m.add(
        "slice",
        x,
        starts=tuple(start if i == axis else 0 for i in range(x.rank)),
        stops=tuple(stop if i == axis else size for i, size in enumerate(x.shape)),
        steps=(1,) * x.rank,
    )
