"""Rules of operators without operands that are computed from their indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.ir.graph import Node
from ranvier.lowering.expression import Expression, Index, Literal, compute_dtype
from ranvier.lowering.rules.indices import Guards, Indices, Rule

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _full(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    return Literal(node.attribute("value"), compute_dtype(node.result.dtype))


def _iota(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    return Index(indices[0], compute_dtype(node.result.dtype))


def _dim(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    return Index(node.attribute("value"), compute_dtype(node.result.dtype))


RULES: dict[str, Rule] = {"full": _full, "iota": _iota, "dim": _dim}
