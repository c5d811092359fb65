"""Every operator of the table, compiled and run, gives what its NumPy definition gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from ranvier.ir.dtype import BF16, DType
from ranvier.ir.graph import Graph, GraphBuilder, TensorType, Value
from ranvier.ir.interpreter import interpret
from ranvier.ir.operators import GROUPS, OPERATORS
from ranvier.lowering.options import LoweringOptions
from ranvier.target import Target
from tests.lowering import cast_cases, operator_cases, window_cases
from tests.lowering.native import CORES, difference, run_native
from tests.lowering.operator_cases import Case, Numbers
from tests.targets import HOST, NATIVE

CASES: dict[str, Callable[[str], Iterator[Case]]] = {
    "elementwise": operator_cases.elementwise,
    "views": operator_cases.views,
    "gathers": operator_cases.gathers,
    "sources": operator_cases.sources,
    "reductions": operator_cases.reductions,
    "normalization": operator_cases.normalization,
    "contractions": window_cases.contractions,
    "pooling": window_cases.pooling,
    "resize": window_cases.resizes,
    "selection": operator_cases.selection,
}
OWN_TESTS = ("control", "foreign")
GROUP_OF = {entry.name: name for name, group in GROUPS.items() for entry in group}
FLUSHED = 128 * 2.0**-126  # a product of a number and one that was flushed
TOGETHER = 60  # cases compiled as one graph
EXACT = LoweringOptions(winograd=False)  # nothing that rounds otherwise than the definitions


def cases_of(op: str) -> list[Case]:
    """All cases of one operator."""
    operator_cases.restart()
    own = cast_cases.CASES.get(op)
    return list(own() if own else CASES[GROUP_OF[op]](op))


# Branches, loops and sizes from data have tests of their own, test_control.py, and so has what a
# framework computes, test_foreign.py.
@pytest.mark.parametrize("op", [op for op in OPERATORS if GROUP_OF[op] not in OWN_TESTS])
def test_operator(op: str) -> None:
    check_cases(op, cases_of(op), NATIVE)


@pytest.mark.parametrize("target", [t for t in HOST if t is not NATIVE], ids=lambda t: str(t.name))
@pytest.mark.parametrize(
    "op", ["conv", "matmul", "attention", "cast", "narrow_cast", "max_pool", "sort"]
)
def test_operator_for_other_targets(op: str, target: Target) -> None:
    check_cases(op, cases_of(op)[::3], target)


def check_cases(op: str, cases: list[Case], target: Target) -> None:
    """Compile the cases, many to a graph, and report every one that differs."""
    assert cases, f"{op} has no cases"
    problems: list[str] = []
    for chunk in chunks(cases):
        problems += problems_of(chunk, target)
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems[:15])


def chunks(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Cases in groups that compile together."""
    cases = list(cases)
    for start in range(0, len(cases), TOGETHER):
        yield cases[start : start + TOGETHER]


def problems_of(cases: list[Case], target: Target) -> list[str]:
    """Differences between native code and the interpreter, one line each."""
    graph, inputs = graph_of(cases)
    wanted = interpret(graph, inputs)
    problems: list[str] = []
    found_by_count = run_native(graph, [inputs], target, options=EXACT)
    for count, (found,) in zip(CORES, found_by_count, strict=True):
        for name, value in zip(graph.output_names, graph.outputs, strict=True):
            case = cases[int(name.split(".")[0])]
            told = difference(
                found[name],
                wanted[name],
                value.dtype,
                case.units,
                case.is_sum,
                case.signs,
                smallest_of(value.dtype, target),
            )
            if told:
                operands = [f"{x.dtype}{list(x.array.shape)}" for x in case.operands]
                problems.append(f"{case.op}({', '.join(operands)}) {case.attributes}, "
                                f"output {name}, {count} cores: {told}")  # fmt: skip
    return problems


def smallest_of(dtype: DType, target: Target) -> float:
    """What may become zero: AVX512-BF16 rounds f32 to bf16 without denormal numbers."""
    return FLUSHED if dtype is BF16 and target.has_bf16_dot else 0.0


def graph_of(cases: list[Case]) -> tuple[Graph, dict[str, Numbers]]:
    """One graph with the results of all cases as outputs, called `<case>.<result>`."""
    b = GraphBuilder("cases")
    inputs: dict[str, Numbers] = {}
    outputs: list[Value] = []
    names: list[str] = []
    for number, case in enumerate(cases):
        operands = []
        for position, operand in enumerate(case.operands):
            if operand.is_constant:
                operands.append(b.constant(operand.array, operand.dtype))
                continue
            name = f"x{number}_{position}"
            operands.append(b.input(name, TensorType(operand.dtype, operand.array.shape)))
            inputs[name] = np.ascontiguousarray(operand.array).reshape(operand.array.shape)
        results = b.add_node(case.op, operands, case.attributes)
        outputs += results
        names += [f"{number}.{k}" for k in range(len(results))]
    return b.finish(outputs, names), inputs
