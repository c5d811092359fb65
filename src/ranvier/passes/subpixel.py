"""Transposed convolution as a convolution that computes every phase of the output grid at once.

With stride s, output position t = s * q + r (before cropping) is the sum over k = s * j + r of
x[q - j] * w[k]: for each phase r a plain convolution with every s-th weight. All phases together
are one convolution with s times the channels, whose result is shuffled into place (sub-pixel
convolution, arXiv 1609.05158). Zeros that are multiplied: those that fill the kernel up to a
multiple of s, where zero insertion would multiply s times as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ranvier.ir.dim import Dim
from ranvier.ir.graph import Value
from ranvier.passes.rewrite import Match


@dataclass(frozen=True)
class _Axis:
    """Geometry of one spatial dim.

    `taps` is the number of weights per phase; output rows `first` .. `first + count - 1` of the
    phase grid hold positions `crop` .. `crop + size - 1` of the result.
    """

    stride: int
    taps: int
    first: int
    count: Dim
    crop: int
    size: Dim

    @property
    def low(self) -> int:
        """Padding in front of the input."""
        return self.taps - 1 - self.first


def conv_transpose(m: Match) -> Value | None:
    """Convolution over all phases, then a shuffle and a crop."""
    x, weights = m.node.operands[:2]
    axes = [_axis(m, i) for i in range(x.rank - 2)]
    groups = int(m.attribute("groups"))
    operands = [x, _phase_weights(m, weights, axes, groups)]
    if len(m.node.operands) > 2:
        operands.append(_phase_bias(m, m.node.operands[2], axes, groups))
    padding = tuple(
        (axis.low, axis.first + axis.count - size)
        for axis, size in zip(axes, x.shape[2:], strict=True)
    )
    ones = (1,) * len(axes)
    phases = m.add("conv", *operands, strides=ones, padding=padding, dilations=ones, groups=groups)
    return _cropped(m, _shuffled(m, phases, axes, groups), axes)


def _axis(m: Match, i: int) -> _Axis:
    stride, dilation = m.attribute("strides")[i], m.attribute("dilations")[i]
    kernel, (low, _) = m.node.operands[1].shape[i + 2], m.attribute("padding")[i]
    reach = dilation * (cast(int, kernel) - 1) + 1
    size = m.result.shape[i + 2]
    first = low // stride
    count = (low + size + (stride - 1)) // stride - first
    return _Axis(stride, -(-reach // stride), first, count, low - first * stride, size)


def _phase_weights(m: Match, weights: Value, axes: list[_Axis], groups: int) -> Value:
    """`[C, O/g, K...]` -> `[g * s... * O/g, C/g, taps...]`: every s-th weight, backwards."""
    inner, outer, *kernel = weights.shape
    dilations = m.attribute("dilations")
    spread = m.add("reshape", weights, shape=(inner, outer, *_interleaved(kernel, [1] * len(axes))))
    high = [0, 0, *_interleaved([0] * len(axes), [d - 1 for d in dilations])]
    spread = _padded(m, spread, high)
    full = [cast(int, k) * d for k, d in zip(kernel, dilations, strict=True)]
    spread = m.add("reshape", spread, shape=(inner, outer, *full))
    wanted = [axis.taps * axis.stride for axis in axes]
    spread = _padded(m, spread, [0, 0, *(w - f for w, f in zip(wanted, full, strict=True))])
    split = _interleaved([axis.taps for axis in axes], [axis.stride for axis in axes])
    depth = inner // groups
    spread = m.add("reshape", spread, shape=(groups, depth, outer, *split))
    taps, phases = range(3, 3 + 2 * len(axes), 2), range(4, 4 + 2 * len(axes), 2)
    spread = m.add("reverse", spread, axes=tuple(taps))
    spread = m.add("transpose", spread, permutation=(0, *phases, 2, 1, *taps))
    columns = groups * _product_of_strides(axes) * outer
    return m.add("reshape", spread, shape=(columns, depth, *(axis.taps for axis in axes)))


def _phase_bias(m: Match, bias: Value, axes: list[_Axis], groups: int) -> Value:
    """The bias of every phase."""
    outer = bias.shape[0] // groups
    phases = _product_of_strides(axes)
    grouped = m.add("reshape", bias, shape=(groups, 1, outer))
    repeated = m.add("broadcast", grouped, shape=(groups, phases, outer))
    return m.add("reshape", repeated, shape=(groups * phases * outer,))


def _shuffled(m: Match, phases: Value, axes: list[_Axis], groups: int) -> Value:
    """`[N, g * s... * O/g, count...]` -> `[N, O, count * s...]`."""
    if _product_of_strides(axes) == 1:
        return phases
    rank, batch = len(axes), phases.shape[0]
    outer = phases.shape[1] // (groups * _product_of_strides(axes))
    strides = [axis.stride for axis in axes]
    counts = [axis.count for axis in axes]
    apart = m.add("reshape", phases, shape=(batch, groups, *strides, outer, *counts))
    places = _interleaved(range(3 + rank, 3 + 2 * rank), range(2, 2 + rank))
    near = m.add("transpose", apart, permutation=(0, 1, 2 + rank, *places))
    grid = tuple(axis.count * axis.stride for axis in axes)
    return m.add("reshape", near, shape=(batch, groups * outer, *grid))


def _cropped(m: Match, grid: Value, axes: list[_Axis]) -> Value:
    starts = (0, 0, *(axis.crop for axis in axes))
    stops = (*grid.shape[:2], *(axis.crop + axis.size for axis in axes))
    return m.add("slice", grid, starts=starts, stops=stops, steps=(1,) * grid.rank)


def _padded(m: Match, value: Value, high: list[int]) -> Value:
    """Zeros behind `value`; negative entries crop."""
    low = (0,) * value.rank
    return m.add("pad", value, low=low, high=tuple(high), mode="constant", value=0.0)


def _interleaved(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    return [entry for pair in zip(a, b, strict=True) for entry in pair]


def _product_of_strides(axes: list[_Axis]) -> int:
    product = 1
    for axis in axes:
        product *= axis.stride
    return product
