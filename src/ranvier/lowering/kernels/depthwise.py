"""The depthwise convolution kernel: one filter per channel, channels last.

For every image n, output row y, output column x and channel c:

    sum[n, y, x, c] = sum over ky, kx:  weight[ky, kx, c]
                      * input(n, y * sy - top + ky * dy, x * sx - left + kx * dx, c)
    store.operand[store.offset(n, y, x, c)] = store.value(sum, n, y, x, c)

- `input(n, iy, ix, c)` is element `input_offset + n * s0 + iy * s1 + ix * s2 + c` of the input
  operand, with `input_strides = (s0, s1, s2)`; pixels outside `in_height x in_width` are zeros. A
  one-dimensional convolution has a kernel height of 1.
- The channels are `32 * d + r` with a static `r`, so that the code knows how the last ones lie.
- Weights are packed by `pack_weights`: `[blocks][taps][channels of a block]` words of 32 bits, zero
  padded, 64-byte aligned. A word is an f32, or, where `uses_pairs`, two bf16: the weight of the tap
  and that of the tap one row below. The sum is in f32 whatever the input is.
- At most `tile` output columns are computed together; a row is cut into tiles of `tile_sizes`.
- Work is split evenly over threads by (image, strip of output rows, chunk of channels).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, DType, encode
from ranvier.lowering.kernels.nest import Store

IMAGE, ROW, COLUMN, CHANNEL = "$n", "$y", "$x", "$c"  # names of the variables in the stores
CHANNEL_UNIT = 32  # the remainder of the channels by it is static
_LANES = 16  # words of a vector register where there are pairs


@dataclass(frozen=True)
class Depthwise:
    """Static description; extents are scalar arguments or integers, the filter is static."""

    batch: Dim
    in_height: Dim
    in_width: Dim
    out_height: Dim
    out_width: Dim
    channels: Dim
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: tuple[Dim, Dim]  # rows above, columns to the left
    right_padding: Dim  # columns to the right that a filter may reach beyond the image, at most
    input_operand: int
    input_dtype: DType  # F32 or BF16
    input_offset: Dim  # in elements
    input_strides: tuple[Dim, Dim, Dim]  # in elements, of image, row and column
    weight_operand: int
    stores: tuple[Store, ...]
    operand_count: int
    scalars: tuple[str, ...]
    tile: int = 8


def uses_pairs(dtype: DType, has_bf16_dot: bool) -> bool:
    """Whether two rows of bf16 input are multiplied at once (AVX512-BF16), not widened to f32."""
    return dtype is BF16 and has_bf16_dot


def weight_block(pairs: bool) -> int:
    """Channels that lie together in the packed weights."""
    return 32 if pairs else 16


def pack_weights(
    weight: npt.NDArray[np.float32], pairs: bool = False
) -> npt.NDArray[np.float32] | npt.NDArray[np.uint32]:
    """`[kh, kw, channels]` -> `[blocks, kh * kw, weight_block(pairs)]`, zero padded.

    With `pairs` word [ky, kx] is (weight[ky, kx], weight[ky + 1, kx]) rounded to bf16, the first in
    the low half; zero stands for the row below the last. The channels of a block are then in the
    order of `interleaved_channels`, except in a last block that fits in one vector.
    """
    kernel_height, kernel_width, channels = weight.shape
    block, taps = weight_block(pairs), kernel_height * kernel_width
    blocks = -(-channels // block)
    padded = np.zeros((kernel_height + 1, kernel_width, blocks * block), np.float32)
    padded[:-1, :, :channels] = weight
    if not pairs:
        words = padded[:-1].reshape(taps, blocks, block)
        return np.ascontiguousarray(words.transpose(1, 0, 2))
    halves = encode(padded, BF16).astype(np.uint32)
    doubled = (halves[:-1] | halves[1:] << 16).reshape(taps, blocks, block)
    packed = np.ascontiguousarray(doubled.transpose(1, 0, 2))
    whole = blocks if channels % block > _LANES else channels // block
    packed[:whole] = packed[:whole][:, :, interleaved_channels()]
    return packed


def interleaved_channels() -> list[int]:
    """The channels of two vectors of pairs, as `vpunpcklwd` and `vpunpckhwd` make them of 32."""
    quarters = [range(start, start + 4) for start in range(0, 2 * _LANES, 4)]
    return [channel for quarter in (*quarters[::2], *quarters[1::2]) for channel in quarter]


def packed_weight_bytes(kernel: tuple[int, int], channels: int, pairs: bool = False) -> int:
    """Size of the packed weights in bytes."""
    block = weight_block(pairs)
    return -(-channels // block) * block * kernel[0] * kernel[1] * 4


def preferred_tile(kernel_width: int, pairs: bool) -> int:
    """Output columns per tile: 8, or what the registers hold of the sums of two vectors of pairs
    beside the weights of a kernel row.
    """
    return min(8, max(2, 14 - kernel_width)) if pairs else 8


def tile_sizes(out_width: Dim, tile: int) -> tuple[int, ...]:
    """The sizes of the tiles that rows of `out_width` columns are cut into, ascending.

    A row has as few tiles as possible, which differ by at most one column; a row narrower than half
    a tile has tiles of one column.
    """
    half = (tile + 1) // 2
    if not isinstance(out_width, int):
        return (*((1,) if half > 1 else ()), *range(half, tile + 1))
    if out_width < half:
        return (1,)
    base, larger = divmod(out_width, -(-out_width // tile))
    return (base, base + 1) if larger else (base,)
