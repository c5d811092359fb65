"""Loops of nests are split and merged as the memory behind them asks for."""

from __future__ import annotations

import numpy as np

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import F32
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.lowering.expression import Access
from ranvier.lowering.kernels.nest import Nest
from ranvier.lowering.lower import lower
from ranvier.lowering.nests import merge_loops, split_loops
from ranvier.lowering.scope import KernelScope
from tests.lowering.native import run_native
from tests.targets import NATIVE


def split(size: Dim, by: int) -> tuple[list[Dim], Access]:
    """Extents, and what is read, of a loop over `size` that reads v // by + 100 * (v % by)."""
    scope = KernelScope()
    loop = scope.loop(size)
    v = loop.variable
    read = Access(0, v // by + 100 * (v % by), F32)
    loops, _, expression = split_loops(scope, (loop,), v, read, 16)
    assert isinstance(expression, Access)
    return [each.extent for each in loops], expression


def test_quotients_become_loops() -> None:
    extents, read = split(768, 64)
    assert extents == [12, 64]
    assert "//" not in str(read.offset)
    assert "%" not in str(read.offset)


def test_loops_that_cannot_fill_a_vector_stay_whole() -> None:
    assert split(768, 3)[0] == [768]
    assert split(100, 64)[0] == [100]


def test_what_was_split_merges_again() -> None:
    scope = KernelScope()
    loop = scope.loop(768)
    read = Access(0, 64 * (loop.variable // 64) + loop.variable % 64, F32)
    found = merge_loops(*split_loops(scope, (loop,), loop.variable, read, 16))
    assert [each.extent for each in found[0]] == [768]


def heads() -> Graph:
    """Rows per head, put side by side and multiplied: [2, 5, 32] -> [5, 64] @ [64, 48]."""
    b = GraphBuilder("heads")
    x = b.input("x", TensorType(F32, (2, 5, 32)))
    weights = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    each = b.add("matmul", x, b.constant(weights))
    rows = b.add("reshape", b.add("transpose", each, permutation=(1, 0, 2)), shape=(5, 64))
    more = np.random.default_rng(1).standard_normal((64, 48)).astype(np.float32)
    return b.finish([b.add("matmul", rows, b.constant(more))], ["y"])


def test_a_transposition_of_rows_costs_no_kernel() -> None:
    graph = heads()
    program = lower(graph, NATIVE)
    assert not any(isinstance(step.kernel, Nest) for step in program.steps)
    x = np.random.default_rng(2).standard_normal((2, 5, 32)).astype(np.float32)
    constants = [n.attribute("value") for n in graph.nodes if n.op == "constant"]
    want = (x @ constants[0]).transpose(1, 0, 2).reshape(5, 64) @ constants[1]
    for (found,) in run_native(graph, [{"x": x}]):
        np.testing.assert_allclose(found["y"], want, rtol=1e-4, atol=1e-4)
