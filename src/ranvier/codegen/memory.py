"""Loads and stores of typed elements: contiguous, strided, gathered; masks, storage conversions.

Compute types: f16 and bf16 are computed as f32, bool as i1. A load whose condition fails reads the
zeros of a constant instead (a conditional move, no branch), so it yields zero bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ranvier.codegen import conversions
from ranvier.codegen.builder import (
    BFLOAT,
    DOUBLE,
    FLOAT,
    HALF,
    I1,
    I8,
    I16,
    I32,
    I64,
    PTR,
    FunctionBuilder,
    Val,
    element_of,
    int_const,
    lanes_of,
    vector,
)
from ranvier.codegen.indices import IndexEmitter, Lanes
from ranvier.codegen.math_context import Context
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, BOOL, F16, DType
from ranvier.lowering.expression import compute_dtype

_ZEROS = "ranvier_zeros"
_ZERO_BYTES = 1024
LINE = 64  # bytes of a cache line
_INTEGER = {1: I8, 2: I16, 4: I32, 8: I64}
_STORAGE = {"f16": HALF, "bf16": I16, "f32": FLOAT, "f64": DOUBLE}


@dataclass(frozen=True)
class Place:
    """Element `offset` of the buffer at `pointer`: touched in the lanes of `mask`, and only if
    `condition` holds.
    """

    pointer: Val
    offset: Dim
    storage: DType
    mask: Val | None = None
    condition: Val | None = None


def storage_type(storage: DType) -> str:
    """The LLVM type of an element in memory (bf16 as i16, bool as i8)."""
    return _STORAGE.get(storage.name) or _INTEGER[storage.size]


def both(f: FunctionBuilder, a: Val | None, b: Val | None) -> Val | None:
    """The conjunction of two optional conditions of one type."""
    if a is None or b is None:
        return b if a is None else a
    return f.binary("and", a, b)


def is_zero(fill: float | int | bool) -> bool:
    """Whether `fill` is all zero bits (which -0.0 is not)."""
    return fill == 0 and math.copysign(1.0, fill) > 0


def decode(context: Context, value: Val, storage: DType) -> Val:
    """Bits as stored -> value to compute with."""
    f, lanes = context.builder, lanes_of(value.type)
    if storage is BF16:
        return conversions.widen_bf16(context, value)
    if storage is F16:
        return f.cast("fpext", value, vector(lanes, FLOAT))
    if storage is BOOL:
        return f.compare("icmp ne", value, int_const(0, value.type))
    return value


def encode(context: Context, value: Val, dtype: DType, storage: DType) -> Val:
    """Computed value of `dtype` -> bits to store as `storage`."""
    f = context.builder
    value = conversions.convert(context, value, dtype, compute_dtype(storage))
    lanes = lanes_of(value.type)
    if storage is BF16:
        return conversions.round_to_bf16(context, value)
    if storage is F16:
        return f.cast("fptrunc", value, vector(lanes, HALF))
    if storage is BOOL:
        return f.cast("zext", value, vector(lanes, I8))
    return value


def load_scalar(context: Context, indices: IndexEmitter, place: Place) -> Val:
    """One element; with a lane mask it is read if any lane is active."""
    f = context.builder
    condition = place.condition
    if place.mask is not None:
        n = lanes_of(place.mask.type)
        any_lane = f.call(f"llvm.vector.reduce.or.v{n}i1", I1, place.mask)
        condition = both(f, condition, any_lane)
    pointer = _address(context, place, indices.scalar(place.offset), condition)
    value = f.load(storage_type(place.storage), pointer, place.storage.size)
    return decode(context, value, place.storage)


def load_vector(context: Context, indices: IndexEmitter, lanes: Lanes, place: Place) -> Val:
    """One element per lane, from an offset that varies."""
    step = _step(indices, lanes, place.offset)
    if step == 1:
        bits = _load_contiguous(context, indices, lanes, place)
    elif step is not None and -1 <= step <= 4 and place.mask is None:
        bits = _load_strided(context, indices, lanes, place, step)
    else:
        bits = _gather(context, indices, lanes, place)
    return decode(context, bits, place.storage)


def store_vector(
    context: Context, indices: IndexEmitter, lanes: Lanes, place: Place, bits: Val
) -> None:
    """Write one element per active lane."""
    step = _step(indices, lanes, place.offset)
    if step == 1:
        _store_contiguous(context, indices, lanes, place, bits)
    elif place.storage.size >= 4 and context.target.lanes >= 16 and place.mask is not None:
        _scatter(context, indices, place, bits)
    else:
        _store_lanes(context, indices, lanes, place, step, bits)


def prefetch(f: FunctionBuilder, pointer: Val, level: int = 1) -> None:
    """Ask for the cache line at an address that will be read soon, into the cache of that level.

    Nothing need be there.
    """
    intent, locality, cache = int_const(0, I32), int_const(4 - level, I32), int_const(1, I32)
    f.call_void("llvm.prefetch.p0", pointer, intent, locality, cache)


# Addresses ---------------------------------------------------------------------------------------
def _step(indices: IndexEmitter, lanes: Lanes, offset: Dim) -> int | None:
    """The static distance in elements between neighbouring lanes, if there is one."""
    linear = dims.linear_in(offset, lanes.loop)
    if linear is None or not isinstance(linear[0], int) or indices.is_varying(linear[1]):
        return None
    return linear[0]


def _address(context: Context, place: Place, index: Val, condition: Val | None) -> Val:
    f = context.builder
    pointer = f.element_pointer(place.pointer, storage_type(place.storage), index)
    return pointer if condition is None else f.select(condition, pointer, zeros(context))


def zeros(context: Context) -> Val:
    """A constant of zero bytes that failed loads may read."""
    context.builder.module.add_global(
        _ZEROS, f"internal constant [{_ZERO_BYTES} x i8] zeroinitializer, align 64"
    )
    return Val(f"@{_ZEROS}", PTR)


def _aligned(pointer: Val, storage: DType) -> Val:
    return Val(f"align {storage.size} {pointer.text}", PTR)


def _suffix(type: str) -> str:
    names = {FLOAT: "f32", DOUBLE: "f64", HALF: "f16", BFLOAT: "bf16"}
    element = element_of(type)
    return f"v{lanes_of(type)}{names.get(element, element)}"


# Contiguous and strided --------------------------------------------------------------------------
def _load_contiguous(context: Context, indices: IndexEmitter, lanes: Lanes, place: Place) -> Val:
    f = context.builder
    type = vector(lanes.count, storage_type(place.storage))
    first = indices.first_lane(place.offset)
    pointer = _address(context, place, first, place.condition)
    if place.mask is None:
        return f.load(type, pointer, place.storage.size)
    if _masked_is_slow(context, place.storage):
        return _gather(context, indices, lanes, place)
    zero = Val("zeroinitializer", type)
    where = _aligned(pointer, place.storage)
    return f.call(f"llvm.masked.load.{_suffix(type)}.p0", type, where, place.mask, zero)


def _masked_is_slow(context: Context, storage: DType) -> bool:
    """AVX2 has masked moves for 4 and 8 byte elements only."""
    return context.target.lanes < 16 and storage.size < 4


def _load_strided(
    context: Context, indices: IndexEmitter, lanes: Lanes, place: Place, step: int
) -> Val:
    """Whole vectors over the span of the lanes, the last one ending at the last lane; shuffles."""
    f, n = context.builder, lanes.count
    element = storage_type(place.storage)
    type = vector(n, element)
    span = abs(step) * (n - 1) + 1
    first = indices.first_lane(place.offset)
    if step < 0:
        first = f.binary("sub", first, int_const(n - 1))
    base = _address(context, place, first, place.condition)
    if step < 0:
        return f.shuffle(f.load(type, base, place.storage.size), None, range(n - 1, -1, -1))
    result: Val | None = None
    covered = 0
    for start in range(0, span, n):
        begin = min(start, span - n)
        pointer = f.element_pointer(base, element, int_const(begin)) if begin else base
        piece = f.load(type, pointer, place.storage.size)
        last = max(k for k in range(n) if step * k < begin + n)
        if result is None:
            picks = [step * k if k <= last else 0 for k in range(n)]
            result = f.shuffle(piece, None, picks)
        else:
            picks = [k if not covered <= k <= last else n + step * k - begin for k in range(n)]
            result = f.shuffle(result, piece, picks)
        covered = last + 1
    assert result is not None
    return result


def _store_contiguous(
    context: Context, indices: IndexEmitter, lanes: Lanes, place: Place, bits: Val
) -> None:
    f = context.builder
    first = indices.first_lane(place.offset)
    pointer = _address(context, place, first, None)
    if place.mask is None:
        f.store(bits, pointer, place.storage.size)
        return
    where = _aligned(pointer, place.storage)
    f.call_void(f"llvm.masked.store.{_suffix(bits.type)}.p0", bits, where, place.mask)


# Gather and scatter ------------------------------------------------------------------------------
def _pointers(context: Context, indices: IndexEmitter, place: Place) -> Val:
    index = indices.vector(place.offset)
    n = lanes_of(index.type)
    element = storage_type(place.storage)
    return context.builder.emit(
        f"getelementptr {element}, {place.pointer}, {index}", vector(n, PTR)
    )


def _gather(context: Context, indices: IndexEmitter, lanes: Lanes, place: Place) -> Val:
    """AVX-512 gathers 4 and 8 byte elements; otherwise one load per lane."""
    f, n = context.builder, lanes.count
    type = vector(n, storage_type(place.storage))
    mask = place.mask
    if place.condition is not None:
        mask = both(f, mask, f.splat(place.condition, n))
    pointers = _pointers(context, indices, place)
    if context.target.lanes >= 16 and place.storage.size >= 4:
        active = mask or Val("splat (i1 true)", vector(n, I1))
        where = Val(f"align {place.storage.size} {pointers.text}", pointers.type)
        name = f"llvm.masked.gather.{_suffix(type)}.v{n}p0"
        return f.call(name, type, where, active, Val("zeroinitializer", type))
    if mask is not None:
        pointers = f.select(mask, pointers, f.splat(zeros(context), n))
    result = Val("poison", type)
    for k in range(n):
        pointer = _lane(f, pointers, k)
        item = f.load(storage_type(place.storage), pointer, place.storage.size)
        result = f.emit(f"insertelement {result}, {item}, i64 {k}", type)
    return result


def _scatter(context: Context, indices: IndexEmitter, place: Place, bits: Val) -> None:
    f, n = context.builder, lanes_of(bits.type)
    pointers = _pointers(context, indices, place)
    assert place.mask is not None
    where = Val(f"align {place.storage.size} {pointers.text}", pointers.type)
    f.call_void(f"llvm.masked.scatter.{_suffix(bits.type)}.v{n}p0", bits, where, place.mask)


def _store_lanes(
    context: Context, indices: IndexEmitter, lanes: Lanes, place: Place, step: int | None, bits: Val
) -> None:
    """One store per lane: cheaper than a scatter for small elements and fixed strides."""
    f = context.builder
    element = storage_type(place.storage)
    if step is not None:
        first = indices.first_lane(place.offset)
        base = _address(context, place, first, None)
        addresses = [
            f.element_pointer(base, element, int_const(step * k)) for k in range(lanes.count)
        ]
    else:
        pointers = _pointers(context, indices, place)
        addresses = [_lane(f, pointers, k) for k in range(lanes.count)]
    for k, address in enumerate(addresses):
        item = _lane(f, bits, k)
        if place.mask is None:
            f.store(item, address, place.storage.size)
            continue
        with f.when(_lane(f, place.mask, k)):
            f.store(item, address, place.storage.size)


def _lane(f: FunctionBuilder, value: Val, lane: int) -> Val:
    return f.emit(f"extractelement {value}, i64 {lane}", element_of(value.type))
