"""Sizes that have to be equal although nobody can prove it while a model is translated.

ONNX checks sizes when a model runs. A detector that halves an image five times and doubles it again
adds maps of `(h + 15) // 16` and `2 * ((h + 31) // 32)` rows: equal for some heights, an error for
the others. So the difference becomes a size whose only permitted value is zero; the call raises
InputError for any other, and from there on both dims are one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call
from ranvier.ir.dim import Dim, bounds, divides, floordiv, product, symbol
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


def broadcastable(call: Call, operands: Sequence[Value]) -> list[Value]:
    """Operands whose dims are equal or 1, position by position from the last.

    Two symbolic dims that may be equal are taken to be; neither may be 1 where the other is not.
    """
    sizes: dict[int, Dim] = {}
    aligned = []
    for operand in operands:
        for axis in range(operand.rank):
            behind = operand.rank - axis
            size = operand.shape[axis]
            wanted = sizes.setdefault(behind, size)
            if wanted == 1:
                sizes[behind] = size
            elif size != 1:
                operand = with_size(call, operand, axis, wanted)
        aligned.append(operand)
    return aligned


def concatenable(call: Call, parts: Sequence[Value], along: int) -> list[Value]:
    """Parts whose dims are equal but for those `along` one axis."""
    first, *others = parts
    aligned = [first]
    for part in others:
        if part.rank == first.rank:
            for axis, wanted in enumerate(first.shape):
                part = part if axis == along else with_size(call, part, axis, wanted)
        aligned.append(part)
    return aligned


def reshapable(call: Call, x: Value, shape: Sequence[Dim]) -> Value:
    """`x` with as many elements as a shape, if one dim of another size makes it so."""
    total = product(shape)
    if product(x.shape) == total:
        return x
    for axis in range(x.rank):
        others = product(size for i, size in enumerate(x.shape) if i != axis)
        if others != 0 and divides(others, total):
            return with_size(call, x, axis, floordiv(total, others))
    return x


def with_size(call: Call, x: Value, axis: int, wanted: Dim) -> Value:
    """`x`, whose dim `axis` is `wanted` from here on; itself where that is known, or impossible."""
    difference = x.shape[axis] - wanted
    low, high = bounds(difference)
    impossible = isinstance(difference, int) or (low or 0) > 0 or (high or 0) < 0
    if impossible:
        return x
    nothing = symbol(_fresh(call), 0, 0)
    call.emit("bind_dim", call.scalar(difference, I64), dim=nothing)
    return call.slice(x, axis, nothing, nothing + wanted)


def _fresh(call: Call) -> str:
    """A name that no other symbol has; it says in an error which node found the sizes unequal."""
    node = re.sub(r"\W+", "_", call.name, flags=re.ASCII).strip("_")
    return f"mismatch_at_{node}_{len(call.builder.nodes)}"
