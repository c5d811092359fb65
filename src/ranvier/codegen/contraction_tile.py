"""One function per tile shape: runs a register tile down `tiles` row tiles of one panel, epilogue included.

    void @name.rRvV(operands, scalars, i64 b, i64 n, i64 m, i64 tiles, ptr panel, ptr rows, i64 stride)

`n` is the panel's first column and `m` the first row. `rows` is the first row of A and `stride` the bytes between
rows; for a computed row address `rows` points into the row table instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ranvier.codegen.builder import (
    I1, I32, I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const, vector,
)  # fmt: skip
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.indices import IndexEmitter, Lanes
from ranvier.codegen.microkernel import (
    Extents, Tile, emit_depth, row_pointers, table_pointers, total_sums, zero_sums,
)  # fmt: skip
from ranvier.codegen.row_table import RowTable
from ranvier.ir import dim as dims
from ranvier.lowering.expression import (
    Access, Accumulator, Expression, Index, Literal, Reduce, children, walk,
)  # fmt: skip
from ranvier.lowering.kernels.contraction import BATCH, COLUMN, ROW, Contraction

_POSITION = ("at.b", "at.n", "at.m", "at.tiles")


@dataclass(frozen=True)
class TileFunction:
    """A tile shape of a contraction; `masked`: only columns below the contraction's are computed and stored."""

    contraction: Contraction
    name: str
    tile: Tile
    table: RowTable | None
    masked: bool

    @property
    def symbol(self) -> str:
        kind = "t" if self.masked else "f"
        return f"{self.name}.r{self.tile.rows}v{self.tile.vectors}{kind}"

    def emit(self, module: ModuleWriter) -> None:
        """Write the function into `module`."""
        parameters = kernel_parameters(self.contraction)
        parameters += [(name, I64) for name in _POSITION]
        parameters += [("at.panel", PTR), ("at.rows", PTR), ("at.stride", I64)]
        f = FunctionBuilder(module, self.symbol, parameters, attributes="nounwind noinline", linkage="internal")
        environment = {name: f.arg(name) for name in self.contraction.scalars}
        environment[BATCH] = f.arg("at.b")
        extents = self._extents(f, environment)
        stride = f.arg("at.stride")
        first = [f.arg("at.m"), f.arg("at.rows")]
        with f.loop_carrying(int_const(0), f.arg("at.tiles"), 1, first, "tile") as loop:
            m, rows = loop.values
            sums = self._sum(f, extents, rows, stride)
            self._epilogue(f, environment, m, total_sums(f, self.tile, sums))
            ahead = int_const(self.tile.rows)
            loop.next = [
                f.binary("add", m, ahead),
                f.element_pointer(rows, PTR, ahead) if self.table
                else f.element_pointer(rows, "i8", f.binary("mul", stride, ahead)),
            ]  # fmt: skip
        f.ret()
        f.finish()

    def _extents(self, f: FunctionBuilder, environment: Mapping[str, Val]) -> Extents:
        index, layout = IndexEmitter(f, dict(environment), None), self.tile.layout
        full = index.scalar(layout.depth // layout.unit)
        return Extents(layout.depth, full, index.scalar(layout.steps_per_tap))

    def _sum(self, f: FunctionBuilder, extents: Extents, rows: Val, stride: Val) -> list[Val]:
        tile, panel, sums = self.tile, f.arg("at.panel"), zero_sums(self.tile)
        if self.table is None:
            pointers = row_pointers(f, tile.rows, rows, stride)
            return emit_depth(f, tile, extents, pointers, panel, sums)[0]
        taps, span = int_const(self.table.taps), int_const(self.table.capacity)
        with f.loop_carrying(int_const(0), taps, 1, [panel, rows, *sums], "tap") as loop:
            panel, entry, *sums = loop.values
            pointers = table_pointers(f, tile.rows, entry)
            sums, panel = emit_depth(f, tile, extents, pointers, panel, sums)
            loop.next = [panel, f.element_pointer(entry, PTR, span), *sums]
        return loop.results[2:]

    # Epilogue -----------------------------------------------------------------------------------------------
    def _epilogue(
        self, f: FunctionBuilder, environment: Mapping[str, Val], m: Val, sums: list[Val]
    ) -> None:
        tile, lanes = self.tile, self.tile.target.lanes
        operands = [f.arg(f"b{i}") for i in range(self.contraction.operand_count)]
        rows = [f.binary("add", m, int_const(r)) for r in range(tile.rows)]
        for v in range(tile.vectors):
            n = f.binary("add", f.arg("at.n"), int_const(v * lanes))
            known = {**environment, COLUMN: n}
            mask = self._mask(f, known, v)
            column = ExpressionEmitter(
                f, tile.target, operands, known, Lanes(COLUMN, lanes, mask)
            )
            for store in self.contraction.stores:
                for shared in _row_free(store.value):
                    column.emit(shared)
            for r, row in enumerate(rows):
                at = column.nested({ROW: row}).with_accumulator(sums[r * tile.vectors + v])
                for store in self.contraction.stores:
                    at.store(store)

    def _mask(self, f: FunctionBuilder, environment: dict[str, Val], v: int) -> Val | None:
        """The lanes of vector `v` that hold columns; None for all of them."""
        lanes, columns = self.tile.target.lanes, self.contraction.columns
        if not self.masked:
            return None
        if isinstance(columns, int):
            live = columns % self.tile.layout.width - v * lanes
            if live >= lanes:
                return None
            bits = ", ".join(f"i1 {int(k < live)}" for k in range(lanes))
            return Val(f"<{bits}>", vector(lanes, I1))
        limit = IndexEmitter(f, environment, None).scalar(columns)
        live = f.binary("sub", limit, environment[COLUMN])
        numbers = f.splat(f.cast("trunc", live, I32), lanes)
        steps = Val(f"<{', '.join(f'i32 {k}' for k in range(lanes))}>", vector(lanes, I32))
        return f.compare("icmp slt", steps, numbers)


def kernel_parameters(contraction: Contraction) -> list[tuple[str, str]]:
    """Operand pointers and scalars, as in the calling convention."""
    operands = [(f"b{i}", PTR) for i in range(contraction.operand_count)]
    return operands + [(name, I64) for name in contraction.scalars]


def _row_free(expression: Expression) -> Iterator[Expression]:
    """The largest sub-expressions that are the same for all rows of a panel."""
    if isinstance(expression, Literal):
        return
    if not any(_varies_by_row(node) for node in walk(expression)):
        yield expression
        return
    for child in children(expression):
        yield from _row_free(child)


def _varies_by_row(node: Expression) -> bool:
    if isinstance(node, Access):
        bound = {name for name, _ in node.indirect}
        found = [node.offset, *(d for g in node.guards for d in (g.index, g.limit))]
        return any(dims.depends_on(dim, {ROW, *bound}) for dim in found)
    if isinstance(node, Index):
        return dims.depends_on(node.value, [ROW])
    return isinstance(node, (Accumulator, Reduce))
