"""The sum of a register tile: all taps and the depth, and what is asked for meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen import memory
from ranvier.codegen.builder import PTR, FunctionBuilder, Val, int_const
from ranvier.codegen.contraction_epilogue import needs_spill
from ranvier.codegen.microkernel import (
    Ahead,
    Extents,
    Tile,
    emit_depth,
    row_pointers,
    table_pointers,
    total_sums,
)
from ranvier.codegen.row_table import RowTable
from ranvier.lowering.kernels.contraction import Contraction


@dataclass(frozen=True)
class TileSum:
    """Emits sums in a tile function `f`, whose arguments are those of `contraction_tile.py`."""

    f: FunctionBuilder
    contraction: Contraction
    tile: Tile
    table: RowTable | None

    def emit(self, extents: Extents, number: Val, rows: Val, sums: list[Val]) -> list[Val]:
        """One sum per output, row-major, for tile `number`, whose rows are found at `rows`.

        Args:
            sums: what they begin with, as `zero_sums` orders it.
        """
        by_rows = self._by_stride if self.table is None else self._by_table
        return total_sums(self.f, self.tile, by_rows(extents, number, rows, sums))

    def _by_stride(self, extents: Extents, number: Val, rows: Val, sums: list[Val]) -> list[Val]:
        f, tile, stride = self.f, self.tile, self.f.arg("at.stride")
        pointers = row_pointers(f, tile.rows, rows, stride)
        fetches = tile.chains == 1 and not needs_spill(self.contraction)
        fetches &= self.contraction.sums_operand is None
        following = f.element_pointer(pointers[-1], "i8", stride) if fetches else None
        ahead = self._ahead(extents, number, 1, following)
        return emit_depth(f, tile, extents, pointers, f.arg("at.panel"), sums, ahead)[0]

    def _by_table(self, extents: Extents, number: Val, rows: Val, sums: list[Val]) -> list[Val]:
        assert self.table is not None
        f, tile, taps = self.f, self.tile, self.table.taps
        before, span = f.binary("mul", number, int_const(taps)), int_const(self.table.capacity)
        first = [f.arg("at.panel"), rows, *sums]
        with f.loop_carrying(int_const(0), int_const(taps), 1, first, "tap") as loop:
            panel, entry, *sums = loop.values
            pointers = table_pointers(f, tile.rows, entry)
            ahead = self._ahead(extents, f.binary("add", before, loop.index), taps, None)
            sums, panel = emit_depth(f, tile, extents, pointers, panel, sums, ahead)
            loop.next = [panel, f.element_pointer(entry, PTR, span), *sums]
        return loop.results[2:]

    def _ahead(self, extents: Extents, number: Val, taps: int, rows: Val | None) -> Ahead:
        """What is asked for in tap `number` of all tiles: a line of the next panel per iteration.

        It ends where the whole panel has been asked for.
        """
        f, line = self.f, memory.LINE // self.tile.steps
        asks = f.compare("icmp ult", number, int_const(taps * self.tile.step_bytes // line))
        step = f.select(asks, int_const(line), int_const(0))
        offset = f.binary("mul", f.binary("mul", number, extents.steps), step)
        return Ahead(rows, f.opaque(f.element_pointer(f.arg("at.next"), "i8", offset)), step)
