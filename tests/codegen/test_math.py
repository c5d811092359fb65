"""Accuracy of the vector functions against f64 references, over all exponents of f32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.nest import emit_nest
from ranvier.ir.dtype import F32, F64, DType
from ranvier.lowering.expression import Access, Apply, Loop
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.target import Target
from tests.codegen.jit import Compiled
from tests.targets import HOST

TARGETS = [t for t in HOST if t.name != "x86-64-v4-bf16"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 0.5, 1e-45, -1e-45, 3.4e38]


def _mish(x: torch.Tensor) -> torch.Tensor:
    e = torch.exp(-x.abs())
    below = (e * e + 2 * e) / (e * e + 2 * e + 2)
    return x * torch.where(x < 0, below, (1 + 2 * e) / (1 + 2 * e + 2 * e * e))


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


REFERENCE = {
    **{
        name: getattr(torch, name)
        for name in (
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "tanh",
            "sigmoid",
            "erf",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "asin",
            "acos",
            "atan",
            "asinh",
            "acosh",
            "atanh",
            "sqrt",
            "rsqrt",
        )
    },
    "silu": lambda x: x * torch.sigmoid(x),
    "gelu": lambda x: x * 0.5 * torch.special.erfc(-x / np.sqrt(2)),
    "gelu_tanh": _gelu_tanh,
    "softplus": lambda x: x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())),
    "mish": _mish,
}


def elementwise(target: Target, name: str, inputs: list[np.ndarray], dtype: DType) -> np.ndarray:
    """Apply operator `name` by a generated kernel."""
    attributes = (("approximate", "tanh"),) if name == "gelu_tanh" else ()
    loop = Loop("j", len(inputs[0]))
    operands = tuple(Access(k, loop.variable, dtype) for k in range(len(inputs)))
    value = Apply(name.removesuffix("_tanh"), operands, dtype, attributes)
    count = len(inputs)
    nest = Nest((loop,), (Store(count, loop.variable, dtype, value),), count + 1, (), 0)
    module = ModuleWriter(target.triple)
    emit_nest(module, "kernel", nest, target)
    result = np.zeros(len(inputs[0]), dtype.storage)
    Compiled(module, target)("kernel", [*inputs, result])
    return result


def samples() -> np.ndarray:
    """Every exponent of f32 with both signs, dense ranges where functions bend, special values."""
    rng = np.random.default_rng(0)
    exponents = np.arange(255, dtype=np.uint32)[:, None] << 23
    bits = exponents + rng.integers(0, 1 << 23, (255, 100), dtype=np.uint32)
    sizes = bits.ravel().view(np.float32)
    dense = [np.linspace(-w, w, 20001) for w in (1.5, 20, 110)]
    return np.concatenate([sizes, -sizes, *dense, SPECIAL]).astype(np.float32)


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in units of the last place of f32 `want`; equal infinities and NaNs count 0."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        unit = np.spacing(np.maximum(np.abs(rounded), np.float32(2**-126))).astype(np.float64)
        distance = np.abs(got.astype(np.float64) - want) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(want))
    distance = np.where(same, 0, distance)
    return np.where(np.isnan(distance), np.inf, distance)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", REFERENCE)
def test_f32_functions_are_within_4_ulp(name: str, target: Target) -> None:
    x = samples()
    got = elementwise(target, name, [x], F32)
    want = REFERENCE[name](torch.from_numpy(x.astype(np.float64))).numpy()
    worst = ulps(got, want)
    k = int(worst.argmax())
    assert worst[k] <= 4, f"{name}({x[k]!r}) = {got[k]!r}, want {want[k]!r}"


@pytest.mark.parametrize("name", ["exp", "expm1", "log1p", "tanh", "erf", "silu", "gelu", "sin"])
def test_negative_zero_keeps_its_sign(name: str) -> None:
    x = np.full(16, -0.0, np.float32)
    want = np.signbit(REFERENCE[name](torch.from_numpy(x)).numpy())
    assert np.array_equal(np.signbit(elementwise(TARGETS[-1], name, [x], F32)), want)


F64_LIMIT = {"erf": 16, "gelu": 2000, "gelu_tanh": 1000}


@pytest.mark.parametrize("name", [n for n in REFERENCE if n not in ("sqrt", "rsqrt")])
def test_f64_functions(name: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([*(rng.uniform(-w, w, 1000) for w in (1, 5, 600)), SPECIAL])
    got = elementwise(TARGETS[-1], name, [x], F64)
    want = REFERENCE[name](torch.from_numpy(x)).numpy()
    unit = np.maximum(np.spacing(np.abs(want)), 1e-300)
    with np.errstate(invalid="ignore"):
        distance = np.where(got == want, 0, np.abs(got - want) / unit)
    distance[np.isnan(got) & np.isnan(want)] = 0
    assert np.nanmax(distance) <= F64_LIMIT.get(name, 8)
    assert np.array_equal(np.isnan(got), np.isnan(want))


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    special = np.array([*SPECIAL, 3, -3, 1e30, 7.5, -7.5, 1e-40], np.float32)
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    wide = 10.0 ** rng.uniform(-38, 38, (2, 500))
    near = rng.normal(size=(2, 2000)) * 10
    return (
        np.concatenate([a, near[0], wide[0]]).astype(np.float32),
        np.concatenate([b, near[1], wide[1]]).astype(np.float32),
    )


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_binary_functions(name: str, target: Target) -> None:
    a, b = _pairs()
    want = getattr(torch, name)(torch.from_numpy(a).double(), torch.from_numpy(b).double()).numpy()
    assert ulps(elementwise(target, name, [a, b], F32), want).max() <= 1


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["fmod", "remainder", "maximum", "minimum"])
def test_exact_binary_operators(name: str, target: Target) -> None:
    a, b = _pairs()
    with np.errstate(all="ignore"):
        want = getattr(np, name)(a, b)
    np.testing.assert_array_equal(elementwise(target, name, [a, b], F32), want)


def test_floor_division() -> None:
    a, b = _pairs()
    usable = np.isfinite(a) & np.isfinite(b)
    a, b = a[usable], b[usable]
    got = elementwise(TARGETS[-1], "floor_div", [a, b], F32)
    with np.errstate(all="ignore"):
        want = np.floor_divide(a, b)
    np.testing.assert_array_equal(got, want)
