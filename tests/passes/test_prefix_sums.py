"""Long running sums: the same numbers as the definition, in far fewer steps."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier.ir.dim import symbol
from ranvier.ir.dtype import F32, F64, I64, DType
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.ir.interpreter import interpret
from ranvier.ir.verifier import verify
from ranvier.passes.legalize import Legalize
from tests.lowering.native import run_native


def _graph(shape: tuple[object, ...], axis: int, dtype: DType) -> Graph:
    b = GraphBuilder("sums")
    x = b.input("x", TensorType(dtype, shape))  # type: ignore[arg-type]
    return b.finish([b.add("cumsum", x, axis=axis)], ["y"])


def _numbers(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.integers(-4, 9, shape).astype(dtype.storage)


@pytest.mark.parametrize("dtype", [F32, F64, I64])
@pytest.mark.parametrize(("shape", "axis"), [((1025,), 0), ((2, 1300, 3), 1), ((70000,), 0)])
def test_long_sums(shape: tuple[int, ...], axis: int, dtype: DType) -> None:
    graph = _graph(shape, axis, dtype)
    legal = Legalize()(graph)
    verify(legal)
    assert all(
        node.op != "cumsum" or node.operands[0].shape[node.attribute("axis")] <= 1024
        for node in legal.nodes
    )
    x = _numbers(shape, dtype)
    np.testing.assert_array_equal(interpret(legal, {"x": x})["y"], np.cumsum(x, axis))
    for (found,) in run_native(graph, [{"x": x}]):
        np.testing.assert_array_equal(found["y"], np.cumsum(x, axis))


def test_short_sums_stay() -> None:
    graph = _graph((3, 1024), 1, F32)
    assert [node.op for node in Legalize()(graph).nodes] == ["cumsum"]


def test_sums_of_symbolic_size() -> None:
    graph = _graph((symbol("n", 1, 5000),), 0, F32)
    runs = [{"x": _numbers((size,), F32)} for size in (1, 255, 256, 257, 5000)]
    for found in run_native(graph, runs):
        for given, outputs in zip(runs, found, strict=True):
            np.testing.assert_array_equal(outputs["y"], np.cumsum(given["x"]))


def test_an_infinity_stays_where_it_is() -> None:
    x = np.ones(2000, np.float32)
    x[700], x[1500] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        wanted = np.cumsum(x)
    for (found,) in run_native(_graph((2000,), 0, F32), [{"x": x}]):
        np.testing.assert_array_equal(found["y"], wanted)
