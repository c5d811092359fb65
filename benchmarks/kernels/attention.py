"""Attention kernels on one core: GFLOP/s (both products, softmax not counted) and share of peak.

    python -m benchmarks.kernels.attention [target ...]

The minimum over many runs is shown, because other programs load the machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from benchmarks.kernels.native import Native, aligned, best_seconds, host_targets
from benchmarks.kernels.peak import peak_gflops
from ranvier.codegen.attention import emit_attention
from ranvier.codegen.builder import ModuleWriter
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32, DType, encode
from ranvier.lowering.expression import Accumulator
from ranvier.lowering.kernels import attention
from ranvier.lowering.kernels.attention import Attention, Rows, scratch_bytes
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target, target_named

BUDGET = 0.25  # seconds per measurement
SCALARS = ("B", "S")
B, S = (dims.symbol(name) for name in SCALARS)
OUTER, QUERY, DEPTH, ROW = (
    dims.symbol(name) for name in (attention.OUTER, attention.QUERY, attention.DEPTH, attention.ROW)
)


@dataclass(frozen=True)
class Layer:
    """Self-attention of one sequence on a fused projection."""

    model: str
    heads: int
    rows: int
    width: int
    causal: bool = False


LAYERS = (
    Layer("ViT-B/16", 12, 197, 64),
    Layer("MiniLM", 12, 16, 32),
    Layer("MiniLM", 12, 128, 32),
    Layer("BERT-base", 12, 128, 64),
    Layer("GPT-2", 12, 128, 64, causal=True),
    Layer("GPT-2", 2, 1024, 64, causal=True),
    Layer("Swin-T window", 48, 49, 32),
    Layer("long", 1, 2048, 64),
)


def describe(layer: Layer, dtype: DType) -> Attention:
    """Operands: fused projection, output, scratch."""
    heads, width = layer.heads, layer.width
    start = ROW * (3 * heads * width) + OUTER * width
    out = QUERY * (heads * width) + OUTER * width + DEPTH
    return Attention(
        batches=B, queries=S, keys=S, head_dim=width, value_dim=width, dtype=dtype,
        query=Rows(0, start), key=Rows(0, start + heads * width),
        value=Rows(0, start + 2 * heads * width), scale=width**-0.5, causal=layer.causal,
        mask=None, stores=(Store(1, out, dtype, Accumulator()),), scratch_operand=2,
        operand_count=3, scalars=SCALARS,
    )  # fmt: skip


def measure(layer: Layer, dtype: DType, target: Target) -> float:
    """Seconds for one sequence."""
    kernel = describe(layer, dtype)
    writer = ModuleWriter(target.triple)
    emit_attention(writer, "k", kernel, target)
    rng = np.random.default_rng(0)
    columns = layer.heads * layer.width
    projection = rng.standard_normal((layer.rows, 3 * columns)).astype(np.float32)
    x = aligned(encode(projection, dtype))
    out = aligned(np.zeros((layer.rows, columns), dtype.storage))
    size = dims.evaluate(scratch_bytes(kernel, target.has_bf16_dot), {"S": layer.rows})
    scratch = aligned(np.zeros(size, np.uint8))
    sizes = (layer.heads, layer.rows)
    native = Native(str(writer), target)
    function = native.function("k", 3, 4)
    pointers = [array.ctypes.data for array in (x, out, scratch)]
    return best_seconds(function, [*pointers, *sizes], 1, BUDGET)


def main(names: list[str]) -> None:
    """Print a table for each target."""
    for target in [target_named(name) for name in names] or host_targets():
        print(target.name)
        peaks = {dtype: peak_gflops(dtype, target) for dtype in (F32, BF16)}
        for layer in LAYERS:
            pairs = layer.rows * (layer.rows + 1) / 2 if layer.causal else layer.rows**2
            flops = 4 * layer.heads * pairs * layer.width
            row = f"  {layer.model:14} {layer.heads:3} x {layer.rows:4} x {layer.width}"
            row += " causal" if layer.causal else "       "
            for dtype in (F32, BF16):
                peak = peaks[dtype]
                seconds = measure(layer, dtype, target)
                rate = flops / seconds * 1e-9
                row += f" | {dtype} {seconds * 1e6:7.0f} us {rate:4.0f} GFLOP/s {rate / peak:4.0%}"
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
