"""Identities of index maps and of reductions over dims of size 1."""

from __future__ import annotations

from typing import cast

import numpy as np

from ranvier.ir.dim import Dim, bounds
from ranvier.ir.dtype import encode
from ranvier.ir.graph import Node, Shape, Value
from ranvier.passes.rewrite import Match, Table


def same_shape(m: Match) -> Value | None:
    """A view that keeps the shape (of an operator for which that means: keeps the elements)."""
    return m.x if m.x.shape == m.result.shape else None


def chain(m: Match) -> Value | None:
    """reshape of reshape, broadcast of broadcast: the last shape counts."""
    inner = m.producer(m.x, m.node.op)
    return (
        None
        if inner is None
        else m.become(m.node.op, inner.operands[0], shape=m.attribute("shape"))
    )


def identity_transpose(m: Match) -> Value | None:
    """A transpose that keeps the order of the dims."""
    return m.x if m.attribute("permutation") == tuple(range(m.x.rank)) else None


def transpose_chain(m: Match) -> Value | None:
    """transpose of transpose: permutations compose."""
    inner = m.producer(m.x, "transpose")
    if inner is None:
        return None
    first = cast("tuple[int, ...]", inner.attributes["permutation"])
    order = tuple(first[i] for i in m.attribute("permutation"))
    return m.become("transpose", inner.operands[0], permutation=order)


def transpose_of_ones(m: Match) -> Value | None:
    """A transpose that moves only dims of size 1 is a reshape."""
    kept = [i for i in m.attribute("permutation") if m.x.shape[i] != 1]
    return m.become("reshape", m.x, shape=m.result.shape) if kept == sorted(kept) else None


def bit_cast_chain(m: Match) -> Value | None:
    """A bit cast of a bit cast starts from the source; one to the same type is nothing."""
    if m.x.dtype == m.result.dtype:
        return m.x
    inner = m.producer(m.x, "bit_cast")
    return None if inner is None else m.become("bit_cast", inner.operands[0], dtype=m.result.dtype)


def whole_slice(m: Match) -> Value | None:
    """A slice of everything."""
    plain = all(step == 1 for step in m.attribute("steps"))
    return m.x if plain and m.x.shape == m.result.shape else None


def slice_chain(m: Match) -> Value | None:
    """slice of slice: starts add up, steps multiply."""
    inner = m.producer(m.x, "slice")
    if inner is None:
        return None
    starts, stops, steps = [], [], []
    outer = zip(m.attribute("starts"), m.attribute("steps"), m.result.shape, strict=True)
    lower = zip(_dims(inner, "starts"), _steps(inner), strict=True)
    for (start, step), (offset, stride, count) in zip(lower, outer, strict=True):
        if step * stride > 1 and (bounds(count)[0] or 0) < 1:
            return None  # of an empty slice, the last element would lie before the first
        first = start + offset * step
        starts.append(first)
        steps.append(step * stride)
        stops.append(first + (count - 1) * (step * stride) + 1)
    attributes = {"starts": tuple(starts), "stops": tuple(stops), "steps": tuple(steps)}
    x = inner.operands[0]
    return m.become("slice", x, **attributes) if m.fits("slice", x, **attributes) else None


def _steps(node: Node) -> tuple[int, ...]:
    return cast("tuple[int, ...]", node.attributes["steps"])


def no_padding(m: Match) -> Value | None:
    """A pad by nothing."""
    return m.x if all(dim == 0 for dim in (*m.attribute("low"), *m.attribute("high"))) else None


def pad_of_pad(m: Match) -> Value | None:
    """Two constant pads with one value add up when neither crops."""
    inner = m.producer(m.x, "pad")
    if inner is None or m.attribute("mode") != "constant":
        return None
    if any(inner.attributes[name] != m.attribute(name) for name in ("mode", "value")):
        return None
    if _crops(inner) or _crops(m.node):
        return None
    merged = {
        side: tuple(a + b for a, b in zip(_dims(inner, side), _dims(m.node, side), strict=True))
        for side in ("low", "high")
    }
    kept = {"mode": "constant", "value": m.attribute("value")}
    return m.become("pad", inner.operands[0], **merged, **kept)


