"""Stores of vectors whose elements alternate in memory: the channels of an image, channels last.

A vector of eight red values is stored to every third place, one of eight green ones to the places
behind them. Together they are whole vectors in order, which shuffles make: a few instructions
instead of one store per element.
"""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.codegen import memory
from ranvier.codegen.builder import FunctionBuilder, Val, lanes_of
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.math_context import Context
from ranvier.ir import dim as dims
from ranvier.lowering.expression import Loop, Reduce, walk
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.target import Target

_MOST = 4  # vectors that alternate


def alternating_loop(nest: Nest) -> Loop | None:
    """The loop whose iterations lie side by side between the steps of the vectorised loop.

    All of it is computed together, so it is short, of known length, and shapes no other loop.
    """
    if nest.vector is None:
        return None
    if any(isinstance(node, Reduce) for store in nest.stores for node in walk(store.value)):
        return None
    along = nest.loops[nest.vector]
    for loop in nest.loops:
        if loop is along or not isinstance(loop.extent, int) or not 1 < loop.extent <= _MOST:
            continue
        if any(dims.depends_on(other.extent, [loop.name]) for other in nest.loops):
            continue
        if all(_alternates(store, along.name, loop) for store in nest.stores):
            return loop
    return None


def _alternates(store: Store, along: str, loop: Loop) -> bool:
    step, place = dims.linear_in(store.offset, along), dims.linear_in(store.offset, loop.name)
    return step is not None and place is not None and (step[0], place[0]) == (loop.extent, 1)


def store_alternating(
    target: Target, emitters: Sequence[ExpressionEmitter], store: Store, values: Sequence[Val]
) -> None:
    """Write the values of `store`, one for each iteration of the alternating loop, in order.

    The emitters have whole vectors: no lane is masked.
    """
    f, first = emitters[0].builder, emitters[0]
    parts = [
        memory.encode(Context(f, target), value, store.value.dtype, store.storage)
        for value in values
    ]
    parts = [p if lanes_of(p.type) > 1 else f.splat(p, first.count) for p in parts]
    index = first.indices.first_lane(store.offset)
    element = memory.storage_type(store.storage)
    place = f.element_pointer(first.operands[store.operand], element, index)
    f.store(_alternated(f, parts), place, store.storage.size)


def _alternated(f: FunctionBuilder, parts: Sequence[Val]) -> Val:
    """Element 0 of every part, element 1 of every part, ..."""
    count, lanes = len(parts), lanes_of(parts[0].type)
    if count == 2:
        joined, other = parts
    else:
        last = parts[-1] if count == 4 else Val("poison", parts[0].type)
        joined = f.shuffle(parts[0], parts[1], range(2 * lanes))
        other = f.shuffle(parts[2], last, range(2 * lanes))
    return f.shuffle(joined, other, [k * lanes + j for j in range(lanes) for k in range(count)])
