"""Products as plain reductions, for what no contraction or convolution kernel takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir.graph import Node
from ranvier.lowering.expression import Apply, Expression, Reduce, compute_dtype
from ranvier.lowering.rules.indices import Guards, Indices, Rule, broadcast_indices
from ranvier.lowering.rules.reductions import loops_over, variables_of
from ranvier.lowering.rules.windows import sliding_window

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _matmul(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """For element types without a contraction kernel (integers, f64)."""
    a, b = node.operands
    loop = inliner.scope.loop(a.shape[-1])
    row = (*indices[:-1], loop.variable)
    column = (*indices[:-2], loop.variable, indices[-1])
    left = inliner.element(a, broadcast_indices(a, row), guards)
    right = inliner.element(b, broadcast_indices(b, column), guards)
    dtype = compute_dtype(node.result.dtype)
    return Reduce("sum", (loop,), Apply("mul", (left, right), dtype), dtype)


def _conv(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """A convolution as a plain reduction, for the cases that no convolution kernel takes."""
    x, weight = node.operands[:2]
    strides, padding, dilations = (
        tuple(node.attribute(k)) for k in ("strides", "padding", "dilations")
    )
    groups = node.attribute("groups")
    depth = inliner.scope.loop(weight.shape[1])
    loops = loops_over(inliner, weight.shape[2:])
    spatial, own = sliding_window(x, loops, indices[2:], strides, dilations, padding, node)
    group = indices[1] // (weight.shape[0] // groups)
    left = inliner.read(
        x, (indices[0], group * weight.shape[1] + depth.variable, *spatial), guards + own
    )
    right = inliner.read(weight, (indices[1], depth.variable, *variables_of(loops)), guards)
    dtype = compute_dtype(node.result.dtype)
    total: Expression = Reduce("sum", (*loops, depth), Apply("mul", (left, right), dtype), dtype)
    if len(node.operands) > 2:
        total = Apply(
            "add", (total, inliner.element(node.operands[2], (indices[1],), guards)), dtype
        )
    return total


RULES: dict[str, Rule] = {"matmul": _matmul, "conv": _conv}
