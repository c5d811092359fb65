"""Pooling over the trailing spatial dims of `[N, C, spatial...]` (or of any leading dims)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ranvier.ir.dim import Dim
from ranvier.ir.graph import TensorType
from ranvier.ir.operators.operator import (
    BOOLEAN,
    DIM_PAIRS,
    DIMS,
    INTS,
    Call,
    Numbers,
    Types,
    unary,
)
from ranvier.ir.operators.shapes import require_float, window_checks, window_output


def _infer_pool(call: Call) -> Types:
    spatial = len(call.ints("kernel"))
    dilated = ("dilations",) if "dilations" in call.attributes else ()
    window_checks(call, spatial, "kernel", "strides", "padding", *dilated)
    if call.first.rank < spatial:
        raise call.error(f"needs at least {spatial} dims")
    lead = call.first.shape[: call.first.rank - spatial]
    return call.same((*lead, *(_output_size(call, i) for i in range(spatial))))


def _dilations(call: Call) -> tuple[int, ...]:
    return (
        call.ints("dilations")
        if "dilations" in call.attributes
        else (1,) * len(call.ints("kernel"))
    )


def _output_size(call: Call, i: int) -> Dim:
    kernel = call.ints("kernel")
    size = call.first.shape[call.first.rank - len(kernel) + i]
    padding = call.pairs("padding")[i]
    ceil_mode = call.flag("ceil_mode")
    if ceil_mode and not all(isinstance(entry, int) for entry in padding):
        raise call.error("ceil_mode needs constant padding")
    out = window_output(
        size, kernel[i], call.ints("strides")[i], padding, _dilations(call)[i], ceil_mode
    )
    if isinstance(out, int) and out < 0:
        raise call.error("the kernel exceeds the padded input")
    return out


def _infer_avg_pool(call: Call) -> Types:
    require_float(call)
    return _infer_pool(call)


def _windows(call: Call, x: Numbers, fill: Any) -> Numbers:
    """All windows of x: `[..., outputs..., taps]`; what lies outside x is `fill`."""
    kernel, strides, dilations = call.ints("kernel"), call.ints("strides"), _dilations(call)
    rank = len(kernel)
    out = tuple(map(call.size, call.results[0].shape[-rank:]))
    widths = [(0, 0)] * (x.ndim - rank)
    for i, (low, high) in enumerate(call.size_pairs("padding")):
        size = x.shape[x.ndim - rank + i] + low
        need = (out[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1
        widths.append((low, max(high, need - size)))
    padded = np.pad(x, widths, constant_values=fill)
    taps = []
    for tap in np.ndindex(*kernel):
        places = zip(tap, out, strides, dilations, strict=True)
        where = (
            slice(t * d, t * d + (n - 1) * s + 1, s) if n else slice(0) for t, n, s, d in places
        )
        taps.append(padded[(..., *where)])
    return np.stack(taps, axis=-1)


def _max_pool(call: Call, x: Numbers) -> Numbers:
    lowest = -np.inf if call.first.dtype.is_float else np.iinfo(x.dtype).min
    return np.asarray(np.max(_windows(call, x, lowest), axis=-1))


def _avg_pool(call: Call, x: Numbers) -> Numbers:
    """Mean over the elements that count: padding when asked, what lies beyond it never."""
    rank = len(call.ints("kernel"))
    counted = np.ones(x.shape[-rank:], x.dtype)
    spatial = replace(call, results=(TensorType(call.first.dtype, call.results[0].shape[-rank:]),))
    if call.flag("count_include_pad"):
        counted = np.pad(counted, call.size_pairs("padding"), constant_values=1)
        unpadded = {**call.attributes, "padding": ((0, 0),) * rank}
        spatial = replace(spatial, attributes=unpadded)
    counts = np.sum(_windows(spatial, counted, 0), axis=-1)
    return np.asarray(np.sum(_windows(call, x, 0), axis=-1) / counts)


def _infer_adaptive(call: Call) -> Types:
    require_float(call)
    output = call.dims("output_size")
    if len(output) > call.first.rank:
        raise call.error(f"needs at least {len(output)} dims")
    return call.same((*call.first.shape[: call.first.rank - len(output)], *output))


def _adaptive(function: Callable[..., Any]) -> Callable[..., Any]:
    """Output i covers input elements floor(i * n / m) up to ceil((i + 1) * n / m), per dim."""

    def definition(call: Call, x: Numbers) -> Numbers:
        output = call.sizes("output_size")
        first = x.ndim - len(output)
        result = np.empty(x.shape[:first] + output, x.dtype)
        for place in np.ndindex(*output):
            window = (
                slice(i * n // m, -(-(i + 1) * n // m))
                for i, n, m in zip(place, x.shape[first:], output, strict=True)
            )
            seen: tuple[Any, ...] = (..., *window)
            stored: tuple[Any, ...] = (..., *place)
            result[stored] = function(x[seen], axis=tuple(range(first, x.ndim)))
        return result

    return definition


_WINDOW = {"kernel": INTS, "strides": INTS, "padding": DIM_PAIRS, "ceil_mode": BOOLEAN}
_OUTPUT = {"output_size": DIMS}

OPERATORS = (
    unary("max_pool", _infer_pool, _max_pool, {**_WINDOW, "dilations": INTS}),
    unary(
        "avg_pool", _infer_avg_pool, _avg_pool, {**_WINDOW, "count_include_pad": BOOLEAN}, "wide"
    ),
    unary("adaptive_avg_pool", _infer_adaptive, _adaptive(np.mean), _OUTPUT, "wide"),
    unary("adaptive_max_pool", _infer_adaptive, _adaptive(np.max), _OUTPUT),
)
