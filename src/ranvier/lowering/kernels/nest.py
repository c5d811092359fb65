"""The loop-nest kernel: one expression per output element.

    for loops[0] (split over threads) ... for loops[-1]:
        operand[store.offset] = store.value        for every store

`Reduce` nodes are computed at the outermost level at which all of their free loop variables are
bound, once per distinct expression. `vector` is the loop that is vectorised: stores have stride 1
in it (or the code generator scatters).
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType
from ranvier.lowering.expression import Expression, Loop


@dataclass(frozen=True)
class Store:
    """Write `value`, converted to `storage`, to element `offset` of `operand`."""

    operand: int
    offset: Dim
    storage: DType
    value: Expression


@dataclass(frozen=True)
class Nest:
    """A nest over `loops` (outermost first), with operands numbered as in the calling convention.

    `scalars` names the i64 arguments, in order; all other symbols in the dims are loop variables or
    data symbols.
    """

    loops: tuple[Loop, ...]
    stores: tuple[Store, ...]
    operand_count: int
    scalars: tuple[str, ...]
    vector: int | None
