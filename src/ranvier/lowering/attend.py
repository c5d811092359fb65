"""Scaled dot product attention -> an attention step: scores never reach memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, F32
from ranvier.ir.graph import Node, Value
from ranvier.lowering.canonical import Renaming
from ranvier.lowering.contract import rows_of
from ranvier.lowering.epilogue import Epilogue
from ranvier.lowering.expression import Accumulator, Apply, Expression, Literal, Loop, map_dims
from ranvier.lowering.inline import Inliner, broadcast_indices
from ranvier.lowering.kernels.attention import (
    DEPTH,
    KEY,
    OUTER,
    QUERY,
    ROW,
    Attention,
    Rows,
    scratch_bytes,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.nests import moved_bytes
from ranvier.lowering.products import inline_chain
from ranvier.lowering.program import Step
from ranvier.lowering.scope import KernelScope, flatten, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def lower_attention(lowering: Lowering, root: Node, epilogue: Epilogue) -> None:
    """Leading dims are the outer index; q, k and v with contiguous rows are read where they lie."""
    q, k, v = root.operands[:3]
    shape = root.result.shape
    scope = KernelScope()
    scope.bound |= {OUTER, QUERY, KEY, DEPTH, ROW}
    lead = tuple(scope.loop(size) for size in shape[:-2])
    batches = dims.product(shape[:-2])
    outer = dims.symbol(OUTER, 0, batches - 1)

    def flat(dim: Dim) -> Dim:
        return flatten(dim, lead, outer)

    head_dim, value_dim = dims.static(q.shape[-1]), dims.static(v.shape[-1])
    indices = (
        *(loop.variable for loop in lead),
        dims.symbol(QUERY, 0, shape[-2] - 1),
        dims.symbol(DEPTH, 0, value_dim - 1),
    )
    query, key, value = (_rows(lowering, scope, x, lead, flat) for x in (q, k, v))
    inliner = Inliner(lowering, scope, loops=False)
    mask = _mask(inliner, root, indices[:-1], k.shape[-2])
    inliner.pending[root.result] = Accumulator()
    out = lowering.allocate(epilogue.end)
    expression = map_dims(inline_chain(inliner, epilogue, indices, Accumulator()), flat)
    store = Store(
        scope.operand(out, written=True),
        flat(linear_offset(indices, out.strides)),
        out.dtype,
        expression,
    )
    kernel = Attention(
        batches,
        shape[-2],
        k.shape[-2],
        head_dim,
        value_dim,
        q.dtype,
        query,
        key,
        value,
        float(root.attribute("scale")),
        bool(root.attribute("causal")),
        None if mask is None else map_dims(mask, flat),
        (store,),
        scratch_operand=0,
        operand_count=0,
        scalars=(),
    )
    memory = lowering.scratch_of_threads(scratch_bytes(kernel, lowering.target.has_bf16_dot))
    scratch = scope.operand(memory, written=True)
    kernel = replace(kernel, scratch_operand=scratch, operand_count=len(scope.tensors))
    described, scalars = _canonical(kernel, scope)
    lowering.add_step(
        Step(
            described,
            scope.arguments(),
            scalars,
            scope.reads(),
            scope.writes(),
            epilogue.end.name,
            root.source,
            (root.op, *(n.op for n in epilogue.nodes)),
            batches * shape[-2] * k.shape[-2] * (2 * (head_dim + value_dim) + 4),
            moved_bytes(scope),
            (),
            out,
        )
    )
    lowering.tensors[epilogue.end] = out


def _rows(
    lowering: Lowering,
    scope: KernelScope,
    x: Value,
    lead: tuple[Loop, ...],
    flat: Callable[[Dim], Dim],
) -> Rows:
    depth = dims.symbol(DEPTH, 0, x.shape[-1] - 1)
    row = dims.symbol(ROW, 0, x.shape[-2] - 1)
    indices = broadcast_indices(x, (*(loop.variable for loop in lead), row, depth))
    tensor, offset = rows_of(lowering, x, indices, DEPTH)
    return Rows(scope.operand(tensor), flat(offset))


def _mask(inliner: Inliner, root: Node, position: tuple[Dim, ...], keys: Dim) -> Expression | None:
    """The scaled score with the mask applied: kept or -inf where it is bool, added otherwise."""
    if len(root.operands) < 4:
        return None
    value = root.operands[3]
    indices = broadcast_indices(value, (*position, dims.symbol(KEY, 0, keys - 1)))
    read = inliner.element(value, indices)
    if read.dtype is BOOL:
        return Apply("where", (read, Accumulator(), Literal(float("-inf"), F32)), F32)
    return Apply("add", (Accumulator(), read), F32)


def _canonical(kernel: Attention, scope: KernelScope) -> tuple[Attention, tuple[Dim, ...]]:
    renaming = Renaming(frozenset(scope.bound))
    described = replace(
        kernel,
        batches=renaming.dim(kernel.batches),
        queries=renaming.dim(kernel.queries),
        keys=renaming.dim(kernel.keys),
        query=Rows(kernel.query.operand, renaming.dim(kernel.query.start)),
        key=Rows(kernel.key.operand, renaming.dim(kernel.key.start)),
        value=Rows(kernel.value.operand, renaming.dim(kernel.value.start)),
        mask=None if kernel.mask is None else renaming.expression(kernel.mask),
        stores=tuple(renaming.store(store) for store in kernel.stores),
    )
    return replace(described, scalars=renaming.names), renaming.values
