"""Tiles of a part of the depth, where it is cut: their sums wait in memory until the next part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ranvier.codegen.builder import FLOAT, I1, I64, PTR, FunctionBuilder, Val, int_const
from ranvier.codegen.contraction_epilogue import LongEpilogue
from ranvier.codegen.contraction_sum import TileSum
from ranvier.codegen.microkernel import Extents, Tile, load_sums, spill_sums, zero_sums
from ranvier.ir import dim as dims

PART_UNIT = 8  # steps: parts are multiples of it


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


def emit_part(f: FunctionBuilder, total: TileSum, epilogue: LongEpilogue) -> None:
    """All tiles of a tile function `f` whose arguments end with a `Part`.

    The sums of all tiles stay in memory; after the last part the epilogue stores the results.
    """
    tile, stride = total.tile, f.arg("at.stride")
    size = tile.rows * tile.vectors * tile.target.lanes
    steps = f.arg("part.steps")
    extents = Extents(dims.symbol("$part") * (PART_UNIT * tile.layout.unit), steps, steps)
    first = [f.arg("at.rows"), f.arg("part.sums")]
    with f.loop_carrying(int_const(0), f.arg("at.tiles"), 1, first, "tile") as loop:
        rows, place = loop.values
        spill_sums(
            f, tile, total.emit(extents, loop.index, rows, _sums_before(f, tile, place)), place
        )
        loop.next = [
            f.element_pointer(rows, "i8", f.binary("mul", stride, int_const(tile.rows))),
            f.element_pointer(place, FLOAT, int_const(size)),
        ]
    with f.when(f.arg("part.last"), "store"):
        count = f.binary("mul", f.arg("at.tiles"), int_const(tile.rows))
        epilogue.call(f, f.arg("at.m"), count, f.arg("part.sums"))


def _sums_before(f: FunctionBuilder, tile: Tile, place: Val) -> list[Val]:
    """What the parts before have summed up; zero in the first part."""
    zeros = zero_sums(tile)
    load, after, origin = f.label("load"), f.label("after"), f.block
    f.branch(f.arg("part.first"), after, load)
    f.begin(load)
    loaded = load_sums(f, tile, place)
    f.jump(after)
    f.begin(after)
    sums = [
        f.phi(zero.type, (zero, origin), (sum_, load))
        for zero, sum_ in zip(zeros, loaded, strict=False)  # only the first chain waits in memory
    ]
    return sums + zeros[len(sums) :]
