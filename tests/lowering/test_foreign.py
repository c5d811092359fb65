"""Segments of a framework between native steps: the whole compiler beside the interpreter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier
from ranvier.api import CompiledModel, resolve_targets
from ranvier.compiler import compile_graph
from ranvier.errors import UnsupportedOperatorError
from ranvier.ir.dim import Dim, symbol
from ranvier.ir.dtype import BF16, BOOL, F32, I64, U8, DType
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.ir.parser import parse
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify
from ranvier.passes.canonicalize import Canonicalize
from ranvier.passes.fold_constants import FoldConstants
from tests.lowering.test_control import array, check, compiled, floats

pytestmark = pytest.mark.needs("torch")

N = symbol("n", 0, 64)
Call = tuple[Any, ...]


def foreign(
    b: GraphBuilder,
    operands: Sequence[Value],
    calls: Sequence[Call],
    *results: tuple[int, DType, tuple[Dim, ...]],
    sizes: tuple[Dim, ...] = (),
) -> tuple[Value, ...]:
    """A segment of calls (operator, arguments...); results are (call, dtype, shape)."""
    document = {
        "calls": [{"operator": name, "arguments": list(arguments)} for name, *arguments in calls],
        "results": [{"call": number} for number, _, _ in results],
    }
    return b.add_node(
        "foreign",
        operands,
        {
            "framework": "torch",
            "segment": json.dumps(document),
            "operators": tuple(call[0] for call in calls),
            "sources": tuple(f"model.py:{i}" for i in range(len(calls))),
            "sizes": sizes,
            "dtypes": tuple(dtype for _, dtype, _ in results),
            "shapes": tuple(shape for _, _, shape in results),
        },
        ("foreign",),
    )


def operand(number: int) -> dict[str, int]:
    return {"operand": number}


def renorm(b: GraphBuilder, x: Value) -> Value:
    return foreign(
        b, [x], [("aten.renorm.default", operand(0), 2.0, 0, 1.5)], (0, x.dtype, x.shape)
    )[0]


def test_first_last_and_one_behind_the_other(tmp_path: Path) -> None:
    b = GraphBuilder("ends")
    x = b.input("x", floats(N, 6))
    first = renorm(b, x)
    second = renorm(b, b.add("reshape", first, shape=(N * 2, 3)))
    last = renorm(b, b.add("tanh", second))
    graph = b.finish([last, first])
    check(graph, tmp_path, *({"x": array(size, 6)} for size in (1, 64, 0, 7)))


def test_operands_and_results_of_any_layout(tmp_path: Path) -> None:
    """Channels last, transposed, a slice, a constant, parts of a concatenation, outputs twice."""
    b = GraphBuilder("layouts")
    x = b.input("x", floats(N, 3, 5, 7))
    w = b.constant(array(4, 3, 3, 3))
    image = b.add(
        "conv", x, w, strides=(1, 1), padding=((1, 1), (1, 1)), dilations=(1, 1), groups=1
    )
    view = b.add("transpose", x, permutation=(0, 2, 3, 1))
    part = b.add("slice", view, starts=(0, 1, 0, 0), stops=(N, 3, 7, 3), steps=(1, 1, 1, 1))
    calls = [
        ("aten.add.Tensor", operand(0), operand(2)),
        ("aten.neg.default", operand(1)),
        ("aten.sum.dim_IntList", {"call": 1}, [1, 2, 3]),
    ]
    bias = b.constant(array(4, 1, 1))
    shifted, negative, sums = foreign(
        b, [image, part, bias], calls,
        (0, F32, (N, 4, 5, 7)), (1, F32, (N, 2, 7, 3)), (2, F32, (N,)),
    )  # fmt: skip
    again = b.add(
        "conv", shifted, b.constant(array(2, 4, 1, 1)), strides=(1, 1), padding=((0, 0), (0, 0)),
        dilations=(1, 1), groups=1,
    )  # fmt: skip
    both = b.add("concat", negative, part, axis=1)
    graph = b.finish([again, both, sums, shifted, sums], ["again", "both", "sums", "shifted", "s"])
    check(graph, tmp_path, *({"x": array(size, 3, 5, 7)} for size in (2, 1, 9)))


def test_element_types_sizes_and_no_operands(tmp_path: Path) -> None:
    b = GraphBuilder("types")
    x = b.input("x", floats(N, 4))
    mask = b.add("greater", x, b.constant(np.float32(0)))
    ids = b.add("cast", x, dtype=I64)
    half = b.add("cast", x, dtype=BF16)
    calls = [
        ("aten.logical_not.default", operand(0)),
        ("aten.mul.Tensor", operand(1), operand(1)),
        ("aten.abs.default", operand(2)),
        ("aten.to.dtype", operand(1), {"dtype": "uint8"}),
    ]
    shape = (N, 4)
    results = foreign(
        b, [mask, ids, half], calls, *((i, t, shape) for i, t in enumerate((BOOL, I64, BF16, U8)))
    )
    calls = [("aten.arange.default", {"size": 0}), ("aten.full.default", [2, {"size": 0}], 0.5)]
    row, full = foreign(b, [], calls, (0, I64, (N * 3,)), (1, F32, (2, N * 3)), sizes=(N * 3,))
    graph = b.finish([*results, row, b.add("add", full, full)])
    check(graph, tmp_path, *({"x": array(size, 4) * 3} for size in (3, 64, 0, 1)))


def test_among_sizes_from_data_and_loops(tmp_path: Path) -> None:
    b = GraphBuilder("mixed")
    x = b.input("x", floats(symbol("n", 1, 50), 3))
    n = x.shape[0]
    normed = renorm(b, x)
    mask = b.add("greater", normed, b.constant(np.float32(0)))
    count = b.add("reduce_sum", b.add("cast", mask, dtype=I64), axes=(0, 1), keepdims=False)
    u = symbol("u", 0, n * 3)
    b.add("bind_dim", count, dim=u)
    positions = b.add("nonzero", mask, count=u)
    kept = b.add("gather", b.add("reshape", normed, shape=(n * 3,)), positions, axis=0)
    body = GraphBuilder("body")
    state = body.input("state", floats(n, 3))
    i = symbol("i", 0)
    inner = body.finish([body.add("mul", state, body.constant(np.float32(0.5)))])
    (halved,) = b.add_node(
        "loop", [normed],
        {"body": inner, "carried": 1, "conditional": False, "iteration": i, "varying": (),
         "limit": 3, "count": 3, "shapes": ((n, 3),), "defines": ()},
        ("halved",),
    )  # fmt: skip
    graph = b.finish([kept, renorm(b, halved), b.add("neg", kept)])
    check(graph, tmp_path, *({"x": array(size, 3)} for size in (1, 50, 8)))


def test_a_segment_keeps_the_types_of_the_model_in_bf16(tmp_path: Path) -> None:
    b = GraphBuilder("precision")
    x = b.input("x", floats(N, 16))
    hidden = b.add("relu", b.add("matmul", x, b.constant(array(16, 16))))
    y = b.add("matmul", renorm(b, hidden), b.constant(array(16, 4)))
    graph = b.finish([y])
    with ranvier.load(compiled(graph, tmp_path, "bf16")) as model:
        inputs = {"x": array(8, 16)}
        (expected,) = interpret(graph, inputs).values()
        (found,) = model.run(inputs).values()
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_random_numbers_are_neither_folded_nor_shared(tmp_path: Path) -> None:
    b = GraphBuilder("random")
    calls = [("aten.rand.default", [8])]
    one, other = (foreign(b, [], calls, (0, F32, (8,)))[0] for _ in range(2))
    x = b.input("x", floats(8))
    graph = b.finish([b.add("add", x, one), b.add("add", x, other)], ["one", "other"])
    optimized = Canonicalize()(FoldConstants()(graph))
    assert [node.op for node in optimized.nodes].count("foreign") == 2
    with ranvier.load(compiled(graph, tmp_path)) as model:
        first, second = (model.run({"x": np.zeros(8, np.float32)}) for _ in range(2))
    assert not np.array_equal(first["one"], first["other"])
    assert not np.array_equal(first["one"], second["one"])


def branched() -> Graph:
    """A segment in a branch."""
    inner = []
    for name in ("then", "otherwise"):
        b = GraphBuilder(name)
        x = b.input("x", floats(4))
        inner.append(b.finish([renorm(b, b.add("reshape", x, shape=(2, 2)))]))
    b = GraphBuilder("branched")
    condition, x = b.input("c", TensorType(BOOL, ())), b.input("x", floats(4))
    attributes = {"then": inner[0], "otherwise": inner[1], "shapes": ((2, 2),), "defines": ()}
    return b.finish(b.add_node("if", [condition, x], attributes))


def sized() -> Graph:
    """A segment on a tensor of a size from data."""
    b = GraphBuilder("sized")
    x, size = b.input("x", floats(9, 2)), b.input("size", TensorType(I64, ()))
    u = symbol("u", 0, 9)
    b.add("bind_dim", size, dim=u)
    part = b.add("slice", x, starts=(0, 0), stops=(u, 2), steps=(1, 1))
    return b.finish([renorm(b, part)])


@pytest.mark.parametrize(
    ("graph", "reason"),
    [(branched(), "stands in a branch"), (sized(), r"sizes that depend on data \(u\)")],
    ids=lambda value: getattr(value, "name", ""),
)
def test_refused(graph: Graph, reason: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=reason) as caught:
        compile_graph(graph, resolve_targets("native"))
    assert "aten.renorm.default (at model.py:0)" in str(caught.value)


def test_the_text_of_a_graph_has_segments() -> None:
    b = GraphBuilder("text")
    graph = b.finish([renorm(b, b.input("x", floats(N, 2)))])
    text = format_graph(verify(graph))
    assert format_graph(verify(parse(text))) == text


def test_artifacts_for_several_targets_share_segments(tmp_path: Path) -> None:
    b = GraphBuilder("targets")
    graph = b.finish([renorm(b, renorm(b, b.input("x", floats(N, 2))))])
    compiled = compile_graph(graph, resolve_targets(["x86-64-v3", "x86-64-v4"]))
    assert [name for name in compiled.entries if name.startswith("segments/")] == [
        "segments/0.json"
    ]
    CompiledModel(compiled).save(tmp_path / "both.rvr")
