"""What happens to the sums of a register tile: the store expressions of a contraction.

- A term that every store adds to the sums and that is the same for all rows (a bias) starts the
  sums instead.
- What depends on the column alone is computed once per vector and used by all rows of the tile.
- Rows come in the order in which the micro-kernel finishes their sums.
- An epilogue with long functions (erf, exp, ...) would be as many copies of them as the tile has
  vectors, and their constants would take registers from the micro-kernel: there the sums go to the
  stack, and a function of its own reads them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from ranvier.codegen.builder import (
    FLOAT,
    I1,
    I32,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    int_const,
    vector,
)
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.indices import IndexEmitter, Lanes
from ranvier.codegen.microkernel import Tile, spill_sums, zero_sums
from ranvier.codegen.rounded_stores import store_adjacent
from ranvier.codegen.scalar_ops import LONG
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32
from ranvier.lowering.expression import (
    Access,
    Accumulator,
    Apply,
    Expression,
    Index,
    Literal,
    Reduce,
    children,
    walk,
)
from ranvier.lowering.kernels.contraction import BATCH, COLUMN, ROW, Contraction
from ranvier.lowering.kernels.nest import Store

_INTERLEAVED_LANES = 8  # with vectors of 16 functions are shorter, and pairs are stored together


class Epilogue:
    """The epilogue of a register tile whose first row is `m`; `masked`: stop at the last column."""

    def __init__(
        self, f: FunctionBuilder, contraction: Contraction, tile: Tile, masked: bool,
        environment: dict[str, Val], m: Val, name: str,
    ) -> None:  # fmt: skip
        self._f, self._contraction, self._tile, self._masked = f, contraction, tile, masked
        self._name = name
        self._bias, self._stores = split_bias(contraction.stores)
        self._environment = environment
        self._rows = [f.binary("add", m, int_const(r)) for r in range(tile.rows)]
        self._m = m
        self._operands = [f.arg(f"b{i}") for i in range(contraction.operand_count)]
        self._columns = [self._column(v) for v in range(tile.vectors)]

    def first_sums(self) -> list[Val]:
        """The initial sums: the bias in the first chain of partial sums, or zero."""
        tile, sums = self._tile, zero_sums(self._tile)
        if self._bias is None:
            return sums
        bias = [column.emit_lanes(self._bias) for column in self._columns]
        sums[: tile.rows * tile.vectors] = bias * tile.rows
        return sums

    def store(self, sums: list[Val]) -> None:
        """Compute and write everything; `sums` is row-major."""
        shared = [part for store in self._stores for part in row_free(store.value)]
        for column in self._columns:
            for part in shared:
                column.emit(part)
        for r, row in enumerate(self._rows):
            first = r * self._tile.vectors
            emitters = [
                column.nested({ROW: row}).with_accumulator(sums[first + v])
                for v, column in enumerate(self._columns)
            ]
            for store in self._stores:
                store_adjacent(self._tile.target, emitters, store)

    def spill(self, sums: list[Val], place: Val) -> None:
        """Write the sums, row-major, to the memory at `place` for `store_spilled`."""
        spill_sums(self._f, self._tile, sums, place)

    def store_spilled(self, rows: Val, spilled: Val) -> None:
        """Have `LongEpilogue` compute and write `rows` rows, maybe those of several tiles."""
        long = LongEpilogue(self._contraction, self._stores, self._name, self._tile, self._masked)
        long.call(self._f, self._m, rows, spilled)

    def _column(self, v: int) -> ExpressionEmitter:
        f, first = self._f, v * self._tile.target.lanes
        known = {**self._environment, COLUMN: f.binary("add", f.arg("at.n"), int_const(first))}
        places = Lanes(COLUMN, self._tile.lanes(v), self._mask(known, v))
        return ExpressionEmitter(f, self._tile.target, self._operands, known, places)

    def _mask(self, environment: dict[str, Val], v: int) -> Val | None:
        """The lanes of vector `v` that hold columns; None for all of them."""
        f, lanes, columns = self._f, self._tile.lanes(v), self._contraction.columns
        if not self._masked:
            return None
        if isinstance(columns, int):
            live = columns % self._tile.layout.width - v * self._tile.target.lanes
            if live >= lanes:
                return None
            if live == 1:  # LLVM 22 stores too much for a constant mask of one 16-bit lane
                return run_time_mask(f, columns, lanes, environment)
            bits = ", ".join(f"i1 {int(k < live)}" for k in range(lanes))
            return Val(f"<{bits}>", vector(lanes, I1))
        return run_time_mask(f, columns, lanes, environment)


def run_time_mask(f: FunctionBuilder, columns: Dim, lanes: int, environment: dict[str, Val]) -> Val:
    """The lanes, from COLUMN of the environment on, that are below `columns`."""
    limit = IndexEmitter(f, environment, None).scalar(columns)
    rest = f.binary("sub", limit, environment[COLUMN])
    numbers = f.splat(f.cast("trunc", rest, I32), lanes)
    steps = Val(f"<{', '.join(f'i32 {k}' for k in range(lanes))}>", vector(lanes, I32))
    return f.compare("icmp slt", steps, numbers)


@dataclass(frozen=True)
class LongEpilogue:
    """The function that stores a tile whose epilogue is long, from sums in memory.

    void @name.e<vectors><t|f>(operands, scalars, i64 b, i64 n, i64 m, i64 rows, ptr sums)

    It is a function of its own so that its constants do not take registers from the micro-kernel.
    """

    contraction: Contraction
    stores: tuple[Store, ...]
    name: str
    tile: Tile
    masked: bool

    @property
    def symbol(self) -> str:
        """The function's name; tiles of any height share it."""
        return f"{self.name}.e{self.tile.vectors}{'t' if self.masked else 'f'}"

    def call(self, f: FunctionBuilder, m: Val, rows: Val, sums: Val) -> None:
        """Call it from a tile function, for `rows` rows from number `m` on."""
        self.emit(f.module)
        operands = [f.arg(f"b{i}") for i in range(self.contraction.operand_count)]
        scalars = [f.arg(name) for name in self.contraction.scalars]
        f.call_void(self.symbol, *operands, *scalars, f.arg("at.b"), f.arg("at.n"), m, rows, sums)

    def emit(self, module: ModuleWriter) -> None:
        """Write the function, unless the module has it."""
        if module.has_function(self.symbol):
            return
        contraction, lanes = self.contraction, self.tile.target.lanes
        operands = [f"b{i}" for i in range(contraction.operand_count)]
        parameters = [(name, PTR) for name in operands]
        numbers = (*contraction.scalars, BATCH, COLUMN, ROW, "at.rows")
        parameters += [(name, I64) for name in numbers]
        f = FunctionBuilder(
            module,
            self.symbol,
            [*parameters, ("at.sums", PTR)],
            attributes="nounwind noinline",
            linkage="internal",
        )
        known = {name: f.arg(name) for name in (*contraction.scalars, BATCH)}
        pointers = [f.arg(name) for name in operands]
        width = self.tile.vectors * lanes
        with f.loop(int_const(0), f.arg("at.rows"), 1, "row") as r:
            row = f.binary("add", f.arg(ROW), r)
            first = f.binary("mul", r, int_const(width))
            together = 2 if self.tile.vectors % 2 == 0 else 1
            with f.loop(int_const(0), int_const(width), together * lanes, "column") as c:
                emitters = []
                for v in range(together):
                    here = f.binary("add", c, int_const(v * lanes))
                    place = f.element_pointer(f.arg("at.sums"), FLOAT, f.binary("add", first, here))
                    total = f.load(vector(lanes, FLOAT), place, 64)
                    bound = {**known, ROW: row, COLUMN: f.binary("add", f.arg(COLUMN), here)}
                    emitters.append(self._emitter(f, pointers, bound, total))
                if self.tile.target.lanes == _INTERLEAVED_LANES:
                    f.interleave([partial(self._store, emitter) for emitter in emitters])
                else:
                    for store in self.stores:
                        store_adjacent(self.tile.target, emitters, store)
        f.ret()
        f.finish()

    def _store(self, emitter: ExpressionEmitter) -> None:
        for store in self.stores:
            emitter.store(store)

    def _emitter(
        self, f: FunctionBuilder, pointers: list[Val], bound: dict[str, Val], total: Val
    ) -> ExpressionEmitter:
        """The emitter of the vector that begins at COLUMN of `bound`."""
        lanes, columns = self.tile.target.lanes, self.contraction.columns
        mask = run_time_mask(f, columns, lanes, bound) if self.masked else None
        at = Lanes(COLUMN, lanes, mask)
        return ExpressionEmitter(f, self.tile.target, pointers, bound, at, total)


