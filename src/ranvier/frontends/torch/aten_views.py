"""ATen operators that only move elements: views, joins, splits, shuffles."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, axis_of, static
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
    first = slice_bound(0 if start is None else start, size)
    if stride == 1:
        return call.slice(x, axis, first, first + call.shape[axis])
    last = maximum(slice_bound(size if end is None else end, size), first)
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


def slice_bound(index: Dim, size: Dim) -> Dim:
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
    first = slice_bound(start, x.shape[axis])
    return call.slice(x, axis, first, first + length)


@aten("select.int", "select_copy.int")
def select(call: Call, x: Value, dim: int, index: Dim | Value) -> Value:
    axis = axis_of(dim, x.rank)
    if isinstance(index, Value):
        return call.emit("gather", x, call.reshape(call.cast(index, I64), ()), axis=axis)
    return _select(call, x, axis, slice_bound(index, x.shape[axis]))


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
