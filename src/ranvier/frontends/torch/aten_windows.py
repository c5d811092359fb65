"""Positions of maxima in the windows of a pooling, and images out of overlapping columns.

The windows of one dim are a table `[outputs, taps]` of positions in it. Positions that lie in the
padding are moved into the dim and marked as outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ranvier.frontends.torch.call import Call, static
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, floordiv, product
from ranvier.ir.dtype import BOOL, F32, I64
from ranvier.ir.graph import Value


class Windows(NamedTuple):
    """`positions` i64 and `inside` bool (None: all) of one dim, both `[outputs, taps]`."""

    positions: Value
    inside: Value | None

    @property
    def outputs(self) -> Dim:
        """How many windows there are."""
        return self.positions.shape[0]

    @property
    def taps(self) -> Dim:
        """How many positions each window has."""
        return self.positions.shape[1]


def strided_windows(
    call: Call, size: Dim, outputs: Dim, kernel: int, stride: int, padding: int, dilation: int
) -> Windows:
    """Window o covers o * stride - padding + t * dilation for every tap t.

    A position before the dim is moved to the first one of the window that is in it.
    """
    first = _affine(call, outputs, stride, -padding)
    taps = _affine(call, kernel, dilation, 0)
    start = call.reshape(first, (outputs, 1))
    positions = call.emit("add", start, call.reshape(taps, (1, kernel)))
    zero, end = call.scalar(0, I64), call.scalar(size, I64)
    inside = call.emit(
        "logical_and",
        call.emit("greater_equal", positions, zero),
        call.emit("less", positions, end),
    )
    # for a negative start, the least start + t * dilation that is not negative
    first_inside = call.emit("remainder", start, call.scalar(dilation, I64))
    is_before = call.emit("less", positions, zero)
    moved = call.emit("where", is_before, first_inside, positions)
    return Windows(call.emit("minimum", moved, call.scalar(size - 1, I64)), inside)


def _affine(call: Call, size: Dim, factor: int, offset: int) -> Value:
    numbers = call.emit("iota", size=size, dtype=I64)
    scaled = call.emit("mul", numbers, call.scalar(factor, I64))
    return call.emit("add", scaled, call.scalar(offset, I64))


def adaptive_windows(call: Call, size: Dim, outputs: Dim) -> Windows:
    """Window o of m covers floor(o * n / m) up to ceil((o + 1) * n / m); shorter ones repeat."""
    n, m = call.scalar(size, I64), call.scalar(outputs, I64)
    scaled = call.emit("mul", call.emit("iota", size=outputs, dtype=I64), n)
    start = call.emit("floor_div", scaled, m)
    reach = call.emit("add", scaled, call.emit("add", n, m))
    end = call.emit("floor_div", call.emit("sub", reach, call.scalar(1, I64)), m)
    last = call.emit("sub", end, call.scalar(1, I64))
    longest = floordiv(size - 1, outputs) + 2
    taps = call.emit("iota", size=longest, dtype=I64)
    grid = call.emit("add", call.reshape(start, (outputs, 1)), call.reshape(taps, (1, longest)))
    return Windows(call.emit("minimum", grid, call.reshape(last, (outputs, 1))), None)


def positions_of_maxima(call: Call, x: Value, windows: Sequence[Windows]) -> Value:
    """Flat position, within the trailing dims of `x`, of the maximum of every window."""
    rank = len(windows)
    first = x.rank - rank
    sizes, lead = x.shape[first:], x.shape[:first]
    inside: Value | None = None
    for i, window in enumerate(windows):
        axis = first + 2 * i
        x = call.emit("gather", x, window.positions, axis=axis)
        if window.inside is not None:
            column = (window.outputs, window.taps, *(1, 1) * (rank - i - 1))
            valid = call.reshape(window.inside, column)
            inside = valid if inside is None else call.emit("logical_and", inside, valid)
    if inside is not None:
        x = call.emit("where", inside, x, call.scalar(_lowest(x), x.dtype))
    outputs = tuple(window.outputs for window in windows)
    order = (*range(first), *(first + 2 * i for i in range(rank)),
             *(first + 2 * i + 1 for i in range(rank)))  # fmt: skip
    flat = call.reshape(
        call.transpose(x, order), (*lead, *outputs, product(window.taps for window in windows))
    )
    best = call.emit("arg_max", flat, axis=flat.rank - 1, keepdims=False)
    return _flat_position(call, best, windows, sizes)


def _lowest(x: Value) -> float | int:
    if x.dtype.is_float:
        return float("-inf")
    return 0 if x.dtype == BOOL else int(np.iinfo(x.dtype.storage.name).min)


def _flat_position(
    call: Call, best: Value, windows: Sequence[Windows], sizes: Sequence[Dim]
) -> Value:
    """The position that tap `best` of each window has."""
    rank = len(windows)
    total: Value | None = None
    for i in reversed(range(rank)):
        window = windows[i]
        taps = call.scalar(window.taps, I64)
        tap = call.emit("remainder", best, taps)
        best = call.emit("floor_div", best, taps)
        number = call.emit("iota", size=window.outputs, dtype=I64)
        row = call.reshape(call.emit("mul", number, taps), (window.outputs, *(1,) * (rank - i - 1)))
        table = call.reshape(window.positions, (window.outputs * window.taps,))
        place = call.emit("gather", table, call.emit("add", row, tap), axis=0)
        stride = call.scalar(product(sizes[i + 1 :]), I64)
        step = call.emit("mul", place, stride)
        total = step if total is None else call.emit("add", total, step)
    assert total is not None
    return total


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (values[0], values[-1])


@aten("col2im")
def col2im(
    call: Call,
    x: Value,
    output_size: Sequence[Dim],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """Every column is spread by a transposed convolution whose tap t reads channel t alone."""
    (kh, kw), pads = _pair(kernel_size), _pair(padding)
    strides, dilations = _pair(stride), _pair(dilation)
    batched = x if x.rank == 3 else call.reshape(x, (1, *x.shape))
    taps = kh * kw
    channels = floordiv(static(batched.shape[1], "the number of channels"), taps)
    counts = tuple(
        floordiv(size + 2 * p - d * (k - 1) - 1, s) + 1
        for size, p, d, k, s in zip(output_size, pads, dilations, (kh, kw), strides, strict=True)
    )
    blocks = call.reshape(batched, (batched.shape[0], channels * taps, *counts))
    extra = tuple(
        static(size + 2 * p - d * (k - 1) - 1 - (n - 1) * s, "what the columns leave over")
        for size, p, d, k, s, n in zip(
            output_size, pads, dilations, (kh, kw), strides, counts, strict=True
        )
    )
    spread = call.emit(
        "conv_transpose",
        blocks,
        _one_tap_each(call, channels, kh, kw, x),
        strides=strides,
        padding=tuple((p, p) for p in pads),
        output_padding=extra,
        dilations=dilations,
        groups=channels,
    )
    return call.reshape(spread, call.shape)


def _one_tap_each(call: Call, channels: Dim, kh: int, kw: int, x: Value) -> Value:
    """Weights `[channels * taps, 1, kh, kw]` with a one at tap t of channel c * taps + t."""
    taps = kh * kw
    ones = np.eye(taps, dtype=np.float32).reshape(taps, 1, kh, kw)
    weights = np.tile(ones, (static(channels, "the number of channels"), 1, 1, 1))
    constant = call.builder.constant(weights, F32, f"{call.name}.taps", call.source)
    return call.cast(constant, x.dtype)
