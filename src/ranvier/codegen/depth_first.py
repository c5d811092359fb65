"""Code of the depth-first kernel (`lowering/kernels/depth_first.py`).

for band of this thread:
    move the rows of the window that are needed again to its beginning
    call the kernels of the chain, each as the only thread
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ranvier.codegen.builder import I1, I64, FunctionBuilder, ModuleWriter, Val, int_const
from ranvier.codegen.indices import IndexEmitter
from ranvier.codegen.kernel_parameters import THREAD_PARAMETERS, kernel_parameters
from ranvier.codegen.work_split import cut
from ranvier.ir.dim import Polynomial
from ranvier.lowering.kernels.depth_first import (
    BEGIN,
    END,
    FRESH,
    IMAGE,
    ROWS,
    DepthFirst,
    Window,
    Y,
)


def emit_depth_first(
    module: ModuleWriter, name: str, kernel: DepthFirst, functions: Sequence[str]
) -> None:
    """Add the function `name` to the module; `functions` are those of the chain's kernels."""
    _Emitter(module, name, kernel, functions).emit()


@dataclass
class _Emitter:
    module: ModuleWriter
    name: str
    kernel: DepthFirst
    functions: Sequence[str]
    f: FunctionBuilder = field(init=False)

    def __post_init__(self) -> None:
        k = self.kernel
        parameters = kernel_parameters(k) + THREAD_PARAMETERS
        self.f = FunctionBuilder(self.module, self.name, parameters)
        self.environment = {scalar: self.f.arg(scalar) for scalar in k.scalars}
        self.index = IndexEmitter(self.f, self.environment, None)

    def emit(self) -> None:
        f, k = self.f, self.kernel
        images, bands, height = map(self.index.scalar, (k.images, k.bands, k.out_height))
        begin, end = cut(f, f.binary("mul", images, bands), f.arg("thread"), f.arg("threads"))
        nothing = [int_const(0), int_const(0)]
        with f.loop_carrying(begin, end, 1, nothing, "band") as loop:
            image = f.binary("udiv", loop.index, bands)
            number = f.binary("urem", loop.index, bands)
            y, below = self._rows(height, number, bands)
            first, last = self._window(y, below)
            begins = [
                f.compare("icmp eq", *pair)
                for pair in ((loop.index, begin), (number, int_const(0)))
            ]
            kept = self._kept(f.binary("or", *begins), loop.values, first)
            self._call({
                IMAGE: image, Y: y, ROWS: f.binary("sub", below, y),
                BEGIN: first, FRESH: f.binary("add", first, kept), END: last,
            })  # fmt: skip
            loop.next = [first, last]
        f.ret()
        f.finish()

    def _rows(self, height: Val, number: Val, bands: Val) -> tuple[Val, Val]:
        """Where band `number` of an image begins and ends."""
        f, granule = self.f, int_const(self.kernel.granule)
        if self.kernel.granule == 1:
            return cut(f, height, number, bands)
        first, last = cut(f, f.ceil_div(height, granule), number, bands)
        y, below = (f.binary("mul", n, granule) for n in (first, last))
        return y, self._minimum(below, height)

    def _window(self, y: Val, below: Val) -> tuple[Val, Val]:
        """The input rows inside the image that output rows `y` to before `below` need."""
        f, k, stride = self.f, self.kernel, int_const(self.kernel.stride)
        above, height = self.index.scalar(k.above), self.index.scalar(k.height)
        reach = (k.kernel_height - 1) * k.dilation + 1 - k.stride
        top = f.binary("sub", f.binary("mul", y, stride), above)
        bottom = f.binary("sub", f.binary("mul", below, stride), above)
        bottom = f.binary("add", bottom, int_const(reach))
        first = self._minimum(self._maximum(top, int_const(0)), height)
        return first, self._maximum(self._minimum(bottom, height), first)

    def _kept(self, is_new: Val, before: Sequence[Val], first: Val) -> Val:
        """Move what the band before has left of the window, unless it is new; its rows."""
        f, window = self.f, self.kernel.window
        if window is None:
            return int_const(0)
        old_first, old_last = before
        common = self._maximum(f.binary("sub", old_last, first), int_const(0))
        kept = f.select(is_new, int_const(0), common)
        with f.when(f.compare("icmp ne", kept, int_const(0)), "move"):
            self._move(window, f.binary("sub", first, old_first), kept)
        return kept

    def _move(self, window: Window, first: Val, count: Val) -> None:
        """Rows `first` ... of the window to its beginning."""
        f, row_bytes = self.f, self.index.scalar(window.row_bytes)
        to = f.arg(f"b{window.operand}")
        source = f.element_pointer(to, "i8", f.binary("mul", first, row_bytes))
        size = f.binary("mul", count, row_bytes)
        f.call_void("llvm.memmove.p0.p0.i64", to, source, size, int_const(0, I1))

    def _call(self, band: dict[Polynomial, Val]) -> None:
        """Call the kernels of the chain with what `Link` says, for the variables of a band."""
        f, variables = self.f, {str(name): value for name, value in band.items()}
        index = IndexEmitter(f, {**self.environment, **variables}, None)
        for link, function in zip(self.kernel.links, self.functions, strict=True):
            pointers = [
                f.element_pointer(f.arg(f"b{operand}"), "i8", index.scalar(offset))
                for operand, offset in link.operands
            ]
            scalars = map(index.scalar, link.scalars)
            f.call_void(function, *pointers, *scalars, int_const(0), int_const(1))

    def _minimum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.smin.i64", I64, a, b)

    def _maximum(self, a: Val, b: Val) -> Val:
        return self.f.call("llvm.smax.i64", I64, a, b)
