"""Products of rows that were flattened before and get their dims back after.

    reshape(f(reshape(x) @ weights + bias))  ->  f(x @ weights + bias)

Frameworks flatten the rows of a linear layer for a product of two matrices (`addmm`, ONNX `Gemm`).
The reshape behind it would keep what follows out of the product's epilogue.
"""

from __future__ import annotations

from ranvier.ir.graph import Node, Shape, Value
from ranvier.passes.elementwise_rules import ELEMENTWISE
from ranvier.passes.rewrite import Match, Table


def unflatten(m: Match) -> Value | None:
    """The layer on rows as they were."""
    node, rows = m.producer(m.x), m.result.shape[:-1]
    if node is None or node.op == "reshape" or not rows:
        return None
    if m.result.shape[-1:] != m.x.shape[-1:] or not _has_rows(m, m.x, rows):
        return None
    return m.become(node.op, *_operands(m, node, rows), **node.attributes)


def _has_rows(m: Match, value: Value, rows: Shape) -> bool:
    """Whether `value` can be computed with its leading dims as `rows`, and nobody else reads it."""
    node = m.producer(value)
    if node is None:
        return False
    if node.op == "reshape":
        return True
    if not m.single_use(value):
        return False
    if node.op == "matmul":
        return node.operands[1].rank == 2 and _has_rows(m, node.operands[0], rows)
    if node.op not in ELEMENTWISE:
        return False
    flat = [x for x in node.operands if x.rank > 1]
    return len(flat) == 1 and flat[0].shape == value.shape and _has_rows(m, flat[0], rows)


def _with_rows(m: Match, value: Value, rows: Shape) -> Value:
    node = m.producer(value)
    assert node is not None
    if node.op == "reshape":
        return m.add("reshape", node.operands[0], shape=(*rows, value.shape[-1]))
    return m.add(node.op, *_operands(m, node, rows), **node.attributes)


def _operands(m: Match, node: Node, rows: Shape) -> list[Value]:
    return [_with_rows(m, x, rows) if _is_flat(node, x) else x for x in node.operands]


def _is_flat(node: Node, operand: Value) -> bool:
    return operand.rank > 1 and not (node.op == "matmul" and operand is node.operands[1])


FLATTENED_ROWS: Table = (("reshape", unflatten),)
