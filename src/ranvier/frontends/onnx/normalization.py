"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.dtypes import from_onnx
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dtype import F32, DType
from ranvier.ir.graph import Value


@onnx_operator("BatchNormalization")
def batch_normalization(
    call: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value,
    *, epsilon: float = 1e-5, momentum: float = 0.9, spatial: int = 1, is_test: int = 0,
    training_mode: int = 0,
) -> tuple[Value | None, ...]:  # fmt: skip
    """Standardised per channel with given statistics, or those of the batch in training mode."""
    if not spatial:
        raise Refusal("normalises every element with statistics of its own (spatial=0)")
    if not training_mode:
        if any(i in call.used for i in range(1, 5)) and not is_test:
            raise Refusal("computes running statistics in training")
        parameters = [call.cast(p, x.dtype) for p in (scale, bias, mean, variance)]
        return call.emit("batch_norm", x, *parameters, epsilon=epsilon), None, None, None, None
    over = (0, *range(2, x.rank))
    inner = call.cast(x, F32) if x.dtype.size == 2 else x
    found = call.reduce("mean", inner, over)
    centred = call.emit("sub", inner, _per_channel(call, found, x.rank))
    spread = call.reduce("mean", call.emit("mul", centred, centred), over)
    parameters = [call.cast(p, inner.dtype) for p in (scale, bias)]
    result = call.emit("batch_norm", inner, *parameters, found, spread, epsilon=epsilon)
    statistics = [
        _running(call, old, new, momentum) for old, new in ((mean, found), (variance, spread))
    ]
    return call.cast(result, x.dtype), *statistics


def _running(call: Call, old: Value, new: Value, momentum: float) -> Value:
    kept = call.number("mul", old, momentum)
    return call.emit("add", kept, call.number("mul", call.cast(new, old.dtype), 1 - momentum))


def _per_channel(call: Call, parameter: Value, rank: int) -> Value:
    return call.reshape(parameter, (*parameter.shape, *(1,) * (rank - 2)))


@onnx_operator("InstanceNormalization")
def instance_normalization(
    call: Call, x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5
) -> Value:
    """Standardised per channel of every image."""
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise Refusal("the number of its channels is symbolic")
    return call.emit("group_norm", x, scale, bias, groups=channels, epsilon=epsilon)


@onnx_operator("GroupNormalization", since=18)
def group_normalization_per_group(
    call: Call, x: Value, scale: Value, bias: Value, *, num_groups: int, epsilon: float = 1e-5
) -> Value:
    """Standardised per group of channels; before operator set 21 scales are per group."""
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise Refusal("the number of its channels is symbolic")
    each = channels // num_groups
    spread = [
        call.reshape(
            call.broadcast(call.reshape(p, (num_groups, 1)), (num_groups, each)), (channels,)
        )
        for p in (scale, bias)
    ]
    return call.emit("group_norm", x, *spread, groups=num_groups, epsilon=epsilon)


@onnx_operator("GroupNormalization", since=21)
def group_normalization(
    call: Call, x: Value, scale: Value, bias: Value,
    *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1,
) -> Value:  # fmt: skip
    """Standardised per group of channels."""
    return call.emit("group_norm", x, scale, bias, groups=num_groups, epsilon=epsilon)


@onnx_operator("LayerNormalization")
def layer_normalization(
    call: Call, x: Value, scale: Value, bias: Value | None = None,
    *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1,
) -> tuple[Value | None, ...]:  # fmt: skip
    """Standardised over the dims from `axis` on; the mean and 1 / deviation on request."""
    first = axis_of(axis, x.rank)
    tail = x.shape[first:]
    if not call.used & {1, 2} and all(p is None or p.shape == tail for p in (scale, bias)):
        parameters = [p for p in (scale, bias) if p is not None]
        return call.emit("layer_norm", x, *parameters, axis=first, epsilon=epsilon), None, None
    over = tuple(range(first, x.rank))
    inner = call.cast(x, _stash(x, stash_type))
    mean = call.reduce("mean", inner, over, True)
    centred = call.emit("sub", inner, mean)
    spread = call.reduce("mean", call.emit("mul", centred, centred), over, True)
    inverse = call.emit("rsqrt", call.number("add", spread, epsilon))
    result = _finished(call, call.emit("mul", centred, inverse), x, scale, bias)
    return result, mean, inverse


def _stash(x: Value, stash_type: int) -> DType:
    """The element type of the computation: f32 for narrow floats."""
    stash = from_onnx(stash_type)
    return x.dtype if x.dtype.size > stash.size else stash


def _finished(
    call: Call, normal: Value, x: Value, scale: Value | None, bias: Value | None
) -> Value:
    """normal * scale + bias in the element type of `x`."""
    result = normal
    for op, parameter in (("mul", scale), ("add", bias)):
        if parameter is not None:
            result = call.emit(op, result, call.cast(parameter, result.dtype))
    return call.cast(result, x.dtype)


@onnx_operator("RMSNormalization")
def rms_normalization(
    call: Call, x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Value:  # fmt: skip
    """x over the root of the mean of its squares, over the dims from `axis` on."""
    first = axis_of(axis, x.rank)
    if scale.shape == x.shape[first:] and scale.dtype == x.dtype:
        return call.emit("rms_norm", x, scale, axis=first, epsilon=epsilon)
    inner = call.cast(x, _stash(x, stash_type))
    over = tuple(range(first, x.rank))
    squares = call.reduce("mean", call.emit("mul", inner, inner), over, True)
    inverse = call.emit("rsqrt", call.number("add", squares, epsilon))
    return _finished(call, call.emit("mul", inner, inverse), x, scale, None)


@onnx_operator("LRN")
def lrn(
    call: Call, x: Value, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Value:
    """x over a power of the sum of squares of neighbouring channels."""
    inner = call.cast(x, F32) if x.dtype.size == 2 else x
    before = (size - 1) // 2
    padded = call.pad(call.emit("mul", inner, inner), {1: (before, size - 1 - before)}, 0.0)
    parts: Sequence[Value] = [call.slice(padded, 1, i, x.shape[1] + i) for i in range(size)]
    total = call.chain("add", parts)
    base = call.number("add", call.number("mul", total, alpha / size), bias)
    return call.cast(call.emit("div", inner, call.number("pow", base, beta)), x.dtype)
