"""The sort kernel: every row of a tensor is sorted stably, and its first elements are written.

    for ROW (split over threads):
        order = positions that sort source[..., 0 .. extent - 1]
        for POSITION < count:
            values[...] = source[..., order[POSITION]]
            positions[...] = order[POSITION]

NaN counts as the largest value. The offsets are in terms of ROW and POSITION.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType

ROW, POSITION = "$row", "$position"
_ARRAYS = 4  # keys and positions, each twice
_WORD_BYTES = 8
_LINE_BYTES = 64


@dataclass(frozen=True)
class Place:
    """Element `offset` of an operand."""

    operand: int
    offset: Dim


@dataclass(frozen=True)
class Sort:
    """A sort of `rows` rows of `extent` elements of `dtype`, of which `count` are written."""

    rows: Dim
    extent: Dim
    count: Dim
    descending: bool
    dtype: DType
    source: Place
    values: Place
    positions: Place
    scratch_operand: int
    operand_count: int
    scalars: tuple[str, ...]


def array_words(extent: Dim) -> Dim:
    """Words of each array that a thread sorts in; one more than a row, because merges read it."""
    return extent + 1


def scratch_bytes(extent: Dim) -> Dim:
    """Bytes of scratch of each thread."""
    return array_words(extent) * (_ARRAYS * _WORD_BYTES) + _LINE_BYTES
