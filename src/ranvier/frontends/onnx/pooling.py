"""Pooling."""

from __future__ import annotations

import math

from ranvier.frontends.onnx.call import Call, statics
from ranvier.frontends.onnx.elementwise import wide
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.windows import Window, window_of
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value

Ints = tuple[int, ...] | None


@onnx_operator("MaxPool")
def max_pool(
    call: Call, x: Value, *, kernel_shape: tuple[int, ...], auto_pad: str = "NOTSET",
    ceil_mode: int = 0, dilations: Ints = None, pads: Ints = None, storage_order: int = 0,
    strides: Ints = None,
) -> tuple[Value, Value | None]:  # fmt: skip
    """The largest element of every window, and where it lies."""
    spatial = x.shape[2:]
    window = window_of(spatial, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    if 1 in call.used:
        return _with_positions(call, x, window, bool(storage_order))
    return call.emit(
        "max_pool", x, kernel=window.kernel, strides=window.strides, padding=window.padding,
        dilations=window.dilations, ceil_mode=window.ceil_mode,
    ), None  # fmt: skip


def _with_positions(call: Call, x: Value, window: Window, by_column: bool) -> tuple[Value, Value]:
    """Maxima and their positions in the whole tensor; the first of equal ones counts."""
    rank = len(window.kernel)
    spatial = x.shape[2:]
    strides: list[Dim] = [product(spatial[i + 1 :]) for i in range(rank)]
    if by_column:
        strides = [product(spatial[:i]) for i in range(rank)]
    place: Value | None = None
    for i in range(rank):
        part = call.emit(
            "mul", call.iota(spatial[i], axis=2 + i, rank=x.rank), call.scalar(strides[i], I64)
        )
        place = part if place is None else call.emit("add", place, part)
    assert place is not None
    for axis, stride in ((1, product(spatial)), (0, product(x.shape[1:]))):
        part = call.iota(x.shape[axis], axis=axis, rank=x.rank)
        place = call.emit("add", place, call.emit("mul", part, call.scalar(stride, I64)))
    positions = call.broadcast(place, x.shape)
    lowest = -math.inf if x.dtype.is_float else _lowest(x)
    best: tuple[Value, Value] | None = None
    seen = zip(window.taps(call, x, lowest), window.taps(call, positions, 0), strict=True)
    for (_, value), (_, where) in seen:
        if best is None:
            best = value, where
            continue
        greater = call.emit("greater", value, best[0])
        best = (
            call.emit("where", greater, value, best[0]),
            call.emit("where", greater, where, best[1]),
        )
    assert best is not None
    return best


def _lowest(x: Value) -> int:
    return 0 if x.dtype.kind == "uint" else -(2 ** (x.dtype.bits - 1))


@onnx_operator("AveragePool")
def average_pool(
    call: Call, x: Value, *, kernel_shape: tuple[int, ...], auto_pad: str = "NOTSET",
    ceil_mode: int = 0, count_include_pad: int = 0, dilations: Ints = None, pads: Ints = None,
    strides: Ints = None,
) -> Value:  # fmt: skip
    """The mean of every window."""
    spatial = x.shape[2:]
    window = window_of(spatial, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    if all(step == 1 for step in window.dilations):
        return call.emit(
            "avg_pool", x, kernel=window.kernel, strides=window.strides, padding=window.padding,
            ceil_mode=window.ceil_mode, count_include_pad=bool(count_include_pad),
        )  # fmt: skip
    counted = call.full(spatial, 1.0, x.dtype)
    counting = window
    if count_include_pad:
        pairs = dict(enumerate(window.padding))
        counted = call.pad(counted, pairs, 1.0)
        counting = Window(
            window.kernel, window.strides, window.dilations, ((0, 0),) * len(spatial),
            window.ceil_mode,
        )  # fmt: skip
    return call.emit("div", _sum(call, x, window), _sum(call, counted, counting))


def _sum(call: Call, x: Value, window: Window) -> Value:
    return call.chain("add", [seen for _, seen in window.taps(call, x, 0.0)])


@onnx_operator("LpPool")
def lp_pool(
    call: Call, x: Value, *, kernel_shape: tuple[int, ...], auto_pad: str = "NOTSET",
    ceil_mode: int = 0, dilations: Ints = None, p: int = 2, pads: Ints = None,
    strides: Ints = None,
) -> Value:  # fmt: skip
    """The p-norm of every window."""
    spatial = x.shape[2:]
    window = window_of(spatial, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    return call.cast(_root(call, _sum(call, _powers(call, wide(call, x), p), window), p), x.dtype)


def _powers(call: Call, x: Value, p: int) -> Value:
    if p == 2:
        return call.emit("mul", x, x)
    return call.emit("abs", x) if p == 1 else call.number("pow", call.emit("abs", x), p)


def _root(call: Call, x: Value, p: int) -> Value:
    if p == 2:
        return call.emit("sqrt", x)
    return x if p == 1 else call.number("pow", x, 1.0 / p)


def _spatial(x: Value) -> tuple[int, ...]:
    return tuple(range(2, x.rank))


@onnx_operator("GlobalAveragePool")
def global_average_pool(call: Call, x: Value) -> Value:
    """The mean of every channel."""
    return call.reduce("mean", x, _spatial(x), True)


@onnx_operator("GlobalMaxPool")
def global_max_pool(call: Call, x: Value) -> Value:
    """The largest element of every channel."""
    return call.reduce("max", x, _spatial(x), True)


@onnx_operator("GlobalLpPool")
def global_lp_pool(call: Call, x: Value, *, p: int = 2) -> Value:
    """The p-norm of every channel."""
    powers = _powers(call, wide(call, x), p)
    return call.cast(_root(call, call.reduce("sum", powers, _spatial(x), True), p), x.dtype)


@onnx_operator("MaxUnpool")
def max_unpool(
    call: Call, x: Value, indices: Value, output_shape: Value | None = None,
    *, kernel_shape: tuple[int, ...], pads: Ints = None, strides: Ints = None,
) -> Value:  # fmt: skip
    """Elements at the positions from which a max pool took them, zeros elsewhere."""
    rank = len(kernel_shape)
    stride, given = strides or (1,) * rank, pads or (0,) * (2 * rank)
    inner = tuple(
        (x.shape[2 + i] - 1) * stride[i] + kernel_shape[i] - given[i] - given[rank + i]
        for i in range(rank)
    )
    shape = (*x.shape[:2], *inner)
    flat = call.emit(
        "scatter_elements",
        call.full((product(shape),), 0, x.dtype),
        call.reshape(indices, (product(x.shape),)),
        call.reshape(x, (product(x.shape),)),
        axis=0,
        reduction="none",
    )
    result = call.reshape(flat, shape)
    if output_shape is None:
        return result
    wanted = call.shape_of(output_shape)
    return call.pad(result, {i: (0, wanted[i] - size) for i, size in enumerate(shape)}, 0)


@onnx_operator("MaxRoiPool")
def max_roi_pool(
    call: Call, x: Value, rois: Value, *, pooled_shape: tuple[int, ...], spatial_scale: float = 1.0
) -> Value:
    """The largest element of every cell of a grid over every region."""
    height, width = statics(x.shape[2:], "a size of its data")
    batch = call.cast(call.reshape(call.slice(rois, 1, 0, 1), (rois.shape[0],)), I64)
    data = call.emit("gather", x, batch, axis=0)
    scaled = call.emit("round", call.number("mul", rois, spatial_scale))
    insides = []
    for axis, size in ((0, height), (1, width)):
        low = call.slice(scaled, 1, 2 - axis, 3 - axis)
        high = call.slice(scaled, 1, 4 - axis, 5 - axis)
        insides.append(_cells(call, low, high, pooled_shape[axis], size))
    rows = call.reshape(insides[0], (rois.shape[0], 1, pooled_shape[0], 1, height, 1))
    columns = call.reshape(insides[1], (rois.shape[0], 1, 1, pooled_shape[1], 1, width))
    inside = call.emit("logical_and", rows, columns)
    spread = call.reshape(data, (rois.shape[0], x.shape[1], 1, 1, height, width))
    top = call.reduce("max", call.where(inside, spread, -math.inf), (4, 5))
    return call.where(call.number("equal", top, -math.inf), 0, top)


def _cells(call: Call, low: Value, high: Value, cells: int, size: int) -> Value:
    """Which of `size` elements lie in which cell between two bounds, `[rois, cells, size]`."""
    extent = call.number("maximum", call.number("add", call.emit("sub", high, low), 1), 1)
    step = call.number("div", extent, cells)
    place = call.iota(cells, low.dtype, axis=1, rank=2)
    start = call.emit("add", call.emit("floor", call.emit("mul", place, step)), low)
    next_place = call.number("add", place, 1)
    stop = call.emit("add", call.emit("ceil", call.emit("mul", next_place, step)), low)
    element = call.iota(size, low.dtype, axis=2, rank=3)
    shape = (low.shape[0], cells, 1)
    return call.emit(
        "logical_and",
        call.emit("greater_equal", element, call.reshape(start, shape)),
        call.emit("less", element, call.reshape(stop, shape)),
    )
