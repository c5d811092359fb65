"""The operator table: `OPERATORS` by name, with `infer` and `evaluate` over it.

`docs/operators.md` is the contract; the modules here hold its groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ranvier.errors import CompileError
from ranvier.ir.dtype import Array, DType, decode, encode
from ranvier.ir.graph import Attribute, TensorType, Value
from ranvier.ir.operators import (
    contractions,
    control,
    elementwise,
    foreign,
    gathers,
    normalization,
    pooling,
    reductions,
    resize,
    selection,
    sources,
    views,
)
from ranvier.ir.operators.custom import CUSTOM
from ranvier.ir.operators.operator import Call, Kind, Numbers, Operator

__all__ = ["GROUPS", "OPERATORS", "Call", "Kind", "Operator", "evaluate", "infer", "lookup"]

GROUPS: dict[str, tuple[Operator, ...]] = {
    module.__name__.rpartition(".")[2]: module.OPERATORS
    for module in (
        elementwise, views, gathers, sources, reductions, normalization, contractions, pooling,
        resize, selection, control, foreign,
    )
}  # fmt: skip
OPERATORS: dict[str, Operator] = {entry.name: entry for group in GROUPS.values() for entry in group}


def lookup(name: str, source: str = "") -> Operator:
    """The operator called `name`; raises CompileError when the table has none."""
    found = OPERATORS.get(name) or CUSTOM.get(name)
    if found is None:
        place = f" @ {source}" if source else ""
        raise CompileError(f"the operator table has no {name!r}{place}; see docs/operators.md")
    return found


def infer(
    op: str,
    operands: Sequence[Value | TensorType],
    attributes: Mapping[str, Attribute],
    source: str = "",
) -> tuple[TensorType, ...]:
    """Result types of `op(operands) {attributes}`.

    Raises CompileError, with operand types and `source`, when operands or attributes do not fit.
    """
    operator = lookup(op, source)
    types = tuple(operand.type if isinstance(operand, Value) else operand for operand in operands)
    call = Call(op, types, attributes, source)
    operator.check(call)
    return operator.infer(call)


def evaluate(
    op: str,
    arrays: Sequence[Array],
    operands: Sequence[TensorType],
    attributes: Mapping[str, Attribute],
    results: Sequence[TensorType],
    symbols: dict[str, int] | None = None,
    source: str = "",
) -> tuple[Array, ...]:
    """The NumPy definition of `op` on storage arrays (bf16 as uint16), rounded to the result types.

    `symbols` gives the value of every symbolic dim in types and attributes; operators that define
    symbols add to it.
    """
    operator = lookup(op, source)
    call = Call(
        op, tuple(operands), attributes, source, {} if symbols is None else symbols, tuple(results)
    )
    given = [_widen(a, t.dtype, operator.width) for a, t in zip(arrays, operands, strict=True)]
    with np.errstate(all="ignore"):
        computed = operator.reference(call, *given)
        found = computed if isinstance(computed, tuple) else (computed,)
        if operator.width == "raw":
            return tuple(np.asarray(array) for array in found)
        return tuple(_round(a, t.dtype) for a, t in zip(found, results, strict=True))


def _widen(array: Array, dtype: DType, width: str) -> Numbers:
    if width == "raw" or not dtype.is_float:
        return array
    widened = decode(array, dtype)
    if width == "wide":
        return widened.astype(np.float64)
    return widened.astype(np.float32) if dtype.size == 2 else widened


def _round(array: Numbers, dtype: DType) -> Array:
    return encode(np.asarray(array), dtype)
