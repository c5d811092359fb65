"""Contractions of ResNet-50 and others against one core's peak.

    python -m benchmarks.kernels.contraction [--dtype bf16|f32] [--batch 1,8] [--threads 1,2]
        [--target NAME] [--only TEXT] [--budget SECONDS] [--concurrent]

Every layer has its bias and ReLU fused and stores its own dtype. Peak is measured in the same run;
times are the shortest of many calls with warm caches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.kernels.native import (
    Kernel,
    Native,
    aligned,
    best_seconds,
    concurrent_seconds,
    host_targets,
)
from benchmarks.kernels.peak import peak_gflops
from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.contraction import emit_contraction
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, BY_NAME, F32, DType, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Guard
from ranvier.lowering.kernels.contraction import BATCH, COLUMN, ROW, TAP, Contraction
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.packing import pack
from ranvier.target import Target, target_named

B, M, T, N = (dims.symbol(name) for name in (BATCH, ROW, TAP, COLUMN))


Timer = Callable[[Kernel, Sequence[int], int, float], float]


@dataclass(frozen=True)
class Layer:
    """A convolution, channels last: input size, channels, filters, kernel, stride, padding."""

    name: str
    size: int
    channels: int
    filters: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    residual: bool = False
    shared: bool = False  # channels and filters are scalars, as in kernels that layers share
    row_taps: bool = False  # a kernel row is one tap; the input has its padding in memory

    @property
    def out(self) -> int:
        """Height and width of the result."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def taps(self) -> int:
        """Taps of the contraction."""
        return self.kernel if self.row_taps else self.kernel**2

    @property
    def depth(self) -> int:
        """Contiguous elements per tap."""
        return self.kernel * self.channels if self.row_taps else self.channels

    @property
    def macs(self) -> int:
        """Multiply-adds per image."""
        return self.out**2 * self.kernel**2 * self.channels * self.filters


LAYERS = (
    Layer("conv1 7x(7*3)/2", 230, 3, 64, 7, 2, row_taps=True),
    Layer("conv1 7x(7*4)/2", 230, 4, 64, 7, 2, row_taps=True),
    Layer("conv1 7x7/2 (3->4)", 224, 4, 64, 7, 2, 3),
    Layer("56 1x1 64-64", 56, 64, 64),
    Layer("56 3x3 64-64", 56, 64, 64, 3, 1, 1),
    Layer("56 1x1 64-256 +", 56, 64, 256, residual=True),
    Layer("56 1x1 256-64", 56, 256, 64),
    Layer("56 3x3/2 128-128", 56, 128, 128, 3, 2, 1),
    Layer("56 1x1/2 256-512", 56, 256, 512, 1, 2),
    Layer("28 1x1 128-512 +", 28, 128, 512, residual=True),
    Layer("28 1x1 512-128", 28, 512, 128),
    Layer("28 3x3 128-128", 28, 128, 128, 3, 1, 1),
    Layer("14 1x1 256-1024 +", 14, 256, 1024, residual=True),
    Layer("14 1x1 1024-256", 14, 1024, 256),
    Layer("14 3x3 256-256", 14, 256, 256, 3, 1, 1),
    Layer("7 1x1 512-2048 +", 7, 512, 2048, residual=True),
    Layer("7 1x1 2048-512", 7, 2048, 512),
    Layer("7 3x3 512-512", 7, 512, 512, 3, 1, 1),
    Layer("56 1x1 64-64 shared", 56, 64, 64, shared=True),
    Layer("56 1x1 64-256 + shared", 56, 64, 256, residual=True, shared=True),
    Layer("56 1x1 256-64 shared", 56, 256, 64, shared=True),
    Layer("56 1x1/2 256-512 shared", 56, 256, 512, 1, 2, shared=True),
    Layer("14 3x3 256-256 shared", 14, 256, 256, 3, 1, 1, shared=True),
    Layer("7 1x1 512-2048 + shared", 7, 512, 2048, residual=True, shared=True),
    Layer("112 1x1 32-16", 112, 32, 16),
    Layer("56 1x1 24-144", 56, 24, 144),
    Layer("14 1x1 96-576", 14, 96, 576),
    Layer("14 1x1 576-96", 14, 576, 96),
    Layer("head 1280-1000", 1, 1280, 1000),
)


