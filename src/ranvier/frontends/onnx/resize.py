"""Resampling: `Resize` and `Upsample`.

What the IR's `resize` computes is left to it. Everything else is separable: along every dim each
position reads a few neighbours, weighted by a kernel at its distance from a coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.elementwise import wide
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F64, I64
from ranvier.ir.graph import Value

_KNOWN = {  # (mode, coordinates, rule of nearest) -> the IR's coordinates
    ("nearest", "asymmetric", "floor"): "asymmetric",
    ("nearest", "half_pixel", "round_prefer_ceil"): "half_pixel",
    ("nearest", "align_corners", "round_prefer_ceil"): "align_corners",
}
_DIRECT = ("half_pixel", "align_corners", "asymmetric")


@dataclass(frozen=True)
class _Rule:
    """How positions become coordinates, and coordinates elements."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    antialias: bool
    exclude_outside: bool
    extrapolation: float


@dataclass(frozen=True)
class _Axis:
    """A dim that is resized: its new size, and new / old size as it is given.

    `scale` is a plain number or a rank-0 f64 value; `region` the (start, end) of a crop.
    """

    axis: int
    size: Dim
    scale: float | Value
    region: tuple[Value, Value] | None = None


@onnx_operator("Upsample")
def upsample_attributes(
    call: Call, x: Value, *, scales: tuple[float, ...], mode: str = "nearest"
) -> Value:
    """Scales as an attribute, before operator set 9."""
    sizes = _scaled(x.shape, scales)
    return _resampled(call, x, _axes(call, x, range(x.rank), sizes, scales, None), _plain(mode))


@onnx_operator("Upsample", since=9)
def upsample(call: Call, x: Value, scales: Value, *, mode: str = "nearest") -> Value:
    """x with every dim scaled."""
    return resize_10(call, x, scales, mode=mode)


@onnx_operator("Resize", since=10)
def resize_10(call: Call, x: Value, scales: Value, *, mode: str = "nearest") -> Value:
    """Operator set 10: coordinates are those of the corner of a pixel."""
    known = call.plain(scales)
    over = range(x.rank)
    sizes = _computed(call, x, over, scales) if known is None else _scaled(x.shape, known)
    given = scales if known is None else known
    return _resampled(call, x, _axes(call, x, over, sizes, given, None), _plain(mode))


def _plain(mode: str) -> _Rule:
    return _Rule(_mode(mode), "asymmetric", "floor", -0.75, False, False, 0.0)


def _mode(mode: str) -> str:
    if mode not in ("nearest", "linear", "bilinear", "trilinear", "cubic"):
        raise Refusal(f"has the mode {mode}")
    return "linear" if mode.endswith("linear") else mode


