"""Sampling of images at the positions of a grid.

`grid_sampler` reads `x [N, C, spatial...]` at the coordinates of `grid [N, out..., k]`, whose last
dim runs from the last spatial dim to the first, each from -1 to 1.
"""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import F32, I64
from ranvier.ir.graph import Value

_LINEAR, _NEAREST, _CUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)
_CUBIC_COEFFICIENT = -0.75  # Keys' a, as PyTorch's bicubic has it

Tap = tuple[Value, Value | None]
"""Position along one dim (f32, whole numbers, maybe outside) and weight, None where it is 1."""


@aten("grid_sampler_2d", "grid_sampler_3d", "grid_sampler")
def grid_sampler(
    call: Call,
    x: Value,
    grid: Value,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Value:
    if x.dtype.size == 8:
        raise Refusal("is supported on f32 and narrower types, not on f64")
    grid = call.cast(grid, F32)
    sizes, rank = x.shape[2:], x.rank - 2
    taps = [
        _taps(call, _coordinate(call, grid, rank - 1 - i), size, interpolation_mode, padding_mode,
              align_corners)
        for i, size in enumerate(sizes)
    ]  # fmt: skip
    flat = call.reshape(call.cast(x, F32), (*x.shape[:2], product(sizes)))
    total: Value | None = None
    for corner in combinations(*taps):
        part = _read(call, flat, sizes, corner, padding_mode, align_corners)
        total = part if total is None else call.emit("add", total, part)
    assert total is not None
    return call.cast(total, x.dtype)


def _coordinate(call: Call, grid: Value, component: int) -> Value:
    """One component of the grid, `[N, out...]`."""
    last = grid.rank - 1
    return call.reshape(call.slice(grid, last, component, component + 1), grid.shape[:-1])


def _constant(call: Call, value: float | Dim) -> Value:
    return call.scalar(value, F32)


def _taps(
    call: Call, coordinate: Value, size: Dim, interpolation: int, padding: int, align: bool
) -> list[Tap]:
    """What is read along one dim: one position, two or four with their weights."""
    place = _unnormalised(call, coordinate, size, align)
    if interpolation == _CUBIC:
        return [*cubic_taps(call, place)]
    place = _moved_inside(call, place, size, padding, align)
    if interpolation == _NEAREST:
        return [(call.emit("round", place), None)]
    low = call.emit("floor", place)
    share = call.emit("sub", place, low)
    one = _constant(call, 1.0)
    return [(low, call.emit("sub", one, share)), (call.emit("add", low, one), share)]


def cubic_taps(call: Call, place: Value) -> list[tuple[Value, Value]]:
    """The four elements around a place in f32, and their weights."""
    low = call.emit("floor", place)
    share = call.emit("sub", place, low)
    taps: list[tuple[Value, Value]] = []
    for step in (-1, 0, 1, 2):
        distance = call.emit("abs", call.emit("sub", share, _constant(call, float(step))))
        position = call.emit("add", low, _constant(call, float(step)))
        taps.append((position, _cubic_weight(call, distance, near=step in (0, 1))))
    return taps


def _cubic_weight(call: Call, distance: Value, near: bool) -> Value:
    """Keys' cubic convolution (IEEE TASSP 29, 1981), by Horner's rule."""
    a = _CUBIC_COEFFICIENT
    factors = (a + 2, -(a + 3), 0.0, 1.0) if near else (a, -5 * a, 8 * a, -4 * a)
    result = _constant(call, factors[0])
    for factor in factors[1:]:
        result = call.emit("mul", result, distance)
        if factor:
            result = call.emit("add", result, _constant(call, factor))
    return result


def _unnormalised(call: Call, coordinate: Value, size: Dim, align: bool) -> Value:
    """From -1..1 to element positions."""
    raised = call.emit("add", coordinate, _constant(call, 1.0))
    extent = _constant(call, size - 1 if align else size)
    half = call.emit("mul", call.emit("mul", raised, extent), _constant(call, 0.5))
    return half if align else call.emit("sub", half, _constant(call, 0.5))


def _moved_inside(call: Call, place: Value, size: Dim, padding: int, align: bool) -> Value:
    if padding == _ZEROS:
        return place
    if padding == _REFLECTION:
        place = _reflected(call, place, size, align)
    # maximum and minimum keep NaN, which PyTorch reads as position 0
    number = call.emit("equal", place, place)
    place = call.emit("where", number, place, _constant(call, 0.0))
    inside = call.emit("minimum", place, _constant(call, size - 1))
    return call.emit("maximum", inside, _constant(call, 0.0))


def _reflected(call: Call, place: Value, size: Dim, align: bool) -> Value:
    """Reflected at the centres of the outermost elements, or at their outer edges."""
    low = 0.0 if align else -0.5
    span = _constant(call, size - 1 if align else size)
    distance = call.emit("abs", call.emit("sub", place, _constant(call, low)))
    rest = call.emit("fmod", distance, span)
    flips = call.emit("floor", call.emit("div", distance, span))
    is_odd = call.emit(
        "not_equal", call.emit("fmod", flips, _constant(call, 2.0)), _constant(call, 0.0)
    )
    back = call.emit("sub", span, rest)
    return call.emit("add", call.emit("where", is_odd, back, rest), _constant(call, low))


def _read(
    call: Call,
    flat: Value,
    sizes: Sequence[Dim],
    corner: Sequence[Tap],
    padding: int,
    align: bool,
) -> Value:
    """The elements at one corner times its weight; 0 outside where the padding is zeros."""
    weight: Value | None = None
    inside: Value | None = None
    place: Value | None = None
    for (position, share), size in zip(corner, sizes, strict=True):
        # positions of cubic taps are moved inside one by one
        position = _moved_inside(call, position, size, padding, align)
        if padding == _ZEROS:
            valid = call.emit(
                "logical_and",
                call.emit("greater_equal", position, _constant(call, 0.0)),
                call.emit("less", position, _constant(call, size)),
            )
            inside = valid if inside is None else call.emit("logical_and", inside, valid)
            position = _moved_inside(call, position, size, _BORDER, align)
        index = call.cast(position, I64)
        if place is not None:
            row = call.emit("mul", place, call.scalar(size, I64))
            index = call.emit("add", row, index)
        place = index
        if share is not None:
            weight = share if weight is None else call.emit("mul", weight, share)
    assert place is not None
    values = _gathered(call, flat, place)
    if inside is not None:
        values = call.emit("where", _channel(call, inside), values, _constant(call, 0.0))
    return values if weight is None else call.emit("mul", values, _channel(call, weight))


def _gathered(call: Call, flat: Value, place: Value) -> Value:
    """`[N, C, out...]` elements of `flat [N, C, n]` at `place [N, out...]`."""
    batch, channels, _ = flat.shape
    outputs = place.shape[1:]
    row = call.reshape(place, (batch, 1, product(outputs)))
    rows = call.broadcast(row, (batch, channels, product(outputs)))
    found = call.emit("gather_elements", flat, rows, axis=2)
    return call.reshape(found, (batch, channels, *outputs))


def _channel(call: Call, x: Value) -> Value:
    return call.reshape(x, (x.shape[0], 1, *x.shape[1:]))
