"""The inner loops of a contraction: a register tile of `rows x vectors` sums over taps and depth.

Per step: `vectors` loads of packed B, `rows` broadcasts of A, `rows * vectors` multiply-adds, so
that the multiply-add unit is never without work while loads and address arithmetic fit beside it.
The tile shapes follow BLIS (Van Zee and van de Geijn, ACM TOMS 41, 2015); running one tile over
many (A row, B block) pairs before it is stored is the batch-reduce GEMM of arXiv 1906.06440.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranvier.codegen import memory
from ranvier.codegen.builder import (
    BFLOAT,
    FLOAT,
    I16,
    I32,
    PTR,
    FunctionBuilder,
    Val,
    int_const,
    lanes_of,
    vector,
)
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.target import Target

_UNROLLED_STEPS = 24  # a depth of so few steps is emitted without a loop
_STEPS = 4  # per iteration: counting and asking ahead take as long as two multiply-adds
_WIDENED_STEPS = 1  # more of them, and LLVM spills the halves of B
_LATENCY = 8  # multiply-adds that must be in flight
_TILE_ROWS = {32: {4: 6, 3: 8, 2: 8, 1: 8}, 16: {2: 6, 1: 8}}  # registers -> vectors -> rows
_WIDENED_ROWS = {32: {4: 5, 3: 7, 2: 8, 1: 8}, 16: {2: 4, 1: 6}}  # both halves of B take registers


def tile_rows(layout: PanelLayout, target: Target) -> int:
    """Rows of the largest register tile for panels of this layout."""
    widened = _is_widened(layout, target)
    return (_WIDENED_ROWS if widened else _TILE_ROWS)[target.registers][layout.vectors]


def _is_widened(layout: PanelLayout, target: Target) -> bool:
    """Whether bf16 becomes f32 in registers before it is multiplied."""
    return layout.dtype is BF16 and not target.has_bf16_dot


@dataclass(frozen=True)
class Tile:
    """A register tile: `rows x vectors` sums, for panels that are `layout.vectors` wide.

    With `half_last` only the lower half of the last vector holds columns, and is computed.
    """

    rows: int
    vectors: int
    layout: PanelLayout
    target: Target
    half_last: bool = False

    @property
    def chains(self) -> int:
        """Partial sums per output (1, 2 or 4): enough to hide the latency of the multiply-add."""
        outputs = self.rows * self.vectors
        return 4 if outputs <= 2 else 2 if outputs <= _LATENCY // 2 else 1

    @property
    def steps(self) -> int:
        """Steps per iteration of the loop over the depth; `chains` divides it."""
        widened = _is_widened(self.layout, self.target)
        return max(_WIDENED_STEPS if widened else _STEPS, self.chains)

    @property
    def step_bytes(self) -> int:
        """Bytes of packed B per step."""
        return self.layout.step_bytes

    def lanes(self, index: int) -> int:
        """Lanes of vector `index` that are computed."""
        is_half = self.half_last and index == self.vectors - 1
        return self.target.lanes // 2 if is_half else self.target.lanes


def zero_sums(tile: Tile) -> list[Val]:
    """The initial sums: chain-major, then row-major."""
    types = [vector(tile.lanes(v), FLOAT) for v in range(tile.vectors)]
    return [Val("zeroinitializer", type) for type in types] * (tile.chains * tile.rows)


def total_sums(f: FunctionBuilder, tile: Tile, sums: Sequence[Val]) -> list[Val]:
    """One sum per output, row-major, from the partial sums of all chains."""
    count = tile.rows * tile.vectors
    totals = list(sums[:count])
    for chain in range(1, tile.chains):
        part = sums[chain * count : (chain + 1) * count]
        totals = [f.binary("fadd", a, b) for a, b in zip(totals, part, strict=True)]
    return totals


def spill_sums(f: FunctionBuilder, tile: Tile, sums: Sequence[Val], place: Val) -> None:
    """Write one sum per output to the memory at `place`, row-major in whole vectors."""
    lanes = tile.target.lanes
    for number, total in enumerate(sums):
        spot = f.element_pointer(place, FLOAT, int_const(number * lanes))
        f.store(total, spot, 4 * lanes_of(total.type))


def load_sums(f: FunctionBuilder, tile: Tile, place: Val) -> list[Val]:
    """Read what `spill_sums` wrote."""
    loaded = []
    for number in range(tile.rows * tile.vectors):
        lanes = tile.lanes(number % tile.vectors)
        spot = f.element_pointer(place, FLOAT, int_const(number * tile.target.lanes))
        loaded.append(f.load(vector(lanes, FLOAT), spot, 4 * lanes))
    return loaded


@dataclass(frozen=True)
class Ahead:
    """What is asked for while a tap is added: of A into L1, of B into L2.

    `rows` is what the next tile reads of A, in one piece. `columns` is a part of the next panel of
    B, of which an iteration asks for `column_lines` lines, `column_bytes` per step; 0 at the end.
    """

    rows: Val | None
    columns: Val
    column_bytes: Val
    column_lines: int


@dataclass(frozen=True)
class Extents:
    """Depth of one tap as values: `full` steps without padding, `steps` with it (both i64)."""

    depth: Dim
    full: Val
    steps: Val


def emit_depth(
    f: FunctionBuilder, tile: Tile, extents: Extents, a: Sequence[Val], b: Val,
    sums: Sequence[Val], ahead: Ahead,
) -> tuple[list[Val], Val]:  # fmt: skip
    """Add one tap: `a` points to each row's first element, `b` to the tap's packed steps.

    Returns the new sums and the pointer behind the steps.
    """
    unit = tile.layout.unit
    behind = f.element_pointer(b, "i8", f.binary("mul", extents.steps, int_const(tile.step_bytes)))
    values = list(sums)
    if isinstance(extents.depth, int) and extents.depth // unit <= _UNROLLED_STEPS:
        for k in range(extents.depth // unit):
            values = _step(f, tile, a, b, int_const(k), values, k % tile.chains, False)
    else:
        values = _loop(f, tile, extents, a, b, values, ahead)
    return _odd_step(f, tile, extents, a, b, values), behind


def _loop(
    f: FunctionBuilder, tile: Tile, extents: Extents, a: Sequence[Val], b: Val, sums: list[Val],
    ahead: Ahead,
) -> list[Val]:  # fmt: skip
    """All full steps: several per iteration, then those that are left one by one."""
    steps = tile.steps
    whole = f.binary("and", extents.full, int_const(-steps))
    with f.loop_carrying(int_const(0), whole, steps, sums, "k") as loop:
        _fetch(f, tile, ahead, loop.index)
        for step in range(steps):
            k = f.binary("add", loop.index, int_const(step))
            loop.next = _step(f, tile, a, b, k, loop.next, step % tile.chains, False)
    sums = loop.results
    if steps == 1 or dims.divides(steps * tile.layout.unit, extents.depth):
        return sums
    if isinstance(extents.depth, int):
        full = extents.depth // tile.layout.unit
        for number in range(full - full % steps, full):
            sums = _step(f, tile, a, b, int_const(number), sums, 0, False)
        return sums
    with f.loop_carrying(whole, extents.full, 1, sums, "k") as loop:
        loop.next = _step(f, tile, a, b, loop.index, loop.next, 0, False)
    return loop.results


def _fetch(f: FunctionBuilder, tile: Tile, ahead: Ahead, k: Val) -> None:
    """Ask for what belongs to the iteration that begins at step `k`."""
    columns = f.element_pointer(ahead.columns, "i8", f.binary("mul", k, ahead.column_bytes))
    for number in range(ahead.column_lines):
        line = int_const(number * memory.LINE)
        memory.prefetch(f, f.element_pointer(columns, "i8", line), level=2)
    if ahead.rows is None:
        return
    row_bytes = tile.layout.unit * tile.layout.dtype.size * tile.rows
    rows = f.element_pointer(ahead.rows, "i8", _scaled(f, k, row_bytes))
    for offset in range(0, tile.steps * row_bytes, memory.LINE):
        memory.prefetch(f, f.element_pointer(rows, "i8", int_const(offset)))


def _odd_step(
    f: FunctionBuilder, tile: Tile, extents: Extents, a: Sequence[Val], b: Val, sums: list[Val]
) -> list[Val]:
    """The last step of an odd depth: reads one element of A; its partner counts as zero."""
    if tile.layout.unit == 1 or dims.divides(tile.layout.unit, extents.depth):
        return sums
    if isinstance(extents.depth, int):
        return _step(f, tile, a, b, extents.full, sums, 0, True)
    with f.loop_carrying(extents.full, extents.steps, 1, sums, "odd") as loop:
        loop.next = _step(f, tile, a, b, loop.index, loop.next, 0, True)
    return loop.results


def _step(
    f: FunctionBuilder, tile: Tile, a: Sequence[Val], b: Val, k: Val, sums: list[Val], chain: int,
    half: bool,
) -> list[Val]:  # fmt: skip
    """Step `k` into the sums of `chain`; `half`: only the first element of A's pair exists."""
    row_step = tile.layout.unit * tile.layout.dtype.size
    at = _scaled(f, k, row_step)
    block = f.element_pointer(b, "i8", _scaled(f, k, tile.step_bytes))
    columns = [_parts(f, tile, _load_columns(f, tile, block, v)) for v in range(tile.vectors)]
    lanes = [tile.lanes(v) for v in range(tile.vectors)]
    values, first = list(sums), chain * tile.rows * tile.vectors
    for r, pointer in enumerate(a):
        item = _load_row(f, tile, f.element_pointer(pointer, "i8", at), half)
        rows = {count: _parts(f, tile, f.splat(item, count)) for count in dict.fromkeys(lanes)}
        for part in range(len(columns[0])):
            for v, column in enumerate(columns):
                index = first + r * tile.vectors + v
                row = rows[lanes[v]][part]
                values[index] = _multiply_add(f, tile, values[index], column[part], row)
    return values


