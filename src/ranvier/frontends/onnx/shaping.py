"""Sizes that views compute: targets of reshapes and broadcasts, bounds of slices."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.refusal import Refusal
from ranvier.ir.dim import Dim, bounds, divides, maximum, minimum, product

_ENDLESS = 2**31 - 1
"""From this number on a bound of a slice means the end of the dim."""


class Undecided(Refusal):
    """What symbolic sizes do not decide; it may still be computed when the model runs."""


def reshape_target(old: Sequence[Dim], wanted: Sequence[Dim], allow_zero: bool) -> tuple[Dim, ...]:
    """The shape that Reshape gives: 0 copies a size, -1 takes what is left."""
    sizes: list[Dim] = []
    for i, size in enumerate(wanted):
        if size == 0 and not allow_zero:
            if i >= len(old):
                raise Refusal(f"copies dim {i} of a tensor that has {len(old)}")
            size = old[i]
        sizes.append(size)
    free = [i for i, size in enumerate(sizes) if size == -1]
    if len(free) > 1:
        raise Refusal("leaves two sizes open")
    if free:
        rest = product(size for i, size in enumerate(sizes) if i != free[0])
        sizes[free[0]] = _quotient(product(old), rest)
    return tuple(sizes)


def _quotient(total: Dim, rest: Dim) -> Dim:
    if rest == 0:
        raise Refusal("leaves a size open beside a size of 0")
    if isinstance(total, int) and isinstance(rest, int) and total % rest:
        raise Refusal(f"cannot divide {total} elements by {rest}")
    if not divides(rest, total):
        raise Refusal(f"{total} elements cannot be proved to be a multiple of {rest}")
    return total // rest


def broadcast_target(old: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape to which both broadcast."""
    rank = max(len(old), len(wanted))
    first = (*(1,) * (rank - len(old)), *old)
    second = (*(1,) * (rank - len(wanted)), *wanted)
    return tuple(_common(a, b) for a, b in zip(first, second, strict=True))


def _common(a: Dim, b: Dim) -> Dim:
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    raise Refusal(f"sizes {a} and {b} cannot be proved equal")


def slice_bounds(start: Dim, end: Dim, step: int, size: Dim) -> tuple[Dim, Dim]:
    """(start, stop) within 0..size of a slice in ONNX's terms; of the reversed dim for step < 0."""
    if step > 0:
        low, high = _clamped(start, size, 0, size), _clamped(end, size, 0, size)
        return low, maximum(low, high)
    last = size - 1
    first = last - _clamped(start, size, 0, last, low_before=-1)
    stop = last - _clamped(end, size, -1, last, low_before=-1)
    first = maximum(first, 0)
    return first, maximum(first, stop)


def _clamped(bound: Dim, size: Dim, low: Dim, high: Dim, low_before: int = 0) -> Dim:
    """A bound that counts from the end when it is negative, limited to low..high."""
    if isinstance(bound, int):
        if bound >= _ENDLESS:
            return high
        if bound <= -_ENDLESS:
            return low if low_before == 0 else low_before
        if bound < 0:
            return maximum(size + bound, low)
        return minimum(bound, high)
    least, most = bounds(bound)
    if least is not None and least >= 0:
        return minimum(bound, high)
    if most is not None and most < 0:
        return maximum(size + bound, low)
    raise Undecided(f"a bound of a slice, {bound}, may be of either sign")
