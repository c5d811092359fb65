"""The contraction kernel: work shares and blocks of rows, around panels and register tiles.

    for block of rows of this thread's share:          A block stays in L2
        row table of the block (convolutions)
        for panel of columns of this thread's share:   `contraction_panels.py`
            row tiles                                  B panel streams from L2, all tiles use it

Loop order and names of the blocks follow Goto and van de Geijn (ACM TOMS 34, 2008) with A left in
place; the loops around a batch-reduce GEMM are those of arXiv 1906.06440 and 2304.12576.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ranvier.codegen.builder import I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.contraction_panels import Panels
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.kernel_parameters import THREAD_PARAMETERS, kernel_parameters
from ranvier.codegen.microkernel import tile_rows
from ranvier.codegen.row_table import emit_row_table, row_table
from ranvier.codegen.row_tiles import Rows, RowTiles
from ranvier.codegen.work_split import Share, Work, share
from ranvier.ir import dim as dims
from ranvier.lowering.kernels.contraction import BATCH, ROW, SUM_ROWS, Contraction
from ranvier.target import Target


def emit_contraction(
    module: ModuleWriter, name: str, contraction: Contraction, target: Target
) -> None:
    """Write `void @name(ptr b0.., i64 scalars.., i64 thread, i64 threads)` into `module`.

    Raises CompileError when the target or the address map is not supported.
    """
    _Kernel(module, name, contraction, target).emit()


class _Kernel:
    def __init__(
        self, module: ModuleWriter, name: str, contraction: Contraction, target: Target
    ) -> None:
        self.module, self.name, self.contraction, self.target = module, name, contraction, target
        self.layout = contraction.layout(target.lanes)
        self.rows = tile_rows(self.layout, target)
        self.linear = contraction.linear_row
        self.table = None if self.linear else row_table(contraction, self.rows)
        self.tiles = RowTiles(contraction, name, self.layout, target, self.table)
        parameters = kernel_parameters(contraction) + THREAD_PARAMETERS
        self.f = FunctionBuilder(module, name, parameters)
        self.environment = {name: self.f.arg(name) for name in contraction.scalars}
        self.index = IndexEmitter(self.f, self.environment, None)

    def emit(self) -> None:
        self.tiles.emit(self.module)
        f, index, layout = self.f, self.index, self.layout
        space: Val | None = None
        if self.table:
            space = f.emit(f"alloca [{self.table.entries} x ptr], align 64", PTR)
        self.row_count = index.scalar(self.contraction.rows)
        self.panel_count = index.scalar(layout.panels)
        panels = Panels(f, self.tiles, index)
        self.panel_bytes = panels.panel_bytes
        self.row_stride = index.scalar(self.linear[0] * layout.dtype.size if self.linear else 0)
        self.block_rows = self._block_rows()
        entry = int_const(8) if self.table else self.row_stride
        with share(f, self._work()) as part, self._blocks(part) as (batch, first, count):
            rows_at = self._locate_rows(space, batch, first, count)
            panels.run(part, batch, Rows(first, count, rows_at, entry, self.row_stride))
        f.ret()
        f.finish()

    def _work(self) -> Work:
        f, layout = self.f, self.layout
        batches = self.index.scalar(self.contraction.batches)
        total = f.binary("mul", self.row_count, batches)
        row_work = self.index.scalar(layout.steps * layout.vectors)
        row_bytes = self.index.scalar(self.contraction.depth * layout.dtype.size)
        batch_rows = None if self.contraction.b_batch_stride == 0 else self.row_count
        return Work(
            total, self.panel_count, row_work, row_bytes, self.panel_bytes, self.rows, batch_rows
        )

    # Blocks of rows ------------------------------------------------------------------------------
    def _block_rows(self) -> Val:
        """Rows per block: A fills at most half of L2, and its addresses fit in the row table.

        A block whose depth is cut has as many rows as there is memory for sums.
        """
        f = self.f
        if self.contraction.sums_operand is not None:
            return int_const(SUM_ROWS)
        depth = self._maximum(self.index.scalar(self.contraction.depth), int_const(1))
        row_bytes = f.binary("mul", depth, int_const(self.layout.dtype.size))
        fitting = f.binary("udiv", int_const(self.target.l2_bytes // 2), row_bytes)
        wanted = self._maximum(fitting, int_const(8 * self.rows))
        return self._minimum(wanted, int_const(self.table.block)) if self.table else wanted

    @contextmanager
    def _blocks(self, part: Share) -> Iterator[tuple[Val, Val, Val]]:
        """Loop over (batch, first row, row count): at most `block_rows` rows of one batch each."""
        f = self.f
        head, body, done = f.label("blocks"), f.label("block"), f.label("end")
        origin = f.block
        f.jump(head)
        f.begin(head)
        position, following = f.name_value("at"), f.name_value("next")
        at = Val(position, I64)
        latch = f.label("latch")
        f.raw(f"{position} = phi i64 [{part.first_row.text}, %{origin}], [{following}, %{latch}]")
        f.branch(f.compare("icmp ult", at, part.end_row), body, done)
        f.begin(body)
        batch = f.binary("udiv", at, self.row_count)
        first = f.binary("sub", at, f.binary("mul", batch, self.row_count))
        left = self._minimum(
            f.binary("sub", self.row_count, first), f.binary("sub", part.end_row, at)
        )
        blocks = f.ceil_div(left, self.block_rows)
        count = f.ceil_div(left, blocks)
        yield batch, first, count
        f.jump(latch)
        f.begin(latch)
        f.raw(f"{following} = add i64 {position}, {count.text}")
        f.jump(head)
        f.begin(done)

    def _locate_rows(self, space: Val | None, batch: Val, first: Val, count: Val) -> Val:
        """Where the tile functions find the block's rows: the first row, or the row table."""
        f, known = self.f, {**self.environment, BATCH: batch}
        if self.table is None:
            assert self.linear is not None
            start = IndexEmitter(f, {**known, ROW: first}, None)
            offset = start.scalar(self.linear[0] * dims.symbol(ROW) + self.linear[1])
            bytes_ = f.binary("mul", offset, int_const(self.layout.dtype.size))
            return f.element_pointer(f.arg(f"b{self.contraction.a_operand}"), "i8", bytes_)
        assert space is not None
        emit_row_table(f, self.table, known, space, first, count)
        return space

    def _minimum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.umin.i64", I64, a, b)

    def _maximum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.umax.i64", I64, a, b)
