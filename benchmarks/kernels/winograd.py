"""3x3 convolutions of ResNet and VGG: the direct kernel beside Winograd tiles of 2 and 4.

    python -m benchmarks.kernels.winograd [--dtype f32|bf16] [--batch 1] [--threads 1] [--cold]
        [--target NAME] [--only TEXT] [--budget SECONDS] [--block TILES] [--tiles 2,4]

Bias and ReLU are fused. Times are medians of alternating calls, all threads at work at once.
`--cold` takes other weights in every call, as a network does, so that large ones come from memory.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.kernels import contraction
from benchmarks.kernels.contraction import Layer
from benchmarks.kernels.native import Native, aligned, host_targets
from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.contraction import emit_contraction
from ranvier.codegen.winograd import emit_winograd
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BY_NAME, F32, DType, encode
from ranvier.lowering.expression import Access, Accumulator, Apply
from ranvier.lowering.kernels.contraction import COLUMN, ROW
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.winograd import Winograd, block_tiles, scratch_layout
from ranvier.target import Target, target_named

LAYERS = (
    Layer("VGG 224 64-64", 224, 64, 64, 3, 1, 1),
    Layer("VGG 112 128-128", 112, 128, 128, 3, 1, 1),
    Layer("VGG 56 256-256", 56, 256, 256, 3, 1, 1),
    Layer("VGG 28 512-512", 28, 512, 512, 3, 1, 1),
    Layer("VGG 14 512-512", 14, 512, 512, 3, 1, 1),
    Layer("ResNet 56 64-64", 56, 64, 64, 3, 1, 1),
    Layer("ResNet 28 128-128", 28, 128, 128, 3, 1, 1),
    Layer("ResNet 14 256-256", 14, 256, 256, 3, 1, 1),
    Layer("ResNet 7 512-512", 7, 512, 512, 3, 1, 1),
    Layer("DenseNet 56 128-32", 56, 128, 32, 3, 1, 1),
    Layer("DenseNet 28 128-32", 28, 128, 32, 3, 1, 1),
    Layer("DenseNet 14 128-32", 14, 128, 32, 3, 1, 1),
    Layer("MNIST 26 32-64", 26, 32, 64, 3, 1, 0),
)
_COLD_BYTES = 96 << 20  # of weights, so that no cache holds them


@dataclass(frozen=True)
class Candidate:
    """A compiled kernel with its arguments, one list for every copy of the weights."""

    name: str
    function: Callable[..., None]
    arguments: list[list[int]]
    keep: tuple[Native, list[np.ndarray]]  # what the function and the arguments live in


def direct(layer: Layer, dtype: DType, target: Target, batch: int, cold: bool) -> Candidate:
    """The convolution as a contraction."""
    kernel = contraction.describe(layer, dtype)
    module = ModuleWriter(target.triple)
    emit_contraction(module, "kernel", kernel, target)
    out = layer.out
    scalars = [batch, layer.size, layer.size, out, out, layer.filters // 64, layer.depth // 2]
    size = dims.static(kernel.layout(target.lanes).size)
    return _candidate("direct", module, target, layer, dtype, batch, size, 0, scalars, cold)


def winograd(
    layer: Layer, dtype: DType, target: Target, batch: int, cold: bool, tile: int, block: int
) -> Candidate:
    """The convolution by tiles of `tile x tile` outputs."""
    names = ("images", "H", "W", "OH", "OW")
    images, h, w, oh, ow = (dims.symbol(name, 1) for name in names)
    m, n, c = dims.symbol(ROW), dims.symbol(COLUMN), layer.channels
    value = Apply("relu", (Apply("add", (Accumulator(), Access(3, n, F32)), F32),), F32)
    block = block or block_tiles(tile + 2, c, layer.filters, dtype, target)
    kernel = Winograd(
        tile, 3, images, h, w, oh, ow, c, layer.filters, dtype, (layer.padding,) * 2, 0, 0,
        (h * w * c, w * c, c), 1, 4, (Store(2, m * layer.filters + n, dtype, value),), 5, names,
        block,
    )  # fmt: skip
    module = ModuleWriter(target.triple)
    emit_winograd(module, "kernel", kernel, target)
    layout = kernel.layout(target.lanes)
    scratch = scratch_layout(block, kernel.points, c, dtype, layout.width).size
    scalars = [batch, layer.size, layer.size, layer.out, layer.out]
    return _candidate(
        f"F({tile}x{tile}) {block}", module, target, layer, dtype, batch,
        dims.static(layout.size), scratch, scalars, cold,
    )  # fmt: skip


def _candidate(
    name: str, module: ModuleWriter, target: Target, layer: Layer, dtype: DType, batch: int,
    weights: int, scratch: int, scalars: list[int], cold: bool,
) -> Candidate:  # fmt: skip
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return aligned(encode(rng.standard_normal(shape, np.float32), dtype))

    image = random(batch, layer.size, layer.size, layer.channels)
    out = aligned(np.zeros((batch, layer.out, layer.out, layer.filters), dtype.storage))
    bias = aligned(rng.standard_normal(layer.filters, np.float32))
    one = random(weights)
    copies = [one]
    if cold:
        copies += [aligned(one) for _ in range(_COLD_BYTES // one.nbytes)]
    keep = [image, out, bias, *copies]
    rest = []
    if scratch:
        keep.append(aligned(np.zeros(scratch * 4, np.uint8)))
        rest = [keep[-1].ctypes.data]
    native = Native(str(module), target)
    function = native.function("kernel", 4 + len(rest), len(scalars) + 2)
    head = [image.ctypes.data]
    tail = [out.ctypes.data, bias.ctypes.data, *rest, *scalars]
    arguments = [[*head, copy.ctypes.data, *tail] for copy in copies]
    return Candidate(name, function, arguments, (native, keep))


def medians(candidates: Sequence[Candidate], threads: int, budget: float) -> list[float]:
    """Median seconds per call of every candidate; they take turns for `budget` seconds in all."""
    times: list[list[float]] = [[] for _ in candidates]
    end, turn = time.perf_counter() + budget, 0
    while time.perf_counter() < end or turn < 5:
        for candidate, spans in zip(candidates, times, strict=True):
            arguments = candidate.arguments[turn % len(candidate.arguments)]
            spans.append(_seconds(candidate.function, arguments, threads))
        turn += 1
    return [float(np.median(spans)) for spans in times]


def _seconds(function: Callable[..., None], arguments: list[int], threads: int) -> float:
    """From the start of the first thread to the end of the last, all starting at a barrier."""
    spans: list[tuple[float, float]] = [(0.0, 0.0)] * threads
    barrier = threading.Barrier(threads)

    def work(thread: int) -> None:
        if threads > 1:
            barrier.wait()
        start = time.perf_counter()
        function(*arguments, thread, threads)
        spans[thread] = (start, time.perf_counter())

    others = [threading.Thread(target=work, args=(t,)) for t in range(1, threads)]
    for other in others:
        other.start()
    work(0)
    for other in others:
        other.join()
    return max(end - start for start, end in spans)


def main() -> None:
    """Print a table of layers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="f32", choices=["bf16", "f32"])
    parser.add_argument("--batch", default="1")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--target", default=host_targets()[-1].name)
    parser.add_argument("--only", default="")
    parser.add_argument("--budget", type=float, default=0.3)
    parser.add_argument("--block", default="0", help="tiles per block; 0: as the compiler chooses")
    parser.add_argument("--tiles", default="2,4")
    parser.add_argument("--cold", action="store_true", help="other weights in every call")
    options = parser.parse_args()
    dtype, target = BY_NAME[options.dtype], target_named(options.target)
    print(f"{target.name} {dtype}: median ms; how many times faster than direct")
    for layer in LAYERS:
        for batch in map(int, options.batch.split(",")) if options.only in layer.name else ():
            candidates = [direct(layer, dtype, target, batch, options.cold)]
            candidates += [
                winograd(layer, dtype, target, batch, options.cold, int(tile), int(block))
                for tile in options.tiles.split(",")
                for block in options.block.split(",")
            ]
            for threads in map(int, options.threads.split(",")):
                seconds = medians(candidates, threads, options.budget)
                cells = [
                    f"{c.name} {s * 1e3:.3f} ({seconds[0] / s:.2f}x)"
                    for c, s in zip(candidates[1:], seconds[1:], strict=True)
                ]
                start = f"{layer.name + f' b{batch} t{threads}':28s} direct {seconds[0] * 1e3:.3f}"
                print("  ".join([start, *cells]), flush=True)


if __name__ == "__main__":
    main()
