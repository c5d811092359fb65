"""Attention that a model spells out: which forms become one operator, and that nothing changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BOOL, F32, Array
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify
from ranvier.passes.fuse_attention import FuseAttention

S = symbol("s", 1, 64)
Mask = Callable[[GraphBuilder], Value | None]


def spelled_out(mask: Mask, guarded: bool, scale: float = 0.5) -> Graph:
    """softmax(scale * q k^T + mask) v, with zeros for NaN if `guarded`."""
    b = GraphBuilder("attention")
    q, k, v = (b.input(name, TensorType(F32, (2, 3, S, 8))) for name in "qkv")
    product = b.add("matmul", q, b.add("transpose", k, permutation=(0, 1, 3, 2)))
    scores = b.add("mul", product, b.constant(np.float32(scale)))
    added = mask(b)
    if added is not None:
        scores = b.add("add", scores, added)
    p = b.add("softmax", scores, axis=3)
    if guarded:
        p = b.add("where", b.add("is_nan", p), b.constant(np.float32(0)), p)
    return b.finish([b.add("matmul", p, v)], ["y"])


def none(b: GraphBuilder) -> Value | None:
    return None


def given(b: GraphBuilder) -> Value:
    return b.input("mask", TensorType(F32, (2, 1, S, S)))


def chosen(low: float) -> Mask:
    def mask(b: GraphBuilder) -> Value:
        keep = b.input("keep", TensorType(BOOL, (2, 1, S, S)))
        zero, least = b.constant(np.float32(0)), b.constant(np.float32(low))
        return b.add("where", keep, zero, least)

    return mask


LEAST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("mask", "guarded", "fused"),
    [
        (none, False, True),
        (none, True, True),
        (given, True, True),
        (given, False, False),  # a row of -inf would give NaN
        (chosen(LEAST), False, True),
        (chosen(-np.inf), False, False),
        (chosen(-np.inf), True, True),
    ],
)
def test_forms(mask: Mask, guarded: bool, fused: bool) -> None:
    graph = spelled_out(mask, guarded)
    changed = verify(FuseAttention()(graph))
    assert ("attention" in [node.op for node in changed.nodes]) == fused
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {
        name: rng.standard_normal((2, 3, 5, 8)).astype(np.float32) for name in "qkv"
    }
    if "mask" in {value.name for value in graph.inputs}:
        inputs["mask"] = rng.standard_normal((2, 1, 5, 5)).astype(np.float32)
        inputs["mask"][0, 0, 2] = -np.inf
    if "keep" in {value.name for value in graph.inputs}:
        inputs["keep"] = rng.random((2, 1, 5, 5)) < 0.5
        inputs["keep"][1, 0, 3] = False
    with np.errstate(all="ignore"):
        expected, found = interpret(graph, inputs)["y"], interpret(changed, inputs)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_probabilities_that_somebody_else_reads_stay() -> None:
    graph = spelled_out(none, guarded=True)
    softmax = next(node for node in graph.nodes if node.op == "softmax")
    kept = Graph(
        graph.name, graph.inputs, (*graph.outputs, softmax.result), graph.nodes, ("y", "p")
    )
    assert "attention" not in [node.op for node in FuseAttention()(kept).nodes]
