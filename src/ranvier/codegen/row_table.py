"""Where the rows of A start: a plain stride, or a table of pointers per tap and row.

The table makes a convolution of any kernel size, stride, dilation and padding a plain batch-reduce
GEMM: it is filled once per block of rows, vectorised over the rows, and read by every panel of
columns. A row that falls outside the image points to zeros, so the inner loops have no special case
at the border. (The "indirection buffer" of Dukhan, "The Indirect Convolution Algorithm", arXiv
1907.02129.)
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.builder import I64, PTR, FunctionBuilder, Val, int_const, lanes_of
from ranvier.codegen.indices import IndexEmitter, Lanes
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.expression import Guard
from ranvier.lowering.kernels.contraction import ROW, TAP, Contraction

_ENTRIES = 4096  # of a table, unless one tile needs more
_UNROLLED_TAPS = 64
_LANES = 8  # rows computed at once


@dataclass(frozen=True)
class RowTable:
    """A table of pointers [tap][row of the block] on the stack, `capacity` rows per tap."""

    contraction: Contraction
    capacity: int

    @property
    def block(self) -> int:
        """Rows that may be asked for at once: filling runs over by less than a vector."""
        return self.capacity - _LANES

    @property
    def taps(self) -> int:
        """The static number of taps."""
        assert isinstance(self.contraction.taps, int)
        return self.contraction.taps

    @property
    def entries(self) -> int:
        """Pointers in the table."""
        return self.capacity * self.taps


def row_table(contraction: Contraction, tile_rows: int) -> RowTable:
    """The table for a contraction; CompileError when its size cannot be bounded."""
    taps, depth = contraction.taps, contraction.depth
    if not isinstance(taps, int):
        raise CompileError(f"computed row addresses need a static number of taps, not {taps}")
    if contraction.guards and _longest_row(contraction) is None:
        raise CompileError(f"guarded rows need a bounded depth, not {depth}")
    usable = max(tile_rows, _ENTRIES // max(taps, 1))
    return RowTable(contraction, (usable + _LANES - 1) // _LANES * _LANES + _LANES)


def emit_row_table(
    f: FunctionBuilder,
    plan: RowTable,
    environment: dict[str, Val],
    table: Val,
    first: Val,
    count: Val,
) -> None:
    """Fill `table` for `count` rows from `first`; `environment` binds the batch and scalars."""
    contraction = plan.contraction
    known = {**environment, ROW: first}
    outer = IndexEmitter(f, known, Lanes(ROW, _LANES))
    size = contraction.a_dtype.size
    base = _address(f, Val(f"%b{contraction.a_operand}", PTR))
    zeros = _zero_address(f, contraction) if contraction.guards else None
    taps = plan.taps
    unrolled = (
        [(t, _tap_row(contraction, t)) for t in range(taps)] if taps <= _UNROLLED_TAPS else []
    )
    for _, (row, _) in unrolled:
        outer.scalar(_fixed(row))
    with f.loop(int_const(0), count, _LANES, "row") as i:
        inner_env = {**environment, ROW: f.binary("add", first, i)}
        index = IndexEmitter(f, inner_env, Lanes(ROW, _LANES), outer)
        writer = _EntryWriter(f, index, base, zeros, size)
        for t, (row, guards) in unrolled:
            slot = f.binary("add", i, int_const(t * plan.capacity))
            f.store(writer.pointers(row, guards), f.element_pointer(table, PTR, slot), 8)
        if not unrolled:
            with f.loop(int_const(0), int_const(taps), 1, "tap") as tap:
                inner = IndexEmitter(f, {**inner_env, TAP: tap}, Lanes(ROW, _LANES), index)
                writer = _EntryWriter(f, inner, base, zeros, size)
                slot = f.binary("add", i, f.binary("mul", tap, int_const(plan.capacity)))
                entry = writer.pointers(contraction.row, contraction.guards)
                f.store(entry, f.element_pointer(table, PTR, slot), 8)


@dataclass
class _EntryWriter:
    """Computes the pointers of `_LANES` rows for one tap."""

    f: FunctionBuilder
    index: IndexEmitter
    base: Val
    zeros: Val | None
    size: int

    def __post_init__(self) -> None:
        self._inside: dict[Guard, Val] = {}

    def pointers(self, row: Dim, guards: tuple[Guard, ...]) -> Val:
        """The addresses as <_LANES x i64>."""
        f, fixed = self.f, _fixed(row)
        start = f.binary("mul", self.index.scalar(fixed), int_const(self.size))
        start = f.splat(f.binary("add", self.base, start), _LANES)
        moving = self.index.vector((row - fixed) * self.size)
        address = f.binary("add", start, moving)
        inside: Val | None = None
        for guard in guards:
            condition = self._condition(guard)
            inside = condition if inside is None else f.binary("and", inside, condition)
        if inside is None:
            return address
        assert self.zeros is not None
        return f.select(inside, address, f.splat(self.zeros, _LANES))

    def _condition(self, guard: Guard) -> Val:
        if guard not in self._inside:
            value = self.index.inside(guard.index, guard.limit)
            self._inside[guard] = value if lanes_of(value.type) > 1 else self.f.splat(value, _LANES)
        return self._inside[guard]


def _tap_row(contraction: Contraction, tap: int) -> tuple[Dim, tuple[Guard, ...]]:
    """Row offset and guards of one tap; guards that always hold are dropped."""
    at = {TAP: tap}
    guards = (
        Guard(dims.substitute(g.index, at), dims.substitute(g.limit, at))
        for g in contraction.guards
    )
    kept = tuple(g for g in guards if not _always(g))
    return dims.substitute(contraction.row, at), kept


def _always(guard: Guard) -> bool:
    low, gap = dims.bounds(guard.index)[0], dims.bounds(guard.limit - guard.index)[0]
    return low is not None and low >= 0 and gap is not None and gap > 0


def _fixed(row: Dim) -> Dim:
    """The terms of a row offset that do not depend on the row."""
    if isinstance(row, int):
        return row
    terms = [
        (term, factor)
        for term, factor in row.terms
        if not dims.depends_on(dims.from_terms([(term, 1)]), [ROW])
    ]
    return dims.from_terms(terms)


def _address(f: FunctionBuilder, pointer: Val) -> Val:
    return f.cast("ptrtoint", pointer, I64)


def zero_row(f: FunctionBuilder, row_bytes: int) -> Val:
    """The address of at least `row_bytes` zeros: what is read outside an image."""
    size = 1 << (max(64, row_bytes) - 1).bit_length()
    name = f"ranvier_zeros_{size}"
    f.module.add_global(name, f"private constant [{size} x i8] zeroinitializer, align 64")
    return Val(f"@{name}", PTR)


def _zero_address(f: FunctionBuilder, contraction: Contraction) -> Val:
    depth = _longest_row(contraction)
    assert depth is not None
    return _address(f, zero_row(f, depth * contraction.a_dtype.size))


def _longest_row(contraction: Contraction) -> int | None:
    """A static bound of the depth."""
    return contraction.depth if isinstance(contraction.depth, int) else contraction.depth_limit
