"""Rules of element-wise operators: one `Apply` over the operands' elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir.dtype import F16, F64
from ranvier.ir.graph import Node
from ranvier.lowering.expression import (
    ROUNDED_TO_ODD,
    Accumulator,
    Apply,
    Expression,
    compute_dtype,
    walk,
)
from ranvier.lowering.layout import ELEMENTWISE
from ranvier.lowering.rules.indices import Guards, Indices, Rule, broadcast_indices

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _elementwise(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operands = tuple(
        inliner.element(v, broadcast_indices(v, indices), guards) for v in node.operands
    )
    dtype = compute_dtype(node.result.dtype)
    if node.op == "cast" and operands[0].dtype == dtype:
        return operands[0]
    attributes = tuple(sorted((k, v) for k, v in node.attributes.items() if k != "dtype"))
    if node.op == "cast" and operands[0].dtype is F64 and node.result.dtype is F16:
        attributes = ((ROUNDED_TO_ODD, True),)
    if (
        node.op in ("add", "mul")
        and not _has_accumulator(operands[0])
        and _has_accumulator(operands[1])
    ):
        operands = operands[::-1]  # one form for both orders, so their kernels are shared
    return Apply(node.op, operands, dtype, attributes)


def _has_accumulator(expression: Expression) -> bool:
    return any(isinstance(node, Accumulator) for node in walk(expression))


RULES: dict[str, Rule] = dict.fromkeys(ELEMENTWISE, _elementwise)
