"""What the front end knows of shape tensors is what they hold when the model runs."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnx")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.frontends.onnx.contents import Contents
from ranvier.frontends.onnx.elements import OPEN, Ratio
from ranvier.ir.dim import evaluate, symbol
from ranvier.ir.dtype import BOOL, F16, F32, I8, I64
from ranvier.ir.graph import GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret

N, M = symbol("n", 1, 1000), symbol("m", 1, 50)
BINARY = ("add", "sub", "mul", "div", "remainder", "maximum", "minimum")
TESTS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
FLOAT = ("add", "sub", "mul", "div")


class Build:
    """A graph whose contents are learned node by node."""

    def __init__(self) -> None:
        self.builder, self.contents = GraphBuilder("g"), Contents()
        self.x = self.builder.input("x", TensorType(F32, (N, M)))

    def add(self, op: str, *operands: Value, **attributes: object) -> Value:
        """Emit a node and learn from it."""
        value = self.builder.add(op, *operands, **attributes)
        self.contents.learn(self.builder.nodes[-1])
        return value

    def number(self, value: Any, dtype: Any = I64) -> Value:
        """A constant."""
        result = self.builder.constant(np.asarray(value, dtype.storage))
        self.contents.learn(self.builder.nodes[-1])
        return result

    def agrees(self, values: list[Value]) -> int:
        """Compares what is known with what the interpreter computes; how many are known."""
        known = [v for v in values if self.contents.get(v) is not None]
        graph = self.builder.finish(known or [self.x])
        for n, m in ((1, 1), (2, 3), (7, 4), (6, 7)):
            found = interpret(graph, {"x": np.zeros((n, m), np.float32)})
            if not known:
                return 0
            for value, array in zip(known, found.values(), strict=True):
                elements = self.contents.get(value)
                assert elements is not None
                for expected, element in zip(array.flat, elements.ravel().tolist(), strict=True):
                    _same(element, expected, {"n": n, "m": m})
        return len(known)


def _same(element: Any, expected: Any, sizes: dict[str, int]) -> None:
    if element is OPEN:
        return
    if isinstance(element, Ratio):
        value = evaluate(element.numerator, sizes) / element.denominator
    elif isinstance(element, (bool, float)):
        value = element
    else:
        value = evaluate(element, sizes)
    assert value == pytest.approx(expected, rel=1e-6)


steps = st.lists(
    st.tuples(st.sampled_from(BINARY), st.integers(0, 40), st.integers(0, 40)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps, st.lists(st.integers(-3, 7), min_size=2, max_size=4))
def test_arithmetic_of_integers(chosen: list[tuple[str, int, int]], numbers: list[int]) -> None:
    b = Build()
    pool = [b.add("dim", value=size, dtype=I64) for size in (N, M)] + [
        b.number(value) for value in numbers
    ]
    for op, i, j in chosen:
        left, right = pool[i % len(pool)], pool[j % len(pool)]
        divisor = b.contents.get(right)
        if op in ("div", "remainder") and (divisor is None or divisor[()] == 0):
            right = b.number(3)
        if op in ("div", "remainder") and not isinstance(b.contents.get(right)[()], int):  # type: ignore[index]
            right = b.number(2)
        pool.append(b.add(op, left, right))
    tests = [b.add(test, pool[-1], pool[0]) for test in TESTS]
    assert b.agrees([*pool, *tests]) >= 2


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(FLOAT), st.integers(0, 9)), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.5, 0.25, 1.5, 2.0, 3.0, -1.0, 8.0]), min_size=2, max_size=4),
)
def test_sizes_as_floats(chosen: list[tuple[str, int]], numbers: list[float]) -> None:
    b = Build()
    value = b.add("cast", b.add("dim", value=N, dtype=I64), dtype=F32)
    values = [value]
    for op, i in chosen:
        value = b.add(op, value, b.number(numbers[i % len(numbers)], F32))
        values.append(value)
    rounded = [b.add(op, value) for op in ("floor", "ceil")]
    assert b.agrees([*values, *rounded, *(b.add("cast", x, dtype=I64) for x in rounded)]) >= 1


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([("div", 32.0), ("mul", 32.0)], True),
        ([("mul", 0.75), ("add", 0.5)], True),
        ([("div", 3.0)], True),
        ([("div", 3.0), ("mul", 4.0)], True),
        ([("div", 1.5), ("sub", 2.0), ("mul", 1.5)], False),
        ([("div", 3.0), ("mul", 3.0)], False),
        ([("mul", 1.0 - 2.0**-20)], False),
    ],
)
def test_what_rounding_at_run_time_might_change_stays_open(
    steps: list[tuple[str, float]], known: bool
) -> None:
    """f32 gives (1 / 1.5 - 2) * 1.5 = -1.9999999, so its ceiling is not that of -2."""
    b = Build()
    value = b.add("cast", b.add("dim", value=N, dtype=I64), dtype=F32)
    for op, number in steps:
        value = b.add(op, value, b.number(number, F32))
    found = b.contents.get(b.add("ceil", value))
    assert (found is not None and found[()] is not OPEN) == known


def test_numbers_are_rounded_as_their_type_is() -> None:
    b = Build()
    third = b.add("div", b.number(1.0, F32), b.number(3.0, F32))
    assert b.contents.get(third)[()] == float(np.float32(1) / np.float32(3))  # type: ignore[index]


def test_views_reductions_and_choices() -> None:
    b = Build()
    row = b.add(
        "concat",
        *(b.add("reshape", b.add("dim", value=v, dtype=I64), shape=(1,)) for v in (N, M, N * M)),
        axis=0,
    )
    values = [
        row,
        b.add("reverse", row, axes=(0,)),
        b.add("slice", row, starts=(0,), stops=(3,), steps=(2,)),
        b.add("gather", row, b.number([-1, 0]), axis=0),
        b.add("reshape", row, shape=(3, 1)),
        b.add("broadcast", row, shape=(2, 3)),
        b.add("reduce_prod", row, axes=(0,), keepdims=False),
        b.add("reduce_sum", row, axes=(0,), keepdims=True),
        b.add("reduce_max", b.add("broadcast", row, shape=(2, 3)), axes=(0,), keepdims=False),
        b.add("pad", row, low=(1,), high=(2,), mode="constant", value=5),
        b.add("where", b.number([True, False, True], BOOL), row, b.number([1, 2, 3])),
        b.add("iota", size=4, dtype=I64),
    ]
    assert b.agrees(values) == len(values)


def test_elements_that_are_open_leave_the_others_known() -> None:
    b = Build()
    count = b.builder.input("count", TensorType(I64, (1,)))
    size = b.add("reshape", b.add("dim", value=N, dtype=I64), shape=(1,))
    both = b.add("concat", size, count, axis=0)
    elements = b.contents.get(both)
    assert elements is not None
    assert elements[0] == N
    assert elements[1] is OPEN
    doubled = b.contents.get(b.add("mul", both, b.number(2)))
    assert doubled is not None
    assert doubled[0] == 2 * N
    assert b.contents.get(b.add("mul", count, b.number(2))) is None


def test_a_size_that_may_exceed_a_narrow_type_is_not_known() -> None:
    b = Build()
    size = b.add("dim", value=N, dtype=I64)
    for narrow in (I8, F16):
        assert b.contents.get(b.add("cast", size, dtype=narrow)) is None
