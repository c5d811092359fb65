"""Moves scales and shifts by constants into the weights and biases of contractions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.ir.dtype import Array, encode
from ranvier.ir.graph import Graph, Node, Value
from ranvier.passes.rewrite import Match, Table, rewrite

Numbers = npt.NDArray[Any]
_CONVOLUTIONS = ("conv", "conv_transpose")


@dataclass(frozen=True)
class FoldBatchNorm:
    """Batch norms, and products and sums with per-channel constants, become part of the convolution
    or matmul before them; a batch norm in front of a convolution becomes part of that one where
    padding allows it. Other batch norms with constant statistics become a product and a sum.

    All arithmetic on weights is done in f64 and rounded once.
    """

    name: str = "fold_batch_norm"

    def __call__(self, graph: Graph) -> Graph:
        """The graph with fewer scales and shifts."""
        return rewrite(rewrite(graph, INTO_CONTRACTIONS), INTO_CONTRACTIONS + REMAINING)


def _wide(m: Match, value: Value) -> Numbers | None:
    array = m.constant(value)
    return None if array is None else array.astype(np.float64)


def _folded(m: Match, numbers: Numbers, like: Value, name: str = "") -> Value:
    """A constant with the element type of `like`, and its name unless there is a better one."""
    return m.new_constant(encode(_single(numbers, like), like.dtype), like.dtype, name or like.name)


def _new_bias(m: Match, numbers: Numbers, old: Value | None, weights: Value) -> Value:
    """A bias in the place of `old`, or beside `weights` where there was none."""
    if old is not None:
        return _folded(m, numbers, old)
    return _folded(m, numbers, weights, f"{m.result.name}.bias")


def _single(numbers: Numbers, like: Value) -> Array:
    return numbers if like.dtype.size == 8 else numbers.astype(np.float32)


def _affine(m: Match) -> tuple[Numbers, Numbers] | None:
    """(scale, shift) per channel of a batch norm whose parameters are constants."""
    parameters = [_wide(m, value) for value in m.node.operands[1:]]
    known = [parameter for parameter in parameters if parameter is not None]
    if len(known) != 4:
        return None
    scale, bias, mean, variance = known
    factor = scale / np.sqrt(variance + m.attribute("epsilon"))
    return factor, bias - mean * factor


def _convolution(m: Match, value: Value) -> Node | None:
    """The convolution with constant weights that makes `value` for this node alone."""
    node = m.producer(value, *_CONVOLUTIONS)
    usable = node is not None and m.single_use(value) and _constant_parameters(m, node)
    return node if usable else None


def _constant_parameters(m: Match, node: Node) -> bool:
    return all(m.stored(value) is not None for value in node.operands[1:])


def _scale_convolution(m: Match, node: Node, scale: Numbers, shift: Numbers) -> Value:
    """`node` with scale and shift, one number per output channel, in its weights and bias."""
    weights, bias = node.operands[1], node.operands[2] if len(node.operands) > 2 else None
    w = m.constant(weights)
    assert w is not None
    ones = (1,) * (w.ndim - 2)
    wide = w.astype(np.float64)
    if node.op == "conv":
        scaled = wide * scale.reshape(-1, 1, *ones)
    else:
        groups = node.attributes["groups"]
        assert isinstance(groups, int)
        per_group = wide.reshape(groups, -1, *w.shape[1:])
        scaled = (per_group * scale.reshape(groups, 1, w.shape[1], *ones)).reshape(w.shape)
    old = np.zeros_like(scale) if bias is None else _wide(m, bias)
    assert old is not None
    operands = [node.operands[0], _folded(m, scaled, weights)]
    if bias is not None or shift.any():
        operands.append(_new_bias(m, old * scale + shift, bias, weights))
    return m.become(node.op, *operands, **node.attributes)


def norm_after_convolution(m: Match) -> Value | None:
    """batch_norm(conv(x))."""
    node, affine = _convolution(m, m.x), _affine(m)
    if node is None or affine is None:
        return None
    return _scale_convolution(m, node, *affine)


def norm_before_convolution(m: Match) -> Value | None:
    """conv(batch_norm(x)), without padding or without shift."""
    before = m.producer(m.x, "batch_norm")
    if before is None or not m.single_use(m.x) or not _constant_parameters(m, m.node):
        return None
    affine = _affine(Match(before, m.sweep))
    padded = any(dim != 0 for pair in m.attribute("padding") for dim in pair)
    if affine is None or (padded and affine[1].any()):
        return None
    scale, shift = affine
    weights, bias = m.node.operands[1], m.node.operands[2:]
    wide = _wide(m, weights)
    assert wide is not None
    groups, outputs = m.attribute("groups"), wide.shape[0]
    by_group = wide.reshape(groups, outputs // groups, *wide.shape[1:])
    ones = (1,) * (wide.ndim - 2)
    scaled = by_group * scale.reshape(groups, 1, wide.shape[1], *ones)
    moved = by_group * shift.reshape(groups, 1, wide.shape[1], *ones)
    added = moved.sum(axis=tuple(range(2, moved.ndim))).reshape(outputs)
    old = _wide(m, bias[0]) if bias else None
    operands = [before.operands[0], _folded(m, scaled.reshape(wide.shape), weights)]
    if bias or added.any():
        total = added if old is None else added + old
        operands.append(_new_bias(m, total, bias[0] if bias else None, weights))
    return m.become("conv", *operands, **m.node.attributes)


def arithmetic_after_convolution(m: Match) -> Value | None:
    """conv(x) times, plus or minus one constant per output channel."""
    for i, value in enumerate(m.node.operands):
        node = _convolution(m, value)
        if node is None or value.type != m.result.type or (i == 1 and m.node.op in ("sub", "div")):
            continue
        numbers = _per_channel(m, m.node.operands[1 - i], value)
        if numbers is None:
            continue
        ones, zeros = np.ones_like(numbers), np.zeros_like(numbers)
        scales = {"mul": numbers, "div": 1 / numbers if numbers.all() else None}
        shifts = {"add": numbers, "sub": -numbers}
        scale = scales.get(m.node.op, ones)
        if scale is not None:
            return _scale_convolution(m, node, scale, shifts.get(m.node.op, zeros))
    return None


def _per_channel(m: Match, constant: Value, value: Value) -> Numbers | None:
    """A constant that varies along dim 1 of `value` only, as one number per channel."""
    numbers, channels = _wide(m, constant), value.shape[1]
    if numbers is None or not isinstance(channels, int) or numbers.size not in (1, channels):
        return None
    padded = numbers.reshape((1,) * (value.rank - numbers.ndim) + numbers.shape)
    if padded.size != padded.shape[1]:
        return None
    return np.broadcast_to(padded.reshape(-1), (channels,)).copy()


def product_after_matmul(m: Match) -> Value | None:
    """matmul(x, w) times a constant per column: the columns of w are scaled."""
    for i, value in enumerate(m.node.operands):
        node = m.producer(value, "matmul")
        if node is None or not m.single_use(value) or value.type != m.result.type:
            continue
        weights, numbers = node.operands[1], _wide(m, m.node.operands[1 - i])
        if numbers is None or not value.dtype.is_float or not _last_dim(numbers):
            continue
        w = _wide(m, weights)
        if w is None:
            continue
        if m.node.op == "div" and (i == 1 or not numbers.all()):
            continue
        scaled = w / numbers.reshape(-1) if m.node.op == "div" else w * numbers.reshape(-1)
        return m.become("matmul", node.operands[0], _folded(m, scaled, weights))
    return None


def product_before_matmul(m: Match) -> Value | None:
    """matmul(x * c, w) with a constant per row of w: the rows are scaled."""
    before = m.producer(m.x, "mul")
    if before is None or not m.single_use(m.x) or not m.x.dtype.is_float:
        return None
    for x, factor in (before.operands, before.operands[::-1]):
        numbers = _wide(m, factor)
        if numbers is None or not _last_dim(numbers) or x.type != m.x.type:
            continue
        w = _wide(m, m.node.operands[1])
        if w is not None:
            scaled = w * numbers.reshape(-1, 1)
            return m.become("matmul", x, _folded(m, scaled, m.node.operands[1]))
    return None


def number_through_matmul(m: Match) -> Value | None:
    """matmul(x * number, y) is matmul(x, y) * number: a product of what is stored anyway."""
    for i, value in enumerate(m.node.operands):
        before = m.producer(value, "mul")
        if before is None or not value.dtype.is_float or not m.single_use(value):
            continue
        for x, factor in (before.operands, before.operands[::-1]):
            if factor.rank == 0 and m.stored(factor) is not None:
                operands = (x, m.node.operands[1]) if i == 0 else (m.x, x)
                return m.become("mul", m.add("matmul", *operands), factor)
    return None


def _last_dim(numbers: Numbers) -> bool:
    """Whether a constant varies along its last dim only."""
    return numbers.ndim == 0 or numbers.size == numbers.shape[-1]


def norm_alone(m: Match) -> Value | None:
    """x * scale + shift, with both constants per channel."""
    affine = _affine(m)
    if affine is None:
        return None
    shape = (-1,) + (1,) * (m.x.rank - 2)
    scale, shift = (
        _folded(m, numbers.reshape(shape), m.x, f"{m.result.name}.{name}")
        for name, numbers in zip(("scale", "shift"), affine, strict=True)
    )
    return m.become("add", m.add("mul", m.x, scale), shift)


INTO_CONTRACTIONS: Table = (
    ("batch_norm", norm_after_convolution),
    ("conv", norm_before_convolution),
    *((op, arithmetic_after_convolution) for op in ("add", "sub", "mul", "div")),
    *((op, product_after_matmul) for op in ("mul", "div")),
    ("matmul", product_before_matmul),
    ("matmul", number_through_matmul),
)
REMAINING: Table = (("batch_norm", norm_alone),)
