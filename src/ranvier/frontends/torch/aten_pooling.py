"""Pooling and resampling of ATen."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Value

_RANKS = (1, 2, 3)


def _window(kernel: Sequence[int], values: Sequence[int], rank: int) -> tuple[int, ...]:
    """One entry per spatial dim; none means the kernel's."""
    given = tuple(values) or tuple(kernel)
    return given * rank if len(given) == 1 else given


def _pairs(padding: Sequence[int], rank: int) -> tuple[tuple[int, int], ...]:
    return tuple((p, p) for p in _window((), padding, rank))


def _register_pools(rank: int) -> None:
    @aten(f"max_pool{rank}d")
    def max_pool(
        call: Call,
        x: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> Value:
        kernel = _window((), kernel_size, rank)
        return call.emit(
            "max_pool",
            x,
            kernel=kernel,
            strides=_window(kernel, stride, rank),
            padding=_pairs(padding, rank),
            dilations=_window((), dilation, rank),
            ceil_mode=ceil_mode,
        )

    @aten(f"max_pool{rank}d_with_indices")
    def max_pool_with_indices(
        call: Call,
        x: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> tuple[Value, None]:
        call.require_unused(1, "indices")
        return max_pool(call, x, kernel_size, stride, padding, dilation, ceil_mode), None

    @aten(f"avg_pool{rank}d")
    def avg_pool(
        call: Call,
        x: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Value:
        kernel = _window((), kernel_size, rank)
        return call.emit(
            "avg_pool",
            x,
            kernel=kernel,
            strides=_window(kernel, stride, rank),
            padding=_pairs(padding, rank),
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )

    @aten(f"adaptive_avg_pool{rank}d", *((f"_adaptive_avg_pool{rank}d",) if rank > 1 else ()))
    def adaptive_avg_pool(call: Call, x: Value, output_size: Sequence[Dim]) -> Value:
        return call.emit("adaptive_avg_pool", x, output_size=call.shape[-rank:])

    @aten(f"adaptive_max_pool{rank}d")
    def adaptive_max_pool(call: Call, x: Value, output_size: Sequence[Dim]) -> tuple[Value, None]:
        call.require_unused(1, "indices")
        return call.emit("adaptive_max_pool", x, output_size=call.shape[-rank:]), None


for _rank in _RANKS:
    _register_pools(_rank)


def _resize(
    call: Call, x: Value, mode: str, coordinates: str, scales: object, antialias: bool = False
) -> Value:
    size = call.shape[2:]
    _require_plain_scales(scales, x.shape[2:], size)
    return call.emit(
        "resize", x, size=size, mode=mode, coordinates=coordinates, antialias=antialias
    )


def _require_plain_scales(scales: object, old: Sequence[Dim], new: Sequence[Dim]) -> None:
    """PyTorch samples by a given scale, Ranvier by new size / old size: they must agree."""
    given = scales if isinstance(scales, (list, tuple)) else (scales,)
    known = [scale for scale in given if scale is not None]
    for scale, before, after in zip(known, old, new, strict=False):
        top, bottom = float(scale).as_integer_ratio()
        if after * bottom != before * top:
            raise Refusal(
                f"scale_factor {scale} does not divide {before} into a whole size; pass size= or "
                "recompute_scale_factor=True"
            )


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
        given = scale_factors or [s for s in (scales, scales_d, scales_h, scales_w) if s]
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
        given = scale_factors or [s for s in (scales, scales_d, scales_h, scales_w) if s]
        return _resize(call, x, "nearest", coordinates, given)


for _name, (_mode, _antialias) in _MODES.items():
    _register_smooth(_name, _mode, _antialias)
for _rank in _RANKS:
    _register_nearest(f"upsample_nearest{_rank}d", "asymmetric")
    _register_nearest(f"_upsample_nearest_exact{_rank}d", "half_pixel")
