"""Depthwise convolution kernels on one core: GFLOP/s and share of the multiply-add peak.

    python -m benchmarks.kernels.depthwise [target ...]

The minimum over many runs is shown, because other programs load the machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from benchmarks.kernels.native import Native, aligned, best_seconds, host_targets
from benchmarks.kernels.peak import peak_gflops
from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.depthwise import emit_depthwise
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32, DType, encode
from ranvier.lowering.expression import Accumulator
from ranvier.lowering.kernels import depthwise
from ranvier.lowering.kernels.depthwise import (
    Depthwise,
    pack_weights,
    preferred_tile,
    uses_pairs,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target, target_named

BUDGET = 0.25  # seconds per measurement
SCALARS = ("N", "H", "W", "HO", "WO", "BLOCKS")
N, H, W, HO, WO, BLOCKS = (dims.symbol(name) for name in SCALARS)
IMAGE, ROW, COLUMN, CHANNEL = (
    dims.symbol(name)
    for name in (depthwise.IMAGE, depthwise.ROW, depthwise.COLUMN, depthwise.CHANNEL)
)


@dataclass(frozen=True)
class Layer:
    """A square depthwise layer with "same" padding."""

    model: str
    size: int
    channels: int
    kernel: int
    stride: int

    @property
    def out_size(self) -> int:
        """Output rows and columns."""
        return (self.size - 1) // self.stride + 1


LAYERS = (
    Layer("MobileNetV2", 112, 32, 3, 1),
    Layer("MobileNetV2", 112, 96, 3, 2),
    Layer("MobileNetV2", 56, 144, 3, 1),
    Layer("MobileNetV2", 28, 192, 3, 1),
    Layer("MobileNetV2", 14, 576, 3, 1),
    Layer("MobileNetV2", 7, 960, 3, 1),
    Layer("MobileNetV1", 14, 512, 3, 1),
    Layer("EfficientNet-B0", 56, 144, 5, 2),
    Layer("EfficientNet-B0", 14, 672, 5, 1),
    Layer("ConvNeXt-T", 56, 96, 7, 1),
    Layer("ConvNeXt-T", 14, 384, 7, 1),
)


def describe(layer: Layer, dtype: DType, target: Target) -> Depthwise:
    """A kernel without epilogue: input, weights and output are operands 0 to 2."""
    pad = layer.kernel // 2
    channels = BLOCKS * 32 + layer.channels % 32
    offset = ((IMAGE * HO + ROW) * WO + COLUMN) * channels + CHANNEL
    return Depthwise(
        batch=N, in_height=H, in_width=W, out_height=HO, out_width=WO, channels=channels,
        kernel=(layer.kernel,) * 2, strides=(layer.stride,) * 2, dilations=(1, 1),
        padding=(pad, pad), right_padding=pad, input_operand=0, input_dtype=dtype, input_offset=0,
        input_strides=(H * W * channels, W * channels, channels), weight_operand=1,
        stores=(Store(2, offset, dtype, Accumulator()),), operand_count=3, scalars=SCALARS,
        tile=preferred_tile(layer.kernel, uses_pairs(dtype, target.has_bf16_dot)),
    )  # fmt: skip


def measure(layer: Layer, dtype: DType, target: Target) -> float:
    """Seconds for one image."""
    writer = ModuleWriter(target.triple)
    emit_depthwise(writer, "k", describe(layer, dtype, target), target)
    rng = np.random.default_rng(0)
    shape = (layer.size, layer.size, layer.channels)
    x = aligned(encode(rng.standard_normal(shape).astype(np.float32), dtype))
    weights = rng.standard_normal((layer.kernel, layer.kernel, layer.channels))
    pairs = uses_pairs(dtype, target.has_bf16_dot)
    packed = aligned(pack_weights(weights.astype(np.float32), pairs))
    out = aligned(np.zeros((layer.out_size, layer.out_size, layer.channels), dtype.storage))
    sizes = (1, layer.size, layer.size, layer.out_size, layer.out_size, layer.channels // 32)
    native = Native(str(writer), target)
    function = native.function("k", 3, 8)
    pointers = [array.ctypes.data for array in (x, packed, out)]
    return best_seconds(function, [*pointers, *sizes], 1, BUDGET)


def main(names: list[str]) -> None:
    """Print a table for each target."""
    for target in [target_named(name) for name in names] or host_targets():
        peak = peak_gflops(F32, target)
        print(f"{target.name}: f32 multiply-add peak {peak:.0f} GFLOP/s")
        for layer in LAYERS:
            flops = 2 * layer.kernel**2 * layer.out_size**2 * layer.channels
            row = f"  {layer.model:16} {layer.size:3}x{layer.size:<3} c{layer.channels:<4}"
            row += f" k{layer.kernel} s{layer.stride}"
            for dtype in (F32, BF16):
                seconds = measure(layer, dtype, target)
                rate = flops / seconds * 1e-9
                row += f" | {dtype} {seconds * 1e6:6.1f} us {rate:4.0f} GFLOP/s {rate / peak:4.0%}"
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
