"""Operations of a nest are counted as often as the generated code does them."""

from __future__ import annotations

import numpy as np

from ranvier.ir.dtype import F32
from ranvier.ir.graph import GraphBuilder, TensorType
from ranvier.lowering.expression import Access, Apply, Expression, Literal, Loop, Reduce
from ranvier.lowering.lower import lower
from ranvier.lowering.nests import nest_operations, operation_count
from ranvier.lowering.scope import KernelScope
from tests.targets import NATIVE


def add(*operands: Expression) -> Expression:
    return Apply("add", operands, F32)


def loops(*extents: int) -> tuple[Loop, ...]:
    scope = KernelScope()
    return tuple(scope.loop(extent) for extent in extents)


def test_an_element_wise_expression_is_counted_for_every_element() -> None:
    (i,) = loops(10)
    read = Access(0, i.variable, F32)
    value = add(add(read, read), Literal(1.0, F32))
    assert operation_count(value) == 2
    assert nest_operations((i,), value) == 20


def test_a_reduction_runs_once_for_loops_that_it_does_not_use() -> None:
    i, j, k = loops(10, 20, 30)
    row = Reduce("sum", (k,), Access(0, 30 * i.variable + k.variable, F32), F32)
    value = add(Access(1, 20 * i.variable + j.variable, F32), row)
    assert nest_operations((i, j), value) == 10 * 20 + 10 * 30


def test_a_reduction_inside_another_is_hoisted_out_of_it() -> None:
    i, j, k, m = loops(10, 20, 30, 40)
    mean = Reduce("sum", (m,), Access(0, 40 * i.variable + m.variable, F32), F32)
    deviation = add(Access(0, 40 * i.variable + k.variable, F32), mean)
    value = add(mean, Reduce("sum", (k,), deviation, F32))
    # The mean counts once, though it is used twice; the sum has two operators per element.
    assert nest_operations((i, j), value) == 10 * 20 + 10 * 40 + 10 * 30 * 2


def test_a_window_that_depends_on_the_position_counts_as_one() -> None:
    i, k = loops(10, 5)
    window = Loop(k.name, i.variable + 1)
    value = Reduce("sum", (window,), Access(0, i.variable + k.variable, F32), F32)
    assert nest_operations((i,), value) == 10


def test_a_layer_norm_is_a_few_operations_per_element() -> None:
    b = GraphBuilder("norm")
    x = b.input("x", TensorType(F32, (128, 384)))
    ones = b.constant(np.ones(384, np.float32))
    norm = b.add("layer_norm", x, ones, ones, axis=1, epsilon=1e-5)
    program = lower(b.finish([norm], ["y"]), NATIVE)
    flops = sum(int(str(step.flops)) for step in program.steps)
    assert 5 * 128 * 384 < flops < 20 * 128 * 384
