"""One function per tile shape: runs a register tile down `tiles` row tiles of one panel.

    void @name.rRvV(operands, scalars, i64 b, i64 n, i64 m, i64 tiles,
                    ptr panel, ptr next, ptr rows, i64 stride)

`n` is the panel's first column and `m` the first row; `next` is the panel that comes after it.
`rows` is the first row of A and `stride` the bytes between rows; for a computed row address `rows`
points into the row table instead. Where the depth is cut, the arguments of a `Part` follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ranvier.codegen import memory
from ranvier.codegen.builder import (
    FLOAT,
    I1,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    int_const,
)
from ranvier.codegen.contraction_epilogue import Epilogue, LongEpilogue, needs_spill
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.microkernel import (
    Ahead,
    Extents,
    Tile,
    emit_depth,
    load_sums,
    row_pointers,
    spill_sums,
    table_pointers,
    total_sums,
    zero_sums,
)
from ranvier.codegen.row_table import RowTable
from ranvier.ir import dim as dims
from ranvier.lowering.kernels.contraction import BATCH, Contraction

_SPILLED_BYTES = 3072  # of sums that wait on the stack for a long epilogue: part of any L1
_POSITION = ("at.b", "at.n", "at.m", "at.tiles")


@dataclass(frozen=True)
class Part:
    """A part of the depth: `steps` of it, and where the sums of a block of rows wait meanwhile.

    `sums` is [row from number `row` on][column of the panel]; `first` and `last` are i1.
    """

    steps: Val
    sums: Val
    row: Val
    first: Val
    last: Val

    PARAMETERS: ClassVar = [
        ("part.steps", I64), ("part.sums", PTR), ("part.first", I1), ("part.last", I1)
    ]  # fmt: skip

    def arguments(self, f: FunctionBuilder, tile: Tile, row: Val) -> tuple[Val, ...]:
        """The arguments of a tile function whose first row is number `row`."""
        before = f.binary("sub", row, self.row)
        width = int_const(tile.vectors * tile.target.lanes)
        sums = f.element_pointer(self.sums, FLOAT, f.binary("mul", before, width))
        return self.steps, sums, self.first, self.last


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
        environment = {name: f.arg(name) for name in self.contraction.scalars}
        environment[BATCH] = f.arg("at.b")
        extents = self._extents(f, environment)
        stride = f.arg("at.stride")
        first = [f.arg("at.m"), f.arg("at.rows")]
        if self.contraction.sums_operand is not None:
            self._emit_part(f)
        elif not needs_spill(self.contraction):
            with f.loop_carrying(int_const(0), f.arg("at.tiles"), 1, first, "tile") as loop:
                m, rows = loop.values
                epilogue = self._epilogue(f, environment, m)
                sums = self._sum(f, extents, loop.index, rows, stride, epilogue.first_sums())
                epilogue.store(total_sums(f, self.tile, sums))
                loop.next = self._following(f, m, rows, stride)
        else:
            self._emit_spilling(f, environment, extents, first)
        f.ret()
        f.finish()

    def _emit_part(self, f: FunctionBuilder) -> None:
        """The sums of all tiles stay in memory; the epilogue stores them after the last part."""
        tile, stride = self.tile, f.arg("at.stride")
        size = tile.rows * tile.vectors * tile.target.lanes
        steps = f.arg("part.steps")
        extents = Extents(dims.symbol("$part") * (8 * tile.layout.unit), steps, steps)
        first = [f.arg("at.rows"), f.arg("part.sums")]
        with f.loop_carrying(int_const(0), f.arg("at.tiles"), 1, first, "tile") as loop:
            rows, place = loop.values
            sums = self._sum(f, extents, loop.index, rows, stride, self._sums_before(f, place))
            spill_sums(f, tile, total_sums(f, tile, sums), place)
            loop.next = [
                f.element_pointer(rows, "i8", f.binary("mul", stride, int_const(tile.rows))),
                f.element_pointer(place, FLOAT, int_const(size)),
            ]
        with f.when(f.arg("part.last"), "store"):
            count = f.binary("mul", f.arg("at.tiles"), int_const(tile.rows))
            stores = self.contraction.stores
            long = LongEpilogue(self.contraction, stores, self.name, tile, self.masked)
            long.call(f, f.arg("at.m"), count, f.arg("part.sums"))

    def _sums_before(self, f: FunctionBuilder, place: Val) -> list[Val]:
        """What the parts before have summed up; zero in the first part."""
        zeros = zero_sums(self.tile)
        load, after, origin = f.label("load"), f.label("after"), f.block
        f.branch(f.arg("part.first"), after, load)
        f.begin(load)
        loaded = load_sums(f, self.tile, place)
        f.jump(after)
        f.begin(after)
        sums = [
            f.phi(zero.type, (zero, origin), (sum_, load))
            for zero, sum_ in zip(zeros, loaded, strict=False)
        ]
        return sums + zeros[len(sums) :]

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
                index = f.binary("add", group.index, loop.index)
                sums = self._sum(f, extents, index, rows, stride, epilogue.first_sums())
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
        self,
        f: FunctionBuilder,
        extents: Extents,
        index: Val,
        rows: Val,
        stride: Val,
        sums: list[Val],
    ) -> list[Val]:
        """Add up the depth for tile number `index`, whose rows are found at `rows`."""
        tile, panel = self.tile, f.arg("at.panel")
        if self.table is None:
            pointers = row_pointers(f, tile.rows, rows, stride)
            fetches = tile.chains == 1 and not needs_spill(self.contraction)
            fetches &= self.contraction.sums_operand is None
            following = f.element_pointer(pointers[-1], "i8", stride) if fetches else None
            ahead = self._ahead(f, extents, index, 1, following)
            return emit_depth(f, tile, extents, pointers, panel, sums, ahead)[0]
        taps, span = self.table.taps, int_const(self.table.capacity)
        before = f.binary("mul", index, int_const(taps))
        first = [panel, rows, *sums]
        with f.loop_carrying(int_const(0), int_const(taps), 1, first, "tap") as loop:
            panel, entry, *sums = loop.values
            pointers = table_pointers(f, tile.rows, entry)
            number = f.binary("add", before, loop.index)
            ahead = self._ahead(f, extents, number, taps, None)
            sums, panel = emit_depth(f, tile, extents, pointers, panel, sums, ahead)
            loop.next = [panel, f.element_pointer(entry, PTR, span), *sums]
        return loop.results[2:]

    def _ahead(
        self, f: FunctionBuilder, extents: Extents, number: Val, taps: int, rows: Val | None
    ) -> Ahead:
        """What is asked for in tap `number` of all tiles: a line of the next panel per iteration.

        It ends where the whole panel has been asked for.
        """
        line = memory.LINE // self.tile.steps
        asks = f.compare("icmp ult", number, int_const(taps * self.tile.step_bytes // line))
        step = f.select(asks, int_const(line), int_const(0))
        offset = f.binary("mul", f.binary("mul", number, extents.steps), step)
        return Ahead(rows, f.opaque(f.element_pointer(f.arg("at.next"), "i8", offset)), step)


def kernel_parameters(contraction: Contraction) -> list[tuple[str, str]]:
    """Operand pointers and scalars, as in the calling convention."""
    operands = [(f"b{i}", PTR) for i in range(contraction.operand_count)]
    return operands + [(name, I64) for name in contraction.scalars]
