"""Every decomposition computes what the operator's definition says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BOOL, F32, I64
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify
from ranvier.passes import Decompose
from ranvier.passes.decompose import DECOMPOSITIONS
from tests.passes.text import apply, body, nodes

N, S, T = symbol("n", 1), symbol("s", 1), symbol("t", 1)


def attention(mask: str, causal: bool) -> Graph:
    b = GraphBuilder("attention")
    q = b.input("q", TensorType(F32, (N, 2, S, 4)))
    k = b.input("k", TensorType(F32, (N, 2, T, 4)))
    v = b.input("v", TensorType(F32, (N, 2, T, 3)))
    dtype = BOOL if mask == "bool" else F32
    masks = [b.input("mask", TensorType(dtype, (N, 1, S, T)))] if mask else []
    return b.finish([b.add("attention", q, k, v, *masks, scale=0.5, causal=causal)])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["", "bool", "float"])
def test_attention(mask: str, causal: bool) -> None:
    graph = attention(mask, causal)
    random = np.random.default_rng(0)
    kept = random.random((2, 1, 5, 6)) > 0.4
    kept[0, 0, 2] = False
    arrays = {
        "q": random.standard_normal((2, 2, 5, 4)).astype(np.float32),
        "k": random.standard_normal((2, 2, 6, 4)).astype(np.float32),
        "v": random.standard_normal((2, 2, 6, 3)).astype(np.float32),
        "bool": kept,
        "float": np.where(kept, random.random(kept.shape), -np.inf).astype(np.float32),
    }
    given = {name: arrays[name] for name in "qkv"} | ({"mask": arrays[mask]} if mask else {})
    simple = verify(Decompose(frozenset({"attention"}))(graph))
    assert "attention" not in {node.op for node in simple.nodes}
    (wanted,), (found,) = interpret(graph, given).values(), interpret(simple, given).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


UNARY: dict[str, dict[str, object]] = {
    "reduce_variance": {"axes": (1, 2), "keepdims": False, "correction": 1},
    "layer_norm": {"axis": 1, "epsilon": 1e-5},
    "rms_norm": {"axis": 2, "epsilon": 1e-5},
    "group_norm": {"groups": 2, "epsilon": 1e-5},
    "softmax": {"axis": 1},
    "log_softmax": {"axis": 2},
    "adaptive_avg_pool": {"output_size": (2,)},
    "adaptive_max_pool": {"output_size": (1,)},
    "silu": {},
    "mish": {},
    "hard_swish": {},
}


@pytest.mark.parametrize("op", sorted(DECOMPOSITIONS.keys() - {"attention", "batch_norm"}))
def test_unary(op: str) -> None:
    b = GraphBuilder(op)
    x = b.input("x", TensorType(F32, (N, 4, 6)))
    graph = b.finish([b.add_node(op, [x], UNARY[op], ["y"])[0]])
    simple = verify(Decompose(frozenset({op}))(graph))
    assert op not in {node.op for node in simple.nodes}
    assert simple.outputs[0].name == "y"
    data = {"x": np.random.default_rng(1).standard_normal((3, 4, 6)).astype(np.float32)}
    np.testing.assert_allclose(
        interpret(simple, data)["y"], interpret(graph, data)["y"], rtol=1e-5, atol=1e-6
    )


def test_batch_norm_of_unknown_statistics(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 2, 3]
        input %p: f32[2]
        %y: f32[n, 2, 3] = batch_norm(%x, %p, %p, %p, %p) {epsilon=0.25} @ "model.py:9"
    """)
    golden(apply(text, Decompose()))


def test_symbolic_count(golden: Callable[[str], None]) -> None:
    text = body("""input %x: f32[n, 4]
        %y: f32[4] = reduce_variance(%x) {axes=(0,), keepdims=false, correction=1}
    """)
    golden(apply(text, Decompose()))


def test_uneven_adaptive_pool_stays() -> None:
    text = body("""input %x: f32[n, 2, 7]
        %y: f32[n, 2, 3] = adaptive_avg_pool(%x) {output_size=(3,)}
    """)
    assert nodes(apply(text, Decompose())) == ["adaptive_avg_pool"]


def test_integers_are_untouched() -> None:
    b = GraphBuilder("integers")
    x = b.input("x", TensorType(I64, (N, 4)))
    graph = b.finish([b.add("add", x, x)])
    assert Decompose()(graph).nodes == graph.nodes
