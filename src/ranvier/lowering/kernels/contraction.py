"""The contraction kernel: batch-reduce GEMM with an epilogue.

For every batch b, row m and column n:

    sum[m, n] = sum over taps t, depth k:  A[row(b, m, t) + k] * B[b, t, k, n]
    store.operand[store.offset(b, m, n)] = store.value(sum, b, m, n)

- A rows are contiguous in k (stride 1). `row` gives the element offset of a row for one tap as a polynomial in the
  variables `b`, `m` and `t` (and scalar arguments); it may contain `//` and `%`, e.g. m -> (image, y, x) of a convolution.
  When a guard fails the row reads zeros (padding).
- B is packed: [batch][panel of `16 * vectors` columns][taps * depth / unit][columns][unit], 64-byte aligned, zero padded;
  unit = 2 for bf16 (k pairs, `depth` is even after padding by the packer) and 1 for f32. Batch stride is 0 for weights.
  A row must be readable up to the padded depth only if `depth_padding` is 0; otherwise the kernel reads the last pair
  with the second element masked to zero.
- Columns n in the last panel beyond `columns` are neither loaded from epilogue operands nor stored.
- Work is split over threads by rows or by panels, whichever balances better for the shape at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType
from ranvier.lowering.expression import Guard
from ranvier.lowering.kernels.nest import Store

BATCH, ROW, TAP, COLUMN = "b", "m", "t", "n"  # names of the variables in `row`, guards and stores


@dataclass(frozen=True)
class Contraction:
    """Static description; all extents are names of scalar arguments or integers (Dims)."""

    batches: Dim
    rows: Dim
    columns: Dim
    taps: Dim
    depth: Dim  # elements of A per tap and row, before padding to the unit
    a_operand: int
    b_operand: int
    a_dtype: DType  # F32 or BF16; B has the same
    row: Dim  # element offset in A for (b, m, t)
    guards: tuple[Guard, ...]  # rows outside read zeros
    b_batch_stride: Dim  # in elements; 0 when all batches share B
    stores: tuple[Store, ...]
    operand_count: int
    scalars: tuple[str, ...]
