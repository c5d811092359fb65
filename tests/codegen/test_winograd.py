"""Winograd convolutions against NumPy: matrices exactly, kernels over odd sizes and paddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.winograd import emit_winograd
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32, DType, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Expression
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.winograd import (
    Winograd,
    scratch_layout,
    transform_weights,
    transforms,
)
from ranvier.lowering.packing import pack
from ranvier.target import Target
from tests.codegen.contraction_cases import M, N, aligned, fenced, single
from tests.codegen.jit import Compiled
from tests.targets import HOST

if not HOST:
    pytest.skip("this CPU runs none of the targets", allow_module_level=True)
FEW = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
SIZES = ((2, 3), (4, 3), (2, 5))  # (tile, kernel)
TOLERANCE = {"f32": 2e-6, "bf16": 3e-2}  # of the largest output; bf16 rounds V and U


@pytest.mark.parametrize(("tile", "kernel"), SIZES)
def test_matrices_are_a_convolution(tile: int, kernel: int) -> None:
    """Exactly, in fractions, and for every d and g because both sides are bilinear."""
    matrices, points = transforms(tile, kernel), tile + kernel - 1
    for i in range(points):
        for k in range(kernel):
            m = [matrices.input[p][i] * matrices.weight[p][k] for p in range(points)]
            y = [sum((a * b for a, b in zip(row, m, strict=True)), Fraction(0))
                 for row in matrices.output]  # fmt: skip
            assert y == [Fraction(int(i == o + k)) for o in range(tile)]


def test_other_sizes_have_no_points() -> None:
    with pytest.raises(ValueError, match="no points for tiles of 3"):
        transforms(3, 3)


def test_weights_of_a_constant_image() -> None:
    """A filter's U times the transform of ones is the transform of its sum."""
    weights = np.random.default_rng(0).standard_normal((5, 2, 3, 3)).astype(np.float32)
    u = transform_weights(weights, 4)
    assert u.shape == (36, 2, 5)
    assert u.dtype == np.float32
    matrices = transforms(4, 3)
    b, a = (np.array(x, float) for x in (matrices.input, matrices.output))
    v = b @ np.ones((6, 6)) @ b.T
    y = np.einsum("oi,ijck,pj->opck", a, (u * v.reshape(36, 1, 1)).reshape(6, 6, 2, 5), a)
    expected = np.broadcast_to(weights.sum((2, 3)).T, y.shape)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@dataclass(frozen=True)
