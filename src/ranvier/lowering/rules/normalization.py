"""Rules of softmax and the norms: a few reductions and an element-wise formula around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Node
from ranvier.lowering.expression import Apply, Expression, Literal, Reduce, compute_dtype
from ranvier.lowering.rules.indices import Guards, Indices, Rule
from ranvier.lowering.rules.reductions import loops_over, mean_of, variables_of

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _softmax(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axis = node.attribute("axis")
    operand, dtype = node.operands[0], compute_dtype(node.result.dtype)

    def at(position: Dim) -> Expression:
        return inliner.element(operand, (*indices[:axis], position, *indices[axis + 1 :]), guards)

    first, again = inliner.scope.loop(operand.shape[axis]), inliner.scope.loop(operand.shape[axis])
    largest = Reduce("max", (first,), at(first.variable), dtype)
    shifted = Apply("sub", (at(again.variable), largest), dtype)
    total = Reduce("sum", (again,), Apply("exp", (shifted,), dtype), dtype)
    here = Apply("sub", (at(indices[axis]), largest), dtype)
    if node.op == "log_softmax":
        return Apply("sub", (here, Apply("log", (total,), dtype)), dtype)
    inverse = Apply("reciprocal", (total,), dtype)
    return Apply("mul", (Apply("exp", (here,), dtype), inverse), dtype)


def _layer_norm(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, trailing dims (arXiv 1607.06450)."""
    operand, axis = node.operands[0], node.attribute("axis")
    dtype, sizes = compute_dtype(operand.dtype), operand.shape[node.attribute("axis") :]
    count = dims.product(sizes)
    first, again = loops_over(inliner, sizes), loops_over(inliner, sizes)

    def at(inner: Indices) -> Expression:
        return inliner.element(operand, (*indices[:axis], *inner), guards)

    mean = mean_of(Reduce("sum", first, at(variables_of(first)), dtype), count)
    gap = Apply("sub", (at(variables_of(again)), mean), dtype)
    variance = mean_of(Reduce("sum", again, Apply("mul", (gap, gap), dtype), dtype), count)
    scale = _inverse_deviation(variance, node)
    normal = Apply("mul", (Apply("sub", (at(indices[axis:]), mean), dtype), scale), dtype)
    return _scale_and_shift(inliner, node, normal, indices[axis:], guards)


def _rms_norm(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """x / sqrt(mean(x^2) + epsilon) * scale over the trailing dims (arXiv 1910.07467)."""
    operand, axis = node.operands[0], node.attribute("axis")
    dtype, sizes = compute_dtype(operand.dtype), operand.shape[axis:]
    loops = loops_over(inliner, sizes)
    x = inliner.element(operand, (*indices[:axis], *variables_of(loops)), guards)
    square = mean_of(Reduce("sum", loops, Apply("mul", (x, x), dtype), dtype), dims.product(sizes))
    here = inliner.element(operand, indices, guards)
    normal = Apply("mul", (here, _inverse_deviation(square, node)), dtype)
    return _scale_and_shift(inliner, node, normal, indices[axis:], guards)


def _inverse_deviation(variance: Expression, node: Node) -> Expression:
    dtype = variance.dtype
    epsilon = Literal(float(node.attribute("epsilon")), dtype)
    return Apply("rsqrt", (Apply("add", (variance, epsilon), dtype),), dtype)


def _scale_and_shift(
    inliner: Inliner, node: Node, normal: Expression, inner: Indices, guards: Guards
) -> Expression:
    for op, parameter in zip(("mul", "add"), node.operands[1:], strict=False):
        factor = inliner.element(parameter, inner, guards)
        normal = Apply(op, (normal, factor), normal.dtype)
    return normal


RULES: dict[str, Rule] = {
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
}
