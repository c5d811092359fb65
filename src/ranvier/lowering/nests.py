"""Expressions -> nest kernels.

Loops over contiguous memory are merged, the vector loop is chosen, the description made canonical.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F16, U16, DType, encode
from ranvier.ir.graph import Value
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.expression import (
    Access,
    Apply,
    Expression,
    Index,
    Loop,
    Reduce,
    children,
    map_dims,
    relaxed,
    walk,
)
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.lowering.program import Step, Tensor
from ranvier.lowering.scope import KernelScope

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

Origin = tuple[Value, str, list[str]]  # the value computed, its source line, the operators inlined


def add_nest(
    lowering: Lowering,
    scope: KernelScope,
    loops: tuple[Loop, ...],
    tensor: Tensor,
    offset: Dim,
    expression: Expression,
    origin: Origin,
) -> None:
    """Append the step that stores `expression` at `offset` of `tensor` for all of `loops`."""
    value, source, operators = origin
    destination = scope.operand(tensor, written=True)
    loops, offset, expression = split_loops(scope, loops, offset, expression, lowering.target.lanes)
    loops, offset, expression = merge_loops(loops, offset, expression)
    renaming = Renaming(frozenset(scope.bound))
    expression, storage = moved_bits(expression, tensor.dtype)
    described = Store(
        destination,
        renaming.dim(offset),
        storage,
        relaxed(renaming.expression(expression), tensor.dtype),
    )
    nest = Nest(
        tuple(renaming.loop(loop) for loop in loops),
        (described,),
        len(scope.tensors),
        renaming.names,
        choose_vector(loops, offset, expression, lowering.target.lanes),
    )
    lowering.add_step(
        Step(
            nest,
            scope.arguments(),
            renaming.values,
            scope.reads(),
            scope.writes(),
            value.name,
            source,
            tuple(operators),
            nest_operations(loops, expression),
            moved_bytes(scope),
            in_place_pairs(lowering, scope, tensor, offset, expression),
            tensor,
        )
    )


def moved_bits(expression: Expression, storage: DType) -> tuple[Expression, DType]:
    """A copy of 16-bit floats as a copy of their bits: nothing is converted, and NaN and denormal
    numbers stay what they are.
    """
    if storage not in (F16, BF16):
        return expression, storage
    if isinstance(expression, Apply) and expression.op == "bit_cast":
        return expression.operands[0], U16
    if not isinstance(expression, Access):
        return expression, storage
    if expression.storage is not storage:
        return expression, storage
    fill = encode(np.asarray(expression.fill, np.float32), storage).view(np.uint16).item()
    return replace(expression, storage=U16, fill=fill), U16


def split_loops(
    scope: KernelScope, loops: tuple[Loop, ...], offset: Dim, expression: Expression, lanes: int
) -> tuple[tuple[Loop, ...], Dim, Expression]:
    """Split loops wherever dims see them as two: v // 64 and v % 64 become loops of their own.

    A loop over contiguous results is only split where what is left of it can fill `lanes`.
    """
    result: list[Loop] = []
    for loop in loops:
        while (size := _quotient_size(loop, (offset, *all_dims(expression)))) is not None:
            linear = dims.linear_in(offset, loop.name)
            if size < lanes and linear is not None and linear[0] == 1:
                break
            outer, inner = scope.loop(loop.extent // size), scope.loop(size)
            change = partial(
                dims.substitute,
                replacements={loop.name: outer.variable * size + inner.variable},
            )
            offset, expression = change(offset), map_dims(expression, change)
            result.append(outer)
            loop = inner
        result.append(loop)
    return tuple(result), offset, expression


def _quotient_size(loop: Loop, found: Iterable[Dim]) -> int | None:
    """The largest number that divides both the extent and, in some dim, the variable of `loop`."""
    sizes = {
        atom.right
        for dim in found
        for atom in dims.compounds(dim)
        if atom.op in ("//", "%") and atom.left == loop.variable and isinstance(atom.right, int)
    }
    usable = [s for s in sizes if s > 1 and loop.extent != s and dims.divides(s, loop.extent)]
    return max(usable, default=None)


def merge_loops(
    loops: tuple[Loop, ...], offset: Dim, expression: Expression
) -> tuple[tuple[Loop, ...], Dim, Expression]:
    """Merge adjacent loops wherever every dim sees the pair as one.

    `W * i + j` over i < H, j < W is k < H * W.
    """
    position = len(loops) - 2
    while position >= 0:
        outer, inner = loops[position], loops[position + 1]
        if all(_sees_one(d, outer, inner) for d in (offset, *all_dims(expression))):
            merged = Loop(inner.name, outer.extent * inner.extent)
            change = partial(
                dims.substitute, replacements={outer.name: 0, inner.name: merged.variable}
            )
            offset, expression = change(offset), map_dims(expression, change)
            loops = (*loops[:position], merged, *loops[position + 2 :])
        position -= 1
    return loops, offset, expression


def _sees_one(dim: Dim, outer: Loop, inner: Loop) -> bool:
    both = (outer.name, inner.name)
    if not dims.depends_on(dim, both):
        return True
    first, second = dims.linear_in(dim, outer.name), dims.linear_in(dim, inner.name)
    if (
        first is None
        or second is None
        or dims.depends_on(first[0], both)
        or dims.depends_on(second[0], both)
    ):
        return False
    return first[0] == second[0] * inner.extent


def all_dims(expression: Expression) -> Iterable[Dim]:
    """Every dim in the expression."""
    for node in walk(expression):
        if isinstance(node, Access):
            yield node.offset
            for guard in node.guards:
                yield guard.index
                yield guard.limit
        elif isinstance(node, Index):
            yield node.value
        elif isinstance(node, Reduce):
            yield from (loop.extent for loop in node.loops)


def choose_vector(
    loops: Sequence[Loop], offset: Dim, expression: Expression, lanes: int
) -> int | None:
    """The loop to vectorise: the one with the most unit-stride traffic that can fill a vector."""
    offsets = [offset, offset, *(x.offset for x in walk(expression) if isinstance(x, Access))]
    best, best_score = None, float("-inf")
    for index, loop in enumerate(loops):
        score = sum(_unit_stride_score(d, loop) for d in offsets) / len(offsets)
        if isinstance(loop.extent, int) and loop.extent < lanes:
            score -= 2.0 * (1 - loop.extent / lanes)
        if not dims.depends_on(offset, (loop.name,)):
            continue
        if score >= best_score:
            best, best_score = index, score
    return best


def _unit_stride_score(dim: Dim, loop: Loop) -> float:
    if not dims.depends_on(dim, (loop.name,)):
        return 0.5
    linear = dims.linear_in(dim, loop.name)
    return 1.0 if linear is not None and linear[0] == 1 else -1.0


def operation_count(expression: Expression) -> int:
    """Arithmetic operators per element, without those of reductions inside."""
    own = isinstance(expression, Apply)
    inside = () if isinstance(expression, Reduce) else children(expression)
    return own + sum(operation_count(child) for child in inside)


def nest_operations(loops: Sequence[Loop], expression: Expression) -> Dim:
    """Arithmetic operators of a nest; an estimate, since functions count as one.

    Code is generated so that a reduction runs once for all loops that it does not depend on
    (`codegen/reduction.py`). Extents that depend on loops (windows, prefixes) count as 1.
    """
    reductions = dict.fromkeys(x for x in walk(expression) if isinstance(x, Reduce))
    inner = [loop for reduction in reductions for loop in reduction.loops]
    extents = {loop.name: loop.extent for loop in (*loops, *inner)}
    extents = {n: 1 if dims.depends_on(e, extents) else e for n, e in extents.items()}
    total = dims.product(extents[loop.name] for loop in loops) * operation_count(expression)
    for reduction in reductions:
        within = [x for x in walk(reduction) if isinstance(x, Reduce)]
        used = {name for dim in all_dims(reduction) for name in dims.symbols(dim)}
        used -= {loop.name for x in within for loop in x.loops}
        used |= {loop.name for loop in reduction.loops}
        times = dims.product(extent for name, extent in extents.items() if name in used)
        total = total + times * (operation_count(reduction.body) + 1)
    return total


def moved_bytes(scope: KernelScope) -> Dim:
    """Bytes of all operands, each counted once."""
    total: Dim = 0
    for tensor in scope.tensors:
        total = total + dims.product(tensor.shape) * tensor.dtype.size
    return total


def in_place_pairs(
    lowering: Lowering, scope: KernelScope, result: Tensor, offset: Dim, expression: Expression
) -> tuple[tuple[int, int], ...]:
    """(written, read) buffers that may share memory: elements are read before they are lost."""
    pairs = []
    for number, tensor in enumerate(scope.tensors):
        if tensor.buffer == result.buffer or tensor.offset != 0 or result.offset != 0:
            continue
        if lowering.program.buffers[tensor.buffer].kind != "temporary":
            continue
        reads = [x for x in walk(expression) if isinstance(x, Access) and x.operand == number]
        same = all(x.offset == offset and x.storage.size == result.dtype.size for x in reads)
        in_reduction = any(isinstance(x, Reduce) for x in walk(expression))
        if reads and same and not in_reduction and tensor.shape == result.shape:
            pairs.append((result.buffer, tensor.buffer))
    return tuple(pairs)
