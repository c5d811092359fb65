"""The Winograd kernel: convolutions of stride 1 with fewer multiplications.

The image is cut into tiles of `tile x tile` outputs, each of which sees a patch d of `points x
points` inputs (points = tile + kernel - 1). With the matrices of `transforms`:

    V = B^T d B        per tile and input channel          (elements V[xi], xi < points^2)
    U = G g G^T        per pair of channels, at compile time
    M[xi] = V[xi] U[xi]                                    a matrix product over channels, per xi
    Y = A^T M A        tile x tile outputs, then the epilogue
    store.operand[store.offset(m, n)] = store.value(Y, m, n)

Per output that is points^2 / tile^2 multiplications instead of kernel^2. Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", arXiv 1509.09308.

- The input's channels are adjacent; image, row and pixel strides are arbitrary. Pixels outside the
  image read zeros. There are at least as many channels as a vector has lanes.
- U is packed like the B of a contraction that has a tap per xi (`layout`).
- ROW in the stores is the number of the output pixel, (image * out_height + y) * out_width + x,
  and COLUMN the output channel.
- Transforms are computed in f32; V and U are rounded to `dtype`.
- Each thread keeps V and M of `block` tiles in its part of the scratch operand, `scratch_bytes`
  long, 64-byte aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import Array, DType
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.target import Target

Matrix = tuple[tuple[Fraction, ...], ...]

# Finite points at which polynomials are evaluated, by their number; infinity is one more. Of many
# pairs +-p, +-q in [1/2, 7/4], +-2/3 and +-3/2 round least: f32 has half the error of +-1 and +-2,
# bf16 less than half. (The choice of points: Barabasz et al., arXiv 1803.10986.)
_POINTS = {
    3: (Fraction(0), Fraction(1), Fraction(-1)),
    5: (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}
_LEAST_BLOCK, _LARGEST_BLOCK = 24, 96  # tiles
_APART = 64  # bytes by which the areas of successive xi are kept off a power of two


@dataclass(frozen=True)
class Winograd:
    """Static description; sizes of images are scalar arguments or integers (Dims)."""

    tile: int  # outputs per tile and direction
    kernel: int  # height and width of the filters
    images: Dim
    in_height: Dim
    in_width: Dim
    out_height: Dim
    out_width: Dim
    channels: int
    columns: int  # output channels
    dtype: DType  # F32 or BF16: the input, V and U
    padding: tuple[int, int]  # zeros above and to the left
    input_operand: int
    input_offset: Dim  # in elements, as the strides
    input_strides: tuple[Dim, Dim, Dim]  # image, row, pixel
    weight_operand: int
    scratch_operand: int
    stores: tuple[Store, ...]
    operand_count: int
    scalars: tuple[str, ...]
    block: int  # tiles that are transformed together

    @property
    def points(self) -> int:
        """Height and width of a tile of inputs."""
        return self.tile + self.kernel - 1

    def layout(self, lanes: int) -> PanelLayout:
        """How U is packed for a target with `lanes` f32 lanes per vector."""
        return PanelLayout(self.columns, self.channels, self.points**2, self.dtype, lanes)


@dataclass(frozen=True)
class ScratchLayout:
    """Byte offsets within a thread's scratch: V[xi][tile][channel], M[xi][tile][panel column]."""

    input_row: int  # from one tile of V to the next
    input_stride: int  # from one xi of V to the next
    products: int  # where M begins
    product_row: int
    product_stride: int
    size: int


def scratch_layout(
    block: int, points: int, channels: int, dtype: DType, panel_width: int
) -> ScratchLayout:
    """Where a thread keeps what, for blocks of `block` tiles and M in f32."""
    row, product_row = channels * dtype.size, panel_width * 4
    stride = _round_up(block * row, 64) + _APART
    product_stride = block * product_row + _APART
    products = points**2 * stride
    size = products + points**2 * product_stride
    return ScratchLayout(row, stride, products, product_row, product_stride, size)


def block_tiles(points: int, channels: int, columns: int, dtype: DType, target: Target) -> int:
    """Tiles per block: V and M of a block take about half of L2, but U is used often enough."""
    layout = PanelLayout(columns, channels, points**2, dtype, target.lanes)
    tile_bytes = points**2 * (channels * dtype.size + layout.width * 4)
    fitting = target.l2_bytes // 2 // tile_bytes
    return min(max(fitting, _LEAST_BLOCK), _LARGEST_BLOCK)


@dataclass(frozen=True)
class Transforms:
    """The matrices of one direction: `input` B^T, `weight` G, `output` A^T."""

    input: Matrix  # [points][points]
    weight: Matrix  # [points][kernel]
    output: Matrix  # [tile][points]


@cache
def transforms(tile: int, kernel: int) -> Transforms:
    """The matrices of F(tile, kernel), by Toom-Cook interpolation; ValueError for other sizes.

    For every d and g: A^T [(G g) * (B^T d)] = sum over k: d[i + k] g[k], exactly.
    """
    finite = _POINTS.get(tile + kernel - 2)
    if finite is None or tile < 1 or kernel < 1:
        raise ValueError(f"no points for tiles of {tile} and kernels of {kernel}")
    others = [tuple(q for q in finite if q != p) for p in finite]
    scale = [_product([p - q for q in rest]) for p, rest in zip(finite, others, strict=True)]
    zero = Fraction(0)
    return Transforms(
        (*((*_expand(rest), zero) for rest in others), _expand(finite)),
        (*(tuple(p**k / s for k in range(kernel)) for p, s in zip(finite, scale, strict=True)),
         _unit(kernel)),
        tuple((*(p**k for p in finite), _unit(tile)[k]) for k in range(tile)),
    )  # fmt: skip


def transform_weights(weights: Array, tile: int) -> Array:
    """U [points^2, channels, columns] in f32 of filters [columns, channels, kernel, kernel]."""
    matrix = np.array(
        [[float(x) for x in row] for row in transforms(tile, weights.shape[-1]).weight]
    )
    u: Array = matrix @ weights.astype(np.float64) @ matrix.T
    return u.transpose(2, 3, 1, 0).reshape(-1, *weights.shape[1::-1]).astype(np.float32)


def _expand(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return tuple(coefficients)


def _product(factors: Sequence[Fraction]) -> Fraction:
    total = Fraction(1)
    for factor in factors:
        total *= factor
    return total


def _unit(size: int) -> tuple[Fraction, ...]:
    """The last unit vector: evaluation at infinity."""
    return (*([Fraction(0)] * (size - 1)), Fraction(1))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
