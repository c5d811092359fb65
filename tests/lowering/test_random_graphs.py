"""Random graphs through the whole compiler give what the interpreter gives.

What this looks for: a value computed in the wrong order or overwritten too early, wrong memory
planning, in-place stores, epilogues, slots of concatenations, layouts and merged loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings

from ranvier.ir.dim import symbols
from ranvier.ir.graph import Graph, Value
from ranvier.ir.interpreter import interpret
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify
from ranvier.target import Target
from tests.lowering.native import run_native
from tests.lowering.random_graphs import graphs, sample_inputs
from tests.targets import HOST

SETTINGS = settings(
    max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TOLERANCE = 1e-5  # of the largest number that occurs anywhere in the graph


@pytest.mark.parametrize("target", HOST, ids=lambda target: str(target.name))
@SETTINGS
@given(graph=graphs())
def test_native_code_agrees_with_the_definitions(target: Target, graph: Graph) -> None:
    check_random(graph, target)


def check_random(graph: Graph, target: Target) -> None:
    """Compare all outputs for several sizes, one and two cores."""
    verify(graph)
    is_symbolic = any(symbols(dim) for value in graph.inputs for dim in value.shape)
    runs = [sample_inputs(graph, n, seed) for seed, n in enumerate((3, 1) if is_symbolic else (0,))]
    wanted, limits = zip(*(reference(graph, inputs) for inputs in runs), strict=True)
    for results in run_native(graph, runs, target):
        for found, expected, limit in zip(results, wanted, limits, strict=True):
            for name, array in expected.items():
                assert found[name].shape == array.shape, f"{name}\n{format_graph(graph)}"
                gap = np.max(np.abs(found[name] - array), initial=0.0)
                message = f"{name} is off by {gap}, limit {limit}\n{format_graph(graph)}"
                assert gap <= limit, message


def reference(
    graph: Graph, inputs: dict[str, npt.NDArray[Any]]
) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """The interpreter's outputs, and how far native code may be off."""
    largest = 1.0

    def watch(value: Value, array: npt.NDArray[Any]) -> None:
        nonlocal largest
        if value.dtype.name == "f32":
            largest = max(largest, float(np.max(np.abs(array), initial=0.0)))

    wanted = interpret(graph, inputs, watch=watch)
    return wanted, TOLERANCE * largest
