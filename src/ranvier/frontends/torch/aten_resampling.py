"""Resampling of ATen: `upsample_*`.

PyTorch samples by the scale that it was given; `resize` samples by new size / old size. Where the
two differ, positions and weights of every output element are computed along each dim.
"""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.aten_grids import cubic_taps
from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32, I64
from ranvier.ir.graph import Value

_RANKS = (1, 2, 3)


def _resize(
    call: Call,
    x: Value,
    mode: str,
    coordinates: str,
    scales: Sequence[float],
    antialias: bool = False,
) -> Value:
    size = call.shape[2:]
    if coordinates == "align_corners" or _agree(scales, x.shape[2:], size):
        return call.emit(
            "resize", x, size=size, mode=mode, coordinates=coordinates, antialias=antialias
        )
    if antialias:
        raise Refusal(
            f"antialiasing by a scale_factor ({scales[0]}) that does not divide {x.shape[2]} into "
            "a whole size; pass size= or recompute_scale_factor=True"
        )
    if len(scales) != len(size):
        raise Refusal("a scale for some of the dims only is not supported")
    wide = x if mode == "nearest" else call.cast(x, F32)
    for i, scale in enumerate(scales):
        wide = _resampled(call, wide, i + 2, size[i], 1.0 / scale, mode, coordinates)
    return call.cast(wide, x.dtype)


def _agree(scales: Sequence[float], old: Sequence[Dim], new: Sequence[Dim]) -> bool:
    """Whether every given scale is new size / old size."""
    for scale, before, after in zip(scales, old, new, strict=False):
        top, bottom = float(scale).as_integer_ratio()
        if after * bottom != before * top:
            return False
    return True


def _resampled(
    call: Call, x: Value, axis: int, out: Dim, step: float, mode: str, coordinates: str
) -> Value:
    """One dim, sampled every `step` elements."""
    size = x.shape[axis]
    number = call.emit("iota", size=out, dtype=F32)
    half = call.scalar(0.5, F32)
    place = call.emit("add", number, half) if coordinates == "half_pixel" else number
    place = call.emit("mul", place, call.scalar(step, F32))
    if mode == "nearest":
        if coordinates == "asymmetric":
            place = _instead(call, out, 2 * size, call.emit("mul", number, half), place)
            place = _instead(call, out, size, number, place)
        return call.emit("gather", x, _index(call, place, size), axis=axis)
    place = call.emit("sub", place, half)
    if mode == "linear":
        place = call.emit("maximum", place, call.scalar(0.0, F32))
        place = _instead(call, out, size, number, place)
    taps = _linear_taps(call, place) if mode == "linear" else cubic_taps(call, place)
    total: Value | None = None
    for position, weight in taps:
        part = call.emit("gather", x, _index(call, position, size), axis=axis)
        part = call.emit("mul", part, call.reshape(weight, (out, *(1,) * (x.rank - axis - 1))))
        total = part if total is None else call.emit("add", total, part)
    assert total is not None
    return total


def _instead(call: Call, out: Dim, size: Dim, special: Value, place: Value) -> Value:
    """`special` where the dim becomes `size`: there PyTorch does not look at the scale."""
    if isinstance(out - size, int):
        return special if out == size else place
    same = call.emit("equal", call.scalar(out, I64), call.scalar(size, I64))
    return call.emit("where", same, special, place)


def _index(call: Call, place: Value, size: Dim) -> Value:
    """The element at or before a place, within the dim."""
    index = call.cast(call.emit("floor", place), I64)
    index = call.emit("minimum", index, call.scalar(size - 1, I64))
    return call.emit("maximum", index, call.scalar(0, I64))


def _linear_taps(call: Call, place: Value) -> list[tuple[Value, Value]]:
    low, one = call.emit("floor", place), call.scalar(1.0, F32)
    share = call.emit("sub", place, low)
    return [(low, call.emit("sub", one, share)), (call.emit("add", low, one), share)]


def _coordinates(align_corners: bool) -> str:
    return "align_corners" if align_corners else "half_pixel"


_MODES = {
    "upsample_linear1d": ("linear", False), "upsample_bilinear2d": ("linear", False),
    "upsample_trilinear3d": ("linear", False), "upsample_bicubic2d": ("cubic", False),
    "_upsample_bilinear2d_aa": ("linear", True), "_upsample_bicubic2d_aa": ("cubic", True),
}  # fmt: skip


def _register_smooth(name: str, mode: str, antialias: bool) -> None:
    @aten(name, f"{name}.vec")
    def upsample(
        call: Call,
        x: Value,
        output_size: object,
        align_corners: bool,
        scale_factors: Sequence[float] | None = None,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        given = list(scale_factors or filter(None, (scales, scales_d, scales_h, scales_w)))
        if antialias and align_corners:
            raise Refusal("align_corners=True with antialiasing is not supported")
        return _resize(call, x, mode, _coordinates(align_corners), given, antialias)


def _register_nearest(name: str, coordinates: str) -> None:
    @aten(name, f"{name}.vec")
    def upsample(
        call: Call,
        x: Value,
        output_size: object,
        scale_factors: Sequence[float] | None = None,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        given = list(scale_factors or filter(None, (scales, scales_d, scales_h, scales_w)))
        return _resize(call, x, "nearest", coordinates, given)


for _name, (_mode, _antialias) in _MODES.items():
    _register_smooth(_name, _mode, _antialias)
for _rank in _RANKS:
    _register_nearest(f"upsample_nearest{_rank}d", "asymmetric")
    _register_nearest(f"_upsample_nearest_exact{_rank}d", "half_pixel")
