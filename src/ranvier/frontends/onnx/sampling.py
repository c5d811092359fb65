"""Sampling at computed coordinates: grids, regions of interest, deformable convolution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call, static, statics
from ranvier.frontends.onnx.elementwise import wide
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.windows import window_of
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import F64, I64, DType
from ranvier.ir.graph import Value

_MODES = {"bilinear": "linear", "bicubic": "cubic"}
_CUBIC = -0.75


@onnx_operator("GridSample", since=16)
def grid_sample(
    call: Call, x: Value, grid: Value,
    *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros",
) -> Value:  # fmt: skip
    """x at the coordinates of a grid, which run from -1 to 1 over every dim."""
    mode = _MODES.get(mode, mode)
    rank, dtype = x.rank - 2, x.dtype
    places = grid.shape[1:-1]
    where = wide(call, grid)
    coordinates = []
    for i in range(rank):
        # the last coordinate of the grid is that of the first spatial dim
        along = call.slice(where, where.rank - 1, rank - 1 - i, rank - i)
        flat = call.reshape(along, (x.shape[0], product(places)))
        found = _denormalized(call, flat, x.shape[2 + i], bool(align_corners))
        if mode == "nearest":
            found = call.emit("round", found)
        coordinates.append(_bounded(call, found, x.shape[2 + i], padding_mode, bool(align_corners)))
    image = call.reshape(wide(call, x), (*x.shape[:2], product(x.shape[2:])))
    sampled = _interpolated(
        call, image, x.shape[2:], coordinates, mode, padding_mode, bool(align_corners)
    )
    return call.cast(call.reshape(sampled, (*x.shape[:2], *places)), dtype)


def _denormalized(call: Call, x: Value, size: Dim, align_corners: bool) -> Value:
    """-1 and 1 are the middles of the first and last element, or their outer edges."""
    shifted = call.number("add", x, 1.0)
    if align_corners:
        return call.emit("mul", call.number("mul", shifted, 0.5), call.scalar(size - 1, x.dtype))
    scaled = call.emit("mul", shifted, call.scalar(size, x.dtype))
    return call.number("mul", call.number("sub", scaled, 1.0), 0.5)


def _bounded(call: Call, x: Value, size: Dim, padding: str, align_corners: bool) -> Value:
    """Coordinates outside of a dim brought back into it."""
    if padding == "border":
        return call.emit("minimum", call.number("maximum", x, 0.0), call.scalar(size - 1, x.dtype))
    if padding == "reflection":
        return _reflected(call, x, size, align_corners)
    if padding != "zeros":
        raise Refusal(f"has padding_mode={padding}")
    return x


def _reflected(call: Call, x: Value, size: Dim, align_corners: bool) -> Value:
    """Mirrored at the borders until it lies between them."""
    low = 0.0 if align_corners else -0.5
    span = call.scalar(size - 1 if align_corners else size, x.dtype)
    span = call.number("maximum", span, 1e-30)
    distance = call.emit("abs", call.number("sub", x, low))
    turns = call.emit("floor", call.emit("div", distance, span))
    rest = call.emit("sub", distance, call.emit("mul", turns, span))
    half = call.number("mul", turns, 0.5)
    is_even = call.emit("equal", half, call.emit("floor", half))
    folded = call.emit("where", is_even, rest, call.emit("sub", span, rest))
    return call.number("add", folded, low)


def _interpolated(
    call: Call, image: Value, sizes: Sequence[Dim], where: Sequence[Value], mode: str,
    padding: str, align_corners: bool,
) -> Value:  # fmt: skip
    """`image` `[N, C, elements]` at coordinates `[N, P]` per dim: `[N, C, P]`."""
    axes: list[list[tuple[Value, Value, Value | None]]] = []
    for x, size in zip(where, sizes, strict=True):
        axes.append(_taps(call, x, size, mode, padding, align_corners))
    total: Value | None = None
    for taps in itertools.product(*axes):
        part = _tap(call, image, sizes, taps)
        total = part if total is None else call.emit("add", total, part)
    assert total is not None
    return total


def _taps(
    call: Call, x: Value, size: Dim, mode: str, padding: str, align_corners: bool
) -> list[tuple[Value, Value, Value | None]]:
    """(position, whether it is inside, weight or None) of the neighbours of every coordinate."""
    if mode == "nearest":
        return [(*_position(call, x, size, padding, align_corners), None)]
    base = call.emit("floor", x)
    ratio = call.emit("sub", x, base)
    offsets = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    taps: list[tuple[Value, Value, Value | None]] = []
    for offset in offsets:
        place = call.number("add", base, offset)
        weight = _weight(call, call.number("sub", ratio, offset), mode)
        taps.append((*_position(call, place, size, padding, align_corners), weight))
    return taps


def _position(
    call: Call, place: Value, size: Dim, padding: str, align_corners: bool
) -> tuple[Value, Value]:
    """The element that a whole coordinate means, and whether there is one."""
    if padding == "reflection":
        place = _reflected(call, place, size, align_corners)
    last = call.scalar(size - 1, place.dtype)
    inside = call.emit(
        "logical_and", call.number("greater_equal", place, 0), call.emit("less_equal", place, last)
    )
    bounded = call.emit("minimum", call.number("maximum", place, 0), last)
    return call.cast(bounded, I64), inside


def _weight(call: Call, distance: Value, mode: str) -> Value:
    d = call.emit("abs", distance)
    one = call.scalar(1.0, d.dtype)
    if mode == "linear":
        return call.emit("sub", one, d)
    if mode != "cubic":
        raise Refusal(f"has the mode {mode}")
    near = _horner(call, d, (_CUBIC + 2, -(_CUBIC + 3), 0.0, 1.0))
    far = _horner(call, d, (_CUBIC, -5 * _CUBIC, 8 * _CUBIC, -4 * _CUBIC))
    return call.emit("where", call.emit("less_equal", d, one), near, far)


def _horner(call: Call, x: Value, coefficients: Sequence[float]) -> Value:
    total = call.scalar(coefficients[0], x.dtype)
    for coefficient in coefficients[1:]:
        total = call.number("add", call.emit("mul", total, x), coefficient)
    return total


def _tap(
    call: Call, image: Value, sizes: Sequence[Dim],
    taps: Sequence[tuple[Value, Value, Value | None]],
) -> Value:  # fmt: skip
    """One neighbour of every coordinate, weighted; zero outside."""
    flat: Value | None = None
    inside: Value | None = None
    weight: Value | None = None
    for (position, is_inside, factor), size in zip(taps, sizes, strict=True):
        flat = position if flat is None else call.emit(
            "add", call.emit("mul", flat, call.scalar(size, I64)), position
        )  # fmt: skip
        inside = is_inside if inside is None else call.emit("logical_and", inside, is_inside)
        if factor is not None:
            weight = factor if weight is None else call.emit("mul", weight, factor)
    assert flat is not None
    assert inside is not None
    batch, channels, _ = image.shape
    count = flat.shape[1]
    index = call.broadcast(call.reshape(flat, (batch, 1, count)), (batch, channels, count))
    found = call.emit("gather_elements", image, index, axis=2)
    found = call.where(call.reshape(inside, (batch, 1, count)), found, 0.0)
    if weight is None:
        return found
    factor = call.cast(call.reshape(weight, (batch, 1, count)), found.dtype)
    return call.emit("mul", found, factor)


@onnx_operator("AffineGrid", since=20)
def affine_grid(call: Call, theta: Value, size: Value, *, align_corners: int = 0) -> Value:
    """Coordinates from -1 to 1 over a grid, moved by an affine map of every batch."""
    shape = tuple(
        call.size(call.slice(size, 0, 2 + i, 3 + i), call.stated(1 + i))
        for i in range(static(size.shape[0], "the rank of its result") - 2)
    )
    rank, dtype = len(shape), theta.dtype
    columns = []
    for i in reversed(range(rank)):  # the last spatial dim is the first coordinate
        place = _spread(call, shape[i], dtype, bool(align_corners))
        placed = call.reshape(place, (*(1,) * i, shape[i], *(1,) * (rank - 1 - i)))
        columns.append(call.reshape(call.broadcast(placed, shape), (product(shape), 1)))
    columns.append(call.full((product(shape), 1), 1.0, dtype))
    base = call.concat(columns, 1)
    moved = call.emit("matmul", base, call.transpose(theta, (0, 2, 1)))
    return call.reshape(moved, (theta.shape[0], *shape, rank))


def _spread(call: Call, size: Dim, dtype: DType, align_corners: bool) -> Value:
    """`size` coordinates from -1 to 1: the middles of elements, or with the corners at the ends."""
    place, count = call.iota(size, F64), call.scalar(size, F64)
    if align_corners:
        steps = call.number("maximum", call.number("sub", count, 1.0), 1.0)
        found = call.number("sub", call.emit("div", call.number("mul", place, 2.0), steps), 1.0)
    else:
        middle = call.number("add", call.number("mul", place, 2.0), 1.0)
        found = call.number("sub", call.emit("div", middle, count), 1.0)
    return call.cast(found, dtype)


# Regions ------------------------------------------------------------------------------------------
@onnx_operator("RoiAlign", since=10)
def roi_align_10(
    call: Call, x: Value, rois: Value, batch_indices: Value, *, mode: str = "avg",
    output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:  # fmt: skip
    """Before operator set 16, coordinates are those of pixel corners."""
    return roi_align(
        call, x, rois, batch_indices, coordinate_transformation_mode="output_half_pixel",
        mode=mode, output_height=output_height, output_width=output_width,
        sampling_ratio=sampling_ratio, spatial_scale=spatial_scale,
    )  # fmt: skip


@onnx_operator("RoiAlign", since=16)
def roi_align(
    call: Call, x: Value, rois: Value, batch_indices: Value,
    *, coordinate_transformation_mode: str = "half_pixel", mode: str = "avg",
    output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:  # fmt: skip
    """Samples of every cell of a grid over every region, averaged, or the largest."""
    if sampling_ratio <= 0:
        raise Refusal("chooses the number of samples by the size of a region (sampling_ratio=0)")
    half = coordinate_transformation_mode == "half_pixel"
    dtype, data = x.dtype, wide(call, x)
    count, channels = rois.shape[0], x.shape[1]
    image = call.emit("gather", data, call.cast(batch_indices, I64), axis=0)
    corners = call.number("mul", wide(call, rois), spatial_scale)
    if half:
        corners = call.number("sub", corners, 0.5)
    cells = (output_height, output_width)
    ys, xs = (_samples(call, corners, 1 - i, cells[i], sampling_ratio, half) for i in range(2))
    shape = (count, ys.shape[1], xs.shape[1])
    y = call.broadcast(call.reshape(ys, (count, shape[1], 1)), shape)
    z = call.broadcast(call.reshape(xs, (count, 1, shape[2])), shape)
    flat = product(shape[1:])
    taps = [
        _region_taps(call, call.reshape(where, (count, flat)), size)
        for where, size in ((y, x.shape[2]), (z, x.shape[3]))
    ]
    rows = call.reshape(image, (count, channels, product(x.shape[2:])))
    parts = [_tap(call, rows, x.shape[2:], pair) for pair in itertools.product(*taps)]
    combine = "add" if mode == "avg" else "maximum"
    sampled = call.chain(combine, parts)
    grid = (count, channels, output_height, sampling_ratio, output_width, sampling_ratio)
    pooled = call.reduce("mean" if mode == "avg" else "max", call.reshape(sampled, grid), (3, 5))
    return call.cast(pooled, dtype)


def _samples(
    call: Call, corners: Value, axis: int, cells: int, ratio: int, half_pixel: bool
) -> Value:
    """Coordinates of the samples along one dim: `[regions, cells * ratio]`."""
    start = call.slice(corners, 1, axis, axis + 1)
    extent = call.emit("sub", call.slice(corners, 1, axis + 2, axis + 3), start)
    if not half_pixel:
        extent = call.number("maximum", extent, 1.0)
    step = call.number("div", extent, cells * ratio)
    place = call.number("add", call.iota(cells * ratio, corners.dtype, axis=1, rank=2), 0.5)
    return call.emit("add", start, call.emit("mul", place, step))


def _region_taps(call: Call, where: Value, size: Dim) -> list[tuple[Value, Value, Value | None]]:
    """Two neighbours; coordinates more than one element outside give nothing."""
    extent = call.scalar(size, where.dtype)
    inside = call.emit(
        "logical_and", call.number("greater_equal", where, -1.0),
        call.emit("less_equal", where, extent),
    )  # fmt: skip
    last = call.scalar(size - 1, where.dtype)
    bounded = call.emit("minimum", call.number("maximum", where, 0.0), last)
    base = call.emit("floor", bounded)
    ratio = call.emit("sub", bounded, base)
    low = call.cast(base, I64)
    high = call.cast(call.emit("minimum", call.number("add", base, 1.0), last), I64)
    rest = call.emit("sub", call.scalar(1.0, where.dtype), ratio)
    return [(low, inside, rest), (high, inside, ratio)]


# Deformable convolution ---------------------------------------------------------------------------
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
    columns = _interpolated(call, image, x.shape[2:], coordinates, "linear", "zeros", True)
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
