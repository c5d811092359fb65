"""Sampling at computed coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call, static
from ranvier.frontends.onnx.elementwise import wide
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
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
    sampled = interpolated(
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


def interpolated(
    call: Call, image: Value, sizes: Sequence[Dim], where: Sequence[Value], mode: str,
    padding: str, align_corners: bool,
) -> Value:  # fmt: skip
    """`image` `[N, C, elements]` at coordinates `[N, P]` per dim: `[N, C, P]`."""
    axes: list[list[tuple[Value, Value, Value | None]]] = []
    for x, size in zip(where, sizes, strict=True):
        axes.append(_taps(call, x, size, mode, padding, align_corners))
    total: Value | None = None
    for taps in itertools.product(*axes):
        part = tap(call, image, sizes, taps)
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


def tap(
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
