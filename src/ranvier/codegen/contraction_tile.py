"""One function per tile shape: runs a register tile down `tiles` row tiles of one panel.

    void @name.rRvV(operands, scalars, i64 b, i64 n, i64 m, i64 tiles,
                    ptr panel, ptr rows, i64 stride)

`n` is the panel's first column and `m` the first row. `rows` is the first row of A and `stride` the
bytes between rows; for a computed row address `rows` points into the row table instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ranvier.codegen.builder import FLOAT, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.contraction_epilogue import Epilogue, needs_spill
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.microkernel import (
    Extents,
    Tile,
    emit_depth,
    row_pointers,
    table_pointers,
    total_sums,
)
from ranvier.codegen.row_table import RowTable
from ranvier.lowering.kernels.contraction import BATCH, Contraction

_SPILLED_BYTES = 3072  # of sums that wait on the stack for a long epilogue: part of any L1
_POSITION = ("at.b", "at.n", "at.m", "at.tiles")


@dataclass(frozen=True)
class TileFunction:
    """A tile shape of a contraction; `masked`: columns beyond the last are not stored."""

    contraction: Contraction
    name: str
    tile: Tile
    table: RowTable | None
    masked: bool

    @property
    def symbol(self) -> str:
        """The function's name."""
        kind = "t" if self.masked else "f"
        return f"{self.name}.r{self.tile.rows}v{self.tile.vectors}{kind}"

    def emit(self, module: ModuleWriter) -> None:
        """Write the function into `module`."""
        parameters = kernel_parameters(self.contraction)
        parameters += [(name, I64) for name in _POSITION]
        parameters += [("at.panel", PTR), ("at.rows", PTR), ("at.stride", I64)]
        f = FunctionBuilder(
            module, self.symbol, parameters, attributes="nounwind noinline", linkage="internal"
        )
        environment = {name: f.arg(name) for name in self.contraction.scalars}
        environment[BATCH] = f.arg("at.b")
        extents = self._extents(f, environment)
        stride = f.arg("at.stride")
        first = [f.arg("at.m"), f.arg("at.rows")]
        if not needs_spill(self.contraction):
            with f.loop_carrying(int_const(0), f.arg("at.tiles"), 1, first, "tile") as loop:
                m, rows = loop.values
                epilogue = self._epilogue(f, environment, m)
                sums = self._sum(f, extents, rows, stride, epilogue.first_sums())
                epilogue.store(total_sums(f, self.tile, sums))
                loop.next = self._following(f, m, rows, stride)
        else:
            self._emit_spilling(f, environment, extents, first)
        f.ret()
        f.finish()

    def _emit_spilling(
        self,
        f: FunctionBuilder,
        environment: dict[str, Val],
        extents: Extents,
        first: Sequence[Val],
    ) -> None:
        """The sums of some tiles go to the stack, then the long epilogue stores them."""
        stride, lanes = f.arg("at.stride"), self.tile.target.lanes
        size = self.tile.rows * self.tile.vectors * lanes
        most = max(1, _SPILLED_BYTES // (4 * size))
        spill = f.emit(f"alloca [{most * size} x float], align 64", PTR)
        tiles = f.arg("at.tiles")
        with f.loop_carrying(int_const(0), tiles, most, first, "group") as group:
            left = f.binary("sub", tiles, group.index)
            count = f.call("llvm.smin.i64", I64, left, int_const(most))
            with f.loop_carrying(int_const(0), count, 1, group.values, "tile") as loop:
                m, rows = loop.values
                epilogue = self._epilogue(f, environment, m)
                sums = self._sum(f, extents, rows, stride, epilogue.first_sums())
                sums = total_sums(f, self.tile, sums)
                place = f.binary("mul", loop.index, int_const(size))
                epilogue.spill(sums, f.element_pointer(spill, FLOAT, place))
                loop.next = self._following(f, m, rows, stride)
            epilogue = self._epilogue(f, environment, group.values[0])
            epilogue.store_spilled(f.binary("mul", count, int_const(self.tile.rows)), spill)
            group.next = loop.results

    def _epilogue(self, f: FunctionBuilder, environment: dict[str, Val], m: Val) -> Epilogue:
        return Epilogue(f, self.contraction, self.tile, self.masked, environment, m, self.name)

    def _following(self, f: FunctionBuilder, m: Val, rows: Val, stride: Val) -> list[Val]:
        """The first row of the tile after this one, and where it is found."""
        ahead = int_const(self.tile.rows)
        return [
            f.binary("add", m, ahead),
            f.element_pointer(rows, PTR, ahead) if self.table
            else f.element_pointer(rows, "i8", f.binary("mul", stride, ahead)),
        ]  # fmt: skip

    def _extents(self, f: FunctionBuilder, environment: Mapping[str, Val]) -> Extents:
        index, layout = IndexEmitter(f, dict(environment), None), self.tile.layout
        full = index.scalar(layout.depth // layout.unit)
        return Extents(layout.depth, full, index.scalar(layout.steps_per_tap))

    def _sum(
        self, f: FunctionBuilder, extents: Extents, rows: Val, stride: Val, sums: list[Val]
    ) -> list[Val]:
        tile, panel = self.tile, f.arg("at.panel")
        if self.table is None:
            pointers = row_pointers(f, tile.rows, rows, stride)
            fetches = tile.chains == 1 and not needs_spill(self.contraction)
            ahead = f.element_pointer(pointers[-1], "i8", stride) if fetches else None
            return emit_depth(f, tile, extents, pointers, panel, sums, ahead)[0]
        taps, span = int_const(self.table.taps), int_const(self.table.capacity)
        with f.loop_carrying(int_const(0), taps, 1, [panel, rows, *sums], "tap") as loop:
            panel, entry, *sums = loop.values
            pointers = table_pointers(f, tile.rows, entry)
            sums, panel = emit_depth(f, tile, extents, pointers, panel, sums, None)
            loop.next = [panel, f.element_pointer(entry, PTR, span), *sums]
        return loop.results[2:]


def kernel_parameters(contraction: Contraction) -> list[tuple[str, str]]:
    """Operand pointers and scalars, as in the calling convention."""
    operands = [(f"b{i}", PTR) for i in range(contraction.operand_count)]
    return operands + [(name, I64) for name in contraction.scalars]