@onnx_operator("Resize", since=11)
def resize(
    call: Call, x: Value, roi: Value | None = None, scales: Value | None = None,
    sizes: Value | None = None,
    *, antialias: int = 0, axes: tuple[int, ...] | None = None,
    coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Value:  # fmt: skip
    """x resampled to sizes, or by scales, along all dims or some."""
    over = [axis_of(axis, x.rank) for axis in (range(x.rank) if axes is None else axes)]
    rule = _Rule(
        _mode(mode), coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(antialias),
        bool(exclude_outside), extrapolation_value,
    )  # fmt: skip
    old = [x.shape[axis] for axis in over]
    crops = roi if coordinate_transformation_mode == "tf_crop_and_resize" else None
    if scales is not None and scales.shape != (0,):
        known = call.plain(scales)
        new = _scaled(old, known) if known is not None else _computed(call, x, over, scales)
        found = _axes(call, x, over, new, scales if known is None else known, crops)
        return _resampled(call, x, found, rule)
    if sizes is None:
        raise Refusal("has neither sizes nor scales")
    if keep_aspect_ratio_policy == "stretch":
        wanted = _bound(call, sizes, over)
        return _resampled(call, x, _axes(call, x, over, wanted, None, crops), rule)
    new, scale = _keeping_aspect(call, x, over, sizes, keep_aspect_ratio_policy)
    return _resampled(call, x, _axes(call, x, over, new, scale, crops), rule)


def _bound(call: Call, sizes: Value, over: Sequence[int]) -> tuple[Dim, ...]:
    """Sizes of some dims of the result, out of a tensor that has one for each."""
    return tuple(
        call.size(call.slice(sizes, 0, i, i + 1), call.stated(axis)) for i, axis in enumerate(over)
    )


def _computed(call: Call, x: Value, over: Sequence[int], scales: Value) -> tuple[Dim, ...]:
    """floor(size * scale) for scales that are computed at run time."""
    old = call.cast(call.vector([x.shape[axis] for axis in over]), F64)
    scaled = call.emit("floor", call.emit("mul", old, call.cast(scales, F64)))
    return _bound(call, call.cast(scaled, I64), over)


def _scaled(old: Sequence[Dim], scales: Sequence[float]) -> tuple[Dim, ...]:
    """floor(size * scale), exactly."""
    sizes: list[Dim] = []
    for size, scale in zip(old, scales, strict=True):
        top, bottom = float(scale).as_integer_ratio()
        sizes.append(size * top // bottom)
    return tuple(sizes)


def _keeping_aspect(
    call: Call, x: Value, over: Sequence[int], sizes: Value, policy: str
) -> tuple[tuple[Dim, ...], Value | list[float]]:
    """Sizes in the old proportion that fit into the wanted ones, or cover them; and the scales."""
    old, known = [x.shape[axis] for axis in over], call.plain(sizes)
    if known is not None and all(isinstance(size, int) for size in old):
        ratios = [Fraction(w, o) for w, o in zip(known, old, strict=True) if isinstance(o, int)]
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        new = [math.floor(scale * o + Fraction(1, 2)) for o in old if isinstance(o, int)]
        return tuple(new), [float(scale)] * len(old)
    before = call.cast(call.vector(old), F64)
    each = call.emit("div", call.cast(sizes, F64), before)
    least = call.reduce("min" if policy == "not_larger" else "max", each, (0,), True)
    rounded = call.emit("floor", call.number("add", call.emit("mul", before, least), 0.5))
    scales = call.broadcast(least, (len(old),))
    return _bound(call, call.cast(rounded, I64), over), scales


def _axes(
    call: Call, x: Value, over: Sequence[int], sizes: Sequence[Dim],
    scales: Value | Sequence[float] | None, roi: Value | None,
) -> list[_Axis]:  # fmt: skip
    """The dims that change."""
    found = []
    for i, axis in enumerate(over):
        size, old = sizes[i], x.shape[axis]
        region = None
        if roi is not None:
            start, end = (
                call.cast(call.reshape(call.slice(roi, 0, k, k + 1), ()), F64)
                for k in (i, len(over) + i)
            )
            region = (start, end)
        scale: float | Value
        if isinstance(scales, Value):
            scale = call.cast(call.reshape(call.slice(scales, 0, i, i + 1), ()), F64)
        elif scales is not None:
            scale = float(scales[i])
        elif isinstance(size, int) and isinstance(old, int):
            scale = size / old if old else 1.0
        else:
            scale = call.emit("div", call.scalar(size, F64), call.scalar(old, F64))
        unchanged = size == old and (isinstance(scale, Value) or scale == 1.0)
        if not unchanged or region is not None:
            found.append(_Axis(axis, size, scale, region))
    return found


def _resampled(call: Call, x: Value, axes: Sequence[_Axis], rule: _Rule) -> Value:
    if not axes:
        return x
    direct = _direct(call, x, axes, rule)
    if direct is not None:
        return direct
    if rule.mode != "nearest" and not x.dtype.is_float:
        raise Refusal(f"interpolates elements of {x.dtype}")
    dtype = x.dtype
    x = wide(call, x) if rule.mode != "nearest" else x
    for axis in axes:
        x = _along(call, x, axis, rule)
    return call.cast(x, dtype)


def _direct(call: Call, x: Value, axes: Sequence[_Axis], rule: _Rule) -> Value | None:
    """The IR's own operator, where it computes the same."""
    if x.rank < 3 or any(axis.axis < 2 for axis in axes):
        return None
    if rule.mode == "nearest":
        coordinates = _KNOWN.get((rule.mode, rule.coordinates, rule.nearest))
    else:
        coordinates = rule.coordinates if rule.coordinates in _DIRECT else None
    unlike = rule.antialias or rule.exclude_outside or not _is_float(x, rule)
    if coordinates is None or unlike or (rule.mode == "cubic" and rule.cubic != -0.75):
        return None
    for axis in axes:
        if not _is_exact(x.shape[axis.axis], axis):
            return None
    size = list(x.shape[2:])
    for axis in axes:
        size[axis.axis - 2] = axis.size
    return call.emit(
        "resize", x, size=tuple(size), mode=rule.mode, coordinates=coordinates, antialias=False
    )


def _is_float(x: Value, rule: _Rule) -> bool:
    return rule.mode == "nearest" or x.dtype.is_float


def _is_exact(old: Dim, axis: _Axis) -> bool:
    """Whether the scale is new / old size."""
    if isinstance(axis.scale, Value):
        return not isinstance(axis.size, int) or not isinstance(old, int)
    top, bottom = axis.scale.as_integer_ratio()
    if isinstance(axis.size, int) and isinstance(old, int):
        return bool(old) and axis.scale == axis.size / old
    return axis.size * bottom == old * top


# One dim ------------------------------------------------------------------------------------------
def _along(call: Call, x: Value, axis: _Axis, rule: _Rule) -> Value:
    old = x.shape[axis.axis]
    where = _coordinate(call, axis, old, rule.coordinates)
    if rule.mode == "nearest":
        place = _clipped(call, call.cast(_nearest(call, where, rule.nearest), I64), old)
        result = call.emit("gather", x, place, axis=axis.axis)
    else:
        result = _weighted(call, x, axis, where, rule)
    if rule.coordinates != "tf_crop_and_resize":
        return result
    last = call.scalar(old - 1, F64)
    outside = call.emit(
        "logical_or", call.number("less", where, 0), call.emit("greater", where, last)
    )
    shape = (axis.size, *(1,) * (x.rank - 1 - axis.axis))
    return call.where(call.reshape(outside, shape), rule.extrapolation, result)


def _f64(call: Call, value: Dim | float | Value) -> Value:
    return value if isinstance(value, Value) else call.scalar(value, F64)


def _coordinate(call: Call, axis: _Axis, old: Dim, rule: str) -> Value:
    """The coordinate in the old dim of every position in the new one, in f64."""
    place = call.iota(axis.size, F64)
    scale, size = _f64(call, axis.scale), call.scalar(old, F64)
    width = call.emit("mul", scale, size)
    if rule in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        middle = call.emit("div", call.number("add", place, 0.5), scale)
        where = call.number("sub", middle, 0.5)
        if rule == "half_pixel_symmetric":
            adjustment = call.emit("div", call.scalar(axis.size, F64), width)
            rest = call.emit("sub", call.scalar(1.0, F64), adjustment)
            offset = call.emit("mul", call.number("div", size, 2.0), rest)
            where = call.emit("add", where, offset)
        if rule == "pytorch_half_pixel":
            where = call.where(call.number("equal", width, 1.0), -0.5, where)
        return where
    if rule == "asymmetric":
        return call.emit("div", place, scale)
    if rule == "tf_half_pixel_for_nn":
        return call.emit("div", call.number("add", place, 0.5), scale)
    reach, steps = call.number("sub", size, 1.0), call.number("sub", width, 1.0)
    is_one = call.number("equal", steps, 0.0)
    safe = call.where(is_one, 1.0, steps)
    if rule == "align_corners":
        where = call.emit("div", call.emit("mul", place, reach), safe)
        return call.where(is_one, 0.0, where)
    if rule == "tf_crop_and_resize" and axis.region is not None:
        start, end = axis.region
        span = call.emit("mul", call.emit("sub", end, start), reach)
        where = call.emit("div", call.emit("mul", place, span), safe)
        where = call.emit("where", is_one, call.number("div", span, 2.0), where)
        return call.emit("add", where, call.emit("mul", start, reach))
    raise Refusal(f"has the coordinates {rule}")


def _nearest(call: Call, where: Value, rule: str) -> Value:
    if rule in ("floor", "ceil"):
        return call.emit(rule, where)
    if rule == "round_prefer_floor":
        return call.emit("ceil", call.number("sub", where, 0.5))
    if rule == "round_prefer_ceil":
        return call.emit("floor", call.number("add", where, 0.5))
    raise Refusal(f"has the rule {rule} for the nearest element")


def _clipped(call: Call, place: Value, size: Dim) -> Value:
    low = call.number("maximum", place, 0)
    return call.emit("minimum", low, call.scalar(size - 1, I64))


def _weighted(call: Call, x: Value, axis: _Axis, where: Value, rule: _Rule) -> Value:
    """The weighted sum of the neighbours of every coordinate."""
    reach = 1 if rule.mode == "linear" else 2
    stretch = _stretch(call, axis, x.shape[axis.axis]) if rule.antialias else None
    first, last = (1 - reach, reach) if stretch is None else _footprint(stretch[1], reach)
    base, old = call.emit("floor", where), x.shape[axis.axis]
    weights, places = [], []
    for offset in range(first, last + 1):
        place = call.number("add", base, float(offset))
        distance = call.emit("sub", where, place)
        if stretch is not None:
            distance = call.emit("mul", distance, stretch[0])
        weight = _kernel(call, distance, rule)
        position = call.cast(place, I64)
        if rule.exclude_outside:
            weight = call.where(_inside(call, position, old), weight, 0.0)
        weights.append(weight)
        places.append(_clipped(call, position, old))
    if rule.antialias or rule.exclude_outside:
        total = call.chain("add", weights)
        weights = [call.emit("div", weight, total) for weight in weights]
    shape = (axis.size, *(1,) * (x.rank - 1 - axis.axis))
    parts = [
        call.emit(
            "mul",
            call.emit("gather", x, place, axis=axis.axis),
            call.reshape(call.cast(weight, x.dtype), shape),
        )
        for weight, place in zip(weights, places, strict=True)
    ]
    return call.chain("add", parts)


def _inside(call: Call, place: Value, size: Dim) -> Value:
    low = call.number("greater_equal", place, 0)
    return call.emit("logical_and", low, call.emit("less", place, call.scalar(size, I64)))


def _stretch(call: Call, axis: _Axis, old: Dim) -> tuple[Value, float]:
    """min(scale, 1), as a value and as the least number that it can be."""
    scale = call.number("minimum", _f64(call, axis.scale), 1.0)
    if not isinstance(axis.scale, Value):
        return scale, min(axis.scale, 1.0)
    if not isinstance(axis.size, int) or not isinstance(old, int):
        raise Refusal("antialiases by a factor that is symbolic")
    return scale, min(axis.size / old, 1.0)


def _footprint(least: float, reach: int) -> tuple[int, int]:
    """The first and last neighbour that a stretched kernel may touch."""
    first = math.floor(-reach / least) + 1
    return first - 1, 1 - first + 1


def _kernel(call: Call, distance: Value, rule: _Rule) -> Value:
    """A triangle, or Keys' cubic convolution (IEEE TASSP 29, 1981)."""
    d = call.emit("abs", distance)
    if rule.mode == "linear":
        return call.number("maximum", call.emit("sub", call.scalar(1.0, F64), d), 0.0)
    a = rule.cubic
    near = _polynomial(call, d, (a + 2, -(a + 3), 0.0, 1.0))
    far = _polynomial(call, d, (a, -5 * a, 8 * a, -4 * a))
    outer = call.where(call.number("less", d, 2.0), far, 0.0)
    return call.emit("where", call.number("less_equal", d, 1.0), near, outer)


def _polynomial(call: Call, x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's scheme, highest power first."""
    total = call.scalar(coefficients[0], F64)
    for coefficient in coefficients[1:]:
        total = call.number("add", call.emit("mul", total, x), coefficient)
    return total
