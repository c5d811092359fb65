"""ATen operators that only move elements: views, joins, splits, pads."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, axis_of, static
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, bounds, maximum, minimum, product
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


@aten("view", "_unsafe_view", "reshape", "_reshape_alias", "view_copy", "unsqueeze", "squeeze",
      "squeeze.dim", "squeeze.dims", "flatten.using_ints", "unflatten.int", "unsqueeze_copy",
      "squeeze_copy.dims", "view_as", "reshape_as", "ravel")  # fmt: skip
def reshape(
    call: Call,
    x: Value,
    size: object = None,
    shape: object = None,
    stride: object = None,
    dim: object = None,
    start_dim: object = None,
    end_dim: object = None,
    sizes: object = None,
    other: object = None,
) -> Value:
    """The target is the shape that PyTorch found, whichever argument describes it."""
    return call.reshape(x, call.shape)


@aten("permute", "permute_copy")
def permute(call: Call, x: Value, dims: Sequence[int]) -> Value:
    return call.transpose(x, [axis_of(d, x.rank) for d in dims])


@aten("transpose.int", "transpose_copy.int", "swapaxes", "swapdims")
def transpose(
    call: Call,
    x: Value,
    dim0: int = 0,
    dim1: int = 0,
    axis0: int | None = None,
    axis1: int | None = None,
) -> Value:
    a = axis_of(dim0 if axis0 is None else axis0, x.rank)
    b = axis_of(dim1 if axis1 is None else axis1, x.rank)
    return _swap(call, x, a, b)


def _swap(call: Call, x: Value, a: int, b: int) -> Value:
    order = list(range(x.rank))
    if x.rank:
        order[a], order[b] = b, a
    return call.transpose(x, order)


@aten("t", "t_copy", "numpy_T", "mT")
def transpose_last(call: Call, x: Value) -> Value:
    return x if x.rank < 2 else _swap(call, x, x.rank - 2, x.rank - 1)


@aten("movedim.int")
def movedim(call: Call, x: Value, source: int, destination: int) -> Value:
    order = [i for i in range(x.rank) if i != axis_of(source, x.rank)]
    order.insert(axis_of(destination, x.rank), axis_of(source, x.rank))
    return call.transpose(x, order)


@aten("expand", "expand_copy", "expand_as", "broadcast_to")
def expand(
    call: Call, x: Value, size: object = None, implicit: bool = False, other: object = None
) -> Value:
    return call.broadcast(x, call.shape)


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_(
    call: Call,
    x: Value,
    dim: int,
    start: Dim | Value | None,
    end: Dim | Value | None,
    step: Dim = 1,
) -> Value:
    axis, stride = axis_of(dim, x.rank), static(step, "step")
    size = x.shape[axis]
    if isinstance(start, Value) or isinstance(end, Value) or call.sizes:
        return _slice_by_data(call, x, axis, start, end, stride)
    first = _position(0 if start is None else start, size)
    if stride == 1:
        return call.slice(x, axis, first, first + call.shape[axis])
    last = maximum(_position(size if end is None else end, size), first)
    return call.slice(x, axis, first, last, stride)


def _slice_by_data(
    call: Call, x: Value, axis: int, start: Dim | Value | None, end: Dim | Value | None, step: int
) -> Value:
    """The bounds are computed at run time; the result has a size of its own."""
    if step != 1:
        raise Refusal(f"takes every {step}th element between bounds that depend on data")
    size, length = x.shape[axis], call.shape[axis]
    first = _bound(call, 0 if start is None else start, size)
    last = _bound(call, size if end is None else end, size)
    if length in call.sizes:
        span = call.emit("sub", last, first)
        call.bind(call.emit("maximum", span, call.scalar(0, I64)), length)
    places = call.emit("add", call.emit("iota", size=length, dtype=I64), first)
    return call.emit("gather", x, places, axis=axis)


def _bound(call: Call, index: Dim | Value, size: Dim) -> Value:
    """A slice bound within 0..size as a value, counted from the end when negative."""
    value, extent, zero = call.tensor(index, I64), call.scalar(size, I64), call.scalar(0, I64)
    below = call.emit("less", value, zero)
    value = call.emit("where", below, call.emit("add", value, extent), value)
    return call.emit("minimum", call.emit("maximum", value, zero), extent)


def _position(index: Dim, size: Dim) -> Dim:
    """A slice bound within 0..size, counted from the end when negative."""
    low, high = bounds(index)
    if high is not None and high < 0:
        return maximum(index + size, 0)
    if low is None or low < 0:
        raise Refusal(f"the bound {index} of a slice is of unknown sign")
    return minimum(index, size)


@aten("narrow", "narrow_copy")
def narrow(call: Call, x: Value, dim: int, start: Dim, length: Dim) -> Value:
    axis = axis_of(dim, x.rank)
    first = _position(start, x.shape[axis])
    return call.slice(x, axis, first, first + length)


@aten("select.int", "select_copy.int")
def select(call: Call, x: Value, dim: int, index: Dim | Value) -> Value:
    axis = axis_of(dim, x.rank)
    if isinstance(index, Value):
        return call.emit("gather", x, call.reshape(call.cast(index, I64), ()), axis=axis)
    return _select(call, x, axis, _position(index, x.shape[axis]))


def _select(call: Call, x: Value, axis: int, index: Dim) -> Value:
    one = call.slice(x, axis, index, index + 1)
    return call.reshape(one, x.shape[:axis] + x.shape[axis + 1 :])


@aten("unbind.int", "unbind_copy.int")
def unbind(call: Call, x: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = axis_of(dim, x.rank)
    return tuple(_select(call, x, axis, i) for i in range(len(call.expected)))


@aten("split.Tensor", "split_with_sizes", "split.sizes", "chunk", "tensor_split.sections",
      "tensor_split.indices", "split_with_sizes_copy", "split_copy.Tensor",
      "unsafe_split.Tensor", "unsafe_split_with_sizes", "unsafe_chunk")  # fmt: skip
def split(
    call: Call,
    x: Value,
    split_size: object = None,
    split_sizes: object = None,
    chunks: object = None,
    sections: object = None,
    indices: object = None,
    dim: int = 0,
) -> tuple[Value, ...]:
    """The sizes of the parts are those that PyTorch found."""
    axis = axis_of(dim, x.rank)
    parts: list[Value] = []
    start: Dim = 0
    for part in call.expected:
        if part is None:
            raise Refusal("has a part that is no tensor")
        stop = start + part.shape[axis]
        parts.append(call.slice(x, axis, start, stop))
        start = stop
    return tuple(parts)


@aten("cat", "concat", "concatenate")
def cat(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    joined = [call.cast(t, call.dtype) for t in tensors if not _is_legacy_empty(t, call)]
    if len(joined) == 1:
        return joined[0]
    return call.emit("concat", *joined, axis=axis_of(dim, joined[0].rank))


def _is_legacy_empty(x: Value, call: Call) -> bool:
    """PyTorch skips tensors of shape [0] whatever the rank of the others."""
    return x.shape == (0,) and call.type.rank != 1


@aten("stack")
def stack(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    rank = tensors[0].rank + 1
    axis = axis_of(dim, rank)
    shape = tensors[0].shape
    widened = (*shape[:axis], 1, *shape[axis:])
    parts = [call.reshape(call.cast(t, call.dtype), widened) for t in tensors]
    return parts[0] if len(parts) == 1 else call.emit("concat", *parts, axis=axis)


@aten("flip")
def flip(call: Call, x: Value, dims: Sequence[int]) -> Value:
    axes = tuple(axis_of(d, x.rank) for d in dims)
    return call.emit("reverse", x, axes=axes) if axes and x.rank else x


@aten("roll")
def roll(call: Call, x: Value, shifts: Sequence[Dim], dims: Sequence[int] = ()) -> Value:
    if dims:
        return _roll(call, x, shifts, [axis_of(d, x.rank) for d in dims])
    flat = _roll(call, call.reshape(x, (product(x.shape),)), shifts, [0])
    return call.reshape(flat, x.shape)


def _roll(call: Call, x: Value, shifts: Sequence[Dim], axes: Sequence[int]) -> Value:
    total: dict[int, Dim] = {}
    for axis, shift in zip(axes, shifts, strict=True):
        total[axis] = total.get(axis, 0) + shift
    if not x.rank:
        return x
    return call.emit("roll", x, shifts=tuple(total.values()), axes=tuple(total))


@aten("repeat", "tile")
def repeat(
    call: Call, x: Value, repeats: Sequence[Dim] | None = None, dims: Sequence[Dim] | None = None
) -> Value:
    counts = tuple(repeats if repeats is not None else dims or ())
    rank = max(len(counts), x.rank)
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - x.rank) + x.shape
    inner = [size for pair in zip((1,) * rank, shape, strict=True) for size in pair]
    outer = [size for pair in zip(counts, shape, strict=True) for size in pair]
    return call.reshape(call.broadcast(call.reshape(x, inner), outer), call.shape)


@aten("repeat_interleave.self_int")
def repeat_interleave(
    call: Call, x: Value, repeats: Dim, dim: int | None = None, output_size: object = None
) -> Value:
    """Every element `repeats` times, along one dim or of the flattened tensor."""
    if dim is None:
        x, dim = call.reshape(x, (product(x.shape),)), 0
    axis = axis_of(dim, x.rank)
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    copies = call.broadcast(call.reshape(x, (*before, 1, *after)), (*before, repeats, *after))
    return call.reshape(copies, call.shape)


def _pad(call: Call, x: Value, pad: Sequence[Dim], mode: str, value: Scalar = 0) -> Value:
    """ATen lists (low, high) pairs from the last dim on."""
    lows: list[Dim] = [0] * x.rank
    highs: list[Dim] = [0] * x.rank
    for i in range(len(pad) // 2):
        lows[x.rank - 1 - i], highs[x.rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    if not any(side != 0 for side in (*lows, *highs)):
        return x
    if not isinstance(value, (bool, int, float)):
        raise Refusal(f"value is symbolic ({value})")
    if mode == "constant":
        return call.emit("pad", x, low=tuple(lows), high=tuple(highs), mode=mode, value=value)
    return _pad_then_crop(call, x, lows, highs, mode)


def _pad_then_crop(
    call: Call, x: Value, lows: Sequence[Dim], highs: Sequence[Dim], mode: str
) -> Value:
    """What is added repeats or reflects elements that are cropped afterwards."""
    added = [tuple(_not_negative(side) for side in sides) for sides in (lows, highs)]
    if any(side != 0 for side in (*added[0], *added[1])):
        x = call.emit("pad", x, low=added[0], high=added[1], mode=mode, value=0)
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        first, last = added[0][i] - low, added[1][i] - high
        x = call.slice(x, i, first, x.shape[i] - last)
    return x


def _not_negative(side: Dim) -> Dim:
    """The side where it adds elements, 0 where it crops them."""
    return max(side, 0) if isinstance(side, int) else side


@aten("constant_pad_nd")
def constant_pad(call: Call, x: Value, pad: Sequence[Dim], value: Scalar = 0) -> Value:
    return _pad(call, x, pad, "constant", value)


@aten("pad")
def pad(call: Call, x: Value, pad: Sequence[Dim], mode: str, value: float | None = None) -> Value:
    if mode == "circular":
        return _pad_circular(call, x, pad)
    return _pad(call, x, pad, {"replicate": "edge"}.get(mode, mode), value or 0)


def _pad_circular(call: Call, x: Value, pad: Sequence[Dim]) -> Value:
    """The end of every padded dim before it, its start behind it."""
    for i in range(len(pad) // 2):
        axis = x.rank - 1 - i
        low, high = (static(side, "circular padding") for side in pad[2 * i : 2 * i + 2])
        if low < 0 or high < 0:
            raise Refusal("circular padding that crops is not supported")
        size = x.shape[axis]
        parts = [x]
        if low:
            parts.insert(0, call.slice(x, axis, size - low, size))
        if high:
            parts.append(call.slice(x, axis, 0, high))
        x = x if len(parts) == 1 else call.emit("concat", *parts, axis=axis)
    return x


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(call: Call, x: Value, padding: Sequence[Dim]) -> Value:
    return _pad(call, x, padding, "reflect")


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(call: Call, x: Value, padding: Sequence[Dim]) -> Value:
    return _pad(call, x, padding, "edge")


@aten("pixel_shuffle")
def pixel_shuffle(call: Call, x: Value, upscale_factor: int) -> Value:
    *lead, channels, height, width = x.shape
    r, n = upscale_factor, len(lead)
    split_channels = call.reshape(x, (*lead, channels // (r * r), r, r, height, width))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return call.reshape(call.transpose(split_channels, order), call.shape)


@aten("pixel_unshuffle")
def pixel_unshuffle(call: Call, x: Value, downscale_factor: int) -> Value:
    *lead, channels, _, _ = x.shape
    height, width = call.shape[-2:]
    r, n = downscale_factor, len(lead)
    blocks = call.reshape(x, (*lead, channels, height, r, width, r))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return call.reshape(call.transpose(blocks, order), call.shape)


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(call: Call, x: Value, groups: int) -> Value:
    batch, channels, *spatial = x.shape
    grouped = call.reshape(x, (batch, groups, channels // groups, *spatial))
    return call.reshape(_swap(call, grouped, 1, 2), x.shape)


@aten("slice_scatter")
def slice_scatter(
    call: Call,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: Dim = 1,
) -> Value:
    """`x` with `src` in place of its slice."""
    axis, stride = axis_of(dim, x.rank), static(step, "step")
    size, part = x.shape[axis], call.cast(src, x.dtype)
    first = _position(0 if start is None else start, size)
    if stride == 1:
        return _replace(call, x, part, axis, first)
    last = maximum(_position(size if end is None else end, size), first)
    places = call.emit("iota", size=size, dtype=I64)
    from_first = call.emit("sub", places, call.scalar(first, I64))
    step_value, zero = call.scalar(stride, I64), call.scalar(0, I64)
    on_step = call.emit("equal", call.emit("remainder", from_first, step_value), zero)
    inside = call.emit(
        "logical_and",
        call.emit("greater_equal", from_first, zero),
        call.emit("less", places, call.scalar(last, I64)),
    )
    nearest = call.emit("maximum", call.emit("floor_div", from_first, step_value), zero)
    nearest = call.emit("minimum", nearest, call.scalar(part.shape[axis] - 1, I64))
    spread = call.emit("gather", part, nearest, axis=axis)
    kept = call.emit("logical_and", on_step, inside)
    return call.emit("where", _along(call, kept, axis, x.rank), spread, x)


def _along(call: Call, x: Value, axis: int, rank: int) -> Value:
    """A vector as a tensor that broadcasts along all dims but one."""
    return call.reshape(x, (x.shape[0], *(1,) * (rank - axis - 1)))


def _replace(call: Call, x: Value, part: Value, axis: int, first: Dim) -> Value:
    size, last = x.shape[axis], first + part.shape[axis]
    pieces = [part]
    if first != 0:
        pieces.insert(0, call.slice(x, axis, 0, first))
    if last != size:
        pieces.append(call.slice(x, axis, last, size))
    return part if len(pieces) == 1 else call.emit("concat", *pieces, axis=axis)


@aten("select_scatter")
def select_scatter(call: Call, x: Value, src: Value, dim: int, index: Dim) -> Value:
    axis = axis_of(dim, x.rank)
    part = call.reshape(call.cast(src, x.dtype), (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return _replace(call, x, part, axis, _position(index, x.shape[axis]))


@aten("diagonal", "diagonal_copy")
def diagonal(call: Call, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The diagonal is every (columns + 1)-th element of the flattened matrix."""
    a, b = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    rest = [i for i in range(x.rank) if i not in (a, b)]
    matrix = call.transpose(x, (*rest, a, b))
    rows, columns = matrix.shape[-2:]
    length = call.shape[-1]
    flat = call.reshape(matrix, (*matrix.shape[:-2], rows * columns))
    start = offset if offset >= 0 else -offset * columns
    if isinstance(columns, int) and isinstance(length, int):
        stop = start + (length - 1) * (columns + 1) + 1 if length else start
        return call.slice(flat, flat.rank - 1, start, stop, columns + 1)
    numbers = call.emit("iota", size=length, dtype=I64)
    steps = call.emit("mul", numbers, call.scalar(columns + 1, I64))
    places = call.emit("add", steps, call.scalar(start, I64))
    return call.emit("gather", flat, places, axis=flat.rank - 1)


