"""Rules of reductions: `Reduce` nodes over loops of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Node
from ranvier.lowering.expression import (
    Apply,
    Expression,
    Index,
    Literal,
    Loop,
    Reduce,
    compute_dtype,
)
from ranvier.lowering.rules.indices import Guards, Indices, Rule

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner

REDUCERS = {
    "reduce_sum": "sum", "reduce_mean": "sum", "reduce_max": "max", "reduce_min": "min",
    "reduce_prod": "prod", "reduce_any": "any", "reduce_all": "all",
}  # fmt: skip


def _reduce(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand, axes = node.operands[0], tuple(node.attribute("axes"))
    loops = {axis: inliner.scope.loop(operand.shape[axis]) for axis in axes}
    body = inliner.element(operand, _reduced(node, indices, loops), guards)
    if node.op in ("reduce_any", "reduce_all") and body.dtype is not BOOL:
        body = Apply("not_equal", (body, Literal(0, body.dtype)), BOOL)
    dtype = compute_dtype(node.result.dtype)
    if body.dtype != dtype:
        body = Apply("cast", (body,), dtype)
    total = Reduce(REDUCERS[node.op], tuple(loops.values()), body, dtype)
    if node.op != "reduce_mean":
        return total
    return mean_of(total, dims.product(loop.extent for loop in loops.values()))


def _reduced(node: Node, indices: Indices, loops: dict[int, Loop]) -> Indices:
    """Operand indices: loop variables on reduced axes, the result's indices elsewhere."""
    operand = node.operands[0]
    if node.attribute("keepdims"):
        return tuple(loops[a].variable if a in loops else indices[a] for a in range(operand.rank))
    rest = iter(indices)
    return tuple(loops[a].variable if a in loops else next(rest) for a in range(operand.rank))


def _variance(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand, axes = node.operands[0], tuple(node.attribute("axes"))
    correction = node.attribute("correction")
    dtype = compute_dtype(operand.dtype)
    count = dims.product(operand.shape[axis] for axis in axes)
    first = {axis: inliner.scope.loop(operand.shape[axis]) for axis in axes}
    again = {axis: inliner.scope.loop(operand.shape[axis]) for axis in axes}
    mean = mean_of(
        Reduce(
            "sum",
            tuple(first.values()),
            inliner.element(operand, _reduced(node, indices, first), guards),
            dtype,
        ),
        count,
    )
    gap = Apply(
        "sub", (inliner.element(operand, _reduced(node, indices, again), guards), mean), dtype
    )
    total = Reduce("sum", tuple(again.values()), Apply("mul", (gap, gap), dtype), dtype)
    return mean_of(total, count - correction)


def _arg(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axis = node.attribute("axis")
    loops = {axis: inliner.scope.loop(node.operands[0].shape[axis])}
    body = inliner.element(node.operands[0], _reduced(node, indices, loops), guards)
    return Reduce(node.op, tuple(loops.values()), body, I64)


def _cumsum(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axis = node.attribute("axis")
    loop = inliner.scope.loop(indices[axis] + 1)
    source = (*indices[:axis], loop.variable, *indices[axis + 1 :])
    body = inliner.element(node.operands[0], source, guards)
    dtype = compute_dtype(node.result.dtype)
    body = body if body.dtype == dtype else Apply("cast", (body,), dtype)
    return Reduce("sum", (loop,), body, dtype)


def mean_of(total: Expression, count: Dim) -> Expression:
    """`total / count`."""
    divisor: Expression = (
        Literal(float(count), total.dtype) if isinstance(count, int) else Index(count, total.dtype)
    )
    return Apply("div", (total, divisor), total.dtype)


def loops_over(inliner: Inliner, sizes: tuple[Dim, ...]) -> tuple[Loop, ...]:
    """A fresh loop of the kernel for each size."""
    return tuple(inliner.scope.loop(size) for size in sizes)


def variables_of(loops: tuple[Loop, ...]) -> Indices:
    """The loops' variables, as indices."""
    return tuple(loop.variable for loop in loops)


RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCERS, _reduce),
    "reduce_variance": _variance,
    "arg_max": _arg,
    "arg_min": _arg,
    "cumsum": _cumsum,
}
