"""Terms of a reduction that the results need again: they wait where the results will lie.

    softmax:    result[j] = exp(x[j] - max) / sum over k of exp(x[k] - max)

While the sum is computed, every term is written to the element of the result that needs it, and
read from there afterwards instead of being computed a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ranvier.codegen import accumulate
from ranvier.codegen.expression_table import ExpressionTable
from ranvier.codegen.scalar_ops import LONG
from ranvier.ir import dim as dims
from ranvier.lowering.expression import (
    Access,
    Apply,
    Expression,
    Loop,
    Reduce,
    compute_dtype,
    map_dims,
    walk,
)
from ranvier.lowering.kernels.nest import Store


@dataclass(frozen=True)
class KeptTerms:
    """`term` says where a term of `reduce` goes; `store` is what computes the results from it, for
    all iterations of `loop`, a loop of the nest.
    """

    reduce: Reduce
    term: Store
    loop: Loop
    store: Store


def kept_terms(
    store: Store, loops: Sequence[Loop], inside: Sequence[str], table: ExpressionTable
) -> KeptTerms | None:
    """The terms that are worth keeping.

    `inside` are the loops that may run after the reduction. It must depend on all others: then one
    thread computes it, once, before any of its results.
    """
    if store.storage is not store.value.dtype:
        return None  # a rounded term is another one
    for reduce in table.reductions(store.value):
        if len(reduce.loops) != 1 or not _is_worth(reduce, store):
            continue
        (along,) = reduce.loops
        for loop in loops:
            others = {other.name for other in loops if other is not loop}
            if loop.name not in inside or loop.extent != along.extent:
                continue
            if not others <= table.free_symbols(reduce):
                continue
            here, there = dims.symbol(loop.name), dims.symbol(along.name)
            change = partial(dims.substitute, replacements={along.name: here})
            again = table.key(map_dims(reduce.body, change))
            place = Access(store.operand, store.offset, store.storage)
            value = _replaced(store.value, again, place, table)
            if table.key(value) == table.key(store.value):
                continue  # no result needs it
            offset = dims.substitute(store.offset, {loop.name: there})
            term = replace(store, offset=offset, value=reduce.body)
            return KeptTerms(reduce, term, loop, replace(store, value=value))
    return None


def _is_worth(reduce: Reduce, store: Store) -> bool:
    """Whether a term costs more than to write and read it, and is a value of its own."""
    is_long = any(isinstance(node, Apply) and node.op in LONG for node in walk(reduce.body))
    kind = compute_dtype(reduce.body.dtype)
    return is_long and kind is store.storage and accumulate.factors(reduce) is None


def _replaced(
    node: Expression, number: int, other: Expression, table: ExpressionTable
) -> Expression:
    """`node` with `other` for the expression of this number, outside reductions."""
    if table.key(node) == number:
        return other
    if not isinstance(node, Apply):
        return node
    return replace(node, operands=tuple(_replaced(x, number, other, table) for x in node.operands))
