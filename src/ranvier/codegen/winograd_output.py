"""The output transform of the Winograd kernel: Y = A^T M A of a block of tiles, and the epilogue.

    void @name(operands, scalars, i64 n, i64 first, i64 count, ptr m)

`n` is the first column of the panel that M holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.builder import (
    FLOAT,
    I64,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    int_const,
    vector,
)
from ranvier.codegen.constant_matrix import multiply
from ranvier.codegen.contraction_epilogue import row_free, run_time_mask
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.indices import IndexEmitter, Lanes
from ranvier.codegen.kernel_parameters import kernel_parameters
from ranvier.codegen.winograd_tiles import Place, TileNumbers
from ranvier.lowering.kernels.contraction import BATCH, COLUMN, ROW
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.kernels.winograd import ScratchLayout, Winograd, transforms
from ranvier.target import Target


@dataclass(frozen=True)
class OutputTransform:
    """The function that turns M of a block and panel into outputs."""

    kernel: Winograd
    name: str
    target: Target
    layout: PanelLayout
    scratch: ScratchLayout

    def emit(self, module: ModuleWriter) -> None:
        """Write the function into `module`."""
        kernel, lanes = self.kernel, self.target.lanes
        parameters = kernel_parameters(kernel)
        parameters += [("at.n", I64), ("at.first", I64), ("at.count", I64), ("at.m", PTR)]
        f = FunctionBuilder(
            module, self.name, parameters, attributes="nounwind noinline", linkage="internal"
        )
        outputs = f.emit(f"alloca [{kernel.tile**2 * lanes} x float], align 64", PTR)
        numbers, sizes = TileNumbers(f, kernel), self._sizes(f)
        end = f.call(
            "llvm.smin.i64", I64, int_const(kernel.columns),
            f.binary("add", f.arg("at.n"), int_const(self.layout.width)),
        )  # fmt: skip
        with f.loop(int_const(0), f.arg("at.count"), 1, "tile") as t:
            place = numbers.place(f.binary("add", f.arg("at.first"), t))
            offset = f.binary("mul", t, int_const(self.scratch.product_row))
            row = f.element_pointer(f.arg("at.m"), "i8", offset)
            with f.loop(f.arg("at.n"), end, lanes, "n") as n:
                column = f.binary("mul", f.binary("sub", n, f.arg("at.n")), int_const(4))
                values = self._transform(f, f.element_pointer(row, "i8", column))
                self._store(f, n, place, sizes, values, outputs)
        f.ret()
        f.finish()

    def _sizes(self, f: FunctionBuilder) -> tuple[Val, Val]:
        index = IndexEmitter(f, {name: f.arg(name) for name in self.kernel.scalars}, None)
        return index.scalar(self.kernel.out_height), index.scalar(self.kernel.out_width)

    def _transform(self, f: FunctionBuilder, row: Val) -> list[list[Val]]:
        """A^T M A of one vector of columns, [tile][tile]."""
        points, type = self.kernel.points, vector(self.target.lanes, FLOAT)
        matrix = transforms(self.kernel.tile, self.kernel.kernel).output
        columns = []
        for j in range(points):
            column = []
            for i in range(points):
                at = int_const((i * points + j) * self.scratch.product_stride)
                column.append(f.load(type, f.element_pointer(row, "i8", at), 4))
            columns.append(multiply(f, matrix, column))
        lines = zip(*columns, strict=True)
        return [multiply(f, matrix, line) for line in lines]

    def _store(
        self, f: FunctionBuilder, n: Val, place: Place, sizes: tuple[Val, Val],
        values: list[list[Val]], outputs: Val,
    ) -> None:  # fmt: skip
        """The epilogue of the outputs that lie inside the image."""
        tile, lanes = self.kernel.tile, self.target.lanes
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                slot = f.element_pointer(outputs, FLOAT, int_const((i * tile + j) * lanes))
                f.store(value, slot, 4 * lanes)
        emitter = self._emitter(f, n)
        height, width = (
            f.call("llvm.smin.i64", I64, f.binary("sub", size, start), int_const(tile))
            for size, start in ((sizes[0], place.y), (sizes[1], place.x))
        )
        start = f.binary("add", f.binary("mul", place.image, sizes[0]), place.y)
        first = f.binary("add", f.binary("mul", start, sizes[1]), place.x)
        with f.loop_carrying(int_const(0), height, 1, [first], "y") as y:
            source = f.binary("mul", y.index, int_const(tile))
            with f.loop(int_const(0), width, 1, "x") as x:
                number = f.binary("mul", f.binary("add", source, x), int_const(lanes))
                slot = f.element_pointer(outputs, FLOAT, number)
                value = f.load(vector(lanes, FLOAT), slot, 4 * lanes)
                at = emitter.nested({ROW: f.binary("add", y.values[0], x)})
                at = at.with_accumulator(value)
                for store in self.kernel.stores:
                    at.store(store)
            y.next = [f.binary("add", y.values[0], sizes[1])]

    def _emitter(self, f: FunctionBuilder, n: Val) -> ExpressionEmitter:
        """Knows what depends on the column alone."""
        kernel, lanes = self.kernel, self.target.lanes
        known = {name: f.arg(name) for name in kernel.scalars}
        known |= {BATCH: int_const(0), COLUMN: n}
        mask = None
        if kernel.columns % lanes:
            mask = run_time_mask(f, kernel.columns, lanes, known)
        operands = [f.arg(f"b{i}") for i in range(kernel.operand_count)]
        emitter = ExpressionEmitter(f, self.target, operands, known, Lanes(COLUMN, lanes, mask))
        for store in kernel.stores:
            for part in row_free(store.value):
                emitter.emit(part)
        return emitter
