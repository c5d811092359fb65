"""Discrete Fourier transforms as matrix products.

`X[k] = sum over j of x[j] * exp(-2 pi i j k / n)`. The matrices are constants where the length is,
and exact to the last place: angles are reduced in integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ranvier.frontends.torch.call import Call, Refusal, axis_of
from ranvier.frontends.torch.complex_numbers import Pair, complex_operator
from ranvier.ir.dim import Dim, floordiv
from ranvier.ir.dtype import F32, F64, I64, DType
from ranvier.ir.graph import Value

_LONGEST = 8192
_BY_ROOT, _BY_LENGTH = 1, 2  # ATen's numbers for what a transform is divided by


@complex_operator("_fft_r2c")
def real_to_complex(
    call: Call, x: Value, dim: Sequence[int], normalization: int, onesided: bool
) -> Pair:
    """The last of `dim` first, of which half the frequencies are kept; then the others."""
    *others, last = [axis_of(d, x.rank) for d in dim]
    size = x.shape[last]
    kept = floordiv(size, 2) + 1 if onesided else size
    cosine, sine = _matrices(call, size, kept, x.dtype)
    along = _last(call, x, last)
    real = call.emit("matmul", along, cosine)
    imaginary = call.emit("neg", call.emit("matmul", along, sine))
    result = Pair(_back(call, real, last), _back(call, imaginary, last))
    for axis in others:
        result = _transformed(call, result, axis, forward=True)
    return _scaled(call, result, [x.shape[axis_of(d, x.rank)] for d in dim], normalization)


@complex_operator("_fft_c2c")
def complex_to_complex(
    call: Call, x: Pair, dim: Sequence[int], normalization: int, forward: bool
) -> Pair:
    """One dim after the other."""
    axes = [axis_of(d, x.real.rank) for d in dim]
    result = x
    for axis in axes:
        result = _transformed(call, result, axis, forward)
    return _scaled(call, result, [x.real.shape[axis] for axis in axes], normalization)


@complex_operator("_fft_c2r")
def complex_to_real(
    call: Call, x: Pair, dim: Sequence[int], normalization: int, last_dim_size: Dim
) -> Value:
    """The inverse of a transform of real numbers, whose other half is the conjugate of this."""
    *others, last = [axis_of(d, x.real.rank) for d in dim]
    sizes = [*(x.real.shape[axis] for axis in others), last_dim_size]
    for axis in others:
        x = _transformed(call, x, axis, forward=False)
    kept = floordiv(last_dim_size, 2) + 1
    x = x.map(lambda part: call.slice(part, last, 0, kept))
    cosine, sine = _matrices(call, last_dim_size, kept, x.real.dtype)
    weights = call.cast(_times_counted(call, last_dim_size, kept), x.real.dtype)
    # [kept, n]: every frequency counts twice, but the first and, of an even length, the last
    cosine, sine = (
        call.emit("mul", call.transpose(m, (1, 0)), call.reshape(weights, (kept, 1)))
        for m in (cosine, sine)
    )
    parts = call.emit(
        "sub",
        call.emit("matmul", _last(call, x.real, last), cosine),
        call.emit("matmul", _last(call, x.imag, last), sine),
    )
    result = _back(call, parts, last)
    factor = _factor(call, sizes, normalization, result.dtype)
    return result if factor is None else call.emit("mul", result, factor)


def _times_counted(call: Call, size: Dim, kept: Dim) -> Value:
    numbers = call.emit("iota", size=kept, dtype=I64)
    mirrored = call.emit("sub", call.scalar(size, I64), numbers)
    mirrored = call.emit("remainder", mirrored, call.scalar(size, I64))
    alone = call.emit("equal", mirrored, numbers)
    return call.emit("where", alone, call.scalar(1, I64), call.scalar(2, I64))


def _transformed(call: Call, x: Pair, axis: int, forward: bool) -> Pair:
    size = x.real.shape[axis]
    cosine, sine = _matrices(call, size, size, x.real.dtype)
    real, imaginary = (_last(call, part, axis) for part in (x.real, x.imag))
    if not forward:
        sine = call.emit("neg", sine)

    def product(part: Value, matrix: Value) -> Value:
        return call.emit("matmul", part, matrix)

    # (a + bi)(c - si) = ac + bs + (bc - as)i
    result = Pair(
        call.emit("add", product(real, cosine), product(imaginary, sine)),
        call.emit("sub", product(imaginary, cosine), product(real, sine)),
    )
    return result.map(lambda part: _back(call, part, axis))


def _matrices(call: Call, size: Dim, kept: Dim, dtype: DType) -> tuple[Value, Value]:
    """Cosines and sines of 2 pi j k / n, `[n, kept]`."""
    if isinstance(size, int) and isinstance(kept, int):
        if size > _LONGEST:
            raise Refusal(f"transforms {size} elements at once; at most {_LONGEST} are supported")
        turns = np.outer(np.arange(size), np.arange(kept)) % size
        angles = turns * (2 * math.pi / size)
        kind = np.float64 if dtype == F64 else np.float32
        tables = (np.cos(angles).astype(kind), np.sin(angles).astype(kind))
        cosine, sine = (
            call.builder.constant(table, name=f"{call.name}.{name}", source=call.source)
            for table, name in zip(tables, ("cos", "sin"), strict=True)
        )
        return call.cast(cosine, dtype), call.cast(sine, dtype)
    rows = call.reshape(call.emit("iota", size=size, dtype=I64), (size, 1))
    columns = call.reshape(call.emit("iota", size=kept, dtype=I64), (1, kept))
    length = call.scalar(size, I64)
    turns_of = call.emit("remainder", call.emit("mul", rows, columns), length)
    wide = F64 if dtype == F64 else F32
    share = call.emit("div", call.cast(turns_of, wide), call.cast(length, wide))
    angle = call.emit("mul", share, call.scalar(2 * math.pi, wide))
    return call.cast(call.emit("cos", angle), dtype), call.cast(call.emit("sin", angle), dtype)


def _last(call: Call, x: Value, axis: int) -> Value:
    """`x` as rows `[..., n]` of the transformed dim."""
    order = [i for i in range(x.rank) if i != axis]
    moved = call.transpose(x, (*order, axis))
    return call.reshape(moved, (1, *moved.shape)) if x.rank == 1 else moved


def _back(call: Call, x: Value, axis: int) -> Value:
    """What `_last` moved to the end, moved back."""
    if axis == 0 and x.rank == 2 and x.shape[0] == 1 and call.shape[-1:] == x.shape[-1:]:
        return x if len(call.shape) == 2 else call.reshape(x, x.shape[1:])
    order = list(range(x.rank - 1))
    order.insert(axis, x.rank - 1)
    return call.transpose(x, order)


def _scaled(call: Call, x: Pair, sizes: Sequence[Dim], normalization: int) -> Pair:
    factor = _factor(call, sizes, normalization, x.real.dtype)
    return x if factor is None else x.map(lambda part: call.emit("mul", part, factor))


def _factor(call: Call, sizes: Sequence[Dim], normalization: int, dtype: DType) -> Value | None:
    """One over the number of elements, or its root."""
    if normalization not in (_BY_ROOT, _BY_LENGTH):
        return None
    count = call.scalar(1, dtype)
    for size in sizes:
        count = call.emit("mul", count, call.scalar(size, dtype))
    return call.emit("rsqrt" if normalization == _BY_ROOT else "reciprocal", count)
