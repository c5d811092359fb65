"""Recognises scaled dot product attention that a model spells out.

    matmul(softmax(scale * matmul(q, transpose(k)) + masks), v)
        ->  attention(q, k, v, mask) {scale}

Masks are added to the scores in any view of them (windowed models reshape the scores first). They
must be constants without infinities: for a row in which everything is masked out, the chain gives
NaN and `attention` gives zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranvier.ir.graph import Graph, Node, Shape, Value
from ranvier.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class FuseAttention:
    """Chains of matmul, softmax and matmul become `attention`."""

    name: str = "fuse_attention"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with attention as one operator where its masks are finite constants."""
        return rewrite(graph, (("matmul", attention_from_products),))


@dataclass
class _Scores:
    """What lies between the softmax and the product of queries and keys."""

    product: Node
    scale: float
    masks: list[Value]


def attention_from_products(m: Match) -> Value | None:
    """The rule for the outer product, probabilities times values."""
    softmax = m.producer(m.x, "softmax")
    values = m.node.operands[1]
    if softmax is None or not m.single_use(m.x) or softmax.attributes["axis"] != m.x.rank - 1:
        return None
    scores = _scores(m, softmax.operands[0])
    if scores is None:
        return None
    queries, keys = scores.product.operands
    if not queries.shape[:-2] == keys.shape[:-2] == values.shape[:-2]:
        return None
    if not isinstance(queries.shape[-1], int) or not isinstance(values.shape[-1], int):
        return None
    order = (*range(keys.rank - 2), keys.rank - 1, keys.rank - 2)
    operands = [queries, m.add("transpose", keys, permutation=order), values]
    if scores.masks:
        mask = scores.masks[0]
        for other in scores.masks[1:]:
            mask = m.add("add", mask, other)
        operands.append(mask)
    return m.become("attention", *operands, scale=scores.scale, causal=False)


def _scores(m: Match, value: Value) -> _Scores | None:
    """Walk from the softmax's operand back to the product, through views, masks and a scale."""
    scale = 1.0
    masks: list[Value] = []
    shapes: list[Shape] = []  # of the views passed, the one next to the softmax first
    first = value.shape
    while True:
        node = m.producer(value, "matmul", "add", "mul", "reshape")
        if node is None or m.sweep.uses.get(value) != 1:
            return None
        if node.op == "matmul":
            return _Scores(node, scale, masks) if value.shape == first else None
        if node.op == "reshape":
            shapes.append(value.shape)
            value = node.operands[0]
            continue
        found = _with_constant(m, node)
        if found is None:
            return None
        value, other = found
        if node.op == "mul":
            number = m.uniform(other)
            if number is None:
                return None
            scale *= float(number)
            continue
        array = m.constant(other)
        if array is None or not np.isfinite(array).all() or scale != 1.0:
            return None
        mask = other
        if shapes:
            mask = m.add("broadcast", mask, shape=value.shape)
            for shape in reversed(shapes):
                mask = m.add("reshape", mask, shape=shape)
        masks.append(mask)


def _with_constant(m: Match, node: Node) -> tuple[Value, Value] | None:
    """(computed operand, constant operand) of an addition or product."""
    a, b = node.operands
    if m.uniform(b) is not None or m.constant(b) is not None:
        return a, b
    if m.uniform(a) is not None or m.constant(a) is not None:
        return b, a
    return None
