"""The depthwise convolution kernel: one filter per channel, channels last.

For every image n, output row y, output column x and channel c:

    sum[n, y, x, c] = sum over ky, kx:  weight[ky, kx, c]
                      * input(n, y * sy - top + ky * dy, x * sx - left + kx * dx, c)
    store.operand[store.offset(n, y, x, c)] = store.value(sum, n, y, x, c)

- `input(n, iy, ix, c)` is element `input_offset + n * s0 + iy * s1 + ix * s2 + c` of the input
  operand, with `input_strides = (s0, s1, s2)`; pixels outside `in_height x in_width` are zeros. A
  one-dimensional convolution has a kernel height of 1.
- Weights are f32, packed by `pack_weights`: `[channels / 16][taps][16]`, zero padded, 64-byte
  aligned. The layout does not depend on the target. The sum is in f32 whatever the input is.
- `tile` output columns are computed together; `preferred_tile` chooses it from the output width
  when that is known.
- Work is split over threads by (image, output row), and by channels too when there are few rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType
from ranvier.lowering.kernels.nest import Store

IMAGE, ROW, COLUMN, CHANNEL = "$n", "$y", "$x", "$c"  # names of the variables in the stores
WEIGHT_BLOCK = 16  # channels that lie together in the packed weights


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
    input_operand: int
    input_dtype: DType  # F32 or BF16
    input_offset: Dim  # in elements
    input_strides: tuple[Dim, Dim, Dim]  # in elements, of image, row and column
    weight_operand: int
    stores: tuple[Store, ...]
    operand_count: int
    scalars: tuple[str, ...]
    tile: int = 8


def pack_weights(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`[kh, kw, channels]` -> `[ceil(channels / 16), kh * kw, 16]`, zero padded."""
    taps, channels = weight.shape[0] * weight.shape[1], weight.shape[2]
    padded = np.zeros((taps, -(-channels // WEIGHT_BLOCK) * WEIGHT_BLOCK), np.float32)
    padded[:, :channels] = weight.reshape(taps, channels)
    return np.ascontiguousarray(padded.reshape(taps, -1, WEIGHT_BLOCK).transpose(1, 0, 2))


def packed_weight_bytes(kernel: tuple[int, int], channels: int) -> int:
    """Size of the packed weights in bytes."""
    return -(-channels // WEIGHT_BLOCK) * WEIGHT_BLOCK * kernel[0] * kernel[1] * 4


def preferred_tile(out_width: int | None) -> int:
    """Output columns per tile, 5 to 8: those that compute fewest in vain, then the most.

    8 for an unknown width.
    """
    if out_width is None:
        return 8
    if out_width < 5:
        return max(out_width, 1)
    return min(range(5, 9), key=lambda tile: (-(-out_width // tile) * tile, -tile))
