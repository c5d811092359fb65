"""The interpreter solves symbols, checks inputs and returns outputs by name."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier.errors import InputError
from ranvier.ir.dim import symbol
from ranvier.ir.dtype import BF16, F32, I64, from_bf16, to_bf16
from ranvier.ir.graph import Graph, GraphBuilder, TensorType
from ranvier.ir.interpreter import interpret

N, M = symbol("n", 1, 8), symbol("m", 1)


def graph() -> Graph:
    b = GraphBuilder("f")
    x = b.input("x", TensorType(F32, (N * 2 + 1, M)))
    y = b.input("y", TensorType(F32, (M * N,)))
    flat = b.add("reshape", x, shape=(M * (N * 2 + 1),))
    count = b.add("dim", value=N, dtype=I64)
    return b.finish([b.add("concat", flat, y, axis=0), count], ["joined", "count"])


def test_symbols_are_solved_from_shapes() -> None:
    arrays = {"x": np.ones((7, 2), np.float32), "y": np.zeros(6, np.float32)}
    found = interpret(graph(), arrays)
    assert found["joined"].shape == (20,)
    assert found["count"] == 3


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((7, 2), (5,), "must be m[*]n = 6, got 5"),
        ((6, 2), (6,), "must be"),
        ((7,), (6,), "needs 2 dims"),
        ((19, 1), (9,), "n = 9 is outside its range, 1 to 8"),
    ],
)
def test_shapes_that_do_not_fit(x: tuple[int, ...], y: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        interpret(graph(), {"x": np.ones(x, np.float32), "y": np.ones(y, np.float32)})


def test_wrong_inputs() -> None:
    with pytest.raises(InputError, match="takes inputs"):
        interpret(graph(), {"x": np.ones((7, 2), np.float32)})
    with pytest.raises(InputError, match="needs float32"):
        interpret(graph(), {"x": np.ones((7, 2)), "y": np.ones(6, np.float32)})


def test_symbols_that_no_input_shows() -> None:
    b = GraphBuilder("sources")
    g = b.finish([b.add("iota", size=N, dtype=F32)])
    assert interpret(g, {}, {"n": 3})["iota"].tolist() == [0, 1, 2]


def test_watch_sees_every_value() -> None:
    seen: list[str] = []
    arrays = {"x": np.ones((3, 1), np.float32), "y": np.ones(1, np.float32)}
    interpret(graph(), arrays, watch=lambda value, array: seen.append(value.name))
    assert seen == ["reshape", "dim", "concat"]


def test_bf16_is_computed_in_f32_and_rounded() -> None:
    b = GraphBuilder("f")
    x = b.input("x", TensorType(BF16, (3,)))
    g = b.finish([b.add("add", x, x)], ["y"])
    numbers = np.array([1.0, 3.14159, -1e30], np.float32)
    found = interpret(g, {"x": to_bf16(numbers)})["y"]
    np.testing.assert_array_equal(from_bf16(found), 2 * from_bf16(to_bf16(numbers)))
