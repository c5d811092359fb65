"""The NumPy definitions agree with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.ir.operator_run import RANDOM, Numbers, normal, run, run_all

torch = pytest.importorskip("torch")
F = torch.nn.functional
T: Callable[..., Any] = torch.from_numpy
IMAGE = normal(2, 6, 11, 13)
MATRIX = normal(4, 5, 6) * 4


def same(found: Numbers, wanted: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("groups", "dilation", "stride"), [(1, 1, 1), (2, 2, 2), (6, 1, 2), (3, 1, 3)]
)
def test_conv(groups: int, dilation: int, stride: int) -> None:
    w, b = normal(12, 6 // groups, 3, 2), normal(12)
    found = run("conv", IMAGE, w, b, strides=(stride, 1), padding=((1, 1), (2, 2)),
                dilations=(dilation, 1), groups=groups)  # fmt: skip
    same(found, F.conv2d(T(IMAGE), T(w), T(b), (stride, 1), (1, 2), (dilation, 1), groups))


@pytest.mark.parametrize(
    ("groups", "dilation", "stride"), [(1, 1, 1), (2, 2, 2), (6, 1, 2), (3, 1, 3)]
)
def test_conv_transpose(groups: int, dilation: int, stride: int) -> None:
    w, b, extra = normal(6, 4, 3, 2), normal(4 * groups), int(stride > 1)
    found = run("conv_transpose", IMAGE, w, b, strides=(stride, 1), padding=((1, 1), (1, 1)),
                output_padding=(extra, 0), dilations=(dilation, 1), groups=groups)  # fmt: skip
    wanted = F.conv_transpose2d(
        T(IMAGE), T(w), T(b), (stride, 1), (1, 1), (extra, 0), groups, (dilation, 1)
    )
    same(found, wanted)


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_of_other_ranks(rank: int) -> None:
    x, w = normal(2, 3, *(5,) * rank), normal(4, 3, *(3,) * rank)
    found = run("conv", x, w, strides=(1,) * rank, padding=((1, 1),) * rank,
                dilations=(1,) * rank, groups=1)  # fmt: skip
    same(found, getattr(F, f"conv{rank}d")(T(x), T(w), padding=1))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "edge"), [(3, 2, 1), (2, 3, 0), (3, 3, 1), (2, 2, 1)])
def test_pools(kernel: int, stride: int, edge: int, ceil_mode: bool) -> None:
    window = {"kernel": (kernel,) * 2, "strides": (stride,) * 2, "padding": ((edge, edge),) * 2}
    found = run("max_pool", IMAGE, **window, dilations=(1, 1), ceil_mode=ceil_mode)
    same(found, F.max_pool2d(T(IMAGE), kernel, stride, edge, 1, ceil_mode))
    for counted in (False, True):
        found = run("avg_pool", IMAGE, **window, ceil_mode=ceil_mode, count_include_pad=counted)
        same(found, F.avg_pool2d(T(IMAGE), kernel, stride, edge, ceil_mode, counted))


def test_dilated_max_pool() -> None:
    found = run("max_pool", IMAGE, kernel=(3, 2), strides=(1, 2), padding=((1, 1), (0, 0)),
                dilations=(2, 3), ceil_mode=False)  # fmt: skip
    same(found, F.max_pool2d(T(IMAGE), (3, 2), (1, 2), (1, 0), (2, 3)))


@pytest.mark.parametrize("size", [(4, 7), (1, 1), (11, 13), (20, 3)])
def test_adaptive_pools(size: tuple[int, int]) -> None:
    same(run("adaptive_avg_pool", IMAGE, output_size=size), F.adaptive_avg_pool2d(T(IMAGE), size))
    same(run("adaptive_max_pool", IMAGE, output_size=size), F.adaptive_max_pool2d(T(IMAGE), size))


@pytest.mark.parametrize("size", [(22, 20), (5, 4), (11, 13), (1, 1)])
def test_resize(size: tuple[int, int]) -> None:
    def resized(mode: str, coordinates: str, antialias: bool = False) -> Numbers:
        options = {"mode": mode, "coordinates": coordinates, "antialias": antialias}
        return run("resize", IMAGE, size=size, **options)

    x = T(IMAGE)
    same(resized("nearest", "asymmetric"), F.interpolate(x, size, mode="nearest"))
    same(resized("nearest", "half_pixel"), F.interpolate(x, size, mode="nearest-exact"))
    for mode, name in (("linear", "bilinear"), ("cubic", "bicubic")):
        aligned = F.interpolate(x, size, mode=name, align_corners=True)
        same(resized(mode, "align_corners"), aligned, 1e-4)
        for antialias in (False, True):
            wanted = F.interpolate(x, size, mode=name, align_corners=False, antialias=antialias)
            same(resized(mode, "half_pixel", antialias), wanted, 1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool) -> None:
    q, k, v = normal(2, 3, 5, 8), normal(2, 3, 7, 8), normal(2, 3, 7, 4)
    wanted = F.scaled_dot_product_attention(T(q), T(k), T(v), is_causal=causal, scale=0.3)
    same(run("attention", q, k, v, scale=0.3, causal=causal), wanted)


def test_attention_of_masked_rows() -> None:
    q, k, v = normal(2, 3, 5, 8), normal(2, 3, 7, 8), normal(2, 3, 7, 4)
    mask = RANDOM.random((2, 1, 5, 7)) > 0.4
    mask[0, 0, 2] = False
    wanted = F.scaled_dot_product_attention(T(q), T(k), T(v), T(mask), scale=0.3)
    assert not wanted[0, :, 2].any()
    same(run("attention", q, k, v, mask, scale=0.3, causal=False), wanted)
    added = np.where(mask, 0.5, -np.inf).astype(np.float32)
    same(run("attention", q, k, v, added, scale=0.3, causal=False), wanted)


EDGES = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 88.0, -104, 1e30], np.float32)
SPREAD = np.concatenate([EDGES, normal(200) * 3])
UNARY: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in (
        "neg", "abs", "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sqrt", "rsqrt",
        "reciprocal", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh",
        "acosh", "atanh", "sigmoid", "erf", "floor", "ceil", "round", "trunc", "relu",
    )},
    "silu": F.silu, "softplus": F.softplus, "mish": F.mish,
    "hard_sigmoid": F.hardsigmoid, "hard_swish": F.hardswish, "logical_not": torch.logical_not,
    "is_nan": torch.isnan, "is_inf": torch.isinf, "is_finite": torch.isfinite,
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    x = SPREAD
    if op in ("sin", "cos", "tan"):
        x = x[np.abs(x) < 1e6]
    if op == "mish":
        x = x[np.isfinite(x)]  # PyTorch returns NaN at -inf on some processors
    same(run(op, x), UNARY[op](T(x)))


def test_unary_with_attributes() -> None:
    x = T(MATRIX)
    same(run("gelu", MATRIX, approximate="none"), F.gelu(x))
    same(run("gelu", MATRIX, approximate="tanh"), F.gelu(x, approximate="tanh"))
    same(run("leaky_relu", MATRIX, alpha=0.2), F.leaky_relu(x, 0.2))
    same(run("elu", MATRIX, alpha=0.5, scale=1.0, input_scale=1.0), F.elu(x, 0.5))
    selu = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805, "input_scale": 1.0}
    same(run("elu", MATRIX, **selu), F.selu(x))
    same(run("clamp", MATRIX, min=-1.0, max=None), torch.clamp(x, min=-1.0))
    same(run("clamp", SPREAD, min=0, max=6.0), torch.clamp(T(SPREAD), 0, 6))


BINARY: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in (
        "add", "sub", "mul", "remainder", "fmod", "maximum", "minimum", "atan2",
    )},
    "pow": lambda a, b: torch.pow(torch.abs(a), b), "div": torch.div,
    "floor_div": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "equal": torch.eq, "not_equal": torch.ne, "less": torch.lt, "less_equal": torch.le,
    "greater": torch.gt, "greater_equal": torch.ge, "logical_and": torch.logical_and,
    "logical_or": torch.logical_or, "logical_xor": torch.logical_xor,
}  # fmt: skip


@pytest.mark.parametrize("op", BINARY)
def test_binary_of_floats(op: str) -> None:
    a, b = normal(3, 1, 5) * 3, normal(4, 1) * 2
    same(run(op, np.abs(a) if op == "pow" else a, b), BINARY[op](T(a), T(b)), 1e-4)


INTEGER_BINARY: dict[str, Callable[..., Any]] = {
    **{name: BINARY[name] for name in ("add", "sub", "mul", "floor_div", "remainder", "fmod")},
    "div": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "bitwise_and": torch.bitwise_and, "bitwise_or": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor,
}  # fmt: skip


@pytest.mark.parametrize("op", INTEGER_BINARY)
def test_binary_of_integers(op: str) -> None:
    a = RANDOM.integers(-9, 9, 50)
    b = RANDOM.integers(1, 5, 50) * RANDOM.choice([-1, 1], 50)
    same(run(op, a, b), INTEGER_BINARY[op](T(a), T(b)))


def test_normalisation() -> None:
    x, image, s = T(MATRIX), T(IMAGE), RANDOM.random(6).astype(np.float32)
    t = T(s)
    same(run("softmax", MATRIX, axis=1), x.softmax(1))
    same(run("log_softmax", MATRIX, axis=1), x.log_softmax(1))
    same(run("layer_norm", MATRIX, s, s, axis=2, epsilon=1e-5), F.layer_norm(x, (6,), t, t))
    same(run("layer_norm", MATRIX, axis=1, epsilon=1e-5), F.layer_norm(x, (5, 6)))
    same(run("rms_norm", MATRIX, s, axis=2, epsilon=1e-5), F.rms_norm(x, (6,), t, 1e-5))
    same(run("group_norm", IMAGE, s, s, groups=3, epsilon=1e-5), F.group_norm(image, 3, t, t))
    wanted = F.batch_norm(image, t, t, t, t, eps=1e-5)
    same(run("batch_norm", IMAGE, s, s, s, s, epsilon=1e-5), wanted)


@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(keepdims: bool) -> None:
    x, both = T(MATRIX), {"axes": (0, 2), "keepdims": keepdims}
    same(run("reduce_sum", MATRIX, **both), x.sum((0, 2), keepdims), 1e-4)
    same(run("reduce_mean", MATRIX, **both), x.mean((0, 2), keepdims))
    same(run("reduce_max", MATRIX, **both), x.amax((0, 2), keepdims))
    same(run("reduce_min", MATRIX, **both), x.amin((0, 2), keepdims))
    same(run("reduce_prod", MATRIX, axes=(1,), keepdims=keepdims), x.prod(1, keepdims), 1e-4)
    same(run("reduce_any", MATRIX > 5, **both), (x > 5).any(2, True).any(0, True)
         if keepdims else (x > 5).any(2).any(0))  # fmt: skip
    found = run("reduce_variance", MATRIX, **both, correction=1)
    same(found, x.var((0, 2), keepdim=keepdims))
    same(run("arg_max", MATRIX, axis=1, keepdims=keepdims), x.argmax(1, keepdims))
    same(run("arg_min", MATRIX, axis=1, keepdims=keepdims), x.argmin(1, keepdims))


def test_selection_and_sums() -> None:
    x = T(MATRIX)
    for found, wanted in zip(
        run_all("top_k", MATRIX, k=3, axis=1, largest=True), x.topk(3, 1), strict=True
    ):
        same(found, wanted)
    for found, wanted in zip(
        run_all("sort", MATRIX, axis=2, descending=True), x.sort(2, True), strict=True
    ):
        same(found, wanted)
    same(run("cumsum", MATRIX, axis=1), x.cumsum(1))


def test_gathers_and_scatters() -> None:
    x, positions = T(MATRIX), RANDOM.integers(0, 5, (4, 2, 6))
    same(run("gather", MATRIX, positions[0], axis=1), x[:, T(positions[0])])
    same(run("gather_elements", MATRIX, positions, axis=1), x.gather(1, T(positions)))
    updates = normal(4, 2, 6)
    for reduction, name in (("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")):
        found = run("scatter_elements", MATRIX, positions, updates, axis=1, reduction=reduction)
        same(found, x.scatter_reduce(1, T(positions), T(updates), name))
    pairs = np.array([[0, 1], [3, -1]])
    same(run("gather_nd", MATRIX, pairs, batch_dims=0), x[T(pairs[:, 0]), T(pairs[:, 1])])
    rows = normal(2, 6)
    wanted = x.clone()
    wanted[T(pairs[:, 0]), T(pairs[:, 1])] = T(rows)
    same(run("scatter_nd", MATRIX, pairs, rows), wanted)


def test_views() -> None:
    x = T(MATRIX)
    cropped = run("pad", MATRIX, low=(0, 1, -1), high=(0, 2, 1), mode="constant", value=2.0)
    same(cropped, F.pad(x, (-1, 1, 1, 2), value=2.0))
    for mode, name in (("reflect", "reflect"), ("edge", "replicate")):
        found = run("pad", MATRIX, low=(0, 0, 2), high=(0, 0, 1), mode=mode, value=0)
        same(found, F.pad(x, (2, 1), mode=name))
    found = run("slice", MATRIX, starts=(1, 0, 5), stops=(4, 5, 6), steps=(2, 3, 1))
    same(found, x[1:4:2, 0:5:3, 5:6])
    same(run("roll", MATRIX, shifts=(2, -1), axes=(0, 2)), x.roll((2, -1), (0, 2)))
    same(run("reverse", MATRIX, axes=(0, 2)), x.flip(0, 2))


def test_casts() -> None:
    x = np.array([0.0, -0.0, 1.9, -1.9, 2.5], np.float32)
    from ranvier.ir.dtype import BF16, BOOL, I32

    same(run("cast", x, dtype=I32), T(x).to(torch.int32))
    same(run("cast", x, dtype=BOOL), T(x).to(torch.bool))
    bits = T(SPREAD).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    found = run("cast", SPREAD, dtype=BF16)
    kept = ~np.isnan(SPREAD)
    np.testing.assert_array_equal(found[kept], bits[kept])
