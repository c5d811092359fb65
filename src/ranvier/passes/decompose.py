"""Rewrites operators as simpler ones, where lowering has no template for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from ranvier.ir.dim import Dim, divides, product
from ranvier.ir.dtype import BOOL, F32, I64, encode
from ranvier.ir.graph import Graph, Shape, Value
from ranvier.passes.rewrite import Match, Rule, rewrite

DEFAULT = frozenset(
    {"batch_norm", "group_norm", "reduce_variance", "adaptive_avg_pool", "adaptive_max_pool"}
)


@dataclass(frozen=True)
class Decompose:
    """Replaces each of `operators` by simpler ones; `DECOMPOSITIONS` lists what there is.

    Nodes that their decomposition does not cover (an adaptive pool over sizes that do not divide)
    stay as they are. Raises KeyError for an operator without a decomposition.
    """

    operators: frozenset[str] = DEFAULT
    name: str = "decompose"

    def __call__(self, graph: Graph) -> Graph:
        """The graph without the operators, as far as their decompositions reach."""
        return rewrite(graph, tuple((op, DECOMPOSITIONS[op]) for op in sorted(self.operators)))


def _number(m: Match, value: float, like: Value) -> Value:
    """A rank-0 constant of the element type of `like`."""
    return m.new_constant(encode(np.asarray(value), like.dtype), like.dtype)


def _count(m: Match, axes: tuple[int, ...], correction: float, like: Value) -> Value:
    """max(number of elements along `axes` - correction, 0), as a scalar."""
    elements = product(m.x.shape[i] for i in axes)
    if isinstance(elements, int):
        return _number(m, max(elements - correction, 0), like)
    count = m.add("cast", m.add("dim", value=elements, dtype=I64), dtype=like.dtype)
    if correction:
        count = m.add("sub", count, _number(m, correction, like))
    return m.add("maximum", count, _number(m, 0, like))


def _variance(m: Match, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """(x - mean, mean of its squares) over `axes`, dims kept."""
    centred = m.add("sub", x, m.add("reduce_mean", x, axes=axes, keepdims=True))
    squares = m.add("mul", centred, centred)
    return centred, m.add("reduce_mean", squares, axes=axes, keepdims=True)


def _standardised(m: Match, x: Value, axes: tuple[int, ...]) -> Value:
    centred, variance = _variance(m, x, axes)
    shifted = m.add("add", variance, _number(m, m.attribute("epsilon"), x))
    return m.add("mul", centred, m.add("rsqrt", shifted))


def _per_channel(m: Match, parameter: Value) -> Value:
    """A parameter `[C]` that lines up with dim 1 of the data."""
    return m.add("reshape", parameter, shape=(*parameter.shape, *(1,) * (m.x.rank - 2)))


def _wide(m: Match, value: Value) -> Value:
    """16-bit floats as f32."""
    narrow = value.dtype.is_float and value.dtype.size == 2
    return m.add("cast", value, dtype=F32) if narrow else value


def _finish(m: Match, x: Value, parameters: list[Value]) -> Value:
    """x * scale + bias, each of them optional, in the element type of the result."""
    for op, parameter in zip(("mul", "add"), parameters, strict=False):
        x = m.add(op, x, parameter)
    return _narrow(m, x)


def _narrow(m: Match, x: Value) -> Value:
    """`x` in the element type of the result."""
    return x if x.dtype == m.result.dtype else m.add("cast", x, dtype=m.result.dtype)


def batch_norm(m: Match) -> Value | None:
    """(x - mean) * rsqrt(variance + epsilon) * scale + bias."""
    x, *parameters = (_wide(m, value) for value in m.node.operands)
    scale, bias, mean, variance = parameters
    spread = m.add("add", variance, _number(m, m.attribute("epsilon"), variance))
    factor = m.add("mul", scale, m.add("rsqrt", spread))
    centred = m.add("sub", x, _per_channel(m, mean))
    return _finish(m, centred, [_per_channel(m, factor), _per_channel(m, bias)])


def group_norm(m: Match) -> Value | None:
    """Standardised over every group of channels, then scaled per channel."""
    x, *parameters = (_wide(m, value) for value in m.node.operands)
    groups = cast(int, m.attribute("groups"))
    batch, channels, *spatial = m.x.shape
    grouped = m.add("reshape", x, shape=(batch, groups, channels // groups, *spatial))
    normal = _standardised(m, grouped, tuple(range(2, grouped.rank)))
    flat = m.add("reshape", normal, shape=m.x.shape)
    return _finish(m, flat, [_per_channel(m, parameter) for parameter in parameters])


def layer_norm(m: Match) -> Value | None:
    """Standardised over the trailing dims, then scaled."""
    x, *parameters = (_wide(m, value) for value in m.node.operands)
    normal = _standardised(m, x, tuple(range(m.attribute("axis"), x.rank)))
    return _finish(m, normal, parameters)


def rms_norm(m: Match) -> Value | None:
    """x * rsqrt(mean(x * x) + epsilon) * scale."""
    x, *parameters = (_wide(m, value) for value in m.node.operands)
    axes = tuple(range(m.attribute("axis"), x.rank))
    mean = m.add("reduce_mean", m.add("mul", x, x), axes=axes, keepdims=True)
    spread = m.add("rsqrt", m.add("add", mean, _number(m, m.attribute("epsilon"), x)))
    return _finish(m, m.add("mul", x, spread), parameters)


def reduce_variance(m: Match) -> Value | None:
    """Sum of squared deviations over max(count - correction, 0)."""
    axes, keepdims = m.attribute("axes"), m.attribute("keepdims")
    x = _wide(m, m.x)
    centred = m.add("sub", x, m.add("reduce_mean", x, axes=axes, keepdims=True))
    squares = m.add("mul", centred, centred)
    total = m.add("reduce_sum", squares, axes=axes, keepdims=keepdims)
    return _narrow(m, m.add("div", total, _count(m, axes, m.attribute("correction"), x)))


def softmax(m: Match) -> Value | None:
    """exp(x - max) / sum of exp(x - max)."""
    x, over = _wide(m, m.x), {"axes": (m.attribute("axis"),), "keepdims": True}
    power = m.add("exp", m.add("sub", x, m.add("reduce_max", x, **over)))
    return _narrow(m, m.add("div", power, m.add("reduce_sum", power, **over)))


def log_softmax(m: Match) -> Value | None:
    """x - max - log(sum of exp(x - max))."""
    x, over = _wide(m, m.x), {"axes": (m.attribute("axis"),), "keepdims": True}
    shifted = m.add("sub", x, m.add("reduce_max", x, **over))
    total = m.add("log", m.add("reduce_sum", m.add("exp", shifted), **over))
    return _narrow(m, m.add("sub", shifted, total))


def _adaptive(pool: str, reduction: str) -> Rule:
    """An adaptive pool to size 1 is a reduction; one to sizes that divide is a plain pool."""

    def rule(m: Match) -> Value | None:
        output = cast(Shape, m.attribute("output_size"))
        spatial = m.x.shape[m.x.rank - len(output) :]
        if all(size == 1 for size in output):
            axes = tuple(range(m.x.rank - len(output), m.x.rank))
            return m.become(reduction, m.x, axes=axes, keepdims=True)
        kernel = _divided(spatial, output)
        if kernel is None:
            return None
        window = {"kernel": kernel, "strides": kernel, "padding": ((0, 0),) * len(kernel)}
        if pool == "avg_pool":
            return m.become(pool, m.x, **window, ceil_mode=False, count_include_pad=False)
        return m.become(pool, m.x, **window, ceil_mode=False, dilations=(1,) * len(kernel))

    return rule


def _divided(sizes: Shape, output: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """sizes / output where all of them are numbers and divide."""
    kernel = []
    for size, parts in zip(sizes, output, strict=True):
        if not isinstance(size, int) or not isinstance(parts, int) or not divides(parts, size):
            return None
        kernel.append(size // parts)
    return tuple(kernel)


def attention(m: Match) -> Value | None:
    """softmax(scale * q k^T + mask) v; a row in which everything is masked gives zeros."""
    q, k, v, *masks = m.node.operands
    rank = k.rank
    order = (*range(rank - 2), rank - 1, rank - 2)
    scaled = m.add("mul", q, _number(m, m.attribute("scale"), q))
    scores = _wide(m, m.add("matmul", scaled, m.add("transpose", k, permutation=order)))
    masks = [_wide(m, mask) for mask in masks]
    if m.attribute("causal"):
        masks.append(_causal_mask(m, q.shape[-2], k.shape[-2]))
    lowest = _number(m, -math.inf, scores)
    for mask in masks:
        if mask.dtype == BOOL:
            scores = m.add("where", mask, scores, lowest)
        else:
            scores = m.add("add", scores, mask)
    weights = m.add("softmax", scores, axis=scores.rank - 1)
    if m.node.operands[3:]:  # a causal mask alone leaves no row empty
        highest = m.add("reduce_max", scores, axes=(scores.rank - 1,), keepdims=True)
        some = m.add("not_equal", highest, lowest)
        weights = m.add("where", some, weights, _number(m, 0.0, weights))
    if weights.dtype != v.dtype:
        weights = m.add("cast", weights, dtype=v.dtype)
    return m.become("matmul", weights, v)


def _causal_mask(m: Match, rows: Dim, columns: Dim) -> Value:
    """True where column <= row."""
    row = m.add("reshape", m.add("iota", size=rows, dtype=I64), shape=(rows, 1))
    return m.add("greater_equal", row, m.add("iota", size=columns, dtype=I64))


def _from_unary(*steps: str) -> Rule:
    """x times a function of x."""

    def rule(m: Match) -> Value | None:
        factor = m.x
        for op in steps:
            factor = m.add(op, factor)
        return m.become("mul", m.x, factor)

    return rule


DECOMPOSITIONS: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "reduce_variance": reduce_variance,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "adaptive_avg_pool": _adaptive("avg_pool", "reduce_mean"),
    "adaptive_max_pool": _adaptive("max_pool", "reduce_max"),
    "attention": attention,
    "silu": _from_unary("sigmoid"),
    "mish": _from_unary("softplus", "tanh"),
    "hard_swish": _from_unary("hard_sigmoid"),
}