SCALARS = ("images", "H", "W", "OH", "OW", "P", "D")


def describe(layer: Layer, dtype: DType) -> Contraction:
    """The contraction of a layer; the image count and sizes are scalars."""
    images, h, w = (dims.symbol(name, 1) for name in ("images", "H", "W"))
    oh, ow = dims.symbol("OH", 1), dims.symbol("OW", 1)
    rows = images * oh * ow
    m = dims.symbol(ROW, 0, rows - 1)
    guards: tuple[Guard, ...] = ()
    depth: dims.Dim = layer.depth
    columns: dims.Dim = layer.filters
    if layer.shared:
        columns = dims.symbol("P", 1) * 64
        depth = dims.symbol("D", 1) * 2 if layer.kernel == 1 else depth
    row = m * depth
    if layer.kernel > 1 or layer.stride > 1:
        image, rest = m // (oh * ow), m % (oh * ow)
        ky, kx = (T, 0) if layer.row_taps else (T // layer.kernel, T % layer.kernel)
        y = rest // ow * layer.stride + ky - layer.padding
        x = rest % ow * layer.stride + kx - layer.padding
        row = ((image * h + y) * w + x) * (depth if layer.kernel == 1 else layer.channels)
        guards = (Guard(y, h), Guard(x, w)) if layer.padding else ()
    offset = m * columns + N
    value: Apply = Apply("add", (Accumulator(), Access(3, N, F32)), F32)
    if layer.residual:
        value = Apply("add", (value, Access(4, offset, dtype)), F32)
    stores = (Store(2, offset, dtype, Apply("relu", (value,), F32)),)
    return Contraction(
        1, rows, columns, layer.taps, depth, 0, 1, dtype, row, guards, 0,
        stores, 5 if layer.residual else 4, SCALARS,
    )  # fmt: skip


@dataclass(frozen=True)
class Matmul:
    """batches x [rows, depth] @ [depth, columns]; `dynamic` extents are scalars, as is `rows`."""

    name: str
    batches: int
    rows: int
    columns: int
    depth: int
    dynamic: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-adds in all."""
        return self.batches * self.rows * self.columns * self.depth

    def extent(self, name: str) -> dims.Dim:
        """The extent as the kernel sees it."""
        value: int = getattr(self, name)
        return dims.symbol(name, 1) if name in ("rows", *self.dynamic) else value


MATMULS = (
    Matmul("BERT 128x768x768", 1, 128, 768, 768),
    Matmul("BERT 128x3072x768", 1, 128, 3072, 768),
    Matmul("BERT 128x768x3072", 1, 128, 768, 3072),
    Matmul("MiniLM 16x384x384", 1, 16, 384, 384),
    Matmul("scores 12x128x128x64", 12, 128, 128, 64, ("columns",)),
    Matmul("scores 12x197x197x64", 12, 197, 197, 64, ("columns",)),
    Matmul("context 12x128x64x128", 12, 128, 64, 128, ("depth",)),
    Matmul("context 12x197x64x197", 12, 197, 64, 197, ("depth",)),
    Matmul("VGG fc 1x4096x25088", 1, 1, 4096, 25088),
    Matmul("VGG fc 8x4096x25088", 1, 8, 4096, 25088),
)


def describe_matmul(case: Matmul, dtype: DType, lanes: int) -> Contraction:
    """The contraction of a product, without bias."""
    rows, columns, depth = (case.extent(name) for name in ("rows", "columns", "depth"))
    m = dims.symbol(ROW, 0, rows - 1)
    stores = (Store(2, (B * rows + m) * columns + N, dtype, Accumulator()),)
    contraction = Contraction(
        case.batches, rows, columns, 1, depth, 0, 1, dtype, (B * rows + m) * depth, (), 0, stores,
        3, ("rows", *case.dynamic),
    )  # fmt: skip
    return replace(contraction, b_batch_stride=contraction.layout(lanes).size)


def measure_matmul(
    case: Matmul,
    dtype: DType,
    target: Target,
    threads: int,
    budget: float,
    timer: Timer = best_seconds,
) -> Result:
    """The best rate of one product."""
    contraction = describe_matmul(case, dtype, target.lanes)
    module = ModuleWriter(target.triple)
    emit_contraction(module, "kernel", contraction, target)
    native = Native(str(module), target)
    scalars = [getattr(case, name) for name in contraction.scalars]
    function = native.function("kernel", 3, len(scalars) + 2)
    rng = np.random.default_rng(0)
    values = dict(zip(contraction.scalars, scalars, strict=True))
    size = dims.evaluate(contraction.b_batch_stride, values)

    def random(*shape: int) -> np.ndarray:
        return aligned(encode(rng.standard_normal(shape, np.float32), dtype))

    arrays = [
        random(case.batches, case.rows, case.depth), random(case.batches, size),
        random(case.batches, case.rows, case.columns),
    ]  # fmt: skip
    pointers = [array.ctypes.data for array in arrays]
    seconds = timer(function, [*pointers, *scalars], threads, budget)
    return Result(2 * case.macs / seconds * 1e-9, native.seconds * 1e3, str(module).count("\n"))


@dataclass(frozen=True)
class Result:
    """GFLOP/s, milliseconds of LLVM, lines of LLVM IR."""

    gflops: float
    compile_ms: float
    lines: int


def measure(
    layer: Layer,
    dtype: DType,
    target: Target,
    batch: int,
    threads: int,
    budget: float,
    timer: Timer = best_seconds,
) -> Result:
    """The best rate of one layer."""
    contraction = describe(layer, dtype)
    module = ModuleWriter(target.triple)
    emit_contraction(module, "kernel", contraction, target)
    native = Native(str(module), target)
    function = native.function("kernel", contraction.operand_count, len(SCALARS) + 2)
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return aligned(encode(rng.standard_normal(shape, np.float32), dtype))

    out = (batch, layer.out, layer.out, layer.filters)
    a = random(batch, layer.size, layer.size, layer.channels)
    weights = random(layer.taps, layer.depth, layer.filters)
    layout = PanelLayout(layer.filters, layer.depth, layer.taps, dtype, target.lanes)
    packed = aligned(pack(weights, layout))
    bias = aligned(rng.standard_normal(layer.filters, np.float32))
    arrays = [a, packed, random(*out), bias, *([random(*out)] if layer.residual else [])]
    pointers = [array.ctypes.data for array in arrays]
    size, out_size, panels, pairs = layer.size, layer.out, layer.filters // 64, layer.depth // 2
    scalars = [batch, size, size, out_size, out_size, panels, pairs]
    seconds = timer(function, [*pointers, *scalars], threads, budget)
    rate = 2 * layer.macs * batch / seconds * 1e-9
    return Result(rate, native.seconds * 1e3, str(module).count("\n"))


def main() -> None:
    """Print a table of layers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--target", default=host_targets()[-1].name)
    parser.add_argument("--only", default="")
    parser.add_argument("--budget", type=float, default=0.15)
    parser.add_argument("--concurrent", action="store_true", help="run the threads at once")
    options = parser.parse_args()
    timer = concurrent_seconds if options.concurrent else best_seconds
    dtype, target = BY_NAME[options.dtype], target_named(options.target)
    peak = peak_gflops(dtype, target)
    if dtype is BF16 and not target.has_bf16_dot:
        peak = peak_gflops(F32, target)
    print(f"{target.name} {dtype}: peak of one core {peak:.0f} GFLOP/s")
    counts = [int(threads) for threads in options.threads.split(",")]
    for layer in LAYERS:
        if options.only in layer.name:
            for batch in map(int, options.batch.split(",")):
                results = [
                    measure(layer, dtype, target, batch, t, options.budget, timer) for t in counts
                ]
                report(f"{layer.name} b{batch}", results, counts, peak)
    for case in MATMULS:
        if options.only in case.name:
            results = [
                measure_matmul(case, dtype, target, t, options.budget, timer) for t in counts
            ]
            report(case.name, results, counts, peak)


def report(name: str, results: Sequence[Result], threads: Sequence[int], peak: float) -> None:
    """Print a line: share of the peak of as many cores as threads."""
    pairs = zip(results, threads, strict=True)
    cells = "  ".join(f"{t} threads {r.gflops / peak / t:6.1%}" for r, t in pairs)
    compiled = results[0]
    print(f"{name:26s} {cells}  LLVM {compiled.compile_ms:.0f} ms, {compiled.lines} lines")


if __name__ == "__main__":
    main()
