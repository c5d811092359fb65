"""Recognises scaled dot product attention that a model spells out.

    matmul(softmax(scale * matmul(q, transpose(k)) + masks), v)
        ->  attention(q, k, v, mask) {scale}

Masks are added to the scores in any view of them (windowed models reshape the scores first). They
must be surely finite: for a row in which everything is masked out, the chain gives NaN and
`attention` gives zeros. Any mask will do where the model itself puts zeros in the place of NaN, as
exporters do:

    p = softmax(...);  matmul(where(is_nan(p), 0, p), v)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranvier.ir.dtype import F32
from ranvier.ir.graph import Graph, Node, Shape, Value
from ranvier.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class FuseAttention:
    """Chains of matmul, softmax and matmul become `attention`."""

    name: str = "fuse_attention"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with attention as one operator where its masks allow it."""
        return rewrite(graph, (("matmul", attention_from_products),))


@dataclass
class _Scores:
    """What lies between the softmax and the product of queries and keys."""

    product: Node
    scale: float
    masks: list[Value]


def attention_from_products(m: Match) -> Value | None:
    """The rule for the outer product, probabilities times values."""
    probabilities, guarded = _without_nan(m, m.x)
    softmax = m.producer(probabilities, "softmax")
    values = m.node.operands[1]
    if softmax is None or not m.single_use(m.x) or softmax.attributes["axis"] != m.x.rank - 1:
        return None
    if not guarded and not m.single_use(probabilities):
        return None
    scores = _scores(m, softmax.operands[0])
    if scores is None or not (guarded or all(_is_finite(m, mask) for mask in scores.masks)):
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


def _without_nan(m: Match, value: Value) -> tuple[Value, bool]:
    """`p` and True for `where(is_nan(p), 0, p)`; else the value itself and False."""
    chosen = m.producer(value, "where")
    if chosen is None:
        return value, False
    condition, zero, kept = chosen.operands
    test = m.producer(condition, "is_nan")
    is_guard = test is not None and test.operands == (kept,) and m.uniform(zero) == 0
    others = m.sweep.uses.get(kept, 0) > 2 or not m.single_use(condition)
    return (kept, True) if is_guard and not others else (value, False)


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
        found = _scores_and_other(m, node)
        if found is None:
            return None
        value, other = found
        if node.op == "mul":
            number = m.uniform(other)
            if number is None:
                return None
            scale *= float(number)
            continue
        if scale != 1.0:
            return None
        mask = other
        if shapes:
            mask = m.add("broadcast", mask, shape=value.shape)
            for shape in reversed(shapes):
                mask = m.add("reshape", mask, shape=shape)
        masks.append(mask)


def _scores_and_other(m: Match, node: Node) -> tuple[Value, Value] | None:
    """The operand of an addition or product that may come from the product of queries and keys.

    It has the shape of the result; a constant is none, and of two candidates the one that a product
    or the scaling of one makes.
    """
    found = []
    for value, other in (node.operands, node.operands[::-1]):
        if value.shape != node.result.shape or m.sweep.uses.get(value) != 1:
            continue
        if m.producer(value, "matmul", "add", "mul", "reshape") is not None:
            found.append((value, other))
    if len(found) == 2:
        found = [pair for pair in found if _ends_in_product(m, pair[0])]
    return found[0] if len(found) == 1 else None


def _ends_in_product(m: Match, value: Value) -> bool:
    """Whether a chain of scales and views begins with a matrix product."""
    while (node := m.producer(value, "matmul", "mul", "reshape")) is not None:
        if node.op == "matmul":
            return True
        value = node.operands[0]
    return False


def _is_finite(m: Match, value: Value) -> bool:
    """Whether no element of a mask can be infinite or NaN."""
    array = m.constant(value)
    if array is not None:
        return bool(np.isfinite(array).all())
    number = m.uniform(value)
    if number is not None:
        return bool(np.isfinite(number))
    node = m.producer(value, "reshape", "transpose", "broadcast", "slice", "where", "cast")
    if node is None:
        return False
    if node.op == "cast":
        source = node.operands[0].dtype
        return not source.is_float and node.result.dtype.size >= F32.size
    if node.op == "where":
        return all(_is_finite(m, choice) for choice in node.operands[1:])
    return _is_finite(m, node.operands[0])
