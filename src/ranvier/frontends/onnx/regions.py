"""Regions of interest: samples of every cell of a grid over every region."""

from __future__ import annotations

import itertools

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.elementwise import wide
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.sampling import tap
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


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
    parts = [tap(call, rows, x.shape[2:], pair) for pair in itertools.product(*taps)]
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