def needs_spill(contraction: Contraction) -> bool:
    """Whether the epilogue has functions that are too long to be repeated for every vector."""
    nodes = (node for store in contraction.stores for node in walk(store.value))
    return any(isinstance(node, Apply) and node.op in LONG for node in nodes)


def split_bias(stores: tuple[Store, ...]) -> tuple[Expression | None, tuple[Store, ...]]:
    """Split off a row-free term that is added to the sum wherever the sum is used.

    store(relu(sum + bias[n]) + x)  ->  bias[n], store(relu(sum) + x)
    """
    uses = [node for s in stores for node in walk(s.value) if isinstance(node, Accumulator)]
    biased = [node for s in stores for node in _biased(s.value)]
    if not biased or len(biased) != len(uses) or len(set(biased)) != 1:
        return None, stores
    return _bias_of(biased[0]), tuple(replace(s, value=_without_bias(s.value)) for s in stores)


def _biased(node: Expression) -> Iterator[Expression]:
    if _bias_of(node) is not None:
        yield node
    elif isinstance(node, Apply):
        for operand in node.operands:
            yield from _biased(operand)


def _without_bias(node: Expression) -> Expression:
    if _bias_of(node) is not None:
        return Accumulator()
    if isinstance(node, Apply):
        return replace(node, operands=tuple(map(_without_bias, node.operands)))
    return node


def _bias_of(node: Expression) -> Expression | None:
    """X of `sum + X`, where X is f32 and the same for all rows."""
    if not (isinstance(node, Apply) and node.op == "add" and node.dtype is F32):
        return None
    if Accumulator() not in node.operands or node.attributes:
        return None
    other = [x for x in node.operands if x != Accumulator()]
    if len(other) != 1 or other[0].dtype is not F32 or any(map(_varies_by_row, walk(other[0]))):
        return None
    return other[0]


def row_free(expression: Expression) -> Iterator[Expression]:
    """The largest sub-expressions that are the same for all rows of a panel."""
    if isinstance(expression, Literal):
        return
    if not any(_varies_by_row(node) for node in walk(expression)):
        yield expression
        return
    for child in children(expression):
        yield from row_free(child)


def _varies_by_row(node: Expression) -> bool:
    if isinstance(node, Access):
        bound = {name for name, _ in node.indirect}
        found = [node.offset, *(d for g in node.guards for d in (g.index, g.limit))]
        return any(dims.depends_on(dim, {ROW, *bound}) for dim in found)
    if isinstance(node, Index):
        return dims.depends_on(node.value, [ROW])
    return isinstance(node, (Accumulator, Reduce))
