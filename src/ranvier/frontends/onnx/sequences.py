"""Sequences of known length, and optional values: decided while a model is translated."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import GraphProto, TypeProto

from ranvier.frontends.onnx.call import Call, axis_of, static
from ranvier.frontends.onnx.dtypes import from_onnx
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.value_list import Result, ValueList
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, F32, I64
from ranvier.ir.graph import Value

TAKING = frozenset({
    "ConcatFromSequence", "Identity", "If", "Loop", "Optional", "OptionalGetElement",
    "OptionalHasElement", "SequenceAt", "SequenceErase", "SequenceInsert", "SequenceLength",
    "SequenceMap",
})  # fmt: skip
"""Operators that take sequences."""


@onnx_operator("SequenceEmpty", since=11)
def sequence_empty(call: Call, *, dtype: int | None = None) -> ValueList:
    """A sequence of nothing."""
    return ValueList((), F32 if dtype is None else from_onnx(dtype))


@onnx_operator("SequenceConstruct", since=11)
def sequence_construct(call: Call, *items: Value) -> ValueList:
    """A sequence of tensors."""
    if any(x.dtype != items[0].dtype for x in items):
        raise Refusal("has tensors of different element types")
    return ValueList(items, items[0].dtype)


@onnx_operator("SequenceInsert", since=11)
def sequence_insert(
    call: Call, row: ValueList, x: Value, position: Value | None = None
) -> ValueList:
    """A sequence with one more tensor, at the end or before a position."""
    count = len(row.items)
    where = count if position is None else _insertion(call, position, count)
    return ValueList((*row.items[:where], x, *row.items[where:]), x.dtype)


@onnx_operator("SequenceErase", since=11)
def sequence_erase(call: Call, row: ValueList, position: Value | None = None) -> ValueList:
    """A sequence without one of its tensors, by default the last."""
    count = len(row.items)
    where = count - 1 if position is None else _position(call, position, count)
    return ValueList((*row.items[:where], *row.items[where + 1 :]), row.dtype)


@onnx_operator("SequenceAt", since=11)
def sequence_at(call: Call, row: ValueList, position: Value) -> Value:
    """One tensor; where the position is computed, all have to have one shape."""
    if call.plain(position) is not None:
        return row.items[_position(call, position, len(row.items))]
    if not row.items or any(x.shape != row.items[0].shape for x in row.items):
        raise Refusal("chooses among tensors of different shapes at run time")
    stacked = call.concat([call.reshape(x, (1, *x.shape)) for x in row.items], 0)
    return call.emit("gather", stacked, call.reshape(position, ()), axis=0)


def _insertion(call: Call, position: Value, count: int) -> int:
    """From 0 to `count`; negative positions count from the end."""
    (where,) = call.plain_ints(position, "position")
    if not -count <= where <= count:
        raise Refusal(f"has the position {where} among {count}")
    return where if where >= 0 else where + count


def _position(call: Call, position: Value, count: int) -> int:
    known = call.plain(position)
    if known is None:
        raise Refusal("has a position that is known only at run time")
    where = int(known[0])
    if not -count <= where < count:
        raise Refusal(f"has the position {where} among {count}")
    return where % count


@onnx_operator("SequenceLength", since=11)
def sequence_length(call: Call, row: ValueList) -> Value:
    """The number of tensors."""
    return call.scalar(len(row.items), I64)


@onnx_operator("ConcatFromSequence", since=11)
def concat_from_sequence(call: Call, row: ValueList, *, axis: int, new_axis: int = 0) -> Value:
    """Tensors one behind the other, along a dim that there is or along a new one."""
    if not row.items:
        raise Refusal("joins a sequence of nothing")
    rank = row.items[0].rank + new_axis
    along = axis_of(axis, rank)
    if not new_axis:
        return call.concat(row.items, along)
    return call.concat(
        [call.reshape(x, (*x.shape[:along], 1, *x.shape[along:])) for x in row.items], along
    )


@onnx_operator("SplitToSequence", since=11)
def split_to_sequence(
    call: Call, x: Value, split: Value | None = None, *, axis: int = 0, keepdims: int = 1
) -> ValueList:
    """Slices of a dim as a sequence, by default single ones."""
    along = axis_of(axis, x.rank)
    parts, start = [], 0
    for size in _part_sizes(call, x.shape[along], split):
        part = call.slice(x, along, start, start + size)
        if split is None and not keepdims:
            part = call.reshape(part, (*x.shape[:along], *x.shape[along + 1 :]))
        parts.append(part)
        start += size
    return ValueList(tuple(parts), x.dtype)


def _part_sizes(call: Call, size: Dim, split: Value | None) -> Sequence[int]:
    total = static(size, "the size that is split")
    if split is None:
        return [1] * total
    known = call.plain_ints(split, "sizes of parts")
    if split.rank:
        return known
    full, rest = divmod(total, known[0])
    return [known[0]] * full + [rest] * (rest > 0)


@onnx_operator("SequenceMap", since=17)
def sequence_map(
    call: Call, row: ValueList, *others: Result, body: GraphProto
) -> tuple[ValueList, ...]:
    """A graph for every tensor of a sequence, and for those beside it."""
    rows = []
    for i, item in enumerate(row.items):
        beside = [x.items[i] if isinstance(x, ValueList) else x for x in others]
        rows.append(call.around.inline(body, (item, *beside)))
    results = []
    for column in zip(*rows, strict=True):
        items = tuple(x for x in column if isinstance(x, Value))
        if len(items) != len(column):
            raise Refusal("gives sequences of sequences")
        results.append(ValueList(items, items[0].dtype))
    if not results:
        raise Refusal("maps a sequence of nothing")
    return tuple(results)


# Optional values ----------------------------------------------------------------------------------
@onnx_operator("Optional", since=15)
def optional(call: Call, x: Result | None = None, *, type: TypeProto | None = None) -> Result:
    """A value that is there."""
    if x is None:
        raise Refusal("is an optional value that is not there; only its presence has a native form")
    return x


@onnx_operator("OptionalGetElement", since=15)
def optional_get_element(call: Call, x: Result) -> Result:
    """The value itself."""
    return x


@onnx_operator("OptionalHasElement", since=15)
def optional_has_element(call: Call, x: Result | None = None) -> Value:
    """Whether there is a value."""
    return call.scalar(x is not None, BOOL)