class Case:
    """A convolution of stride 1, channels last; `gap`: other elements between two pixels."""

    images: int
    height: int
    width: int
    channels: int
    columns: int
    padding: tuple[int, int, int, int]  # above, left, below, right
    tile: int = 4
    kernel: int = 3
    dtype: DType = F32
    output: DType = F32
    block: int = 12
    gap: int = 0

    @property
    def out(self) -> tuple[int, int]:
        top, left, bottom, right = self.padding
        return (
            self.height + top + bottom - self.kernel + 1,
            self.width + left + right - self.kernel + 1,
        )

    def describe(self, value: Expression, operands: int) -> tuple[Winograd, dict[str, int]]:
        """Sizes of images and the stride of pixels are scalars, as lowering makes them."""
        oh, ow = self.out
        pixel = self.channels + self.gap
        scalars = {
            "images": self.images, "H": self.height, "W": self.width, "OH": oh, "OW": ow,
            "sp": pixel,
        }  # fmt: skip
        images, h, w, out_h, out_w, stride = (dims.symbol(name, 1) for name in scalars)
        kernel = Winograd(
            self.tile, self.kernel, images, h, w, out_h, out_w, self.channels, self.columns,
            self.dtype, self.padding[:2], 0, 0, (h * w * stride, w * stride, stride), 1, 3,
            (Store(2, M * self.columns + N, self.output, value),), operands, tuple(scalars),
            self.block,
        )  # fmt: skip
        return kernel, scalars

    def reference(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """x [images, height, width, channels], weights [columns, channels, kernel, kernel]."""
        top, left, bottom, right = self.padding
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))).astype(np.float64)
        oh, ow = self.out
        total = np.zeros((self.images, oh, ow, self.columns))
        for i in range(self.kernel):
            for j in range(self.kernel):
                window = padded[:, i : i + oh, j : j + ow]
                total += np.einsum("nyxc,kc->nyxk", window, weights[:, :, i, j])
        return total

    def check(self, target: Target, threads: int, value: Expression | None = None) -> None:
        """Compile, run on random values, compare; with `value` there is a bias and a residual."""
        rng = np.random.default_rng(self.channels + self.height)
        shape = (self.images, self.height, self.width, self.channels + self.gap)
        stored = encode(rng.standard_normal(shape).astype(np.float32), self.dtype)
        stored[..., self.channels :] = encode(np.full(1, np.nan, np.float32), self.dtype)
        drawn = rng.standard_normal((self.columns, self.channels, self.kernel, self.kernel))
        weights = single(encode(drawn.astype(np.float32), self.dtype), self.dtype)
        bias = rng.standard_normal(self.columns).astype(np.float32)
        oh, ow = self.out
        residual = rng.standard_normal((self.images, oh, ow, self.columns)).astype(np.float32)
        expected = self.reference(single(stored, self.dtype)[..., : self.channels], weights)
        size = float(np.abs(expected).max())
        if value is not None:
            expected = np.maximum(expected + bias + residual, 0)
        kernel, scalars = self.describe(value or Accumulator(), 6)
        layout = kernel.layout(target.lanes)
        packed = pack(encode(transform_weights(weights, self.tile), self.dtype), layout)
        scratch = scratch_layout(
            self.block, kernel.points, self.channels, self.dtype, layout.width
        ).size
        out = fenced(encode(np.full(expected.shape, 7.0, np.float32), self.output))
        arrays = [
            fenced(stored), aligned(packed), out,
            aligned(np.full(scratch * threads, 0xFF, np.uint8)), fenced(bias), fenced(residual),
        ]  # fmt: skip
        compiled(kernel, target)(
            "k", arrays, list(scalars.values()), threads, concurrently=True, own_bytes={3: scratch}
        )
        got = single(out, self.output)
        wide = self.dtype is BF16 or self.output is BF16
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=TOLERANCE["bf16" if wide else "f32"] * size
        )


@lru_cache(maxsize=16)
def compiled(kernel: Winograd, target: Target) -> Compiled:
    """The kernel as function `k`."""
    module = ModuleWriter(target.triple)
    emit_winograd(module, "k", kernel, target)
    return Compiled(module, target)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    tile, kernel = draw(st.sampled_from(SIZES))
    edge = st.integers(0, kernel)
    padding = (draw(edge), draw(edge), draw(edge), draw(edge))
    case = Case(
        draw(st.integers(1, 2)), draw(st.integers(1, 19)), draw(st.integers(1, 19)),
        draw(st.integers(16, 50)), draw(st.integers(1, 150)), padding, tile, kernel,
        draw(st.sampled_from([F32, BF16])), draw(st.sampled_from([F32, BF16])),
        draw(st.integers(1, 30)), draw(st.sampled_from([0, 5])),
    )  # fmt: skip
    return case if min(case.out) > 0 else replace(case, padding=(kernel,) * 4)


@FEW
@given(st.sampled_from(HOST), cases(), st.integers(1, 3))
def test_convolution(target: Target, case: Case, threads: int) -> None:
    case.check(target, threads)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda d: d.name)
def test_threads_and_epilogue(target: Target, dtype: DType) -> None:
    """Large enough for rows and panels to be split; the epilogue reads a bias and a residual."""
    case = Case(1, 30, 26, 64, 192, (1, 1, 1, 1), dtype=dtype)
    m = dims.symbol("$m")
    residual = Access(5, m * case.columns + N, F32)
    biased = Apply("add", (Accumulator(), Access(4, N, F32)), F32)
    value = Apply("relu", (Apply("add", (biased, residual), F32),), F32)
    for threads in (1, 2, 3, 4):
        case.check(target, threads, value)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
def test_few_channels_are_refused(target: Target) -> None:
    kernel, _ = Case(1, 8, 8, 3, 64, (1, 1, 1, 1)).describe(Accumulator(), 4)
    with pytest.raises(CompileError, match="3 channels do not fill a vector"):
        emit_winograd(ModuleWriter(target.triple), "k", kernel, target)
