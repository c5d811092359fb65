"""Element-wise functions, softmax, norms, pools and copies on one core, beside what bounds them.

    python -m benchmarks.kernels.nests [target ...]

Functions run over data in the first-level cache: cycles per vector, where a cycle is the time of
one full-width multiply-add, so that a function's multiply-adds are its bound. Operators run at the
sizes of real models: time, GB/s (every operand counted once) and share of the rate at which the
same core copies as many bytes. The minimum over many runs is shown.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kernels.native import Native, aligned, best_seconds, host_targets
from benchmarks.kernels.peak import peak_gflops
from ranvier.artifact.writer import write_artifact
from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.nest import emit_nest
from ranvier.compiler import compile_graph
from ranvier.ir.dtype import BF16, F32, DType, encode
from ranvier.ir.graph import GraphBuilder, TensorType
from ranvier.lowering.expression import Access, Apply, Loop, relaxed
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.runtime.model import Model, load
from ranvier.target import Target, target_named

BUDGET = 0.05  # seconds per measurement
ELEMENTS, REPEATS = 2048, 100
APART = 512  # elements that keep loads and stores from sharing their place in a page
FUNCTIONS = (
    "exp", "log", "tanh", "sigmoid", "silu", "erf", "gelu", "gelu_tanh", "softplus", "hard_swish",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One operator on data of `shape`; with `scaled`, a scale and a bias of the last dim follow."""

    model: str
    op: str
    shape: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    scaled: bool = False


_POOL = {"kernel": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1)), "ceil_mode": False}
LAYERS = (
    Layer("GPT-2", "softmax", (12, 128, 128), {"axis": 2}),
    Layer("1000 classes", "softmax", (64, 1000), {"axis": 1}),
    Layer("GPT-2 tokens", "log_softmax", (16, 50257), {"axis": 1}),
    Layer("ViT-B/16", "layer_norm", (197, 768), {"axis": 1, "epsilon": 1e-6}, True),
    Layer("MiniLM", "layer_norm", (128, 384), {"axis": 1, "epsilon": 1e-6}, True),
    Layer("ConvNeXt-T", "layer_norm", (3136, 96), {"axis": 1, "epsilon": 1e-6}, True),
    Layer("Llama", "rms_norm", (64, 2048), {"axis": 1, "epsilon": 1e-6}),
    Layer("EfficientNet", "reduce_mean", (784, 240), {"axes": (0,), "keepdims": False}),
    Layer("ResNet-50", "max_pool", (1, 64, 112, 112), {**_POOL, "dilations": (1, 1)}),
    Layer("GoogLeNet", "avg_pool", (1, 192, 28, 28), {**_POOL, "count_include_pad": True}),
    Layer("CRAFT", "resize", (1, 64, 56, 56), {
        "size": (112, 112), "mode": "linear", "coordinates": "half_pixel", "antialias": False,
    }),
    Layer("heads", "transpose", (12, 197, 64), {"permutation": (1, 0, 2)}),
    Layer("image", "transpose", (3, 224, 224), {"permutation": (1, 2, 0)}),
)  # fmt: skip


def function_seconds(name: str, dtype: DType, target: Target) -> float:
    """Seconds for `ELEMENTS` values, read and stored as `dtype`."""
    again, loop = Loop("r", REPEATS), Loop("j", ELEMENTS)
    attributes = (("approximate", "tanh"),) if name == "gelu_tanh" else ()
    read = Access(0, loop.variable, dtype)
    value = relaxed(Apply(name.removesuffix("_tanh"), (read,), F32, attributes), dtype)
    nest = Nest((again, loop), (Store(1, loop.variable, dtype, value),), 2, (), 1)
    writer = ModuleWriter(target.triple)
    emit_nest(writer, "k", nest, target)
    x = np.random.default_rng(0).normal(0, 2, ELEMENTS).astype(np.float32)
    both = aligned(np.zeros((2, ELEMENTS + APART), dtype.storage))
    both[0, :ELEMENTS] = encode(np.abs(x) if name == "log" else x, dtype)
    native = Native(str(writer), target)
    function = native.function("k", 2, 2)
    return best_seconds(function, [row.ctypes.data for row in both], 1, BUDGET) / REPEATS


def operator_seconds(layer: Layer, dtype: DType, target: Target) -> tuple[float, int]:
    """Seconds of the layer's kernels, and the bytes that they move."""
    builder = GraphBuilder("layer")
    operands = [builder.input("x", TensorType(dtype, layer.shape))]
    if layer.scaled:
        operands += [builder.constant(np.full(layer.shape[-1:], k, np.float32)) for k in (1.5, 0.2)]
    graph = builder.finish(builder.add_node(layer.op, operands, layer.attributes))
    compiled = compile_graph(graph, [target])
    values = np.random.default_rng(0).standard_normal(layer.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.rvr"
        write_artifact(path, compiled.manifest, compiled.programs, compiled.entries)
        with load(path, cores=1, verify="none") as model:
            return _best_profile(model, {"x": encode(values, dtype)})


def _best_profile(model: Model, inputs: dict[str, np.ndarray]) -> tuple[float, int]:
    best, moved, end = float("inf"), 0, time.perf_counter() + BUDGET
    while time.perf_counter() < end:
        profile = model.profile(inputs)
        best, moved = min(best, sum(profile.step_seconds)), sum(profile.bytes)
    return best, moved


def copy_rate(size: int) -> float:
    """GB/s, read and written together, at which `size` bytes are copied again and again."""
    source, target = (aligned(np.ones(size // 2, np.uint8)) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + BUDGET
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(10):
            np.copyto(target, source)
        best = min(best, (time.perf_counter() - start) / 10)
    return size / best * 1e-9


def main(names: list[str]) -> None:
    """Print a table of functions and one of operators for each target."""
    for target in [target_named(name) for name in names] or host_targets():
        cycles = peak_gflops(F32, target) * 1e9 / (2 * target.lanes)
        print(f"{target.name}: {cycles * 1e-9:.2f} G multiply-adds of {target.lanes} lanes / s")
        for name in FUNCTIONS:
            row = f"  {name:12}"
            for dtype in (F32, BF16):
                seconds = function_seconds(name, dtype, target)
                each = seconds * cycles / (ELEMENTS / target.lanes)
                row += f" | {dtype} {each:5.1f} cycles per vector"
            print(row)
        for layer in LAYERS:
            row = f"  {layer.model:14}{layer.op:12}{'x'.join(map(str, layer.shape)):15}"
            for dtype in (F32, BF16):
                seconds, moved = operator_seconds(layer, dtype, target)
                rate = moved / seconds * 1e-9
                row += f" | {dtype} {seconds * 1e6:7.1f} us {rate:5.1f} GB/s"
                row += f" {rate / copy_rate(moved):4.0%}"
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
