"""Operators that move elements: reshapes, slices, padding, concatenation, repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranvier.frontends.onnx import positions
from ranvier.frontends.onnx.agreement import concatenable, reshapable, with_size
from ranvier.frontends.onnx.call import Call, axes_of, axis_of, static
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.shaping import (
    Undecided,
    broadcast_target,
    reshape_target,
    slice_bounds,
)
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Value


@onnx_operator("Reshape")
def reshape_attribute(call: Call, x: Value, *, shape: tuple[int, ...]) -> Value:
    """The target as an attribute, before operator set 5."""
    return call.reshape(x, reshape_target(x.shape, shape, False))


@onnx_operator("Reshape", since=5)
def reshape(call: Call, x: Value, shape: Value, *, allowzero: int = 0) -> Value:
    """x in another shape."""
    sizes = call.sizes(shape)
    if sizes is None:
        return _reshape_at_run_time(call, x, shape, bool(allowzero))
    target = reshape_target(x.shape, sizes, bool(allowzero))
    return call.reshape(reshapable(call, x, target), target)


def _reshape_at_run_time(call: Call, x: Value, shape: Value, allow_zero: bool) -> Value:
    """A target that is computed, by the rules of `reshape_target`."""
    rank, total = _length(shape), product(x.shape)
    wanted = call.cast(shape, I64)
    if not allow_zero:
        copied = call.vector([x.shape[i] if i < x.rank else 0 for i in range(rank)])
        wanted = call.emit("where", call.number("equal", wanted, 0), copied, wanted)
    is_open = call.number("equal", wanted, -1)
    others = call.reduce("prod", call.where(is_open, 1, wanted), (0,))
    rest = call.emit("floor_div", call.scalar(total, I64), call.number("maximum", others, 1))
    target = call.shape_of(call.emit("where", is_open, rest, wanted))
    flat = call.reshape(x, (total,))
    return call.reshape(with_size(call, flat, 0, product(target)), target)


@onnx_operator("Flatten")
def flatten(call: Call, x: Value, *, axis: int = 1) -> Value:
    """Two dims: those before the axis, and the rest."""
    along = axis + x.rank if axis < 0 else axis
    return call.reshape(x, (product(x.shape[:along]), product(x.shape[along:])))


@onnx_operator("Squeeze")
def squeeze_attribute(call: Call, x: Value, *, axes: tuple[int, ...] | None = None) -> Value:
    """Without some dims of size 1, or without all of them."""
    dropped = _ones(x) if axes is None else axes_of(axes, x.rank)
    for axis in dropped:
        x = with_size(call, x, axis, 1)
        if x.shape[axis] != 1:
            raise Refusal(f"drops dim {axis}, whose size is {x.shape[axis]}")
    return call.reshape(x, tuple(size for i, size in enumerate(x.shape) if i not in dropped))


@onnx_operator("Squeeze", since=13)
def squeeze(call: Call, x: Value, axes: Value | None = None) -> Value:
    """Without some dims of size 1, or without all of them."""
    known = call.plain(axes)
    if axes is not None and known is None:
        return call.reshape(x, call.declared_shape())
    return squeeze_attribute(call, x, axes=None if known is None else tuple(known))


def _ones(x: Value) -> tuple[int, ...]:
    return tuple(i for i, size in enumerate(x.shape) if size == 1)


@onnx_operator("Unsqueeze")
def unsqueeze_attribute(call: Call, x: Value, *, axes: tuple[int, ...]) -> Value:
    """With more dims of size 1 at the axes of the result."""
    rank = x.rank + len(axes)
    added = axes_of(axes, rank)
    if len(added) != len(axes):
        raise Refusal(f"axes {axes} repeat")
    sizes = iter(x.shape)
    return call.reshape(x, tuple(1 if i in added else next(sizes) for i in range(rank)))


@onnx_operator("Unsqueeze", since=13)
def unsqueeze(call: Call, x: Value, axes: Value) -> Value:
    """With more dims of size 1 at the axes of the result."""
    known = call.plain(axes)
    if known is None:
        return call.reshape(x, call.declared_shape())
    return unsqueeze_attribute(call, x, axes=tuple(known))


@onnx_operator("Transpose")
def transpose(call: Call, x: Value, *, perm: tuple[int, ...] | None = None) -> Value:
    """Dims in another order; reversed by default."""
    return call.transpose(x, tuple(reversed(range(x.rank))) if perm is None else perm)


@onnx_operator("Concat")
def concat(call: Call, *parts: Value, axis: int = 1) -> Value:
    """Parts one behind the other."""
    along = axis_of(axis, parts[0].rank)
    return call.concat(concatenable(call, parts, along), along)


@onnx_operator("Expand")
def expand(call: Call, x: Value, shape: Value) -> Value:
    """x broadcast together with a shape."""
    sizes = call.sizes(shape)
    if sizes is None:
        rank = max(x.rank, _length(shape))
        old = call.vector((*(1,) * (rank - x.rank), *x.shape))
        given = call.pad(call.cast(shape, I64), {0: (rank - _length(shape), 0)}, 1)
        sizes = call.shape_of(call.emit("where", call.number("equal", old, 1), given, old))
    lead = len(sizes) - x.rank
    for axis, size in enumerate(x.shape):
        wanted = sizes[lead + axis] if lead + axis >= 0 else 1
        if size != 1 and wanted not in (1, size):
            x = with_size(call, x, axis, wanted)
    return call.broadcast(x, broadcast_target(x.shape, sizes))


@onnx_operator("Tile", since=6)
def tile(call: Call, x: Value, repeats: Value) -> Value:
    """x repeated along its dims."""
    counts = call.sizes(repeats)
    if counts is None:
        sizes = call.emit("mul", call.vector(x.shape), call.cast(repeats, I64))
        return _cycled(call, x, call.shape_of(sizes))
    split: list[Dim] = []
    spread: list[Dim] = []
    for size, count in zip(x.shape, counts, strict=True):
        split += [1, size]
        spread += [count, size]
    repeated = call.broadcast(call.reshape(x, split), spread)
    target = (size * count for size, count in zip(x.shape, counts, strict=True))
    return call.reshape(repeated, tuple(target))


def _cycled(call: Call, x: Value, shape: Sequence[Dim]) -> Value:
    """x repeated until it fills a shape."""
    for axis, (size, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        if size != wanted:
            place = call.emit("remainder", call.iota(wanted), call.scalar(size, I64))
            x = call.emit("gather", x, place, axis=axis)
    return x


# Slices -------------------------------------------------------------------------------------------
@onnx_operator("Slice")
def slice_attributes(
    call: Call, x: Value, *, starts: tuple[int, ...], ends: tuple[int, ...],
    axes: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """Bounds as attributes, before operator set 10."""
    over = tuple(range(len(starts))) if axes is None else axes
    return _sliced(call, x, starts, ends, over, (1,) * len(starts))


@onnx_operator("Slice", since=10)
def slice_(
    call: Call, x: Value, starts: Value, ends: Value,
    axes: Value | None = None, steps: Value | None = None,
) -> Value:  # fmt: skip
    """Some elements of some dims, at regular distances."""
    first, last, stride = call.sizes(starts), call.sizes(ends), call.plain(steps)
    over: Any = list(range(_length(starts))) if axes is None else call.plain(axes)
    if steps is None:
        stride = [1] * _length(starts)
    if over is not None and first is not None and last is not None and stride is not None:
        try:
            return _sliced(call, x, first, last, over, stride)
        except Undecided:
            pass  # the signs of its bounds are known when the model runs
    return _slice_at_run_time(call, x, starts, ends, axes if over is None else over, steps)


def _length(x: Value) -> int:
    return static(x.shape[0], "the number of axes")


def _sliced(
    call: Call, x: Value, starts: Sequence[Dim], ends: Sequence[Dim],
    axes: Sequence[int], steps: Sequence[int],
) -> Value:  # fmt: skip
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        along = axis_of(axis, x.rank)
        if step == 0:
            raise Refusal("has a step of 0")
        low, high = slice_bounds(start, end, step, x.shape[along])
        if step < 0:
            x = call.emit("reverse", x, axes=(along,))
        x = call.slice(x, along, low, high, abs(step))
    return x


def _slice_at_run_time(
    call: Call, x: Value, starts: Value, ends: Value, axes: Any, steps: Value | None
) -> Value:
    """The number of elements is a size that the operands tell; they are gathered."""
    rank = x.rank
    over = axes if isinstance(axes, Value) else [axis_of(axis, rank) for axis in axes]
    first = positions.per_axis(call, starts, over, rank, 0)
    last = positions.per_axis(call, ends, over, rank, 2**62)
    ones = call.vector([1] * _length(starts)) if steps is None else steps
    stride = positions.per_axis(call, ones, over, rank, 1)
    for axis in range(rank):
        if not isinstance(over, Value) and axis not in over:
            continue
        size = x.shape[axis]
        number = positions.slice_count(call, first[axis], last[axis], stride[axis], size)
        count = call.size(number, call.stated(axis), size)
        where = positions.slice_positions(call, first[axis], stride[axis], size, count)
        x = call.emit("gather", x, where, axis=axis)
    return x


@onnx_operator("Split")
def split_attribute(
    call: Call, x: Value, *, axis: int = 0, split: tuple[int, ...] | None = None
) -> tuple[Value, ...]:
    """Parts of given sizes, or equal ones."""
    return _split(call, x, axis, split)


@onnx_operator("Split", since=13)
def split(
    call: Call, x: Value, sizes: Value | None = None,
    *, axis: int = 0, num_outputs: int | None = None,
) -> tuple[Value, ...]:  # fmt: skip
    """Parts of given sizes, or equal ones, of which the last may be smaller."""
    if sizes is None:
        return _split(call, x, axis, None)
    known = call.sizes(sizes)
    if known is None:
        along = axis_of(axis, x.rank)
        known = tuple(
            call.size(call.slice(sizes, 0, i, i + 1), call.stated(along, i), x.shape[along])
            for i in range(len(call.declared))
        )
    return _split(call, x, axis, known)


def _split(call: Call, x: Value, axis: int, sizes: Sequence[Dim] | None) -> tuple[Value, ...]:
    along, count = axis_of(axis, x.rank), len(call.declared)
    size = x.shape[along]
    if sizes is None:
        sizes = _equal_parts(size, count)
    start: Dim = 0
    parts = []
    for part in sizes:
        parts.append(call.slice(x, along, start, start + part))
        start = start + part
    if isinstance(start, int) and isinstance(size, int) and start != size:
        raise Refusal(f"splits {size} elements into parts of {start}")
    return tuple(parts)


def _equal_parts(size: Dim, count: int) -> tuple[Dim, ...]:
    part = (size + (count - 1)) // count
    return (*(part,) * (count - 1), size - part * (count - 1))


# Padding ------------------------------------------------------------------------------------------
@onnx_operator("Pad")
def pad_attributes(
    call: Call, x: Value, *, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0
) -> Value:
    """Widths as attributes, before operator set 11."""
    return _padded(call, x, pads, range(x.rank), mode, call.scalar(value, x.dtype))


@onnx_operator("Pad", since=11)
def pad(
    call: Call, x: Value, pads: Value, value: Value | None = None, axes: Value | None = None,
    *, mode: str = "constant",
) -> Value:  # fmt: skip
    """More elements before and behind some dims; negative widths crop."""
    fill = call.scalar(0, x.dtype) if value is None else call.reshape(value, ())
    known = call.sizes(pads)
    over = list(range(x.rank)) if axes is None else call.plain(axes)
    if known is not None and over is not None:
        return _padded(call, x, known, [axis_of(axis, x.rank) for axis in over], mode, fill)
    half = _length(pads) // 2
    named = axes if over is None else [axis_of(axis, x.rank) for axis in over]
    assert named is not None
    low = positions.per_axis(call, call.slice(pads, 0, 0, half), named, x.rank, 0)
    high = positions.per_axis(call, call.slice(pads, 0, half, 2 * half), named, x.rank, 0)
    for axis in range(x.rank):
        total = call.number("add", call.emit("add", low[axis], high[axis]), x.shape[axis])
        size = call.size(total, call.stated(axis))
        x = positions.padded(call, x, axis, low[axis], size, mode, fill)
    return x


def _padded(
    call: Call, x: Value, pads: Sequence[Dim], axes: Sequence[int], mode: str, fill: Value
) -> Value:
    half = len(pads) // 2
    pairs = {axis: (pads[i], pads[half + i]) for i, axis in enumerate(axes)}
    number = call.plain(fill)
    if mode == "constant" and number is not None:
        return call.pad(x, pairs, number[0])
    if mode == "edge":
        return call.pad(x, pairs, mode="edge")
    for axis, (low, high) in pairs.items():
        if (low, high) != (0, 0):
            size = x.shape[axis] + low + high
            x = positions.padded(call, x, axis, call.scalar(low, I64), size, mode, fill)
    return x


@onnx_operator("CenterCropPad")
def center_crop_pad(
    call: Call, x: Value, shape: Value, *, axes: tuple[int, ...] | None = None
) -> Value:
    """The middle of x, cropped or padded with zeros to a shape."""
    over = list(range(x.rank)) if axes is None else [axis_of(axis, x.rank) for axis in axes]
    wanted = [
        call.size(call.slice(shape, 0, i, i + 1), call.stated(axis)) for i, axis in enumerate(over)
    ]
    for axis, size in zip(over, wanted, strict=True):
        have, want = static(x.shape[axis], "a size"), static(size, "a size")
        if want > have:
            low = (want - have) // 2
            x = call.pad(x, {axis: (low, want - have - low)}, False if x.dtype == BOOL else 0)
        else:
            low = (have - want) // 2
            x = call.slice(x, axis, low, low + want)
    return x


# Blocks -------------------------------------------------------------------------------------------
@onnx_operator("DepthToSpace")
def depth_to_space(call: Call, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Channels become blocks of pixels."""
    batch, channels, height, width = x.shape
    block = (blocksize, blocksize)
    if mode == "DCR":
        split = call.reshape(x, (batch, *block, channels // blocksize**2, height, width))
        moved = call.transpose(split, (0, 3, 4, 1, 5, 2))
    else:
        split = call.reshape(x, (batch, channels // blocksize**2, *block, height, width))
        moved = call.transpose(split, (0, 1, 4, 2, 5, 3))
    return call.reshape(
        moved, (batch, channels // blocksize**2, height * blocksize, width * blocksize)
    )


@onnx_operator("SpaceToDepth")
def space_to_depth(call: Call, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Blocks of pixels become channels."""
    batch, channels, height, width = x.shape
    rows, columns = height // blocksize, width // blocksize
    split = call.reshape(x, (batch, channels, rows, blocksize, columns, blocksize))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = call.transpose(split, order)
    return call.reshape(moved, (batch, channels * blocksize**2, rows, columns))


@onnx_operator("ReverseSequence")
def reverse_sequence(
    call: Call, x: Value, lengths: Value, *, batch_axis: int = 1, time_axis: int = 0
) -> Value:
    """The first elements of every row, as many as its length says, in reverse order."""
    rank = x.rank
    count = [1] * rank
    row = (*count[:batch_axis], x.shape[batch_axis], *count[batch_axis + 1 :])
    length = call.reshape(call.cast(lengths, I64), row)
    place = call.iota(x.shape[time_axis], axis=time_axis, rank=rank)
    mirrored = call.number("sub", call.emit("sub", length, place), 1)
    source = call.emit("where", call.emit("less", place, length), mirrored, place)
    return call.emit("gather_elements", x, call.broadcast(source, x.shape), axis=time_axis)
