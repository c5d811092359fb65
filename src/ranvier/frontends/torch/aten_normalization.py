"""Softmaxes and normalisations of ATen."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, axis_of
from ranvier.frontends.torch.dtypes import largest_and_epsilon
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, floordiv, product
from ranvier.ir.dtype import F32, DType
from ranvier.ir.graph import Value


@aten("_safe_softmax")
def safe_softmax(call: Call, x: Value, dim: int, dtype: DType | None = None) -> Value:
    """Softmax with zeros where all of a row is -inf."""
    result = softmax(call, x, dim, dtype)
    lowest = call.scalar(float("-inf"), x.dtype)
    masked = call.emit("equal", x, lowest)
    if x.rank:
        masked = call.emit("reduce_all", masked, axes=(axis_of(dim, x.rank),), keepdims=True)
    return call.emit("where", masked, call.scalar(0.0, result.dtype), result)


@aten("softmax.int", "_softmax")
def softmax(
    call: Call,
    x: Value,
    dim: int,
    dtype: DType | None = None,
    half_to_float: bool = False,
) -> Value:
    return _softmax(call, "softmax", x, dim, dtype, half_to_float)


@aten("log_softmax.int", "_log_softmax")
def log_softmax(
    call: Call,
    x: Value,
    dim: int,
    dtype: DType | None = None,
    half_to_float: bool = False,
) -> Value:
    return _softmax(call, "log_softmax", x, dim, dtype, half_to_float)


def _softmax(
    call: Call, op: str, x: Value, dim: int, dtype: DType | None, half_to_float: bool
) -> Value:
    x = call.cast(x, F32 if half_to_float else dtype or x.dtype)
    if x.rank:
        return call.emit(op, x, axis=axis_of(dim, x.rank))
    return call.reshape(call.emit(op, call.reshape(x, (1,)), axis=0), ())


def _parameters(
    call: Call, weight: Value | None, bias: Value | None, shape: Sequence[Dim], data: Value
) -> tuple[Value, ...]:
    """Scale and bias, as many as there are; a bias alone gets a scale of ones."""
    if weight is None and bias is not None:
        weight = call.emit("full", shape=tuple(shape), value=1.0, dtype=bias.dtype)
    return tuple(_fitting(call, p, data) for p in (weight, bias) if p is not None)


def _fitting(call: Call, parameter: Value, data: Value) -> Value:
    """Parameters are of the data's type, or f32 beside narrower data."""
    narrow = data.dtype.is_float and data.dtype.size == 2
    return parameter if narrow and parameter.dtype == F32 else call.cast(parameter, data.dtype)


