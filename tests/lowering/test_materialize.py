"""What lies in memory, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier.ir.dtype import BF16, F32, Array, encode
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.ir.interpreter import interpret
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.lower import lower
from tests.lowering.native import difference, run_native
from tests.targets import NATIVE


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def residual_stream(layers: int) -> Graph:
    """x = round(x + rms_norm(x) @ w), again and again; what is rounded has two readers."""
    b = GraphBuilder("stream")
    stream = b.input("x", TensorType(BF16, (8, 32)))
    for _ in range(layers):
        weights = b.constant(encode(normal(32, 32), BF16), BF16)
        product = b.add("matmul", b.add("rms_norm", stream, axis=1, epsilon=1e-6), weights)
        gain = b.add("mul", b.add("cast", product, dtype=F32), b.constant(normal(8, 1), F32))
        turned = b.add("reverse", gain, axes=(0,))  # no epilogue reaches beyond this
        total = b.add("add", b.add("cast", stream, dtype=F32), turned)
        stream = b.add("cast", total, dtype=BF16)
    return b.finish([b.add("relu", stream)], ["y"])


def test_rounded_sums_are_not_computed_again_by_later_layers() -> None:
    program = lower(residual_stream(6), NATIVE)
    nests = [step for step in program.steps if isinstance(step.kernel, Nest)]
    assert max(step.operators.count("add") for step in nests) <= 1


def test_what_a_convolution_reads_lies_channels_last() -> None:
    b = GraphBuilder("g")
    x = b.input("x", TensorType(F32, (1, 5, 7, 16)))
    image = b.add("transpose", x, permutation=(0, 3, 1, 2))
    total = b.add("mul", image, b.constant(normal(16, 1, 1), F32))
    weights = b.constant(normal(16, 16, 3, 3), F32)
    conv = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilations": (1, 1), "groups": 1}
    (y,) = b.add_node("conv", [total, weights], conv)
    program = lower(b.finish([b.add("add", y, total)], ["y"]), NATIVE)
    (written,) = [s.result for s in program.steps if s.operators == ("transpose", "mul")]
    assert written is not None
    assert written.strides[1] == 1


@pytest.mark.parametrize("op", ["softmax", "cumsum"])
def test_a_reduction_that_an_epilogue_reads_is_computed_before_it(op: str) -> None:
    b = GraphBuilder("g")
    x, y = b.input("x", TensorType(F32, (9, 8))), b.input("y", TensorType(F32, (9, 17)))
    product = b.add("matmul", x, b.constant(normal(8, 17), F32))
    graph = b.finish([b.add("add", product, b.add(op, y, axis=1))], ["z"])
    inputs = {"x": normal(9, 8), "y": normal(9, 17)}
    expected = interpret(graph, inputs)["z"]
    for (result,) in run_native(graph, [inputs]):
        assert not difference(result["z"], expected, F32, 8, is_sum=True)
