"""The contraction kernel: work shares, cache blocks and panels around the register tiles.

    for block of rows of this thread's share:          A block stays in L2
        row table of the block (convolutions)
        for panel of columns of this thread's share:   B panel streams from L2, all row tiles use it
            row tiles                                  sums stay in registers, epilogue included

Loop order and names of the blocks follow Goto and van de Geijn (ACM TOMS 34, 2008) with A left in
place; the loops around a batch-reduce GEMM are those of arXiv 1906.06440 and 2304.12576.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from ranvier.codegen.builder import I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.contraction_tile import TileFunction, kernel_parameters
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.microkernel import Tile, tile_rows
from ranvier.codegen.row_table import emit_row_table, linear_row, row_table
from ranvier.ir import dim as dims
from ranvier.lowering.kernels.contraction import BATCH, ROW, Contraction
from ranvier.target import Target

_GRAIN = 4096  # multiply-add instructions below which another thread does not pay
_STREAM_BYTES = 16  # bytes from L2 or beyond that cost about as much as one multiply-add
_UNBOUNDED = 1 << 62


def emit_contraction(
    module: ModuleWriter, name: str, contraction: Contraction, target: Target
) -> None:
    """Write `void @name(ptr b0.., i64 scalars.., i64 thread, i64 threads)` into `module`.

    Raises CompileError when the target or the address map is not supported.
    """
    _Kernel(module, name, contraction, target).emit()


@dataclass(frozen=True)
class _Kind:
    """A kind of panel: vectors that are computed; `masked`: the last may be partly empty."""

    vectors: int
    masked: bool


@dataclass(frozen=True)
class _Share:
    """A thread's part: panels first_panel.. end_panel - 1, rows first_row.. of all batches."""

    first_panel: Val
    end_panel: Val
    first_row: Val
    end_row: Val


