"""The input transform of the Winograd kernel: V = B^T d B of a block of tiles.

    void @name(operands, scalars, i64 first, i64 count, ptr v)

Per tile the addresses of its pixels go to a small table, those of zeros for pixels outside the
image; then all channels are transformed, a vector at a time. The last vector ends at the last
channel: it may compute some channels for a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen import memory
from ranvier.codegen.builder import I64, PTR, FunctionBuilder, ModuleWriter, Val, int_const, vector
from ranvier.codegen.constant_matrix import multiply
from ranvier.codegen.indices import IndexEmitter, lane_steps
from ranvier.codegen.kernel_parameters import kernel_parameters
from ranvier.codegen.math_context import Context
from ranvier.codegen.row_table import zero_row
from ranvier.codegen.winograd_tiles import TileNumbers
from ranvier.ir.dtype import F32
from ranvier.lowering.kernels.winograd import ScratchLayout, Winograd, transforms
from ranvier.target import Target

_PITCH = 8  # entries per row of the address table: a vector


@dataclass(frozen=True)
class InputTransform:
    """The function that transforms the tiles of a block into V."""

    kernel: Winograd
    name: str
    target: Target
    scratch: ScratchLayout

    def emit(self, module: ModuleWriter) -> None:
        """Write the function into `module`."""
        kernel = self.kernel
        parameters = kernel_parameters(kernel)
        parameters += [("at.first", I64), ("at.count", I64), ("at.v", PTR)]
        f = FunctionBuilder(
            module, self.name, parameters, attributes="nounwind noinline", linkage="internal"
        )
        table = f.emit(f"alloca [{kernel.points * _PITCH} x ptr], align 64", PTR)
        addresses = _Addresses(f, kernel)
        with f.loop(int_const(0), f.arg("at.count"), 1, "tile") as t:
            addresses.fill(table, f.binary("add", f.arg("at.first"), t))
            row = f.binary("mul", t, int_const(self.scratch.input_row))
            self._channels(f, table, f.element_pointer(f.arg("at.v"), "i8", row))
        f.ret()
        f.finish()

    def _channels(self, f: FunctionBuilder, table: Val, row: Val) -> None:
        lanes, channels = self.target.lanes, self.kernel.channels
        last = int_const(channels - lanes)
        with f.loop(int_const(0), int_const(channels), lanes, "c") as c:
            if channels % lanes:
                c = f.call("llvm.smin.i64", I64, c, last)
            offset = f.binary("mul", c, int_const(self.kernel.dtype.size))
            self._transform(f, table, offset, f.element_pointer(row, "i8", offset))

    def _transform(self, f: FunctionBuilder, table: Val, offset: Val, row: Val) -> None:
        """B^T d B of one vector of channels: down the columns of d, then along its rows."""
        points, context = self.kernel.points, Context(f, self.target)
        matrix = transforms(self.kernel.tile, self.kernel.kernel).input
        dtype, storage = self.kernel.dtype, memory.storage_type(self.kernel.dtype)
        type = vector(self.target.lanes, storage)
        columns = []
        for j in range(points):
            column = []
            for i in range(points):
                slot = f.element_pointer(table, PTR, int_const(i * _PITCH + j))
                pixel = f.element_pointer(f.load(PTR, slot, 8), "i8", offset)
                column.append(memory.decode(context, f.load(type, pixel, dtype.size), dtype))
            columns.append(multiply(f, matrix, column))
        for i in range(points):
            for j, value in enumerate(multiply(f, matrix, [column[i] for column in columns])):
                at = int_const((i * points + j) * self.scratch.input_stride)
                bits = memory.encode(context, value, F32, dtype)
                f.store(bits, f.element_pointer(row, "i8", at), dtype.size)


class _Addresses:
    """Fills the table with the addresses of a tile's pixels."""

    def __init__(self, f: FunctionBuilder, kernel: Winograd) -> None:
        self._f, self._kernel = f, kernel
        self._index = IndexEmitter(f, {name: f.arg(name) for name in kernel.scalars}, None)
        self._numbers = TileNumbers(f, kernel)
        size = kernel.dtype.size
        start = self._index.scalar(kernel.input_offset * size)
        base = f.element_pointer(f.arg(f"b{kernel.input_operand}"), "i8", start)
        self._base = f.cast("ptrtoint", base, I64)
        self._strides = [self._index.scalar(stride * size) for stride in kernel.input_strides]
        self._size = [self._index.scalar(s) for s in (kernel.in_height, kernel.in_width)]
        zeros = zero_row(f, kernel.channels * size)
        self._zeros = f.splat(f.cast("ptrtoint", zeros, I64), _PITCH)
        self._steps = lane_steps(_PITCH, 1)
        stride = f.splat(self._strides[2], _PITCH)
        self._across = f.binary("mul", stride, self._steps)  # bytes from the first pixel

    def fill(self, table: Val, number: Val) -> None:
        """Write the addresses of tile `number`."""
        f, place = self._f, self._numbers.place(number)
        top, left = self._kernel.padding
        y = f.binary("sub", place.y, int_const(top))
        x = f.binary("sub", place.x, int_const(left))
        at = self._base
        for index, stride in zip((place.image, y, x), self._strides, strict=True):
            at = f.binary("add", at, f.binary("mul", index, stride))
        columns = f.binary("add", f.splat(x, _PITCH), self._steps)
        inside = f.compare("icmp ult", columns, f.splat(self._size[1], _PITCH))
        for i in range(self._kernel.points):
            row = f.binary("add", f.splat(at, _PITCH), self._across)
            here = f.compare("icmp ult", f.binary("add", y, int_const(i)), self._size[0])
            valid = f.binary("and", inside, f.splat(here, _PITCH))
            entry = f.element_pointer(table, I64, int_const(i * _PITCH))
            f.store(f.select(valid, row, self._zeros), entry, 8)
            at = f.binary("add", at, self._strides[1])
