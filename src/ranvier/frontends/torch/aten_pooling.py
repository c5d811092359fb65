"""Pooling of ATen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ranvier.frontends.torch.aten_windows import (
    adaptive_windows,
    positions_of_maxima,
    strided_windows,
)
from ranvier.frontends.torch.call import Call
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


def _summed_windows(
    call: Call,
    x: Value,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    divisor: int,
) -> Value:
    """Sums of windows over a given number: means over whole windows of zero-padded data, scaled."""
    rank = len(kernel)
    low: list[Dim] = [0] * x.rank
    high: list[Dim] = [0] * x.rank
    for i, (before, _) in enumerate(padding):
        axis = x.rank - rank + i
        low[axis] = before
        high[axis] = (call.shape[axis] - 1) * strides[i] + kernel[i] - x.shape[axis] - before
    padded = call.emit("pad", x, low=tuple(low), high=tuple(high), mode="constant", value=0)
    means = call.emit(
        "avg_pool",
        padded,
        kernel=kernel,
        strides=strides,
        padding=((0, 0),) * rank,
        ceil_mode=False,
        count_include_pad=True,
    )
    return call.emit("mul", means, call.scalar(math.prod(kernel) / divisor, x.dtype))


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
    ) -> tuple[Value, Value | None]:
        values = max_pool(call, x, kernel_size, stride, padding, dilation, ceil_mode)
        if 1 not in call.used:
            return values, None
        kernel = _window((), kernel_size, rank)
        entries = zip(
            x.shape[-rank:],
            values.shape[-rank:],
            kernel,
            _window(kernel, stride, rank),
            _window((), padding, rank),
            _window((), dilation, rank),
            strict=True,
        )
        windows = [strided_windows(call, *entry) for entry in entries]
        return values, positions_of_maxima(call, x, windows)

    @aten(f"avg_pool{rank}d")
    def avg_pool(
        call: Call,
        x: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        kernel = _window((), kernel_size, rank)
        strides, pairs = _window(kernel, stride, rank), _pairs(padding, rank)
        if divisor_override is not None:
            return _summed_windows(call, x, kernel, strides, pairs, divisor_override)
        return call.emit(
            "avg_pool",
            x,
            kernel=kernel,
            strides=strides,
            padding=pairs,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )

    @aten(f"adaptive_avg_pool{rank}d", *((f"_adaptive_avg_pool{rank}d",) if rank > 1 else ()))
    def adaptive_avg_pool(call: Call, x: Value, output_size: Sequence[Dim]) -> Value:
        return call.emit("adaptive_avg_pool", x, output_size=call.shape[-rank:])

    @aten(f"adaptive_max_pool{rank}d")
    def adaptive_max_pool(
        call: Call, x: Value, output_size: Sequence[Dim]
    ) -> tuple[Value, Value | None]:
        sizes = call.shape[-rank:]
        values = call.emit("adaptive_max_pool", x, output_size=sizes)
        if 1 not in call.used:
            return values, None
        pairs = zip(x.shape[-rank:], sizes, strict=True)
        windows = [adaptive_windows(call, size, outputs) for size, outputs in pairs]
        return values, positions_of_maxima(call, x, windows)


for _rank in _RANKS:
    _register_pools(_rank)
