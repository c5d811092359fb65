"""Sizes that have to be equal although nobody can prove it while a model is translated.

ONNX checks sizes when a model runs. A detector that halves an image five times and doubles it again
adds maps of `(h + 15) // 16` and `2 * ((h + 31) // 32)` rows: equal for some heights, an error for
the others. So the difference becomes a size whose only permitted value is zero; the call raises
InputError for any other, and from there on both dims are one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call
from ranvier.ir.dim import Dim, bounds, divides, floordiv, product
from ranvier.ir.dtype import I64
from ranvier.ir.graph import Value


def broadcastable(call: Call, operands: Sequence[Value]) -> list[Value]:
    """Operands whose dims are equal or 1, position by position from the last.

    Two symbolic dims that may be equal are taken to be; neither may be 1 where the other is not.
    """
    sizes: dict[int, list[Dim]] = {}  # by the distance from the last dim
    for operand in operands:
        for behind, size in enumerate(reversed(operand.shape)):
            sizes.setdefault(behind, []).extend([] if size == 1 else [size])
    aligned = []
    for operand in operands:
        for axis, size in enumerate(operand.shape):
            if size != 1:
                wanted = _plainest(sizes[operand.rank - 1 - axis])
                operand = with_size(call, operand, axis, wanted)
        aligned.append(operand)
    return aligned


def concatenable(call: Call, parts: Sequence[Value], along: int) -> list[Value]:
    """Parts whose dims are equal but for those `along` one axis."""
    aligned = list(parts)
    if len({part.rank for part in parts}) == 1:
        for axis, sizes in enumerate(zip(*(part.shape for part in parts), strict=True)):
            if axis != along:
                wanted = _plainest(sizes)
                aligned = [with_size(call, part, axis, wanted) for part in aligned]
    return aligned


def multipliable(call: Call, a: Value, b: Value) -> tuple[Value, Value]:
    """Matrices, as many columns in `a` as rows in `b`."""
    wanted = _plainest((a.shape[-1], b.shape[-2]))
    first = with_size(call, a, a.rank - 1, wanted)
    return first, with_size(call, b, b.rank - 2, wanted)


def _plainest(sizes: Sequence[Dim]) -> Dim:
    """The first plain number among sizes, or else the first of them."""
    return next((size for size in sizes if isinstance(size, int)), sizes[0])


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
    nothing = call.around.symbol(f"mismatch_at_{call.name}", 0, 0)
    call.emit("bind_dim", call.scalar(difference, I64), dim=nothing)
    return call.slice(x, axis, nothing, nothing + wanted)
