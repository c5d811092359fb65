"""Windows of convolutions and pools: padding, sizes, and the elements that a tap sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.ir.dim import Dim, maximum
from ranvier.ir.graph import Value
from ranvier.ir.operators.shapes import window_output

Pairs = tuple[tuple[Dim, Dim], ...]


@dataclass(frozen=True)
class Window:
    """A window over the trailing dims of a tensor, one entry per dim."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: Pairs
    ceil_mode: bool = False

    def sizes(self, spatial: Sequence[Dim]) -> tuple[Dim, ...]:
        """The number of windows along every dim."""
        return tuple(
            window_output(
                size,
                self.kernel[i],
                self.strides[i],
                self.padding[i],
                self.dilations[i],
                self.ceil_mode,
            )
            for i, size in enumerate(spatial)
        )

    def taps(
        self, call: Call, x: Value, fill: bool | float
    ) -> Iterator[tuple[tuple[int, ...], Value]]:
        """(tap, what the tap sees in every window); outside of `x` it sees `fill`."""
        rank = len(self.kernel)
        first = x.rank - rank
        out = self.sizes(x.shape[first:])
        pads: dict[int, tuple[Dim, Dim]] = {}
        for i in range(rank):
            low, high = self.padding[i]
            reach = (out[i] - 1) * self.strides[i] + self.dilations[i] * (self.kernel[i] - 1) + 1
            pads[first + i] = (low, maximum(high, reach - x.shape[first + i] - low))
        padded = call.pad(x, pads, fill)
        for tap in itertools.product(*map(range, self.kernel)):
            seen = padded
            for i, position in enumerate(tap):
                start = position * self.dilations[i]
                stop = start + (out[i] - 1) * self.strides[i] + 1
                seen = call.slice(seen, first + i, start, stop, self.strides[i])
            yield tap, seen


def window_of(
    spatial: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int = 0,
) -> Window:
    """The window that the attributes of a convolution or pool describe."""
    rank = len(spatial)
    stride = tuple(strides or (1,) * rank)
    dilation = tuple(dilations or (1,) * rank)
    padding = _padding(spatial, kernel, stride, pads, dilation, auto_pad)
    return Window(tuple(kernel), stride, dilation, padding, bool(ceil_mode))


def _padding(
    spatial: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int] | None,
    dilations: Sequence[int],
    auto_pad: str,
) -> Pairs:
    rank = len(spatial)
    if auto_pad in ("NOTSET", ""):
        given = tuple(pads or (0,) * (2 * rank))
        return tuple((given[i], given[rank + i]) for i in range(rank))
    if auto_pad == "VALID":
        return ((0, 0),) * rank
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refusal(f"has auto_pad={auto_pad}")
    pairs = []
    for size, taps, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        out = (size + (stride - 1)) // stride
        total = maximum((out - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
        pairs.append(halves(total, auto_pad == "SAME_UPPER"))
    return tuple(pairs)


def halves(total: Dim, upper: bool) -> tuple[Dim, Dim]:
    """Padding on both sides; the odd element is behind the data with `upper`, else before.

    As in C, half of an odd negative number is rounded towards zero.
    """
    half = -(-total // 2) if isinstance(total, int) and total < 0 else total // 2
    return (half, total - half) if upper else (total - half, half)
