"""Code of the Winograd kernel (`lowering/kernels/winograd.py`).

    for block of tiles of this thread's share:
        V = input transform of the block              stays in L2
        for panel of output channels of this thread's share:
            for xi:  M[xi] = V[xi] U[xi]              U streams by, all tiles of the block use it
            output transform and epilogue

The transforms are functions of their own (`winograd_input.py`, `winograd_output.py`); the products
are those of the contraction kernel.
"""

from __future__ import annotations

from dataclasses import replace

from ranvier.codegen.builder import FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.kernel_parameters import THREAD_PARAMETERS, kernel_parameters
from ranvier.codegen.row_tiles import Rows, RowTiles
from ranvier.codegen.winograd_input import InputTransform
from ranvier.codegen.winograd_output import OutputTransform
from ranvier.codegen.work_split import Share, Work, cut, share
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32
from ranvier.lowering.expression import Accumulator
from ranvier.lowering.kernels.contraction import COLUMN, ROW, Contraction
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.winograd import Winograd, scratch_layout
from ranvier.target import Target


def emit_winograd(module: ModuleWriter, name: str, kernel: Winograd, target: Target) -> None:
    """Write `void @name(ptr b0.., i64 scalars.., i64 thread, i64 threads)` into `module`.

    Raises CompileError for other dtypes than f32 and bf16, and for too few channels.
    """
    if kernel.dtype not in (F32, BF16):
        raise CompileError(f"Winograd convolutions read f32 or bf16, not {kernel.dtype}")
    if kernel.channels < target.lanes:
        raise CompileError(f"{kernel.channels} channels do not fill a vector of {target.lanes}")
    _Kernel(module, name, kernel, target).emit()


class _Kernel:
    def __init__(self, module: ModuleWriter, name: str, kernel: Winograd, target: Target) -> None:
        self.module, self.kernel, self.target = module, kernel, target
        self.layout = kernel.layout(target.lanes)
        self.scratch = scratch_layout(
            kernel.block, kernel.points, kernel.channels, kernel.dtype, self.layout.width
        )
        self.input = InputTransform(kernel, f"{name}.in", target, self.scratch)
        self.output = OutputTransform(kernel, f"{name}.out", target, self.layout, self.scratch)
        self.tiles = self._product()
        parameters = kernel_parameters(kernel)
        self.f = FunctionBuilder(module, name, parameters + THREAD_PARAMETERS)
        self.arguments = [self.f.arg(parameter) for parameter, _ in parameters]

    def _product(self) -> RowTiles:
        """One xi: rows of V times a panel of U, stored side by side in M.

        An even number of channels is an argument, so kernels for different numbers share the code.
        """
        kernel, even = self.kernel, self.kernel.channels % 2 == 0
        depth = dims.symbol("pairs", 1) * 2 if even else kernel.channels
        layout = replace(self.layout, depth=depth, taps=1)
        offset = dims.symbol(ROW) * layout.width + dims.symbol(COLUMN)
        product = Contraction(
            1, kernel.block, layout.width, 1, depth, 0, 0, kernel.dtype, dims.symbol(ROW) * depth,
            (), 0, (Store(0, offset, F32, Accumulator()),), 1, ("pairs",) if even else (),
        )  # fmt: skip
        name = f"product.{kernel.dtype.name}.v{layout.vectors}.d{'' if even else kernel.channels}"
        return RowTiles(product, name, layout, self.target, None, whole_vectors=True)

    def emit(self) -> None:
        """Write the kernel and the functions that it calls."""
        self.tiles.emit(self.module)
        self.input.emit(self.module)
        self.output.emit(self.module)
        f, scratch = self.f, self.scratch
        v = f.arg(f"b{self.kernel.scratch_operand}")
        m = f.element_pointer(v, "i8", int_const(scratch.products))
        with share(f, self._work()) as part:
            self._blocks(part, v, m)
        f.ret()
        f.finish()

    def _work(self) -> Work:
        f, kernel, layout = self.f, self.kernel, self.layout
        index = IndexEmitter(f, {name: f.arg(name) for name in kernel.scalars}, None)
        tiles = kernel.images
        for size in (kernel.out_height, kernel.out_width):
            tiles = tiles * dims.floordiv(size + (kernel.tile - 1), kernel.tile)
        steps, panels, panel_size = map(
            dims.static, (layout.steps, layout.panels, layout.panel_size)
        )
        transform = kernel.points**2 * kernel.channels * 4  # bytes of V, as if of f32
        return Work(
            index.scalar(tiles), int_const(panels), int_const(steps * layout.vectors),
            int_const(transform), int_const(panel_size * layout.dtype.size), self.tiles.rows,
        )  # fmt: skip

    def _blocks(self, part: Share, v: Val, m: Val) -> None:
        """Blocks of nearly equal size, at most `block` tiles each."""
        f = self.f
        total = f.binary("sub", part.end_row, part.first_row)
        blocks = f.ceil_div(total, int_const(self.kernel.block))
        with f.loop(int_const(0), blocks, 1, "block") as number:
            first, end = cut(f, total, number, blocks)
            count = f.binary("sub", end, first)
            first = f.binary("add", part.first_row, first)
            f.call_void(self.input.name, *self.arguments, first, count, v)
            self._panels(part, v, m, first, count)

    def _panels(self, part: Share, v: Val, m: Val, first: Val, count: Val) -> None:
        f, layout, scratch = self.f, self.layout, self.scratch
        u = f.arg(f"b{self.kernel.weight_operand}")
        xi_bytes = layout.steps_per_tap * layout.step_bytes
        points = self.kernel.points**2
        stride = int_const(scratch.input_row)
        depth = [] if not self.tiles.contraction.scalars else [int_const(self.kernel.channels // 2)]
        with f.loop(part.first_panel, part.end_panel, 1, "panel") as panel:
            n = f.binary("mul", panel, int_const(layout.width))
            kind = self.tiles.kind_key(f, f.binary("sub", int_const(self.kernel.columns), n))
            with f.loop(int_const(0), int_const(points), 1, "xi") as xi:
                rows = Rows(
                    int_const(0), count, self._at(v, xi, scratch.input_stride), stride, stride
                )
                number = f.binary("add", f.binary("mul", panel, int_const(points)), xi)
                b = self._at(u, number, dims.static(xi_bytes))
                product = self._at(m, xi, scratch.product_stride)
                place = (product, *depth, int_const(0), int_const(0))
                following = f.element_pointer(b, "i8", int_const(dims.static(xi_bytes)))
                self.tiles.run(f, self.tiles.split(f, rows), kind, place, (b, following))
            f.call_void(self.output.name, *self.arguments, n, first, count, m)

    def _at(self, base: Val, index: Val, stride: int) -> Val:
        f = self.f
        return f.element_pointer(base, "i8", f.binary("mul", index, int_const(stride)))
