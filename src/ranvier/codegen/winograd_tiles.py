"""Where the tiles of a Winograd kernel lie: tile number -> image, first row, first column."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.builder import FunctionBuilder, Val, int_const
from ranvier.codegen.indices import IndexEmitter
from ranvier.lowering.kernels.winograd import Winograd


@dataclass(frozen=True)
class Place:
    """The first output pixel (y, x) of a tile, and its image; i64."""

    image: Val
    y: Val
    x: Val


class TileNumbers:
    """Numbers tiles row-major: image, row of tiles, column of tiles."""

    def __init__(self, f: FunctionBuilder, kernel: Winograd) -> None:
        self._f, self._tile = f, int_const(kernel.tile)
        index = IndexEmitter(f, {name: f.arg(name) for name in kernel.scalars}, None)
        self._rows = f.ceil_div(index.scalar(kernel.out_height), self._tile)
        self._columns = f.ceil_div(index.scalar(kernel.out_width), self._tile)

    def place(self, number: Val) -> Place:
        """Where tile `number` begins."""
        f = self._f
        line = f.binary("udiv", number, self._columns)
        column = f.binary("sub", number, f.binary("mul", line, self._columns))
        image = f.binary("udiv", line, self._rows)
        row = f.binary("sub", line, f.binary("mul", image, self._rows))
        return Place(image, f.binary("mul", row, self._tile), f.binary("mul", column, self._tile))
