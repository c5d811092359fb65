"""Deformable convolution, and blocks added up to an image."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call, static, statics
from ranvier.frontends.onnx.elementwise import wide
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.sampling import interpolated
from ranvier.frontends.onnx.windows import window_of
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import I64, DType
from ranvier.ir.graph import Value


@onnx_operator("DeformConv", since=19)
def deform_conv(
    call: Call, x: Value, w: Value, offset: Value, bias: Value | None = None,
    mask: Value | None = None,
    *, dilations: tuple[int, ...] | None = None, group: int = 1,
    kernel_shape: tuple[int, ...] | None = None, offset_group: int = 1,
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """Convolution whose taps are displaced by an offset each, and weighted by a mask."""
    kernel = statics(w.shape[2:], "the size of its kernel")
    window = window_of(x.shape[2:], kernel, strides, pads, dilations, "NOTSET")
    sizes, dtype = window.sizes(x.shape[2:]), wide(call, x).dtype
    batch, channels = x.shape[:2]
    taps, rank = product(kernel), len(kernel)
    moved = call.reshape(wide(call, offset), (batch, offset_group, taps, rank, product(sizes)))
    coordinates = []
    for i in range(rank):
        base = _grid(call, kernel, sizes, i, window.strides, window.dilations, dtype)
        start = call.scalar(window.padding[i][0], dtype)
        part = call.reshape(
            call.slice(moved, 3, i, i + 1), (batch, offset_group, taps, product(sizes))
        )
        where = call.emit("add", part, call.emit("sub", base, start))
        coordinates.append(call.reshape(where, (batch * offset_group, product((taps, *sizes)))))
    image = call.reshape(
        wide(call, x), (batch * offset_group, channels // offset_group, product(x.shape[2:]))
    )
    columns = interpolated(call, image, x.shape[2:], coordinates, "linear", "zeros", True)
    shape = (batch, offset_group, channels // offset_group, taps, product(sizes))
    columns = call.reshape(columns, shape)
    if mask is not None:
        weights = call.reshape(wide(call, mask), (batch, offset_group, 1, taps, product(sizes)))
        columns = call.emit("mul", columns, weights)
    rows = call.reshape(columns, (batch, group, channels // group * taps, product(sizes)))
    weights = call.reshape(wide(call, w), (group, w.shape[0] // group, w.shape[1] * taps))
    result = call.reshape(call.emit("matmul", weights, rows), (batch, w.shape[0], *sizes))
    if bias is not None:
        added = call.reshape(wide(call, bias), (w.shape[0], *(1,) * rank))
        result = call.emit("add", result, added)
    return call.cast(result, x.dtype)


def _grid(
    call: Call, kernel: Sequence[int], sizes: Sequence[Dim], axis: int,
    strides: Sequence[int], dilations: Sequence[int], dtype: DType,
) -> Value:  # fmt: skip
    """Where the taps of all windows lie along one dim, `[taps, windows]`, without padding."""
    tap = call.number(
        "mul", call.iota(kernel[axis], dtype, axis=axis, rank=len(kernel)), dilations[axis]
    )
    tap = call.reshape(call.broadcast(tap, tuple(kernel)), (product(kernel), 1))
    place = call.number(
        "mul", call.iota(sizes[axis], dtype, axis=axis, rank=len(sizes)), strides[axis]
    )
    place = call.reshape(call.broadcast(place, tuple(sizes)), (1, product(sizes)))
    return call.emit("add", tap, place)


@onnx_operator("Col2Im", since=18)
def col2im(
    call: Call, x: Value, image_shape: Value, block_shape: Value,
    *, dilations: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Value:  # fmt: skip
    """Blocks added up where they overlap in an image; the size of a block may be computed."""
    rank = block_shape.shape[0]
    if not isinstance(rank, int):
        raise Refusal("the number of its spatial dims is symbolic")
    spatial = [
        static(call.size(call.slice(image_shape, 0, i, i + 1), call.stated(2 + i)), "a size")
        for i in range(rank)
    ]
    kernel = [
        call.reshape(call.cast(call.slice(block_shape, 0, i, i + 1), I64), ()) for i in range(rank)
    ]
    step, gap = strides or (1,) * rank, dilations or (1,) * rank
    margin = pads or (0,) * (2 * rank)
    batch, rows, blocks = x.shape
    row = call.iota(rows, axis=0, rank=2)
    block = call.iota(blocks, axis=1, rank=2)
    place: Value | None = None
    inside: Value | None = None
    factor = 1
    for i in reversed(range(rank)):
        tap = call.emit("remainder", row, kernel[i])
        row = call.emit("floor_div", row, kernel[i])
        reach = call.number("mul", call.number("sub", kernel[i], 1), gap[i])
        free = spatial[i] + margin[i] + margin[rank + i] - 1
        span = call.emit("sub", call.scalar(free, I64), reach)
        count = call.number("add", call.number("floor_div", span, step[i]), 1)
        index = call.emit("remainder", block, count)
        block = call.emit("floor_div", block, count)
        where = call.emit(
            "add", call.number("mul", index, step[i]), call.number("mul", tap, gap[i])
        )
        where = call.number("sub", where, margin[i])
        is_inside = call.emit(
            "logical_and", call.number("greater_equal", where, 0),
            call.number("less", where, spatial[i]),
        )  # fmt: skip
        part = call.number("mul", where, factor)
        place = part if place is None else call.emit("add", place, part)
        inside = is_inside if inside is None else call.emit("logical_and", inside, is_inside)
        factor *= spatial[i]
    assert place is not None
    assert inside is not None
    block_size = call.reduce("prod", call.cast(block_shape, I64), (0,))
    number = call.emit("floor_div", call.scalar(rows, I64), block_size)
    channels = call.size(number, call.stated(1), rows)
    place = call.emit("add", place, call.number("mul", row, factor))
    total = channels * factor
    place = call.emit(
        "where", inside, place, call.scalar(total, I64)
    )  # one element behind the image takes what is outside
    index = call.broadcast(call.reshape(place, (1, rows * blocks)), (batch, rows * blocks))
    summed = call.emit(
        "scatter_elements", call.full((batch, total + 1), 0, x.dtype), index,
        call.reshape(x, (batch, rows * blocks)), axis=1, reduction="add",
    )  # fmt: skip
    return call.reshape(call.slice(summed, 1, 0, total), (batch, channels, *spatial))