class _Kernel:
    def __init__(
        self, module: ModuleWriter, name: str, contraction: Contraction, target: Target
    ) -> None:
        self.module, self.name, self.contraction, self.target = module, name, contraction, target
        self.layout = contraction.layout(target.lanes)
        self.rows = tile_rows(self.layout, target)
        self.linear = linear_row(contraction)
        self.table = None if self.linear else row_table(contraction, self.rows)
        parameters = [*kernel_parameters(contraction), ("thread", I64), ("threads", I64)]
        self.f = FunctionBuilder(module, name, parameters)
        self.environment = {name: self.f.arg(name) for name in contraction.scalars}
        self.index = IndexEmitter(self.f, self.environment, None)

    def emit(self) -> None:
        for function in self.functions.values():
            function.emit(self.module)
        f, index, layout = self.f, self.index, self.layout
        space: Val | None = None
        if self.table:
            space = f.emit(f"alloca [{self.table.entries} x ptr], align 64", PTR)
        self.row_count = index.scalar(self.contraction.rows)
        self.column_count = index.scalar(layout.columns)
        self.panel_count = index.scalar(layout.panels)
        self.panel_bytes = index.scalar(layout.panel_size * layout.dtype.size)
        self.batch_bytes = index.scalar(self.contraction.b_batch_stride * layout.dtype.size)
        self.row_stride = index.scalar(self.linear[0] * layout.dtype.size if self.linear else 0)
        self.block_rows = self._block_rows()
        with self._share() as share, self._blocks(share) as (batch, first, count):
            rows_at = self._locate_rows(space, batch, first, count)
            self._panels(share, batch, first, count, rows_at)
        f.ret()
        f.finish()

    @cached_property
    def kinds(self) -> tuple[_Kind, ...]:
        """The panel kinds that occur, widest first: full ones, and partial last ones."""
        columns, layout = self.contraction.columns, self.layout
        if dims.divides(layout.width, columns):
            return (_Kind(layout.vectors, False),)
        if not isinstance(columns, int):
            narrow = [v for v in (4, 2, 1) if v < layout.vectors]
            partial = [_Kind(v, True) for v in (layout.vectors, *narrow)]
            return (_Kind(layout.vectors, False), *partial)
        full = (_Kind(layout.vectors, False),) if columns >= layout.width else ()
        rest = columns % layout.width
        return (*full, _Kind(-(-rest // self.target.lanes), True))

    @cached_property
    def functions(self) -> dict[int, TileFunction]:
        """Tile functions by key: kind number times the tile's rows, plus the row count (from 1)."""
        return {
            number * self.rows + rows: TileFunction(
                self.contraction, self.name, Tile(rows, kind.vectors, self.layout, self.target),
                self.table, kind.masked,
            )
            for number, kind in enumerate(self.kinds)
            for rows in range(1, self.rows + 1)
        }  # fmt: skip

    # Shares --------------------------------------------------------------------------------------
    @contextmanager
    def _share(self) -> Iterator[_Share]:
        """The body runs only on threads that have a share."""
        f = self.f
        total = f.binary("mul", self.row_count, self.index.scalar(self.contraction.batches))
        cells = f.binary("mul", total, self.panel_count)
        work = f.binary("mul", cells, self.index.scalar(self.layout.steps * self.layout.vectors))
        useful = f.ceil_div(work, int_const(_GRAIN))
        threads = self._minimum(f.arg("threads"), self._maximum(useful, int_const(1)))
        splits = self._panel_splits(threads, total)
        thread = f.arg("thread")
        row_splits = f.binary("udiv", threads, splits)
        column_part = f.binary("urem", thread, splits)
        row_part = f.binary("udiv", thread, splits)
        active = f.compare("icmp ult", thread, threads)
        with f.when(f.binary("and", active, f.compare("icmp ne", total, int_const(0))), "share"):
            first_panel, end_panel = self._cut(self.panel_count, column_part, splits)
            first_row, end_row = self._cut(total, row_part, row_splits)
            yield _Share(first_panel, end_panel, first_row, end_row)

    def _cut(self, extent: Val, part: Val, parts: Val) -> tuple[Val, Val]:
        f = self.f
        following = f.binary("add", part, int_const(1))
        first = f.binary("udiv", f.binary("mul", extent, part), parts)
        return first, f.binary("udiv", f.binary("mul", extent, following), parts)

    def _panel_splits(self, threads: Val, total: Val) -> Val:
        """Into how many parts the panels are cut; the rows are cut into `threads` over that.

        The divisor of `threads` with the smallest cost of the largest share: multiply-adds, plus
        the bytes of A and B that the share has to stream.
        """
        f, layout = self.f, self.layout
        row_work = self.index.scalar(layout.steps * layout.vectors)
        row_bytes = self.index.scalar(self.contraction.depth * layout.dtype.size)
        initial = [int_const(1), int_const(_UNBOUNDED)]
        stop = f.binary("add", threads, int_const(1))
        with f.loop_carrying(int_const(1), stop, 1, initial, "splits") as loop:
            splits = loop.index
            panels = f.ceil_div(self.panel_count, splits)
            rows = f.ceil_div(total, f.binary("udiv", threads, splits))
            compute = f.binary("mul", f.binary("mul", panels, rows), row_work)
            batches = int_const(1)
            if self.contraction.b_batch_stride != 0:
                batches = f.ceil_div(rows, self._maximum(self.row_count, int_const(1)))
            panel_bytes = f.binary("mul", f.binary("mul", panels, self.panel_bytes), batches)
            traffic = f.binary("add", panel_bytes, f.binary("mul", rows, row_bytes))
            traffic = f.binary("udiv", traffic, int_const(_STREAM_BYTES))
            cost = f.binary("add", compute, traffic)
            rest = f.binary("urem", threads, splits)
            exact = f.compare("icmp eq", rest, int_const(0))
            less = f.compare("icmp ult", cost, loop.values[1])
            better = f.binary("and", exact, less)
            loop.next = [
                f.select(better, splits, loop.values[0]),
                f.select(better, cost, loop.values[1]),
            ]
        return loop.results[0]

    # Blocks of rows ------------------------------------------------------------------------------
    def _block_rows(self) -> Val:
        """Rows per block: A fills at most half of L2, and its addresses fit in the row table."""
        f = self.f
        depth = self._maximum(self.index.scalar(self.contraction.depth), int_const(1))
        row_bytes = f.binary("mul", depth, int_const(self.layout.dtype.size))
        fitting = f.binary("udiv", int_const(self.target.l2_bytes // 2), row_bytes)
        wanted = self._maximum(fitting, int_const(8 * self.rows))
        return self._minimum(wanted, int_const(self.table.block)) if self.table else wanted

    @contextmanager
    def _blocks(self, share: _Share) -> Iterator[tuple[Val, Val, Val]]:
        """Loop over (batch, first row, row count): at most `block_rows` rows of one batch each."""
        f = self.f
        head, body, done = f.label("blocks"), f.label("block"), f.label("end")
        origin = f.block
        f.jump(head)
        f.begin(head)
        position, following = f.name_value("at"), f.name_value("next")
        at = Val(position, I64)
        latch = f.label("latch")
        f.raw(f"{position} = phi i64 [{share.first_row.text}, %{origin}], [{following}, %{latch}]")
        f.branch(f.compare("icmp ult", at, share.end_row), body, done)
        f.begin(body)
        batch = f.binary("udiv", at, self.row_count)
        first = f.binary("sub", at, f.binary("mul", batch, self.row_count))
        left = self._minimum(
            f.binary("sub", self.row_count, first), f.binary("sub", share.end_row, at)
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

    # Panels and row tiles ------------------------------------------------------------------------
    def _panels(self, share: _Share, batch: Val, first: Val, count: Val, rows_at: Val) -> None:
        f = self.f
        tiles = f.ceil_div(count, int_const(self.rows))
        base = f.binary("udiv", count, tiles)
        larger = f.binary("sub", count, f.binary("mul", base, tiles))
        smaller = f.binary("sub", tiles, larger)
        larger_rows = f.binary("add", base, int_const(1))
        offset = f.binary("mul", batch, self.batch_bytes)
        b = f.element_pointer(f.arg(f"b{self.contraction.b_operand}"), "i8", offset)
        taken = f.binary("mul", larger, larger_rows)
        entry_bytes = int_const(8) if self.table else self.row_stride
        later = f.element_pointer(rows_at, "i8", f.binary("mul", taken, entry_bytes))
        later_row = f.binary("add", first, taken)
        with f.loop(share.first_panel, share.end_panel, 1, "panel") as p:
            panel = f.element_pointer(b, "i8", f.binary("mul", p, self.panel_bytes))
            n = f.binary("mul", p, int_const(self.layout.width))
            place = (batch, n, panel)
            self._dispatch(larger_rows, larger, place, first, rows_at)
            self._dispatch(base, smaller, place, later_row, later)

    def _dispatch(
        self, rows: Val, tiles: Val, place: tuple[Val, Val, Val], m: Val, rows_at: Val
    ) -> None:
        """Call the function of this row count, if any tiles are left for it."""
        f = self.f
        batch, n, panel = place
        key = f.binary("add", rows, self._kind_key(n))
        key = f.select(f.compare("icmp ne", tiles, int_const(0)), key, int_const(0))
        labels = {number: f.label("tiles") for number in self.functions}
        after = f.label("after")
        cases = " ".join(f"i64 {number}, label %{label}" for number, label in labels.items())
        f.raw(f"switch {key}, label %{after} [{cases}]")
        names = [parameter for parameter, _ in kernel_parameters(self.contraction)]
        arguments = [*map(f.arg, names), batch, n, m, tiles, panel, rows_at, self.row_stride]
        for number, label in labels.items():
            f.begin(label)
            f.call_void(self.functions[number].symbol, *arguments)
            f.jump(after)
        f.begin(after)

    def _kind_key(self, n: Val) -> Val:
        """The kind number, times the tile's rows, of the panel that starts at column `n`."""
        f, layout, key = self.f, self.layout, int_const(0)
        rest = f.binary("sub", self.column_count, n)
        for number, kind in enumerate(self.kinds[1:], 1):
            limit = min(kind.vectors * self.target.lanes, layout.width - 1)
            fits = f.compare("icmp ule", rest, int_const(limit))
            key = f.select(fits, int_const(number * self.rows), key)
        return key

    def _minimum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.umin.i64", I64, a, b)

    def _maximum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.umax.i64", I64, a, b)
