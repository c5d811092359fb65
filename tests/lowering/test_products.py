"""Which products are cut along their depth, and that graphs with them are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BF16, F32, DType, decode, encode
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.ir.interpreter import interpret
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.lower import lower
from ranvier.target import TARGETS, Target
from tests.lowering.native import run_native
from tests.targets import HOST


def layer(depth: int, dtype: DType = F32, columns: int = 40) -> Graph:
    """residual + gelu(x @ weights + bias) of a symbolic number of rows."""
    b = GraphBuilder("layer")
    rows, rng = symbol("n", 1, 4096), np.random.default_rng(depth)
    x = b.input("x", TensorType(dtype, (rows, depth)))
    residual = b.input("residual", TensorType(dtype, (rows, columns)))

    def constant(*shape: int) -> Any:
        values = rng.standard_normal(shape) / depth**0.5
        return b.constant(encode(values.astype(np.float32), dtype), dtype)

    product = b.add("matmul", x, constant(depth, columns))
    sum_ = b.add("add", product, constant(columns))
    return b.finish([b.add("add", b.add("gelu", sum_, approximate="none"), residual)], ["y"])


def is_cut(graph: Graph) -> bool:
    """Whether the only product of a graph is cut."""
    kernels = [step.kernel for step in lower(graph, TARGETS["x86-64-v3"]).steps]
    (product,) = (kernel for kernel in kernels if isinstance(kernel, Contraction))
    return product.sums_operand is not None


def test_long_depths_are_cut() -> None:
    assert [is_cut(layer(depth)) for depth in (768, 2032, 2048, 3072)] == [False, False, True, True]
    assert [is_cut(layer(depth, BF16)) for depth in (3072, 4096)] == [False, True]


def test_depths_that_parts_do_not_divide_are_whole() -> None:
    assert not is_cut(layer(3080))


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_layers_of_long_depth(target: Target, dtype: DType) -> None:
    """Rows for a single tile, for one block, and for two; bias, activation and residual fused."""
    graph, rng = layer(4112, dtype), np.random.default_rng(0)
    runs = []
    for rows in (1, 50, 250):
        shapes = {"x": (rows, 4112), "residual": (rows, 40)}
        runs.append(
            {
                name: encode(rng.standard_normal(shape, np.float32), dtype)
                for name, shape in shapes.items()
            }
        )
    for found in run_native(graph, runs, target):
        for inputs, outputs in zip(runs, found, strict=True):
            expected = interpret(graph, inputs)["y"]
            error = np.abs(decode(outputs["y"], dtype) - decode(expected, dtype)).max()
            assert error < (2e-5 if dtype is F32 else 0.05)