@aten("diagonal_scatter")
def diagonal_scatter(
    call: Call, x: Value, src: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """`x` with `src` in place of a diagonal."""
    a, b = axis_of(dim1, x.rank), axis_of(dim2, x.rank)
    rest = [i for i in range(x.rank) if i not in (a, b)]
    order = (*rest, a, b)
    matrix, part = call.transpose(x, order), call.cast(src, x.dtype)
    rows, columns = (call.emit("iota", size=size, dtype=I64) for size in matrix.shape[-2:])
    place = call.emit("sub", rows, call.scalar(max(0, -offset), I64))
    place = call.emit("maximum", place, call.scalar(0, I64))
    place = call.emit("minimum", place, call.scalar(part.shape[-1] - 1, I64))
    spread = call.emit("gather", part, place, axis=part.rank - 1)
    wanted = call.emit("add", rows, call.scalar(offset, I64))
    on_diagonal = call.emit("equal", columns, call.reshape(wanted, (*wanted.shape, 1)))
    column = call.reshape(spread, (*spread.shape, 1))
    written = call.emit("where", on_diagonal, column, matrix)
    return call.transpose(written, [order.index(i) for i in range(x.rank)])


@aten("unfold")
def unfold(call: Call, x: Value, dimension: int, size: int, step: int) -> Value:
    """Windows along one dim, as the last dim: tap t is every step-th element from t on."""
    if not x.rank:
        return call.reshape(x, call.shape)
    axis = axis_of(dimension, x.rank)
    count = call.shape[axis]
    taps = [call.slice(x, axis, t, t + (count - 1) * step + 1, step) for t in range(size)]
    columns = [call.reshape(tap, (*tap.shape, 1)) for tap in taps]
    return columns[0] if size == 1 else call.emit("concat", *columns, axis=x.rank)
