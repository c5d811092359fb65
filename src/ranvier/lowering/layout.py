"""Which values are stored channels last: everything that a convolution, pooling or resize touches.

A layout is a permutation of the logical dims from outermost to innermost. Channels last keeps dim 1
innermost, so the same kernels serve any spatial size and a convolution's result is the next one's
contraction operand as it lies.
"""

from __future__ import annotations

from ranvier.ir.graph import Graph, Node, Value
from ranvier.ir.operators import GROUPS

SPATIAL = frozenset({
    "conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool",
    "resize", "batch_norm",
})  # fmt: skip
FOLLOWS_OPERANDS = frozenset({
    "concat", "slice", "pad", "reverse", "roll", "softmax", "log_softmax", "reduce_mean",
    "reduce_sum", "reduce_max", "reduce_min", "reduce_variance", "group_norm", "broadcast",
    "gather", "bit_cast",
})  # fmt: skip
ELEMENTWISE = frozenset(operator.name for operator in GROUPS["elementwise"])


def channels_last(graph: Graph) -> frozenset[Value]:
    """The values of `graph` that should be stored channels last."""
    chosen: set[Value] = {n.operands[0] for n in graph.nodes if n.op in SPATIAL}
    for node in graph.nodes:
        if _is_channels_last(node, chosen):
            chosen.update(node.results)
    return frozenset(chosen)


def physical_order(value: Value, is_channels_last: bool) -> tuple[int, ...]:
    """Dims of `value` from outermost to innermost."""
    if is_channels_last and value.rank >= 3:
        return (0, *range(2, value.rank), 1)
    return tuple(range(value.rank))


def _is_channels_last(node: Node, chosen: set[Value]) -> bool:
    if node.op in SPATIAL:
        return node.results[0].rank >= 3
    if node.op not in FOLLOWS_OPERANDS and node.op not in ELEMENTWISE:
        return False
    rank = node.results[0].rank
    return any(operand in chosen and operand.rank == rank for operand in node.operands)
