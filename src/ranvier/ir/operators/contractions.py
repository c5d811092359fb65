"""Contractions: sums of products over shared dims. Definitions accumulate floats in f64.

Integers are multiplied and summed in their own type and wrap around.
A bias may be f32 beside f16 or bf16 data; results have the data's element type.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL
from ranvier.ir.graph import TensorType
from ranvier.ir.operators.normalization import softmax
from ranvier.ir.operators.operator import (
    BOOLEAN,
    DIM_PAIRS,
    INT,
    INTS,
    NUMBER,
    Call,
    Numbers,
    Operator,
    Types,
)
from ranvier.ir.operators.shapes import (
    broadcast,
    broadcasts_to,
    require_float,
    require_parameter_dtypes,
    window_checks,
    window_output,
)


def _infer_matmul(call: Call) -> Types:
    a, b = call.operands
    if a.dtype != b.dtype or a.dtype == BOOL:
        raise call.error("needs two operands of one numeric element type")
    if a.rank < 2 or b.rank < 2:
        raise call.error("needs operands of rank 2 or more")
    if a.shape[-1] != b.shape[-2]:
        raise call.error(f"inner dims {a.shape[-1]} and {b.shape[-2]} differ")
    batch = broadcast(call, a.shape[:-2], b.shape[:-2])
    return call.same((*batch, a.shape[-2], b.shape[-1]))


def _matmul(call: Call, a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(np.matmul(a, b))


def _require_weights(call: Call) -> int:
    """Checks that conv and conv_transpose share; the number of spatial dims."""
    x, w = call.operands[:2]
    if x.rank < 3 or w.rank != x.rank:
        raise call.error("needs data [N, C, spatial...] and weights of the same rank")
    if w.dtype != x.dtype:
        raise call.error(f"weights of {w.dtype} do not fit data of {x.dtype}")
    require_parameter_dtypes(call, 2)
    if call.integer("groups") < 1:
        raise call.error("groups must be positive")
    window_checks(call, x.rank - 2, "strides", "padding", "dilations")
    return x.rank - 2


def _require_bias(call: Call, channels: Dim) -> None:
    bias = call.optional(2)
    if bias is not None and bias.shape != (channels,):
        raise call.error(f"needs a bias of shape [{channels}], got {bias}")


def _infer_conv(call: Call) -> Types:
    if call.first.dtype == BOOL:
        raise call.error("needs a numeric element type")
    spatial = _require_weights(call)
    x, w = call.operands[:2]
    groups = call.integer("groups")
    if x.shape[1] != w.shape[1] * groups:
        raise call.error(f"{x.shape[1]} channels, but the weights call for {w.shape[1] * groups}")
    if w.shape[0] % groups != 0:
        raise call.error(f"{w.shape[0]} output channels do not divide into {groups} groups")
    _require_bias(call, w.shape[0])
    strides, dilations, padding = (
        call.ints("strides"),
        call.ints("dilations"),
        call.pairs("padding"),
    )
    sizes = tuple(
        window_output(x.shape[i + 2], w.shape[i + 2], strides[i], padding[i], dilations[i])
        for i in range(spatial)
    )
    if any(isinstance(size, int) and size < 0 for size in sizes):
        raise call.error("the kernel exceeds the padded input")
    return call.same((x.shape[0], w.shape[0], *sizes))


def _taps(kernel: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return np.ndindex(*kernel)


def _padded(x: Numbers, padding: tuple[tuple[int, int], ...]) -> Numbers:
    """Zero padding of the spatial dims; negative entries crop."""
    widths = [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in padding)]
    crop = [
        slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(padding, x.shape[2:], strict=True)
    ]
    return np.pad(x[(slice(None), slice(None), *crop)], widths)


def _window(tap: tuple[int, ...], sizes: tuple[int, ...], call: Call) -> tuple[slice, ...]:
    """Where tap `tap` of every window lies in the padded spatial dims."""
    places = zip(tap, sizes, call.ints("strides"), call.ints("dilations"), strict=True)
    return tuple(
        slice(t * d, t * d + (n - 1) * s + 1, s) if n else slice(0) for t, n, s, d in places
    )


def _tap_of(weights: Numbers, tap: tuple[int, ...]) -> Numbers:
    """`[groups, O, C]` weights of one tap, out of `[groups, O, C, taps...]`."""
    index: tuple[Any, ...] = (..., *tap)
    return np.asarray(weights[index])


def _conv(call: Call, x: Numbers, w: Numbers, bias: Numbers | None = None) -> Numbers:
    """Sum over taps of (weights of the tap) @ (input seen through the tap)."""
    groups, sizes = call.integer("groups"), tuple(map(call.size, call.results[0].shape[2:]))
    batch, channels = x.shape[:2]
    padded = _padded(x, call.size_pairs("padding"))
    by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    count = math.prod(sizes)
    total = np.zeros((batch, groups, by_group.shape[1], count), x.dtype)
    for tap in _taps(w.shape[2:]):
        seen = padded[(slice(None), slice(None), *_window(tap, sizes, call))]
        seen = seen.reshape(batch, groups, channels // groups, count)
        weights = _tap_of(by_group, tap)
        total += weights * seen if channels == groups else np.matmul(weights, seen)
    result = total.reshape(batch, w.shape[0], *sizes)
    return result if bias is None else result + bias.reshape(-1, *(1,) * len(sizes))


def _infer_conv_transpose(call: Call) -> Types:
    require_float(call)
    spatial = _require_weights(call)
    window_checks(call, spatial, "output_padding")
    x, w = call.operands[:2]
    groups = call.integer("groups")
    if x.shape[1] != w.shape[0] or w.shape[0] % groups != 0:
        raise call.error(
            f"{x.shape[1]} channels do not fit the weights' {w.shape[0]} in {groups} groups"
        )
    channels = w.shape[1] * groups
    _require_bias(call, channels)
    sizes = tuple(_transposed_size(call, i) for i in range(spatial))
    return call.same((x.shape[0], channels, *sizes))


def _transposed_size(call: Call, i: int) -> Dim:
    size, kernel = call.operands[0].shape[i + 2], call.operands[1].shape[i + 2]
    low, high = call.pairs("padding")[i]
    reach = call.ints("dilations")[i] * (kernel - 1) + call.ints("output_padding")[i] + 1
    return (size - 1) * call.ints("strides")[i] + reach - low - high


def _conv_transpose(call: Call, x: Numbers, w: Numbers, bias: Numbers | None = None) -> Numbers:
    """Every input element adds its weighted kernel to the output; padding crops the result."""
    groups, padding = call.integer("groups"), call.size_pairs("padding")
    sizes = tuple(map(call.size, call.results[0].shape[2:]))
    batch, channels, *spatial = x.shape
    full = tuple(n + low + high for n, (low, high) in zip(sizes, padding, strict=True))
    by_group = w.reshape(groups, channels // groups, *w.shape[1:])
    seen = x.reshape(batch, groups, channels // groups, math.prod(spatial))
    grid = tuple(
        max(f, _reach(call, i, n, w)) for i, (f, n) in enumerate(zip(full, spatial, strict=True))
    )
    total = np.zeros((batch, groups * w.shape[1], *grid), x.dtype)
    for tap in _taps(w.shape[2:]):
        weights = _tap_of(by_group, tap).swapaxes(1, 2)
        part = np.matmul(weights, seen).reshape(batch, groups * w.shape[1], *spatial)
        total[(slice(None), slice(None), *_window(tap, tuple(spatial), call))] += part
    crop = tuple(slice(low, low + n) for n, (low, _) in zip(sizes, padding, strict=True))
    result = total[(slice(None), slice(None), *crop)]
    return result if bias is None else result + bias.reshape(-1, *(1,) * len(sizes))


def _reach(call: Call, i: int, size: int, w: Numbers) -> int:
    last_tap = call.ints("dilations")[i] * (int(w.shape[i + 2]) - 1)
    return max(size - 1, 0) * call.ints("strides")[i] + last_tap + 1


def _infer_attention(call: Call) -> Types:
    require_float(call)
    q, k, v = call.operands[:3]
    if not q.dtype == k.dtype == v.dtype:
        raise call.error("q, k and v need equal element types")
    if min(q.rank, k.rank, v.rank) < 2:
        raise call.error("needs q [..., S, D], k [..., T, D] and v [..., T, E]")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise call.error("depth of q and k, or length of k and v, differ")
    batch = broadcast(call, q.shape[:-2], k.shape[:-2], v.shape[:-2])
    _require_mask(call, (*batch, q.shape[-2], k.shape[-2]))
    return call.same((*batch, q.shape[-2], v.shape[-1]))


def _require_mask(call: Call, scores: tuple[Dim, ...]) -> None:
    mask = call.optional(3)
    if mask is None:
        return
    if not broadcasts_to(mask.shape, scores):
        raise call.error(f"the mask does not broadcast to {TensorType(BOOL, scores)}")
    if mask.dtype != BOOL:
        require_parameter_dtypes(call, 3)


def _attention(
    call: Call, q: Numbers, k: Numbers, v: Numbers, mask: Numbers | None = None
) -> Numbers:
    """softmax(scale * q k^T + mask) v; a row in which everything is masked gives zeros."""
    scores = call.number("scale") * np.matmul(q, k.swapaxes(-1, -2))
    if call.flag("causal"):
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if not scores.size:
        return np.asarray(np.matmul(scores, v))
    masked = np.max(scores, axis=-1, keepdims=True) == -np.inf
    return np.asarray(np.matmul(np.where(masked, 0, softmax(scores)), v))


_CONV = {"strides": INTS, "padding": DIM_PAIRS, "dilations": INTS, "groups": INT}

OPERATORS = (
    Operator("matmul", 2, 2, _infer_matmul, _matmul, {}, "wide"),
    Operator("conv", 2, 3, _infer_conv, _conv, _CONV, "wide"),
    Operator(
        "conv_transpose",
        2,
        3,
        _infer_conv_transpose,
        _conv_transpose,
        {**_CONV, "output_padding": INTS},
        "wide",
    ),
    Operator(
        "attention",
        3,
        4,
        _infer_attention,
        _attention,
        {"scale": NUMBER, "causal": BOOLEAN},
        "wide",
    ),
)
