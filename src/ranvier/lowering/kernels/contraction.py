"""The contraction kernel: batch-reduce GEMM with an epilogue.

For every batch b, row m and column n:

    sum[m, n] = sum over taps t, depth k:  A[row(b, m, t) + k] * B[b, t, k, n]
    store.operand[store.offset(b, m, n)] = store.value(sum, b, m, n)

- A rows are contiguous in k (stride 1). `row` gives the element offset of a row for one tap as a
  polynomial in the variables `b`, `m` and `t` (and scalar arguments); it may contain `//` and
  `%`, e.g. m -> (image, y, x) of a convolution. When a guard fails the row reads zeros (padding).
- B is packed by panels of columns (`kernels/panels.py`), 64-byte aligned. Batch stride is 0 when
  all batches share it, else at least `layout.size`. With an odd bf16 depth the last pair of a row
  is read as one element: nothing behind a row is read.
- Guards, or a `row` that is not linear in m or that depends on the tap, need a static number of
  taps; guards need a static depth too. Bake kernel size, dilation and stride into `row`; leave
  image sizes to scalars.
- Extents that are scalars are best given with the factors that are known: columns `64 * p` need no
  code for a partial panel, a bf16 depth `2 * d` none for an odd one.
- Columns n in the last panel beyond `columns` are neither loaded from epilogue operands nor
  stored.
- Work is split over threads by rows, by panels or by both, whichever balances best for the shape
  at run time.
- With `sums_operand` the depth is cut into parts of at most `PART_BYTES`, between which the sums of
  a block of `SUM_ROWS` rows and `SUM_COLUMNS` columns wait in that operand, of which every thread
  has its own. There is one tap, rows are linear in m, and 16 divides the depth.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32, DType
from ranvier.lowering.expression import Guard
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.panels import PanelLayout

BATCH, ROW, TAP, COLUMN = (
    "$b",
    "$m",
    "$t",
    "$n",
)  # variables in `row`, guards and stores; no model symbol has a "$"

PART_BYTES = 4096  # of a row of A; 16 columns of B are 64 KB then
SUM_ROWS = 192
SUM_COLUMNS = 512
SUM_BYTES = SUM_ROWS * SUM_COLUMNS * F32.size


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
    depth_limit: int | None = None  # with guards and a scalar depth: the largest depth it may have
    sums_operand: int | None = None  # f32, SUM_BYTES

    @property
    def linear_row(self) -> tuple[Dim, Dim] | None:
        """(stride, start) in elements if row m is at `stride * m + start`, unguarded, or None."""
        row = dims.substitute(self.row, {TAP: 0}) if self.taps == 1 else self.row
        if self.guards or dims.depends_on(row, [TAP]):
            return None
        return dims.linear_in(row, ROW)

    def layout(self, lanes: int) -> PanelLayout:
        """How B is packed for a target with `lanes` f32 lanes per vector."""
        return PanelLayout(self.columns, self.depth, self.taps, self.a_dtype, lanes)
