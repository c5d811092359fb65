"""The loops of a contraction inside a block of rows: panels of B, and parts of a long depth.

    for panel:                          all of a short depth: sums stay in registers
        row tiles

    for group of panels:                a long one: sums wait in memory between the parts
        for part of the depth:          of A's rows, so much stays in L2 for all panels of the group
            for panel:                  and of the panel for all row tiles
                row tiles

Whatever panel is multiplied, its tiles ask for the one that comes after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ranvier.codegen.builder import FLOAT, I64, FunctionBuilder, Val, int_const
from ranvier.codegen.contraction_part import PART_UNIT, Part
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.kernel_parameters import kernel_parameters
from ranvier.codegen.row_tiles import Rows, RowTiles
from ranvier.codegen.work_split import Share
from ranvier.lowering.kernels.contraction import PART_BYTES, SUM_COLUMNS, SUM_ROWS
from ranvier.lowering.kernels.panels import PanelLayout


@dataclass(frozen=True)
class Panels:
    """Emits these loops. Create it where a contraction begins: it computes what all blocks need."""

    f: FunctionBuilder
    tiles: RowTiles
    index: IndexEmitter

    def __post_init__(self) -> None:
        _ = self.panel_bytes, self.column_count, self.batch_bytes, self._steps

    @cached_property
    def panel_bytes(self) -> Val:
        """Bytes of a panel of B."""
        return self.index.scalar(self._layout.panel_size * self._layout.dtype.size)

    @cached_property
    def column_count(self) -> Val:
        """Columns of B."""
        return self.index.scalar(self._layout.columns)

    @cached_property
    def batch_bytes(self) -> Val:
        """Bytes from one B to the next; 0 where all batches share one."""
        return self.index.scalar(self.tiles.contraction.b_batch_stride * self._layout.dtype.size)

    @cached_property
    def _steps(self) -> Val:
        return self.index.scalar(self._layout.steps)

    @property
    def _layout(self) -> PanelLayout:
        return self.tiles.layout

    def run(self, share: Share, batch: Val, rows: Rows) -> None:
        """Multiply `rows` of a batch with all panels of `share`."""
        f, contraction = self.f, self.tiles.contraction
        offset = f.binary("mul", batch, self.batch_bytes)
        b = f.element_pointer(f.arg(f"b{contraction.b_operand}"), "i8", offset)
        if contraction.sums_operand is None:
            self._whole(share, batch, rows, b)
        else:
            self._groups(share, batch, rows, b)

    def _whole(self, share: Share, batch: Val, rows: Rows, b: Val) -> None:
        f, split = self.f, self.tiles.split(self.f, rows)
        with f.loop(share.first_panel, share.end_panel, 1, "panel") as p:
            after = self._following(p, share.first_panel, share.end_panel)
            panels = self._at(b, p, int_const(0)), self._at(b, after, int_const(0))
            self.tiles.run(f, split, self._kind(p), self._place(batch, p), panels)

    def _groups(self, share: Share, batch: Val, rows: Rows, b: Val) -> None:
        f, most = self.f, self._part_steps(rows)
        group = SUM_COLUMNS // self._layout.width
        with f.loop(share.first_panel, share.end_panel, group, "group") as first:
            end = self._minimum(f.binary("add", first, int_const(group)), share.end_panel)
            with f.loop(int_const(0), self._steps, most, "part") as k:
                steps = self._minimum(most, f.binary("sub", self._steps, k))
                self._part(batch, rows, b, (first, end), (k, steps))

    def _part_steps(self, rows: Rows) -> Val:
        """Steps of the largest part; rows that are a single tile use B once and take it whole."""
        f, layout, unit = self.f, self._layout, int_const(PART_UNIT)
        limit = int_const(PART_BYTES // (layout.unit * layout.dtype.size))
        units = f.ceil_div(self._steps, unit)
        even = f.ceil_div(units, f.ceil_div(self._steps, limit))
        is_single = f.compare("icmp ule", rows.count, int_const(self.tiles.rows))
        return f.select(is_single, self._steps, f.binary("mul", even, unit))

    def _part(
        self, batch: Val, rows: Rows, b: Val, group: tuple[Val, Val], depth: tuple[Val, Val]
    ) -> None:
        """The panels of `group` (first, end) in a part of the `depth` (first step, steps)."""
        f, layout, contraction = self.f, self._layout, self.tiles.contraction
        k, steps = depth
        later = f.binary("add", k, steps)
        column = f.binary("mul", k, int_const(layout.unit * layout.dtype.size))
        at = f.element_pointer(rows.at, "i8", column)
        split = self.tiles.split(f, Rows(rows.first, rows.count, at, rows.entry_bytes, rows.stride))
        is_first = f.compare("icmp eq", k, int_const(0))
        is_last = f.compare("icmp eq", later, self._steps)
        with f.loop(*group, 1, "panel") as p:
            number = f.binary("sub", p, group[0])
            place = f.binary("mul", number, int_const(SUM_ROWS * layout.width))
            sums = f.element_pointer(f.arg(f"b{contraction.sums_operand}"), FLOAT, place)
            after = self._following(p, *group)
            wraps = f.compare("icmp eq", after, group[0])
            panels = self._at(b, p, k), self._at(b, after, f.select(wraps, later, k))
            part = Part(steps, sums, rows.first, is_first, is_last)
            self.tiles.run(f, split, self._kind(p), self._place(batch, p), panels, part)

    def _at(self, b: Val, panel: Val, step: Val) -> Val:
        """Where a step of a panel lies."""
        f = self.f
        before = f.binary("mul", step, int_const(self._layout.step_bytes))
        return f.element_pointer(
            b, "i8", f.binary("add", f.binary("mul", panel, self.panel_bytes), before)
        )

    def _following(self, panel: Val, first: Val, end: Val) -> Val:
        """The panel after this one; the first one after the last."""
        f = self.f
        after = f.binary("add", panel, int_const(1))
        return f.select(f.compare("icmp eq", after, end), first, after)

    def _kind(self, panel: Val) -> Val:
        f = self.f
        return self.tiles.kind_key(f, f.binary("sub", self.column_count, self._column(panel)))

    def _place(self, batch: Val, panel: Val) -> tuple[Val, ...]:
        names = (name for name, _ in kernel_parameters(self.tiles.contraction))
        return (*map(self.f.arg, names), batch, self._column(panel))

    def _column(self, panel: Val) -> Val:
        return self.f.binary("mul", panel, int_const(self._layout.width))

    def _minimum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.umin.i64", I64, a, b)
