"""A block of rows as register tiles: as few as possible, of nearly equal height, a panel wide.

A tile function runs down all tiles of one height, so a block of rows in one panel takes at most two
calls: one for the higher tiles, one for those with a row less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ranvier.codegen.builder import FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.contraction_part import Part
from ranvier.codegen.contraction_sum import bytes_ahead
from ranvier.codegen.contraction_tile import TileFunction
from ranvier.codegen.microkernel import Tile, tile_rows
from ranvier.codegen.row_table import RowTable
from ranvier.ir import dim as dims
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.target import Target

_HALVED_LANES = 16  # of vectors whose lower half is a vector register, too, and twice as fast


@dataclass(frozen=True)
class _Kind:
    """A kind of panel: vectors that are computed; `masked`: the last may be partly empty.

    `half_last`: the last vector is known to hold columns in its lower half only.
    """

    vectors: int
    masked: bool
    half_last: bool = False


@dataclass(frozen=True)
class Rows:
    """`count` rows from number `first`; `at` is where the first one is found.

    `entry_bytes` lie between what `at` and the row after it point to (rows themselves, or entries
    of the row table), `stride` bytes between rows.
    """

    first: Val
    count: Val
    at: Val
    entry_bytes: Val
    stride: Val


@dataclass(frozen=True)
class _Tiles:
    """`tiles` tiles of `height` rows, the first of which is row `first`, found at `at`.

    The tiles before have asked for `asked` bytes of the next panel in every step of the depth.
    """

    height: Val
    tiles: Val
    asked: Val
    first: Val
    at: Val
    stride: Val


@dataclass(frozen=True)
class RowTiles:
    """The tile functions of one contraction, and the calls that cover a block of rows.

    With `whole_vectors` every vector that holds columns is stored whole: the memory behind the
    stores has the width of the panel.
    """

    contraction: Contraction
    name: str
    layout: PanelLayout
    target: Target
    table: RowTable | None
    whole_vectors: bool = False

    @cached_property
    def rows(self) -> int:
        """Rows of the highest tile."""
        return tile_rows(self.layout, self.target)

    @cached_property
    def kinds(self) -> tuple[_Kind, ...]:
        """The panel kinds that occur, widest first: full ones, and partial last ones."""
        columns, layout = self.layout.columns, self.layout
        if dims.divides(layout.width, columns):
            return (_Kind(layout.vectors, False),)
        masked = not self.whole_vectors
        if not isinstance(columns, int):
            narrow = [v for v in (4, 2, 1) if v < layout.vectors]
            partial = [_Kind(v, masked) for v in (layout.vectors, *narrow)]
            return (_Kind(layout.vectors, False), *partial)
        full = (_Kind(layout.vectors, False),) if columns >= layout.width else ()
        rest, lanes = columns % layout.width, self.target.lanes
        half_last = masked and lanes == _HALVED_LANES and 0 < rest % lanes <= lanes // 2
        return (*full, _Kind(-(-rest // lanes), masked, half_last))

    @cached_property
    def functions(self) -> dict[int, TileFunction]:
        """Tile functions by key: kind number times the tile's rows, plus the row count (from 1)."""
        return {
            number * self.rows + rows: TileFunction(
                self.contraction, self.name, self._tile(rows, kind), self.table, kind.masked
            )
            for number, kind in enumerate(self.kinds)
            for rows in range(1, self.rows + 1)
        }  # fmt: skip

    def _tile(self, rows: int, kind: _Kind) -> Tile:
        return Tile(rows, kind.vectors, self.layout, self.target, kind.half_last)

    def emit(self, module: ModuleWriter) -> None:
        """Write the tile functions that the module does not have yet."""
        for function in self.functions.values():
            if not module.has_function(function.symbol):
                function.emit(module)

    def split(self, f: FunctionBuilder, rows: Rows) -> tuple[_Tiles, _Tiles]:
        """The tiles of a block: higher ones first, then those with a row less (maybe none)."""
        tiles = f.ceil_div(rows.count, int_const(self.rows))
        base = f.binary("udiv", rows.count, tiles)
        larger = f.binary("sub", rows.count, f.binary("mul", base, tiles))
        smaller = f.binary("sub", tiles, larger)
        height = f.binary("add", base, int_const(1))
        taken = f.binary("mul", larger, height)
        is_full = f.compare("icmp eq", height, int_const(self.rows))
        each = (int_const(bytes_ahead(self.layout, full)) for full in (True, False))
        asked = f.binary("mul", larger, f.select(is_full, *each))
        later = f.element_pointer(rows.at, "i8", f.binary("mul", taken, rows.entry_bytes))
        next_first = f.binary("add", rows.first, taken)
        return (
            _Tiles(height, larger, int_const(0), rows.first, rows.at, rows.stride),
            _Tiles(base, smaller, asked, next_first, later, rows.stride),
        )

    def run(
        self,
        f: FunctionBuilder,
        split: Sequence[_Tiles],
        kind_key: Val,
        place: Sequence[Val],
        panels: tuple[Val, Val],
        part: Part | None = None,
    ) -> None:
        """Compute the rows of `split` in a panel of B; `panels` are it and the one after it.

        `place` are the leading arguments of the tile functions: operands, scalars, batch, column.
        """
        for tiles in split:
            self._dispatch(f, tiles, kind_key, place, panels, part)

    def _dispatch(
        self,
        f: FunctionBuilder,
        tiles: _Tiles,
        kind_key: Val,
        place: Sequence[Val],
        panels: tuple[Val, Val],
        part: Part | None,
    ) -> None:
        """Call the function of this height, if any tiles are left for it."""
        key = f.binary("add", tiles.height, kind_key)
        key = f.select(f.compare("icmp ne", tiles.tiles, int_const(0)), key, int_const(0))
        labels = {number: f.label("tiles") for number in self.functions}
        after = f.label("after")
        cases = " ".join(f"i64 {number}, label %{label}" for number, label in labels.items())
        f.raw(f"switch {key}, label %{after} [{cases}]")
        numbers = [tiles.first, tiles.tiles, tiles.asked]
        arguments = [*place, *numbers, *panels, tiles.at, tiles.stride]
        for number, label in labels.items():
            f.begin(label)
            function = self.functions[number]
            extra = part.arguments(f, function.tile, tiles.first) if part is not None else ()
            f.call_void(function.symbol, *arguments, *extra)
            f.jump(after)
        f.begin(after)

    def kind_key(self, f: FunctionBuilder, rest: Val) -> Val:
        """The kind number, times the tile's rows, of a panel with `rest` columns to the last."""
        key = int_const(0)
        for number, kind in enumerate(self.kinds[1:], 1):
            limit = min(kind.vectors * self.target.lanes, self.layout.width - 1)
            fits = f.compare("icmp ule", rest, int_const(limit))
            key = f.select(fits, int_const(number * self.rows), key)
        return key
