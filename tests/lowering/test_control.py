"""Sizes from data, branches and loops: the whole compiler beside the NumPy interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier.api import CompiledModel, resolve_targets
from ranvier.compiler import compile_graph
from ranvier.errors import InputError, ResourceError
from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BOOL, F32, I64, Array
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.ir.parser import parse
from ranvier.ir.printer import format_graph
from ranvier.ir.verifier import verify

N = symbol("n", 1, 1000)
SCALAR = TensorType(I64, ())
RNG = np.random.default_rng(7)


def floats(*shape: object) -> TensorType:
    return TensorType(F32, shape)  # type: ignore[arg-type]


def array(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def compiled(graph: Graph, path: Path, precision: str = "f32") -> Path:
    verify(graph)
    tensors: dict[str, Array] = {}
    text = format_graph(graph, tensors)
    assert format_graph(parse(text, tensors)) == format_graph(graph)
    file = path / f"{graph.name}.{precision}.rvr"
    CompiledModel(compile_graph(graph, resolve_targets("native"), precision)).save(file)
    return file


def check(graph: Graph, path: Path, *cases: dict[str, Array]) -> None:
    """Calls in all sizes, again and again, give what the interpreter gives; on one core and two."""
    file = compiled(graph, path)
    for cores in (1, 2):
        with ranvier.load(file, cores=cores) as model:
            for case in (*cases, *reversed(cases)):
                expected, found = interpret(graph, case), model.run(case)
                assert expected.keys() == found.keys()
                for name, value in expected.items():
                    assert found[name].shape == value.shape
                    np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6)
                profile = model.profile(case)
                assert (np.diff(profile.ticks[0].astype(np.int64)) >= 0).all()
                model.intermediates(case)


def test_positions_of_what_a_mask_keeps(tmp_path: Path) -> None:
    b = GraphBuilder("mask")
    x = b.input("x", floats(N, 3))
    mask = b.add("greater", x, b.constant(np.float32(0)))
    count = b.add("reduce_sum", b.add("cast", mask, dtype=I64), axes=(0, 1), keepdims=False)
    u = symbol("u", 0, N * 3)
    b.add("bind_dim", count, dim=u)
    positions = b.add("nonzero", mask, count=u)
    kept = b.add("gather", b.add("reshape", x, shape=(N * 3,)), positions, axis=0)
    both = b.add("concat", kept, b.add("neg", kept), axis=0)
    total = b.add("reduce_sum", kept, axes=(0,), keepdims=False)
    graph = b.finish([positions, kept, both, total])
    check(
        graph,
        tmp_path,
        *({"x": array(size, 3)} for size in (1, 9, 900)),
        {"x": -np.ones((5, 3), np.float32)},
    )


def test_size_from_an_input_without_a_bound(tmp_path: Path) -> None:
    b = GraphBuilder("range")
    u = symbol("u")
    b.add("bind_dim", b.input("size", SCALAR), dim=u)
    row = b.add("iota", size=u, dtype=F32)
    table = b.add("mul", b.add("reshape", row, shape=(u, 1)), b.input("w", floats(4)))
    graph = b.finish([table, b.add("softmax", table, axis=0)])
    check(graph, tmp_path, *({"size": np.asarray(n), "w": array(4)} for n in (3, 0, 5000, 10)))


def branch(name: str, body: Callable[[GraphBuilder, Value], Value]) -> Graph:
    b = GraphBuilder(name)
    return b.finish([body(b, b.input("x", floats(N, 3)))])


def test_branches_of_different_sizes(tmp_path: Path) -> None:
    size = symbol("size", 0, 2 * N)
    twice = branch("twice", lambda b, x: b.add("concat", x, x, axis=0))
    first = branch(
        "first", lambda b, x: b.add("slice", x, starts=(0, 0), stops=(1, 3), steps=(1, 1))
    )
    b = GraphBuilder("branches")
    x, condition = b.input("x", floats(N, 3)), b.input("condition", TensorType(BOOL, ()))
    attributes = {"then": twice, "otherwise": first, "shapes": ((size, 3),), "defines": (size,)}
    (found,) = b.add_node("if", (condition, b.add("relu", x)), attributes)
    graph = b.finish([b.add("neg", found), found])
    cases = [
        {"x": array(n, 3), "condition": np.asarray(value)}
        for n in (1, 90)
        for value in (True, False)
    ]
    check(graph, tmp_path, *cases)


def recurrence(name: str, steps: object, width: int = 4) -> Graph:
    """tanh(h W + x[i]) over the rows of x."""
    i = symbol(f"{name}_i")
    body = GraphBuilder(f"{name}_body")
    h, xs, w = (
        body.input(n, floats(*s))
        for n, s in (("h", (2, width)), ("xs", (steps, 2, width)), ("w", (width, width)))
    )
    row = body.add("slice", xs, starts=(i, 0, 0), stops=(i + 1, 2, width), steps=(1, 1, 1))
    product = body.add("matmul", h, w)
    following = body.add(
        "tanh", body.add("add", product, body.add("reshape", row, shape=(2, width)))
    )
    b = GraphBuilder(name)
    operands = (
        b.input("h", floats(2, width)),
        b.input("xs", floats(steps, 2, width)),
        b.constant(array(width, width) * np.float32(0.3)),
    )
    results = b.add_node(
        "loop",
        operands,
        {
            "body": body.finish([following, following]),
            "carried": 1,
            "conditional": False,
            "iteration": i,
            "varying": (),
            "limit": steps,
            "count": steps,
            "shapes": ((2, width), (steps, 2, width)),
            "defines": (),
        },
    )
    return b.finish(results, ["last", "all"])


def test_recurrence_over_a_symbolic_length(tmp_path: Path) -> None:
    cases = [{"h": array(2, 4), "xs": array(n, 2, 4)} for n in (0, 1, 2, 5, 33)]
    check(recurrence("rnn", symbol("t", 0, 500)), tmp_path, *cases)


def test_recurrence_in_bf16_stays_close(tmp_path: Path) -> None:
    graph = recurrence("rnn", symbol("t", 0, 500), 32)
    case = {"h": array(2, 32), "xs": array(7, 2, 32)}
    with ranvier.load(compiled(graph, tmp_path, "bf16")) as model:
        found = model.run(case)
    np.testing.assert_allclose(found["all"], interpret(graph, case)["all"], atol=3e-2)


def growing() -> Graph:
    """Appends a row that is larger by 1 until the sum reaches a limit; keeps the sums."""
    k, end, count = symbol("k"), symbol("end"), symbol("count")
    body = GraphBuilder("append")
    x, limit = body.input("x", floats(k, 2)), body.input("limit", floats())
    one = body.constant(np.ones((1, 2), np.float32))
    last = body.add("slice", x, starts=(k - 1, 0), stops=(k, 2), steps=(1, 1))
    longer = body.add("concat", x, body.add("add", last, one), axis=0)
    total = body.add("reduce_sum", longer, axes=(0, 1), keepdims=False)
    b = GraphBuilder("growing")
    operands = (
        b.constant(np.asarray(True)),
        b.input("x", floats(N, 2)),
        b.input("limit", floats()),
    )
    results = b.add_node(
        "loop",
        operands,
        {
            "body": body.finish([body.add("less", total, limit), longer, total]),
            "carried": 1,
            "conditional": True,
            "iteration": symbol("j"),
            "varying": (k,),
            "limit": None,
            "count": count,
            "shapes": ((end, 2), (count,)),
            "defines": (end, count),
        },
    )
    return b.finish([b.add("neg", results[0]), results[1]], ["rows", "sums"])


def test_what_a_loop_carries_may_grow(tmp_path: Path) -> None:
    cases = [
        {"x": array(n, 2), "limit": np.float32(limit).reshape(())}
        for n in (1, 3)
        for limit in (-9.0, 30.0, 9000.0)
    ]
    check(growing(), tmp_path, *cases)


def test_loops_in_loops_and_branches_in_loops(tmp_path: Path) -> None:
    """sum over i < rows of (i even ? sum over j < i of x[j] : -x[i])."""
    i, j = symbol("i"), symbol("j")

    def row(b: GraphBuilder, x: Value, index: object) -> Value:
        part = b.add("slice", x, starts=(index, 0), stops=(index + 1, 3), steps=(1, 1))  # type: ignore[operator]
        return b.add("reshape", part, shape=(3,))

    add = GraphBuilder("add_row")
    total, x = add.input("total", floats(3)), add.input("x", floats(N, 3))
    inner = add.finish([add.add("add", total, row(add, x, j))])
    sums = GraphBuilder("prefix")
    x = sums.input("x", floats(N, 3))
    attributes = {
        "body": inner, "carried": 1, "conditional": False, "iteration": j, "varying": (),
        "limit": i, "count": i, "shapes": ((3,),), "defines": (),
    }  # fmt: skip
    start = sums.constant(np.zeros(3, np.float32))
    prefix = sums.finish(sums.add_node("loop", (start, x), attributes))
    negated = GraphBuilder("negated")
    x = negated.input("x", floats(N, 3))
    minus = negated.finish([negated.add("neg", row(negated, x, i))])
    body = GraphBuilder("outer")
    total, x = body.input("total", floats(3)), body.input("x", floats(N, 3))
    parity = body.add("dim", value=i % 2, dtype=I64)
    even = body.add("equal", parity, body.constant(np.asarray(0)))
    (part,) = body.add_node(
        "if", (even, x), {"then": prefix, "otherwise": minus, "shapes": ((3,),), "defines": ()}
    )
    outer = body.finish([body.add("add", total, part)])
    b = GraphBuilder("nested")
    attributes |= {"body": outer, "iteration": i, "limit": N, "count": N}
    operands = b.constant(np.zeros(3, np.float32)), b.input("x", floats(N, 3))
    graph = b.finish(b.add_node("loop", operands, attributes))
    check(graph, tmp_path, *({"x": array(n, 3)} for n in (1, 2, 7, 40)))


def test_a_size_outside_its_range_is_an_error_and_the_next_call_is_fine(tmp_path: Path) -> None:
    b = GraphBuilder("bounded")
    u = symbol("u", 2, 8)
    b.add("bind_dim", b.input("size", SCALAR), dim=u)
    file = compiled(b.finish([b.add("iota", size=u, dtype=F32)]), tmp_path)
    with ranvier.load(file) as model:
        for size in (1, 9, -1):
            with pytest.raises(InputError, match=f"u, is {size}; that is outside the range"):
                model(np.asarray(size))
            assert model(np.asarray(3)).tolist() == [0, 1, 2]


def test_a_size_beyond_the_memory_is_an_error_and_the_next_call_is_fine(tmp_path: Path) -> None:
    b = GraphBuilder("huge")
    u = symbol("u")
    b.add("bind_dim", b.input("size", SCALAR), dim=u)
    file = compiled(b.finish([b.add("iota", size=u, dtype=F32)]), tmp_path)
    with ranvier.load(file) as model:
        with pytest.raises(ResourceError, match="does not have"):
            model(np.asarray(1 << 50))
        assert model(np.asarray(3)).tolist() == [0, 1, 2]


def test_rows_of_an_inner_loop_are_rows_of_the_outer_one(tmp_path: Path) -> None:
    """all[i, j] = x[i] * j: the inner rows go straight to their place in the outer result."""
    i, j = symbol("i"), symbol("j")
    inside = GraphBuilder("inner_rows")
    row = inside.input("row", floats(3))
    index = inside.add("dim", value=j, dtype=F32)
    inner = inside.finish([inside.add("mul", row, index)])
    body = GraphBuilder("outer_rows")
    x = body.input("x", floats(N, 3))
    part = body.add("slice", x, starts=(i, 0), stops=(i + 1, 3), steps=(1, 1))
    attributes = {
        "body": inner, "carried": 0, "conditional": False, "iteration": j, "varying": (),
        "limit": 4, "count": 4, "shapes": ((4, 3),), "defines": (),
    }  # fmt: skip
    rows = body.add_node("loop", (body.add("reshape", part, shape=(3,)),), attributes)
    b = GraphBuilder("rows_of_rows")
    attributes |= {
        "body": body.finish(rows), "iteration": i, "limit": N, "count": N, "shapes": ((N, 4, 3),)
    }  # fmt: skip
    graph = b.finish(b.add_node("loop", (b.input("x", floats(N, 3)),), attributes))
    check(graph, tmp_path, *({"x": array(n, 3)} for n in (1, 2, 7, 40)))


def test_rows_that_a_branch_makes_are_kept_while_their_memory_grows(tmp_path: Path) -> None:
    """Rows of x or of -x by turns, as long as i < limit; nobody knows how many beforehand."""
    i, count = symbol("i"), symbol("count")
    body = GraphBuilder("turns")
    x, limit = body.input("x", floats(7)), body.input("limit", TensorType(I64, ()))

    def choice(name: str, op: str) -> Graph:
        inside = GraphBuilder(name)
        return inside.finish([inside.add(op, inside.input("x", floats(7)))])

    even = body.add("equal", body.add("dim", value=i % 2, dtype=I64), body.constant(np.asarray(0)))
    branches = {"then": choice("plain", "abs"), "otherwise": choice("negative", "neg")}
    (row,) = body.add_node("if", (even, x), {**branches, "shapes": ((7,),), "defines": ()})
    goes_on = body.add("less", body.add("dim", value=i + 1, dtype=I64), limit)
    b = GraphBuilder("kept_rows")
    attributes = {
        "body": body.finish([goes_on, row]), "carried": 0, "conditional": True, "iteration": i,
        "varying": (), "limit": None, "count": count, "shapes": ((count, 7),), "defines": (count,),
    }  # fmt: skip
    operands = b.constant(np.asarray(True)), b.input("x", floats(7)), b.input("limit", SCALAR)
    graph = b.finish(b.add_node("loop", operands, attributes))
    check(graph, tmp_path, *({"x": array(7), "limit": np.asarray(n)} for n in (1, 9, 200)))
