"""`torchvision.ops.roi_align`: means of bilinear samples in a grid of bins over every box.

arXiv 1703.06870.
"""

from __future__ import annotations

from typing import NamedTuple

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.registry import operator
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import F32, I64
from ranvier.ir.graph import Value


class _Samples(NamedTuple):
    """Along one dim, `[boxes, samples]`: the elements around a sample, their weights.

    Samples outside of the image have weights of 0.
    """

    low: Value
    high: Value
    low_weight: Value
    high_weight: Value


@operator("torchvision.roi_align.default")
def roi_align(
    call: Call,
    x: Value,
    rois: Value,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Value:
    """`[boxes, C, height, width]` of boxes `(image, x1, y1, x2, y2)`."""
    if sampling_ratio < 1:
        raise Refusal(
            f"sampling_ratio is {sampling_ratio}, so the number of samples depends on the sizes of "
            "the boxes; a positive one is supported"
        )
    image, channels, height, width = x.shape
    count = rois.shape[0]
    rois = call.cast(rois, F32)
    columns = _samples(
        call, rois, (1, 3), spatial_scale, pooled_width, sampling_ratio, aligned, width
    )
    rows = _samples(
        call, rois, (2, 4), spatial_scale, pooled_height, sampling_ratio, aligned, height
    )
    # one row of channels for every element
    pixels = call.transpose(call.cast(x, F32), (0, 2, 3, 1))
    pixels = call.reshape(pixels, (product((image, height, width)), channels))
    first = call.cast(call.reshape(call.slice(rois, 1, 0, 1), (count, 1, 1)), I64)
    total: Value | None = None
    for y, y_weight in ((rows.low, rows.low_weight), (rows.high, rows.high_weight)):
        for place, weight in (
            (columns.low, columns.low_weight),
            (columns.high, columns.high_weight),
        ):
            part = _corner(call, pixels, first, (y, y_weight), (place, weight), height, width)
            total = part if total is None else call.emit("add", total, part)
    assert total is not None
    bins = (count, pooled_height, sampling_ratio, pooled_width, sampling_ratio, channels)
    means = call.emit("reduce_mean", call.reshape(total, bins), axes=(2, 4), keepdims=False)
    return call.cast(call.transpose(means, (0, 3, 1, 2)), x.dtype)


def _samples(
    call: Call,
    rois: Value,
    ends: tuple[int, int],
    scale: float,
    bins: int,
    ratio: int,
    aligned: bool,
    size: Dim,
) -> _Samples:
    """`bins * ratio` samples between two columns of the boxes."""
    count, samples = rois.shape[0], bins * ratio

    def number(value: float | Dim) -> Value:
        return call.scalar(value, F32)

    offset = number(0.5 if aligned else 0.0)
    start, end = (
        call.emit("sub", call.emit("mul", call.slice(rois, 1, i, i + 1), number(scale)), offset)
        for i in ends
    )
    length = call.emit("sub", end, start)
    if not aligned:
        length = call.emit("maximum", length, number(1.0))
    numbers = call.reshape(call.emit("iota", size=samples, dtype=F32), (1, samples))
    share = call.emit("div", call.emit("add", numbers, number(0.5)), number(float(samples)))
    place = call.emit("add", start, call.emit("mul", share, length))
    inside = call.emit(
        "logical_and",
        call.emit("greater_equal", place, number(-1.0)),
        call.emit("less_equal", place, number(size)),
    )
    place = call.emit("minimum", call.emit("maximum", place, number(0.0)), number(size - 1))
    low = call.emit("floor", place)
    part = call.emit("sub", place, low)
    high = call.emit("minimum", call.emit("add", low, number(1.0)), number(size - 1))
    zero, one = number(0.0), number(1.0)
    weights = (
        call.emit("where", inside, weight, zero) for weight in (call.emit("sub", one, part), part)
    )
    low_weight, high_weight = (call.broadcast(weight, (count, samples)) for weight in weights)
    return _Samples(call.cast(low, I64), call.cast(high, I64), low_weight, high_weight)


def _corner(
    call: Call,
    pixels: Value,
    image: Value,
    y: tuple[Value, Value],
    x: tuple[Value, Value],
    height: Dim,
    width: Dim,
) -> Value:
    """`[boxes, rows, columns, C]`: one of the four elements around every sample, weighted."""
    count, rows = y[0].shape
    columns = x[0].shape[1]
    line = call.emit("mul", image, call.scalar(height, I64))
    line = call.emit("add", line, call.reshape(y[0], (count, rows, 1)))
    place = call.emit("mul", line, call.scalar(width, I64))
    place = call.emit("add", place, call.reshape(x[0], (count, 1, columns)))
    weight = call.emit(
        "mul", call.reshape(y[1], (count, rows, 1)), call.reshape(x[1], (count, 1, columns))
    )
    found = call.emit("gather", pixels, place, axis=0)
    return call.emit("mul", found, call.reshape(weight, (count, rows, columns, 1)))
