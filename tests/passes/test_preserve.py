"""Every pass keeps what the graph computes, keeps its signature and leaves it well formed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ranvier.ir.graph import Graph
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify
from ranvier.passes import Canonicalize, Decompose, FoldBatchNorm, FoldConstants, Pass, Precision
from ranvier.passes.decompose import DECOMPOSITIONS
from tests.passes.random_graphs import graphs

EXACT: list[Pass] = [Canonicalize(), FoldConstants()]
ROUNDED: list[Pass] = [FoldBatchNorm(), Decompose(), Decompose(frozenset(DECOMPOSITIONS))]
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def run(graph: Graph) -> dict[str, np.ndarray]:
    shape = (2, *(dim for dim in graph.inputs[0].shape if isinstance(dim, int)))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return interpret(graph, {"x": x})


def assert_same(graph: Graph, changed: Graph, tolerance: float) -> None:
    verify(changed)
    assert [v.type for v in changed.inputs] == [v.type for v in graph.inputs]
    assert [v.type for v in changed.outputs] == [v.type for v in graph.outputs]
    before, after = run(graph), run(changed)
    assert before.keys() == after.keys()
    for name, wanted in before.items():
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-3)
        np.testing.assert_allclose(after[name] / scale, wanted / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("transform", EXACT + ROUNDED, ids=lambda t: f"{t.name}")
@SETTINGS
@given(graph=graphs())
def test_pass_preserves_results(transform: Pass, graph: Graph) -> None:
    assert_same(graph, transform(graph), 2e-5)


@SETTINGS
@given(graph=graphs())
def test_passes_in_sequence_preserve_results(graph: Graph) -> None:
    changed = graph
    for transform in (
        Canonicalize(),
        FoldConstants(),
        FoldBatchNorm(),
        Decompose(),
        Canonicalize(),
    ):
        changed = verify(transform(changed), transform.name)
    assert_same(graph, changed, 5e-5)


@SETTINGS
@given(graph=graphs())
def test_canonicalize_settles(graph: Graph) -> None:
    once = Canonicalize()(graph)
    assert Canonicalize()(once).nodes == once.nodes


@SETTINGS
@given(graph=graphs())
def test_bf16_is_well_formed_and_keeps_the_signature(graph: Graph) -> None:
    changed = verify(Precision("bf16")(graph))
    assert [v.type for v in changed.inputs] == [v.type for v in graph.inputs]
    assert [v.type for v in changed.outputs] == [v.type for v in graph.outputs]
    assert {k: v.shape for k, v in run(changed).items()} == {
        k: v.shape for k, v in run(graph).items()
    }
