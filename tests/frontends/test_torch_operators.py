"""Every family of ATen operators against PyTorch, through the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from tests.frontends.comparison import check

Case = tuple[Callable[..., Any], tuple[Any, ...]]


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + 1))


def positive(*shape: int) -> torch.Tensor:
    return randn(*shape).abs() + 0.1


def integers(*shape: int, low: int = -5, high: int = 6) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(3))


X = randn(2, 3, 4)
UNARY = (
    "exp", "exp2", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asinh", "atan",
    "sigmoid", "erf", "abs", "neg", "sign", "floor", "ceil", "trunc", "round", "square", "relu",
    "reciprocal", "isnan", "isinf", "isfinite", "logical_not",
)  # fmt: skip
UNARY_POSITIVE = ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "acosh")
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": lambda x: F.elu(x, 0.7),
    "celu": lambda x: F.celu(x, 0.7),
    "selu": F.selu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "softplus": lambda x: F.softplus(x * 9, 2.0, 5.0),
    "logsigmoid": F.logsigmoid,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3])),
    "glu": lambda x: F.glu(x, 2),
    "threshold": lambda x: F.threshold(x, 0.1, 7.0),
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "dropout": lambda x: F.dropout(x, 0.5, False),
}
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add_alpha": lambda x, y: torch.add(x, y, alpha=2.5),
    "sub": lambda x, y: x - y,
    "rsub": lambda x, y: 2 - x * y,
    "div": lambda x, y: x / y,
    "pow": lambda x, y: x.abs() ** y,
    "square": lambda x, y: x**2 + y,
    "pow_scalar": lambda x, y: 2**y + x,
    "floor_div": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "trunc_div": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "remainder": torch.remainder,
    "fmod": torch.fmod,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "atan2": torch.atan2,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= 0.5,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "addcdiv": lambda x, y: torch.addcdiv(x, x, y, value=0.5),
    "logical": lambda x, y: (x > 0) & (y > 0) | ~(x > 1) ^ (y > 1),
    "logical_and": lambda x, y: torch.logical_and(x, y) | torch.logical_xor(x, y),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "where_scalar": lambda x, y: torch.where(x > 0, y, 0),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, -1e9),
    "clamp": lambda x, y: x.clamp(-0.5, 0.5) + y,
    "clamp_tensor": lambda x, y: torch.clamp(x, max=y),
    "clamp_min": lambda x, y: x.clamp_min(0.1) * y,
    "nan_to_num": lambda x, y: torch.nan_to_num(torch.sqrt(x) / (y - y)),
}
VIEWS: dict[str, Callable[..., Any]] = {
    "view": lambda x: x.view(6, 4),
    "reshape": lambda x: x.transpose(0, 1).reshape(-1, 2),
    "permute": lambda x: x.permute(2, 0, -2),
    "t": lambda x: x[0].t(),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, -1)),
    "expand": lambda x: x[:, :1].expand(-1, 5, 4),
    "slice": lambda x: x[:, 1:, ::2],
    "slice_negative": lambda x: x[..., -3:-1],
    "select": lambda x: x[:, -1] + x.select(1, 0),
    "squeeze": lambda x: x[:1, :, :1].squeeze(),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "split": lambda x: x.split(3, 2)[0],
    "split_sizes": lambda x: x.split([1, 3], 2),
    "chunk": lambda x: x.chunk(2, -1),
    "unbind": lambda x: x.unbind(1),
    "cat": lambda x: torch.cat([x, x * 2], 1),
    "stack": lambda x: torch.stack([x, x + 1], -1),
    "flip": lambda x: x.flip(0, 2),
    "roll": lambda x: x.roll((1, -2), (0, 2)),
    "roll_flat": lambda x: x.roll(5),
    "repeat": lambda x: x.repeat(2, 1, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "crop": lambda x: F.pad(x, (-1, 1)),
    "reflect": lambda x: F.pad(x, (2, 1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (2, 1), mode="replicate"),
    "circular": lambda x: F.pad(x, (2, 1), mode="circular"),
    "movedim": lambda x: x.movedim(0, -1),
    "diagonal": lambda x: torch.diagonal(x, 1, 1, 2),
    "diagonal_below": lambda x: torch.diagonal(x, -1, 2, 1),
    "unfold": lambda x: x.unfold(2, 3, 1),
    "unfold_many": lambda x: x.flatten().unfold(0, 18, 2),
    "unfold_many_inside": lambda x: x.reshape(2, 4, 3).repeat(1, 6, 1).unfold(1, 17, 3),
    "setitem": lambda x: _with_block(x),
    "tril": torch.tril,
    "triu": lambda x: torch.triu(x, 1),
    "mT": lambda x: x.mT,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "meshgrid": lambda x: torch.meshgrid(x[0, 0], x[0, 1], indexing="ij"),
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": torch.sum,
    "sum_dim": lambda x: x.sum((0, -1), keepdim=True),
    "mean": lambda x: x.mean(1),
    "amax": lambda x: x.amax((1, 2)),
    "amin": lambda x: x.amin(0, keepdim=True),
    "max": torch.max,
    "max_dim": lambda x: x.max(1),
    "min_dim": lambda x: x.min(2, keepdim=True),
    "prod": lambda x: x.prod(1),
    "any": lambda x: (x > 1).any(1),
    "all": lambda x: (x > -1).all(),
    "var": lambda x: x.var(1),
    "var_mean": lambda x: torch.var_mean(x, (0, 2), correction=0),
    "std": lambda x: x.std(2),
    "argmax": lambda x: x.argmax(1),
    "argmin_flat": lambda x: x.argmin(),
    "cumsum": lambda x: x.cumsum(-1),
    "logsumexp": lambda x: x.logsumexp(1),
    "norm": lambda x: x.norm(dim=1),
    "norm1": lambda x: torch.linalg.vector_norm(x, 1, 2),
    "norm_inf": lambda x: torch.linalg.vector_norm(x, float("inf")),
    "norm3": lambda x: torch.linalg.vector_norm(x, 3, 1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer_norm": lambda x: F.layer_norm(x, (3, 4)),
    "rms_norm": lambda x: F.rms_norm(x, (4,)),
    "group_norm": lambda x: F.group_norm(x, 3, torch.tensor([1.0, 2, 3]), torch.ones(3)),
    "instance_norm": lambda x: F.instance_norm(x),
    "cosine": lambda x: F.cosine_similarity(x, x + 1, 1),
    "topk": lambda x: x.topk(2, -1),
    "sort": lambda x: x.sort(1, descending=True),
    "argsort": lambda x: x.argsort(2),
    "aminmax": lambda x: torch.aminmax(x, dim=1),
    "sum_empty": lambda x: x.sum(()),
}


def _with_block(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1:2] = 0.0
    y[0] = x[1]
    return y


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    check(getattr(torch, name), X)


@pytest.mark.parametrize("name", UNARY_POSITIVE)
def test_unary_of_positive(name: str) -> None:
    check(getattr(torch, name), positive(2, 3) + (1 if name == "acosh" else 0))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    check(ACTIVATIONS[name], X)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name: str) -> None:
    check(ARITHMETIC[name], X, randn(3, 4))


@pytest.mark.parametrize("name", VIEWS)
def test_view(name: str) -> None:
    check(VIEWS[name], X)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str) -> None:
    check(REDUCTIONS[name], X)


PROMOTIONS: dict[str, Case] = {
    "int_plus_float_scalar": (lambda x: x + 1.5, (integers(3),)),
    "float_times_int_scalar": (lambda x: x * 2, (X,)),
    "half_times_float_scalar": (lambda x: x * 2.5, (X.half(),)),
    "int_plus_float_tensor": (lambda x, y: x + y, (integers(3), randn(3))),
    "rank0_does_not_widen": (lambda x, y: x + y, (X, torch.tensor(2.0, dtype=torch.float64))),
    "rank0_float_widens_int": (lambda x, y: x * y, (integers(3), torch.tensor(2.5))),
    "bool_plus_int": (lambda x, y: x + y, (X > 0, integers(4))),
    "bool_plus_scalar": (lambda x: x + 1, (X > 0,)),
    "int32_plus_int64": (lambda x, y: x + y, (integers(3).int(), integers(3))),
    "int_true_division": (lambda x, y: x / y, (integers(3), integers(3, low=1))),
    "int_floor_division": (lambda x, y: x // y, (integers(9), integers(9, low=1))),
    "int_trunc_division": (lambda x: torch.div(x, 3, rounding_mode="trunc"), (integers(9),)),
    "int_remainder": (lambda x: x % 3, (integers(9),)),
    "int_exp": (torch.exp, (integers(3),)),
    "int_mean_as_float": (lambda x: x.mean(dtype=torch.float32), (integers(3),)),
    "bool_sum": (lambda x: x.sum(1), (X > 0,)),
    "int32_sum": (lambda x: x.sum(), (integers(3).int(),)),
    "int32_sum_kept": (lambda x: x.sum(dtype=torch.int32), (integers(3).int(),)),
    "compare_int_float": (lambda x: x > 0.5, (integers(5),)),
    "uint8_arithmetic": (lambda x: x.float() / 255 - 0.5, (integers(5, low=0, high=200).byte(),)),
    "float_to_int": (lambda x: (x * 3).to(torch.int32), (X,)),
    "to_bfloat16": (lambda x: x.bfloat16(), (X,)),
    "int_clamp_float": (lambda x: x.clamp(-1.5, 2.5), (integers(9),)),
    "where_promotes": (lambda x, y: torch.where(x > 0, x, y), (integers(3), randn(3))),
    "cat_promotes": (lambda x, y: torch.cat([x, y]), (integers(3), randn(3))),
    "bitwise": (lambda x: (x & 3) | (x << 1) ^ (x >> 1), (integers(9, low=0),)),
    "not_of_int": (lambda x: ~x, (integers(3),)),
    "int_pow": (lambda x: x**3, (integers(3),)),
    "softmax_in_float": (lambda x: x.softmax(-1, dtype=torch.float32), (X.half(),)),
}


@pytest.mark.parametrize("name", PROMOTIONS)
def test_promotion(name: str) -> None:
    function, args = PROMOTIONS[name]
    check(function, *args)


IMAGE = randn(2, 4, 9, 11)
CONTRACTIONS: dict[str, Case] = {
    "matmul": (torch.matmul, (X, randn(4, 5))),
    "matmul_batched": (torch.matmul, (randn(2, 1, 3, 4), randn(5, 4, 2))),
    "matvec": (torch.matmul, (X, randn(4))),
    "vecmat": (torch.matmul, (randn(3), randn(2, 3, 4))),
    "dot": (torch.dot, (randn(4), randn(4))),
    "bmm": (torch.bmm, (X, randn(2, 4, 5))),
    "addmm": (
        lambda a, b, c: torch.addmm(a, b, c, beta=0.5, alpha=2),
        (randn(5), randn(3, 4), randn(4, 5)),
    ),
    "addmm_beta0": (
        lambda a, b, c: torch.addmm(a, b, c, beta=0),
        (randn(5), randn(3, 4), randn(4, 5)),
    ),
    "baddbmm": (torch.baddbmm, (randn(2, 3, 5), X, randn(2, 4, 5))),
    "linear": (F.linear, (X, randn(5, 4), randn(5))),
    "einsum": (lambda a, b: torch.einsum("bij,bkj->bik", a, b), (X, X)),
    "bilinear": (F.bilinear, (randn(2, 3), randn(2, 4), randn(5, 3, 4))),
    "conv1d": (lambda x, w: F.conv1d(x, w, padding=1), (X, randn(5, 3, 3))),
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2)),
        (IMAGE, randn(6, 4, 3, 3), randn(6)),
    ),
    "conv2d_groups": (lambda x, w: F.conv2d(x, w, groups=4), (IMAGE, randn(8, 1, 3, 3))),
    "conv2d_same": (lambda x, w: F.conv2d(x, w, padding="same"), (IMAGE, randn(6, 4, 2, 3))),
    "conv2d_unbatched": (F.conv2d, (IMAGE[0], randn(6, 4, 3, 3))),
    "conv3d": (F.conv3d, (randn(1, 2, 4, 5, 6), randn(3, 2, 2, 2, 2))),
    "conv_transpose1d": (lambda x, w: F.conv_transpose1d(x, w, stride=2), (X, randn(3, 2, 3))),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, 2),
        (IMAGE, randn(4, 3, 3, 3), randn(6)),
    ),
    "attention": (F.scaled_dot_product_attention, (randn(2, 3, 5, 4),) * 3),
    "attention_causal": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=0.3),
        (randn(2, 3, 5, 4), randn(2, 3, 7, 4)),
    ),
    "attention_mask": (
        lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m),
        (randn(2, 3, 5, 4), randn(2, 1, 5, 5)),
    ),
    "attention_grouped": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        (randn(2, 6, 5, 4), randn(2, 2, 7, 4)),
    ),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contraction(name: str) -> None:
    function, args = CONTRACTIONS[name]
    check(function, *args, tolerance=1e-4)


POOLS: dict[str, Callable[..., Any]] = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool2d_ceil": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "max_pool2d_dilated": lambda x: F.max_pool2d(x, 2, 1, 1, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool2d_real": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive_avg": lambda x: F.adaptive_avg_pool2d(x, (2, None)),
    "adaptive_one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive_max": lambda x: F.adaptive_max_pool2d(x, 3),
    "max_pool1d": lambda x: F.max_pool1d(x[:, 0], 2),
    "avg_pool1d": lambda x: F.avg_pool1d(x[:, 0], 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest_size": lambda x: F.interpolate(x, (5, 20)),
    "exact": lambda x: F.interpolate(x, (5, 20), mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, (5, 20), mode="bilinear"),
    "bilinear_corners": lambda x: F.interpolate(
        x, scale_factor=2.0, mode="bilinear", align_corners=True
    ),
    "bicubic": lambda x: F.interpolate(x, (12, 7), mode="bicubic"),
    "antialias": lambda x: F.interpolate(x, (5, 7), mode="bilinear", antialias=True),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., :8, :10], 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "batch_norm": lambda x: F.batch_norm(
        x, torch.arange(4.0), torch.arange(1.0, 5.0), torch.ones(4)
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool_and_resize(name: str) -> None:
    check(POOLS[name], IMAGE, tolerance=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats(dtype: torch.dtype) -> None:
    x = X.to(dtype)
    check(lambda x: torch.nan_to_num(torch.sqrt(x) / (x - x)), x, tolerance=1e-2)
    check(lambda x: F.rms_norm(x, (4,)), x, tolerance=1e-2)
    check(lambda x: x.renorm(2, 0, 1.0), x, tolerance=1e-2)


INDEX = integers(2, 5, low=0, high=3)
INDEXING: dict[str, Case] = {
    "embedding": (lambda i, w: F.embedding(i, w, padding_idx=0), (INDEX, randn(3, 4))),
    "index_select": (lambda x, i: x.index_select(1, i), (X, INDEX[0])),
    "gather": (lambda x, i: x.gather(2, i), (X, integers(2, 3, 2, low=0, high=4))),
    "one_index": (lambda x, i: x[:, i], (X, INDEX)),
    "negative_index": (lambda x, i: x[:, i], (X, integers(4, low=-3, high=0))),
    "adjacent_indices": (lambda x, i, j: x[:, i, j], (X, INDEX[:, :1], INDEX[0])),
    "split_indices": (lambda x, i: x[i % 2, :, i], (X, INDEX)),
    "scatter": (
        lambda x, i, s: x.scatter(1, i, s),
        (randn(2, 6), torch.tensor([[0, 3], [5, 1]]), randn(2, 3)),
    ),
    "scatter_value": (
        lambda x, i: x.scatter(1, i, 2.0),
        (randn(2, 6), torch.tensor([[0, 3], [5, 1]])),
    ),
    "scatter_add": (lambda x, i: x.scatter_add(1, i, x), (randn(2, 5), INDEX)),
    "index_put": (
        lambda x, i, v: x.index_put((i,), v),
        (randn(4, 3), torch.tensor([2, 0]), randn(2, 3)),
    ),
    "masked_put": (lambda x: x.index_put((x > 0,), torch.tensor(3.0)), (X,)),
    "one_hot": (lambda i: F.one_hot(i, 4), (INDEX,)),
    "take_along": (lambda x: torch.take_along_dim(x, x.argsort(1), 1), (X,)),
}


@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name: str) -> None:
    function, args = INDEXING[name]
    check(function, *args)


SOURCES: dict[str, Callable[..., Any]] = {
    "arange": lambda x: x + torch.arange(4),
    "arange_step": lambda x: x[0, 0] + torch.arange(1.0, 3.0, 0.5),
    "full": lambda x: x + torch.full((2, 1, 4), 3),
    "zeros": lambda x: x + torch.zeros(4, dtype=torch.int64),
    "ones_like": lambda x: x - torch.ones_like(x),
    "new_full": lambda x: x * x.new_full((1,), 2.0),
    "eye": lambda x: x @ torch.eye(4),
    "linspace": lambda x: x + torch.linspace(0, 1, 4),
    "literal": lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "mask": lambda x: x.masked_fill(torch.ones(3, 4, dtype=torch.bool).triu(1), float("-inf")),
    "fill": lambda x: torch.empty_like(x).fill_(2.0) + x,
}


@pytest.mark.parametrize("name", SOURCES)
def test_source(name: str) -> None:
    check(SOURCES[name], X)


EMPTY: dict[str, Callable[..., Any]] = {
    "roll": lambda x: x.roll(1, 0),
    "repeat": lambda x: x.repeat(1, 0) * 2,
    "reshape": lambda x: x.reshape(3, 0) + 1,
    "matmul": lambda x: x.t() @ x,
    "sum": lambda x: (x.sum(0), x.sum(1), x.exp().mean(1)),
    "softmax": lambda x: x.softmax(0),
    "cat": lambda x: torch.cat([x, x.new_ones(2, 3)]),
    "cumprod": lambda x: x.cumprod(0),
    "mask": lambda x: x[x > 0],
}


@pytest.mark.parametrize("name", EMPTY)
def test_no_elements(name: str) -> None:
    check(EMPTY[name], torch.zeros(0, 3))