def _scaled(f: FunctionBuilder, k: Val, factor: int) -> Val:
    if not k.text.startswith("%"):
        return int_const(int(k.text) * factor)
    return f.binary("mul", k, int_const(factor))


def _load_columns(f: FunctionBuilder, tile: Tile, block: Val, index: int) -> Val:
    """A vector of a step of B: f32 lanes, or the bits of bf16 pairs."""
    pointer = f.element_pointer(block, "i8", int_const(index * tile.target.lanes * 4))
    element = I32 if tile.layout.dtype is BF16 else FLOAT
    return f.load(vector(tile.lanes(index), element), pointer, tile.lanes(index) * 4)


def _load_row(f: FunctionBuilder, tile: Tile, pointer: Val, half: bool) -> Val:
    """What a row of A has for one step; `half`: a pair whose second element does not exist."""
    if tile.layout.dtype is not BF16:
        return f.load(FLOAT, pointer, 4)
    return f.cast("zext", f.load(I16, pointer, 2), I32) if half else f.load(I32, pointer, 2)


def _parts(f: FunctionBuilder, tile: Tile, value: Val) -> list[Val]:
    """What is multiplied: the value, or the even and odd halves of bf16 pairs as f32."""
    lanes = lanes_of(value.type)
    if tile.layout.dtype is not BF16:
        return [value]
    if tile.target.has_bf16_dot:
        return [f.cast("bitcast", value, vector(2 * lanes, BFLOAT))]
    even = f.binary("shl", value, int_const(16, value.type))
    odd = f.binary("and", value, int_const(-65536, value.type))
    return [f.cast("bitcast", half, vector(lanes, FLOAT)) for half in (even, odd)]


def _multiply_add(f: FunctionBuilder, tile: Tile, total: Val, column: Val, row: Val) -> Val:
    lanes = lanes_of(total.type)
    if tile.layout.dtype is BF16 and tile.target.has_bf16_dot:
        name = f"llvm.x86.avx512bf16.dpbf16ps.{lanes * 32}"
        return f.call(name, total.type, total, column, row)
    return f.call(f"llvm.fma.v{lanes}f32", total.type, column, row, total)


def row_pointers(f: FunctionBuilder, rows: int, first: Val, stride: Val) -> list[Val]:
    """Pointers to `rows` rows, `stride` bytes apart.

    Each stays in a register of its own: where LLVM knows how they depend on each other, it computes
    them anew in every iteration, which takes a quarter more instructions than the step itself.
    """
    pointers = [first]
    for _ in range(rows - 1):
        pointers.append(f.element_pointer(pointers[-1], "i8", stride))
    return [f.opaque(pointer) for pointer in pointers]


def table_pointers(f: FunctionBuilder, rows: int, table: Val) -> list[Val]:
    """`rows` pointers out of a table of row pointers."""
    return [f.load(PTR, f.element_pointer(table, PTR, int_const(row)), 8) for row in range(rows)]
