"""Matrix products, convolutions and attention of ATen."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

import math
from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, static
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Polynomial
from ranvier.ir.graph import Value

Pairs = tuple[tuple[int, int], ...]


def _product(call: Call, a: Value, b: Value) -> Value:
    """`a @ b`; rank-1 operands are a row and a column."""
    if not a.rank or not b.rank:
        raise Refusal("a rank-0 operand has no product")
    left = call.reshape(a, (1, a.shape[0])) if a.rank == 1 else a
    right = call.reshape(b, (b.shape[0], 1)) if b.rank == 1 else b
    result = call.emit("matmul", left, right)
    if b.rank == 1:
        result = call.reshape(result, result.shape[:-1])
    if a.rank == 1:
        dropped = result.rank - 1 - (b.rank > 1)
        result = call.reshape(result, result.shape[:dropped] + result.shape[dropped + 1 :])
    return result


@aten("mm", "bmm", "matmul", "mv", "dot")
def matmul(
    call: Call,
    x: Value,
    mat2: Value | None = None,
    other: Value | None = None,
    vec: Value | None = None,
    tensor: Value | None = None,
) -> Value:
    right = next(v for v in (mat2, other, vec, tensor) if v is not None)
    return _product(call, x, right)


@aten("linear")
def linear(call: Call, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.rank == 1:
        return _product(call, x, weight)
    result = _product(call, x, call.transpose(weight, (1, 0)))
    return result if bias is None else call.emit("add", result, bias)


def _is_one(value: Scalar) -> bool:
    return not isinstance(value, Polynomial) and value == 1


def _sum_of_product(call: Call, x: Value, product: Value, beta: Scalar, alpha: Scalar) -> Value:
    """beta * x + alpha * product; with a beta of 0, x is not read at all."""
    if not _is_one(alpha):
        product = call.emit("mul", product, call.scalar(alpha, product.dtype))
    if not isinstance(beta, Polynomial) and beta == 0:
        return product
    if not _is_one(beta):
        x = call.emit("mul", x, call.scalar(beta, x.dtype))
    return call.emit("add", product, x)


@aten("addmm", "baddbmm", "addmv")
def addmm(
    call: Call,
    x: Value,
    mat1: Value | None = None,
    mat2: Value | None = None,
    batch1: Value | None = None,
    batch2: Value | None = None,
    mat: Value | None = None,
    vec: Value | None = None,
    beta: Scalar = 1,
    alpha: Scalar = 1,
) -> Value:
    left, right = (v for v in (mat1, mat2, batch1, batch2, mat, vec) if v is not None)
    return _sum_of_product(call, x, _product(call, left, right), beta, alpha)


@aten("addbmm")
def addbmm(
    call: Call, x: Value, batch1: Value, batch2: Value, beta: Scalar = 1, alpha: Scalar = 1
) -> Value:
    total = call.emit("reduce_sum", _product(call, batch1, batch2), axes=(0,), keepdims=False)
    return _sum_of_product(call, x, total, beta, alpha)


def _spread(values: Sequence[int] | int, rank: int) -> tuple[int, ...]:
    given = (values,) if isinstance(values, int) else tuple(values)
    return given * rank if len(given) == 1 else given


def _convolve(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    spatial = weight.rank - 2
    operands = (_batched(call, x, weight), weight, *(() if bias is None else (bias,)))
    result = call.emit(
        "conv",
        *operands,
        strides=_spread(stride, spatial),
        padding=padding,
        dilations=_spread(dilation, spatial),
        groups=groups,
    )
    return _unbatched(call, x, weight, result)


def _batched(call: Call, x: Value, weight: Value) -> Value:
    return x if x.rank == weight.rank else call.reshape(x, (1, *x.shape))


def _unbatched(call: Call, x: Value, weight: Value, result: Value) -> Value:
    return result if x.rank == weight.rank else call.reshape(result, result.shape[1:])


def _padding(padding: Sequence[int] | str, weight: Value, dilation: Sequence[int]) -> Pairs:
    """(low, high) per spatial dim; "same" puts the odd element behind, as PyTorch does."""
    spatial = weight.rank - 2
    if padding == "valid":
        return ((0, 0),) * spatial
    if not isinstance(padding, str):
        return tuple((p, p) for p in _spread(padding, spatial))
    pairs = []
    for i, step in enumerate(_spread(dilation, spatial)):
        total = step * (static(weight.shape[i + 2], "the kernel's size") - 1)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


@aten("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    pairs = _padding(padding, weight, dilation)
    return _convolve(call, x, weight, bias, stride, pairs, dilation, groups)


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Value:
    spatial = weight.rank - 2
    operands = (_batched(call, x, weight), weight, *(() if bias is None else (bias,)))
    result = call.emit(
        "conv_transpose",
        *operands,
        strides=_spread(stride, spatial),
        padding=_padding(padding, weight, dilation),
        output_padding=_spread(output_padding, spatial),
        dilations=_spread(dilation, spatial),
        groups=groups,
    )
    return _unbatched(call, x, weight, result)


@aten("convolution", "_convolution")
def convolution(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    if transposed:
        return conv_transpose(
            call, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return conv(call, x, weight, bias, stride, padding, dilation, groups)


@aten("scaled_dot_product_attention")
def attention(
    call: Call,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout_p:
        raise Refusal(f"dropout_p is {dropout_p}, as in training: call model.eval() first")
    if enable_gqa:
        key, value = (_repeat_heads(call, v, query) for v in (key, value))
    mask = () if attn_mask is None else (_mask(call, attn_mask, query),)
    factor = _default_scale(query) if scale is None else float(scale)
    return call.emit("attention", query, key, value, *mask, scale=factor, causal=is_causal)


def _default_scale(query: Value) -> float:
    return 1 / math.sqrt(static(query.shape[-1], "the depth of the heads"))


def _mask(call: Call, mask: Value, query: Value) -> Value:
    """A float mask in the queries' element type."""
    return mask if not mask.dtype.is_float else call.cast(mask, query.dtype)


def _repeat_heads(call: Call, x: Value, query: Value) -> Value:
    """`[..., H, T, D]` with every head repeated until there are as many as queries have."""
    *lead, heads, length, depth = x.shape
    wanted = static(query.shape[-3], "the number of heads")
    times = wanted // static(heads, "the number of heads")
    if times == 1:
        return x
    single = call.reshape(x, (*lead, heads, 1, length, depth))
    copies = call.broadcast(single, (*lead, heads, times, length, depth))
    return call.reshape(copies, (*lead, wanted, length, depth))


@aten("_scaled_dot_product_flash_attention_for_cpu")
def flash_attention(
    call: Call,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> tuple[Value, None]:
    call.require_unused(1, "log-sum-exp values")
    arguments = (query, key, value, attn_mask, dropout_p, is_causal, scale)
    return attention(call, *arguments), None


@aten("_trilinear")
def trilinear(
    call: Call,
    i1: Value,
    i2: Value,
    i3: Value,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> Value:
    """The sum over some dims of the product of three tensors, each widened by dims of size 1."""
    first, second, third = (
        _widened(call, tensor, dims)
        for tensor, dims in ((i1, expand1), (i2, expand2), (i3, expand3))
    )
    product = call.emit("mul", call.emit("mul", first, second), third)
    return call.emit("reduce_sum", product, axes=tuple(sorted(sumdim)), keepdims=False)


def _widened(call: Call, x: Value, dims: Sequence[int]) -> Value:
    shape = list(x.shape)
    for dim in sorted(dims):
        shape.insert(dim, 1)
    return call.reshape(x, shape)