@aten("layer_norm")
def layer_norm(
    call: Call,
    x: Value,
    normalized_shape: Sequence[Dim],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    parameters = _parameters(call, weight, bias, normalized_shape, x)
    axis = x.rank - len(normalized_shape)
    return call.emit("layer_norm", x, *parameters, axis=axis, epsilon=float(eps))


@aten("native_layer_norm")
def native_layer_norm(
    call: Call,
    x: Value,
    normalized_shape: Sequence[Dim],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> tuple[Value | None, ...]:
    axes = tuple(range(x.rank - len(normalized_shape), x.rank))
    result = layer_norm(call, x, normalized_shape, weight, bias, eps)
    return (result, *_statistics(call, x, axes, eps))


def _statistics(
    call: Call, x: Value, axes: tuple[int, ...], eps: float
) -> tuple[Value | None, Value | None]:
    """Means and reciprocal deviations over dims, where they are read."""
    if call.used.isdisjoint((1, 2)):
        return None, None
    wide = call.cast(x, F32) if x.dtype.size == 2 else x
    mean = call.emit("reduce_mean", wide, axes=axes, keepdims=False)
    variance = call.emit("reduce_variance", wide, axes=axes, keepdims=False, correction=0)
    widened = call.emit("add", variance, call.scalar(eps, wide.dtype))
    found = (mean, call.emit("rsqrt", widened))
    first, second = (
        call.reshape(call.cast(value, expected.dtype), expected.shape)
        for value, expected in zip(found, call.expected[1:], strict=True)
        if expected is not None
    )
    return first, second


@aten("rms_norm")
def rms_norm(
    call: Call,
    x: Value,
    normalized_shape: Sequence[Dim],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    parameters = () if weight is None else (_fitting(call, weight, x),)
    axis = x.rank - len(normalized_shape)
    wide = F32 if x.dtype.size == 2 else x.dtype
    epsilon = largest_and_epsilon(wide)[1] if eps is None else float(eps)
    return call.emit("rms_norm", x, *parameters, axis=axis, epsilon=epsilon)


@aten("group_norm")
def group_norm(
    call: Call,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    parameters = _parameters(call, weight, bias, (x.shape[1],), x)
    return call.emit("group_norm", x, *parameters, groups=num_groups, epsilon=float(eps))


@aten("native_group_norm")
def native_group_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    group: int,
    eps: float,
    N: object = None,  # noqa: N803  (ATen's names of sizes that x has)
    C: object = None,  # noqa: N803
    HxW: object = None,  # noqa: N803
) -> tuple[Value | None, ...]:
    batch, channels, *spatial = x.shape
    grouped = call.reshape(x, (batch, group, floordiv(channels, group) * product(spatial)))
    result = group_norm(call, x, group, weight, bias, eps)
    return (result, *_statistics(call, grouped, (2,), eps))


@aten("instance_norm")
def instance_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    eps: float,
) -> Value:
    if not use_input_stats:
        return _batch_norm(call, x, weight, bias, running_mean, running_var, eps)
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise Refusal(f"the number of channels is symbolic ({channels})")
    return group_norm(call, x, channels, weight, bias, eps)


@aten("_native_batch_norm_legit_no_training")
def native_batch_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    eps: float,
) -> tuple[Value, ...]:
    """The statistics of the batch are empty tensors."""
    result = _batch_norm(call, x, weight, bias, running_mean, running_var, eps)
    empty = call.emit("full", shape=(0,), value=0.0, dtype=running_mean.dtype)
    return result, empty, empty


@aten("batch_norm")
def batch_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    eps: float,
) -> Value:
    if training:
        raise Refusal("normalises by the batch's statistics: call model.eval() first")
    return _batch_norm(call, x, weight, bias, running_mean, running_var, eps)


@aten("_native_batch_norm_legit.no_stats")
def batch_norm_of_batch(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    training: bool,
    eps: float,
) -> tuple[Value | None, ...]:
    """Normalises every channel by its own mean and variance over all other dims."""
    axes = (0, *range(2, x.rank))
    centre = call.emit("reduce_mean", x, axes=axes, keepdims=True)
    spread = call.emit("reduce_variance", x, axes=axes, keepdims=True, correction=0)
    widened = call.emit("add", spread, call.scalar(eps, x.dtype))
    result = call.emit("mul", call.emit("sub", x, centre), call.emit("rsqrt", widened))
    for op, parameter in (("mul", weight), ("add", bias)):
        if parameter is not None:
            column = call.reshape(parameter, (x.shape[1], *(1,) * (x.rank - 2)))
            result = call.emit(op, result, call.cast(column, x.dtype))
    return (result, *_statistics(call, x, axes, eps))


def _batch_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    eps: float,
) -> Value:
    if mean is None or variance is None:
        raise Refusal("has no running statistics, so it normalises by the batch's")
    ones = weight or call.emit("full", shape=mean.shape, value=1.0, dtype=mean.dtype)
    zeros = bias or call.emit("full", shape=mean.shape, value=0.0, dtype=mean.dtype)
    parameters = (_fitting(call, p, x) for p in (ones, zeros, mean, variance))
    return call.emit("batch_norm", x, *parameters, epsilon=float(eps))
