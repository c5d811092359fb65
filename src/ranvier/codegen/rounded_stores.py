"""Stores of adjacent vectors in bf16: AVX512-BF16 rounds two vectors by one instruction.

The instruction takes as long for two vectors of f32 as the one for a single vector (1.5 cycles on
Zen 4), and two halves of a cache line become one store.
"""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.codegen import memory
from ranvier.codegen.builder import BFLOAT, I16, FunctionBuilder, Val, vector
from ranvier.codegen.expression import ExpressionEmitter
from ranvier.codegen.indices import Lanes
from ranvier.codegen.math_context import Context
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target

_LANES = 16  # of the vectors that the instruction takes


def round_two(f: FunctionBuilder, low: Val, high: Val) -> Val:
    """Two vectors of 16 f32 -> the bits of 32 bf16; denormal numbers become zero."""
    name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    rounded = f.call(name, vector(2 * _LANES, BFLOAT), high, low)
    return f.cast("bitcast", rounded, vector(2 * _LANES, I16))


def store_adjacent(target: Target, emitters: Sequence[ExpressionEmitter], store: Store) -> None:
    """Emit `store` for vectors that follow each other in the vectorised loop, two at a time if
    they can be rounded together.
    """
    at = 0
    while at < len(emitters):
        pair = emitters[at : at + 2]
        if len(pair) == 2 and _rounds_two(target, pair, store):
            _store_two(target, pair[0], pair[1], store)
            at += 2
        else:
            emitters[at].store(store)
            at += 1


def _rounds_two(target: Target, pair: Sequence[ExpressionEmitter], store: Store) -> bool:
    if not target.has_bf16_dot or store.storage is not BF16 or store.value.dtype is not F32:
        return False
    lanes = pair[0].lanes
    if lanes is None or any(emitter.lanes != Lanes(lanes.loop, _LANES) for emitter in pair):
        return False
    linear = dims.linear_in(store.offset, lanes.loop)
    return linear is not None and linear[0] == 1


def _store_two(target: Target, a: ExpressionEmitter, b: ExpressionEmitter, store: Store) -> None:
    assert a.lanes is not None
    f = a.builder
    low, high = (emitter.emit_lanes(store.value) for emitter in (a, b))
    bits = round_two(f, low, high)
    lanes = Lanes(a.lanes.loop, 2 * _LANES)
    place = memory.Place(a.operands[store.operand], store.offset, store.storage)
    memory.store_vector(Context(f, target), a.nested({}, lanes).indices, lanes, place, bits)
