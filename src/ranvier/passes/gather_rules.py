"""Gathers whose positions are known become slices and views."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from ranvier.ir.dim import Dim
from ranvier.ir.graph import Value
from ranvier.passes.rewrite import Match, Table
from ranvier.passes.view_rules import below_zero


def gather_one(m: Match) -> Value | None:
    """A gather whose indices are all one number within range is a slice."""
    along, index = m.attribute("axis"), m.uniform(m.node.operands[1])
    if index is None:
        return None
    assert isinstance(index, int)
    start: Dim = index if index >= 0 else m.x.shape[along] + index
    if below_zero(start) or below_zero(m.x.shape[along] - start - 1):
        return None
    one = _sliced(m, along, start, start + 1)
    shape = _with_ones(m, along)
    if shape == m.result.shape:
        return m.become("reshape", one, shape=shape)
    return m.become("broadcast", m.add("reshape", one, shape=shape), shape=m.result.shape)


def _sliced(m: Match, along: int, start: Dim, stop: Dim) -> Value:
    starts = tuple(start if i == along else 0 for i in range(m.x.rank))
    stops = tuple(stop if i == along else dim for i, dim in enumerate(m.x.shape))
    return m.add("slice", m.x, starts=starts, stops=stops, steps=(1,) * m.x.rank)


def _with_ones(m: Match, along: int) -> tuple[Dim, ...]:
    """The result's shape if every dim of the indices were 1."""
    ones = (1,) * m.node.operands[1].rank
    return (*m.x.shape[:along], *ones, *m.x.shape[along + 1 :])


def gather_range(m: Match) -> Value | None:
    """A gather at 0, 1, ..., n - 1 is a slice, when n does not exceed the dim."""
    along, indices = m.attribute("axis"), m.node.operands[1]
    axis = range_axis(m, indices)
    if axis is None or any(dim != 1 for i, dim in enumerate(indices.shape) if i != axis):
        return None
    count = indices.shape[axis]
    if below_zero(m.x.shape[along] - count):
        return None
    return m.become("reshape", _sliced(m, along, 0, count), shape=m.result.shape)


def range_axis(m: Match, value: Value) -> int | None:
    """The dim along which `value` counts 0, 1, 2, ..., the same at all other positions; or None."""
    node = m.producer(value, "iota", "reshape", "broadcast")
    if node is None:
        return None
    if node.op == "iota":
        return 0
    x = node.operands[0]
    axis = range_axis(m, x)
    if axis is None or node.op == "broadcast":
        return None if axis is None else axis + value.rank - x.rank
    kept = [i for i, dim in enumerate(value.shape) if dim == x.shape[axis]]
    others = [dim for i, dim in enumerate(value.shape) if i not in kept[:1]]
    same = [dim for i, dim in enumerate(x.shape) if i != axis]
    plain = len(kept) == 1 and _without_ones(same) == _without_ones(others)
    aligned = plain and _before(value.shape, kept[0]) == _before(x.shape, axis)
    return kept[0] if aligned else None


def _without_ones(dims: list[Dim]) -> list[Dim]:
    return [dim for dim in dims if dim != 1]


def _before(shape: tuple[Dim, ...], axis: int) -> list[Dim]:
    return _without_ones(list(shape[:axis]))


def gather_everything(m: Match) -> Value | None:
    """A gather_nd that reads element [i, j, ...] at [i, j, ...] is a reshape and a broadcast."""
    joined = m.producer(m.node.operands[1], "concat")
    if joined is None or m.attribute("batch_dims") != 0 or len(joined.operands) != m.x.rank:
        return None
    last = m.node.operands[1].rank - 1
    if joined.attributes["axis"] != last or any(v.shape[last] != 1 for v in joined.operands):
        return None
    found = [range_axis(m, part) for part in joined.operands]
    axes = [axis for axis in found if axis is not None]
    rising = len(axes) == len(found) and all(a < b for a, b in pairwise(axes))
    if not rising or tuple(m.result.shape[i] for i in axes) != m.x.shape:
        return None
    shape = tuple(dim if i in axes else 1 for i, dim in enumerate(m.result.shape))
    return m.become("broadcast", m.add("reshape", m.x, shape=shape), shape=m.result.shape)


def gather_of_slice(m: Match) -> Value | None:
    """Rows of a constant at a slice of constant positions: a slice of the rows at all positions."""
    cut = m.producer(m.node.operands[1], "slice")
    data = m.stored(m.x)
    if cut is None or data is None:
        return None
    positions, along = m.stored(cut.operands[0]), m.attribute("axis")
    if positions is None or positions.size > data.shape[along]:
        return None
    rows = m.add("gather", m.x, cut.operands[0], axis=along)
    before, after = m.x.shape[:along], m.x.shape[along + 1 :]
    starts, stops = (cast("tuple[Dim, ...]", cut.attributes[k]) for k in ("starts", "stops"))
    steps = cast("tuple[int, ...]", cut.attributes["steps"])
    return m.become(
        "slice",
        rows,
        starts=(*(0 for _ in before), *starts, *(0 for _ in after)),
        stops=(*before, *stops, *after),
        steps=(*(1 for _ in before), *steps, *(1 for _ in after)),
    )


def gather_of_one_number(m: Match) -> Value | None:
    """Whatever the positions, the element is the same."""
    number = m.uniform(m.x)
    if number is None:
        return None
    return m.become("full", shape=m.result.shape, value=number, dtype=m.result.dtype)


GATHERS: Table = (
    ("gather", gather_of_one_number),
    ("gather_elements", gather_of_one_number),
    ("gather_nd", gather_of_one_number),
    ("gather", gather_one),
    ("gather", gather_range),
    ("gather", gather_of_slice),
    ("gather_nd", gather_everything),
)