def pad_into_conv(m: Match) -> Value | None:
    """Zero padding of the spatial dims moves into the convolution that reads it."""
    inner = m.producer(m.x, "pad")
    if inner is None or inner.attributes["mode"] != "constant" or inner.attributes["value"] != 0:
        return None
    low, high = _dims(inner, "low"), _dims(inner, "high")
    if any(dim != 0 for dim in (*low[:2], *high[:2])) or _crops(inner):
        return None
    own = m.attribute("padding")
    if any(below_zero(dim) for pair in own for dim in pair):
        return None
    padding = tuple((a + low[i + 2], b + high[i + 2]) for i, (a, b) in enumerate(own))
    attributes = {**m.node.attributes, "padding": padding}
    return m.become("conv", inner.operands[0], *m.node.operands[1:], **attributes)


def _dims(node: Node, name: str) -> Shape:
    return cast(Shape, node.attributes[name])


def _crops(node: Node) -> bool:
    """Whether a pad may take elements away."""
    return any(below_zero(dim) for side in ("low", "high") for dim in _dims(node, side))


def below_zero(dim: Dim) -> bool:
    """Whether a dim may be negative."""
    low, _ = bounds(dim)
    return low is None or low < 0


def lone_concat(m: Match) -> Value | None:
    """A concat of one operand, empty ones left out."""
    along = m.attribute("axis")
    kept = [value for value in m.node.operands if value.shape[along] != 0]
    if len(kept) == 1:
        return kept[0]
    if kept and len(kept) < len(m.node.operands):
        return m.become("concat", *kept, axis=along)
    return None


def no_movement(m: Match) -> Value | None:
    """reverse and roll over no dims, over dims of size 1, or by nothing."""
    shifts = m.node.attributes.get("shifts", (1,) * len(m.attribute("axes")))
    assert isinstance(shifts, tuple)
    pairs = zip(m.attribute("axes"), shifts, strict=True)
    return m.x if all(shift == 0 or m.x.shape[i] == 1 for i, shift in pairs) else None


def reduction_of_ones(m: Match) -> Value | None:
    """A sum, mean, product, maximum or minimum over dims of size 1 is a reshape."""
    if any(m.x.shape[i] != 1 for i in m.attribute("axes")):
        return None
    return m.become("reshape", m.x, shape=m.result.shape)


def matmul_broadcast(m: Match) -> Value | None:
    """matmul broadcasts its batch dims by itself."""
    for i, operand in enumerate(m.node.operands):
        inner = m.producer(operand, "broadcast")
        if inner is None or inner.operands[0].rank < 2:
            continue
        x = inner.operands[0]
        operands = (x, m.node.operands[1]) if i == 0 else (m.x, x)
        if x.shape[-2:] == operand.shape[-2:] and m.fits("matmul", *operands):
            return m.become("matmul", *operands)
    return None


def view_of_full(m: Match) -> Value | None:
    """Every element of a `full` is the same."""
    filled = m.producer(m.x, "full")
    if filled is None:
        return None
    return m.become("full", **{**filled.attributes, "shape": m.result.shape})


def known_number(m: Match) -> tuple[Value, ...] | None:
    """A dim that is an int, and a rank-0 `full`, are constants."""
    value = m.attribute("value")
    if not isinstance(value, (int, float)) or m.result.rank:
        return None
    return m.become_constants(encode(np.asarray(value), m.result.dtype))


_PLAIN_REDUCTIONS = ("sum", "mean", "max", "min", "prod", "any", "all")

VIEWS: Table = (
    ("reshape", same_shape),
    ("reshape", chain),
    ("broadcast", same_shape),
    ("broadcast", chain),
    ("transpose", identity_transpose),
    ("transpose", transpose_chain),
    ("transpose", transpose_of_ones),
    ("bit_cast", bit_cast_chain),
    ("slice", whole_slice),
    ("slice", slice_chain),
    ("pad", no_padding),
    ("pad", pad_of_pad),
    ("conv", pad_into_conv),
    ("concat", lone_concat),
    ("reverse", no_movement),
    ("roll", no_movement),
    *(
        (op, view_of_full)
        for op in ("reshape", "broadcast", "transpose", "slice", "reverse", "roll")
    ),
    ("matmul", matmul_broadcast),
    ("dim", known_number),
    ("full", known_number),
    *((f"reduce_{kind}", reduction_of_ones) for kind in _PLAIN_REDUCTIONS),
)
