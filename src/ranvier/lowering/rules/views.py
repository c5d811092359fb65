"""Rules of index maps: an element of the result is an element of the operand at other indices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F16, I64, DType, decode, encode
from ranvier.ir.graph import Node
from ranvier.lowering.expression import (
    Access,
    Apply,
    Expression,
    Guard,
    Index,
    Literal,
    compute_dtype,
)
from ranvier.lowering.rules.indices import (
    Guards,
    Indices,
    Rule,
    broadcast_indices,
    guarded,
    row_major,
)
from ranvier.lowering.scope import delinearize, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _reshape(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand = node.operands[0]
    strides = row_major(node.result.shape)
    aligned = _aligned_reshape(operand.shape, node.result.shape, indices)
    if aligned is None:
        aligned = delinearize(linear_offset(indices, strides), operand.shape)
    return inliner.element(operand, aligned, guards)


def _aligned_reshape(
    source: tuple[Dim, ...], result: tuple[Dim, ...], indices: Indices
) -> Indices | None:
    """Reshape block by block: dims whose products agree from the left are mapped on their own."""
    mapped: list[Dim] = []
    i = j = 0
    while i < len(source) or j < len(result):
        from_i, from_j = i, j
        left: Dim = 1
        right: Dim = 1
        if i < len(source):
            left, i = source[i], i + 1
        if j < len(result):
            right, j = result[j], j + 1
        while left != right:
            smaller_left = _known_smaller(left, right)
            if smaller_left and i < len(source):
                left, i = left * source[i], i + 1
            elif j < len(result) and not smaller_left:
                right, j = right * result[j], j + 1
            elif i < len(source):
                left, i = left * source[i], i + 1
            elif j < len(result):
                right, j = right * result[j], j + 1
            else:
                return None
        block = result[from_j:j]
        linear = linear_offset(indices[from_j:j], row_major(block))
        mapped.extend(delinearize(linear, source[from_i:i]))
    return tuple(mapped)


def _known_smaller(left: Dim, right: Dim) -> bool:
    """Whether to extend the left block: it is the smaller number, or divides the right one."""
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    if isinstance(left, int):
        return True
    return dims.divides(left, right)


def _transpose(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    permutation = node.attribute("permutation")
    source: list[Dim] = [0] * len(indices)
    for position, axis in enumerate(permutation):
        source[axis] = indices[position]
    return inliner.element(node.operands[0], tuple(source), guards)


def _broadcast(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand = node.operands[0]
    return inliner.element(operand, broadcast_indices(operand, indices), guards)


def _slice(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    starts, steps = node.attribute("starts"), node.attribute("steps")
    source = tuple(
        start + index * step for index, start, step in zip(indices, starts, steps, strict=True)
    )
    return inliner.element(node.operands[0], source, guards)


def _reverse(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axes = node.attribute("axes")
    source = tuple(
        size - 1 - index if axis in axes else index
        for axis, (index, size) in enumerate(zip(indices, node.result.shape, strict=True))
    )
    return inliner.element(node.operands[0], source, guards)


def _roll(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    source = list(indices)
    for shift, axis in zip(node.attribute("shifts"), node.attribute("axes"), strict=True):
        size = node.result.shape[axis]
        if size != 0:
            source[axis] = (source[axis] + (size - shift % size)) % size
    return inliner.element(node.operands[0], tuple(source), guards)


def _pad(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand, low, mode = node.operands[0], node.attribute("low"), node.attribute("mode")
    source = tuple(index - before for index, before in zip(indices, low, strict=True))
    if mode != "constant":
        return _pad_from_inside(inliner, node, source, guards)
    own = tuple(
        Guard(index, size)
        for index, size, before, after in zip(
            source, operand.shape, low, node.attribute("high"), strict=True
        )
        if before != 0 or after != 0
    )
    value = node.attribute("value")
    body = inliner.element(operand, source, guards + own)
    if isinstance(body, Access) and body.guards == own:
        return replace(body, fill=value)
    return guarded(own, body, Literal(value, body.dtype))


def _pad_from_inside(inliner: Inliner, node: Node, source: Indices, guards: Guards) -> Expression:
    """Reflection and replication: the index is folded back, through an integer expression."""
    mapped: list[Dim] = []
    operand = node.operands[0]
    bound: list[tuple[str, Expression]] = []
    tensor = inliner.lowering.tensors.get(operand) or inliner.lowering.materialize(operand)
    for index, size, before, after in zip(
        source, operand.shape, node.attribute("low"), node.attribute("high"), strict=True
    ):
        if before == 0 and after == 0:
            mapped.append(index)
            continue
        position: Expression = Index(index, I64)
        last = Index(size - 1, I64)
        if node.attribute("mode") == "reflect":
            position = Apply("abs", (position,), I64)
            over = Apply("sub", (position, last), I64)
            position = Apply("sub", (last, Apply("abs", (over,), I64)), I64)
        else:
            position = Apply(
                "maximum", (Literal(0, I64), Apply("minimum", (position, last), I64)), I64
            )
        name, symbol = inliner.scope.data_symbol(size - 1)
        bound.append((name, position))
        mapped.append(symbol)
    return inliner.scope.access(tensor, tuple(mapped), guards, tuple(bound))


def _bit_cast(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """Memory is read as another type; what is computed keeps its bits in a register.

    16-bit floats in registers are wider and may not be rounded yet, so those are read from memory.
    """
    operand, target = node.operands[0], node.result.dtype
    source = operand.dtype
    body = inliner.element(operand, indices, guards)
    if source in (F16, BF16) and not isinstance(body, Access):
        body = inliner.read(operand, indices, guards)
    if isinstance(body, Access) and body.storage is source:
        return replace(body, storage=target, fill=_same_bits(body.fill, source, target))
    return Apply("bit_cast", (body,), compute_dtype(target), (("dtype", target),))


def _same_bits(number: float | int | bool, source: DType, target: DType) -> float | int | bool:
    """The number of type `target` that has the bits of `number`; of narrow types, the bits."""
    stored = (
        np.asarray(number, source.storage)
        if source.is_narrow
        else encode(np.asarray(number), source)
    )
    found = stored.view(target.storage)
    value = (found if target.is_narrow else decode(found, target)).item()
    assert isinstance(value, (int, float))
    return value


RULES: dict[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "slice": _slice,
    "reverse": _reverse,
    "roll": _roll,
    "pad": _pad,
    "bit_cast": _bit_cast,
}
