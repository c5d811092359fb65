"""Contractions of ResNet-50 and others against one core's peak.

    python -m benchmarks.kernels.contraction [--dtype bf16|f32] [--batch 1,8] [--threads 1,2]
        [--target NAME] [--only TEXT] [--budget SECONDS]

Every layer has its bias and ReLU fused and stores its own dtype. Peak is measured in the same run; times are the
shortest of many calls with warm caches.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from benchmarks.kernels.native import Native, aligned, best_seconds, host_targets
from benchmarks.kernels.peak import peak_gflops
from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.contraction import emit_contraction
from ranvier.codegen.target import Target, target_named
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32, BY_NAME, DType, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Guard
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.packing import pack

B, M, T, N = (dims.symbol(name) for name in ("b", "m", "t", "n"))


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

    @property
    def out(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def macs(self) -> int:
        """Multiply-adds per image."""
        return self.out**2 * self.kernel**2 * self.channels * self.filters


LAYERS = (
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
    Layer("112 1x1 32-16", 112, 32, 16),
    Layer("56 1x1 24-144", 56, 24, 144),
    Layer("14 1x1 96-576", 14, 96, 576),
    Layer("14 1x1 576-96", 14, 576, 96),
    Layer("head 1280-1000", 1, 1280, 1000),
)


def describe(layer: Layer, dtype: DType) -> Contraction:
    """The contraction of a layer; the image count and sizes are scalars."""
    images, h, w = (dims.symbol(name, 1) for name in ("images", "H", "W"))
    oh, ow = dims.symbol("OH", 1), dims.symbol("OW", 1)
    rows = images * oh * ow
    m = dims.symbol("m", 0, rows - 1)
    guards: tuple[Guard, ...] = ()
    row = m * layer.channels
    if layer.kernel > 1 or layer.stride > 1:
        image, rest = m // (oh * ow), m % (oh * ow)
        y = rest // ow * layer.stride + T // layer.kernel - layer.padding
        x = rest % ow * layer.stride + T % layer.kernel - layer.padding
        row = ((image * h + y) * w + x) * layer.channels
        guards = (Guard(y, h), Guard(x, w)) if layer.padding else ()
    offset = m * layer.filters + N
    value: Apply = Apply("add", (Accumulator(), Access(3, N, F32)), F32)
    if layer.residual:
        value = Apply("add", (value, Access(4, offset, dtype)), F32)
    stores = (Store(2, offset, dtype, Apply("relu", (value,), F32)),)
    return Contraction(
        1, rows, layer.filters, layer.kernel**2, layer.channels, 0, 1, dtype, row, guards, 0,
        stores, 5 if layer.residual else 4, ("images", "H", "W", "OH", "OW"),
    )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """GFLOP/s, milliseconds of LLVM, lines of LLVM IR."""

    gflops: float
    compile_ms: float
    lines: int


def measure(
    layer: Layer, dtype: DType, target: Target, batch: int, threads: int, budget: float
) -> Result:
    """The best rate of one layer."""
    contraction = describe(layer, dtype)
    module = ModuleWriter(target.triple)
    emit_contraction(module, "kernel", contraction, target)
    native = Native(str(module), target)
    function = native.function("kernel", contraction.operand_count, 7)
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return aligned(encode(rng.standard_normal(shape, np.float32), dtype))

    out = (batch, layer.out, layer.out, layer.filters)
    a = random(batch, layer.size, layer.size, layer.channels)
    weights = random(layer.kernel**2, layer.channels, layer.filters)
    packed = aligned(pack(weights, contraction.layout(target.lanes)))
    bias = aligned(rng.standard_normal(layer.filters, np.float32))
    arrays = [a, packed, random(*out), bias, *([random(*out)] if layer.residual else [])]
    pointers = [array.ctypes.data for array in arrays]
    scalars = [batch, layer.size, layer.size, layer.out, layer.out]
    seconds = best_seconds(function, [*pointers, *scalars], threads, budget)
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
    options = parser.parse_args()
    dtype, target = BY_NAME[options.dtype], target_named(options.target)
    peak = peak_gflops(dtype, target)
    if dtype is BF16 and not target.has_bf16_dot:
        peak = peak_gflops(F32, target)
    print(f"{target.name} {dtype}: peak of one core {peak:.0f} GFLOP/s")
    for layer in LAYERS:
        if options.only not in layer.name:
            continue
        cells = []
        for threads in map(int, options.threads.split(",")):
            for batch in map(int, options.batch.split(",")):
                result = measure(layer, dtype, target, batch, threads, options.budget)
                cells.append(f"b{batch} t{threads} {result.gflops / peak / threads:6.1%}")
        print(f"{layer.name:20s} {'  '.join(cells)}  LLVM {result.compile_ms:.0f} ms, "
              f"{result.lines} lines")  # fmt: skip


if __name__ == "__main__":
    main()
