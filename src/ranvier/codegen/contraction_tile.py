"""One function per tile shape: runs a register tile down `tiles` row tiles of one panel.

    void @name.rRvV(operands, scalars, i64 b, i64 n, i64 m, i64 tiles,
                    ptr panel, ptr next, ptr rows, i64 stride)

`n` is the panel's first column and `m` the first row; `next` is the panel that comes after it.
`rows` is the first row of A and `stride` the bytes between rows; for a computed row address `rows`
points into the row table instead. Where the depth is cut, the arguments of a `Part` follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.builder import FLOAT, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.contraction_epilogue import Epilogue, LongEpilogue, needs_spill
from ranvier.codegen.contraction_part import Part, emit_part
from ranvier.codegen.contraction_sum import TileSum
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.kernel_parameters import kernel_parameters
from ranvier.codegen.microkernel import Extents, Tile
from ranvier.codegen.row_table import RowTable
from ranvier.lowering.kernels.contraction import BATCH, Contraction

_SPILLED_BYTES = 3072  # of sums that wait on the stack for a long epilogue: part of any L1
_POSITION = ("at.b", "at.n", "at.m", "at.tiles", "at.asked")


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
        parameters += [(name, PTR) for name in ("at.panel", "at.next", "at.rows")]
        parameters.append(("at.stride", I64))
        if self.contraction.sums_operand is not None:
            parameters += Part.PARAMETERS
        f = FunctionBuilder(
            module, self.symbol, parameters, attributes="nounwind noinline", linkage="internal"
        )
        total = TileSum(f, self.contraction, self.tile, self.table)
        if self.contraction.sums_operand is not None:
            stores = self.contraction.stores
            emit_part(
                f, total, LongEpilogue(self.contraction, stores, self.name, self.tile, self.masked)
            )
        elif needs_spill(self.contraction):
            self._emit_spilling(f, total)
        else:
            self._emit_storing(f, total)
        f.ret()
        f.finish()

    def _emit_storing(self, f: FunctionBuilder, total: TileSum) -> None:
        """The sums stay in registers until they are stored."""
        environment = self._environment(f)
        extents, first = self._extents(f, environment), [f.arg("at.m"), f.arg("at.rows")]
        with f.loop_carrying(int_const(0), f.arg("at.tiles"), 1, first, "tile") as loop:
            m, rows = loop.values
            epilogue = self._epilogue(f, environment, m)
            epilogue.store(total.emit(extents, loop.index, rows, epilogue.first_sums()))
            loop.next = self._following(f, m, rows)

    def _emit_spilling(self, f: FunctionBuilder, total: TileSum) -> None:
        """The sums of some tiles go to the stack, then the long epilogue stores them."""
        environment = self._environment(f)
        extents, first = self._extents(f, environment), [f.arg("at.m"), f.arg("at.rows")]
        size = self.tile.rows * self.tile.vectors * self.tile.target.lanes
        most = max(1, _SPILLED_BYTES // (4 * size))
        spill = f.emit(f"alloca [{most * size} x float], align 64", PTR)
        tiles = f.arg("at.tiles")
        with f.loop_carrying(int_const(0), tiles, most, first, "group") as group:
            left = f.binary("sub", tiles, group.index)
            count = f.call("llvm.smin.i64", I64, left, int_const(most))
            with f.loop_carrying(int_const(0), count, 1, group.values, "tile") as loop:
                m, rows = loop.values
                epilogue = self._epilogue(f, environment, m)
                number = f.binary("add", group.index, loop.index)
                sums = total.emit(extents, number, rows, epilogue.first_sums())
                place = f.binary("mul", loop.index, int_const(size))
                epilogue.spill(sums, f.element_pointer(spill, FLOAT, place))
                loop.next = self._following(f, m, rows)
            epilogue = self._epilogue(f, environment, group.values[0])
            epilogue.store_spilled(f.binary("mul", count, int_const(self.tile.rows)), spill)
            group.next = loop.results

    def _environment(self, f: FunctionBuilder) -> dict[str, Val]:
        environment = {name: f.arg(name) for name in self.contraction.scalars}
        return {**environment, BATCH: f.arg("at.b")}

    def _epilogue(self, f: FunctionBuilder, environment: dict[str, Val], m: Val) -> Epilogue:
        return Epilogue(f, self.contraction, self.tile, self.masked, environment, m, self.name)

    def _following(self, f: FunctionBuilder, m: Val, rows: Val) -> list[Val]:
        """The first row of the tile after this one, and where it is found."""
        ahead, stride = int_const(self.tile.rows), f.arg("at.stride")
        return [
            f.binary("add", m, ahead),
            f.element_pointer(rows, PTR, ahead) if self.table
            else f.element_pointer(rows, "i8", f.binary("mul", stride, ahead)),
        ]  # fmt: skip

    def _extents(self, f: FunctionBuilder, environment: dict[str, Val]) -> Extents:
        index, layout = IndexEmitter(f, environment, None), self.tile.layout
        full = index.scalar(layout.depth // layout.unit)
        return Extents(layout.depth, full, index.scalar(layout.steps_per_tap))
