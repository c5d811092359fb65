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
    tile_rows,
    total_sums,
)
from ranvier.codegen.row_table import RowTable
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.panels import PanelLayout

_LEAST_BYTES = memory.LINE // 4  # of the next panel, in a step: iterations have four


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
        """What is asked for in tap `number` of all tiles of this height: a part of the next panel.

        It ends where the whole panel has been asked for. A single row streams B as fast as memory
        gives it, and asks for nothing.
        """
        f, tile = self.f, self.tile
        if tile.rows == 1:
            return Ahead(rows, f.arg("at.next"), int_const(0), 0)
        ask = bytes_ahead(tile.layout, tile.rows == tile_rows(tile.layout, tile.target))
        before = f.binary("mul", f.arg("at.asked"), int_const(taps))
        before = f.binary("add", before, f.binary("mul", number, int_const(ask)))
        asks = f.compare("icmp ult", before, int_const(taps * tile.step_bytes))
        step, before = (f.select(asks, some, int_const(0)) for some in (int_const(ask), before))
        offset = f.binary("mul", before, extents.steps)
        columns = f.opaque(f.element_pointer(f.arg("at.next"), "i8", offset))
        return Ahead(rows, columns, step, -(-tile.steps * ask // memory.LINE))


def bytes_ahead(layout: PanelLayout, full: bool) -> int:
    """Bytes of the next panel that a tile asks for in a step of its depth.

    A full tile asks for a line in four steps: its iterations have no more to spare, and in most
    products there are enough of them. A lower tile asks for half a panel: a product of a few rows
    has two of them, or three tiles in all.
    """
    return _LEAST_BYTES if full else max(layout.step_bytes // 2, _LEAST_BYTES)
