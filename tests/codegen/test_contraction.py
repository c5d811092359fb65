"""Contractions against NumPy: odd extents, dtypes, batches, threads, epilogues, convolution address maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.codegen.target import Target
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32, DType, decode, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Guard
from ranvier.lowering.kernels.contraction import Contraction
from ranvier.lowering.packing import pack
from tests.codegen.contraction_cases import (
    B, M, N, T, Matmul, aligned, fenced, result_rows, run, values,
)  # fmt: skip
from tests.codegen.jit import host_targets

TARGETS = host_targets()
if not TARGETS:
    pytest.skip("this CPU runs none of the targets", allow_module_level=True)
FEW = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
targets = st.sampled_from(TARGETS)
dtypes = st.sampled_from([BF16, F32])
extents = st.integers(1, 40)
symbolic_names = st.sets(st.sampled_from(["batches", "rows", "columns", "depth"])).map(sorted)


@FEW
@given(
    targets, dtypes, dtypes, st.integers(1, 3), st.integers(1, 60), st.integers(1, 150), extents,
    symbolic_names, st.booleans(), st.integers(1, 3),
)  # fmt: skip
def test_matmul(
    target: Target, dtype: DType, output: DType, batches: int, rows: int, columns: int, depth: int,
    symbolic: list[str], shared: bool, threads: int,
) -> None:  # fmt: skip
    case = Matmul(batches, rows, columns, depth, dtype, output, tuple(symbolic), shared)
    case.check(target, rows * columns + depth, threads)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("rows", [1, 2, 5, 49, 197])
def test_threads_share_large_work(target: Target, rows: int) -> None:
    for threads in (2, 3, 4):
        Matmul(1, rows, 192, 256).check(target, rows, threads)


@dataclass(frozen=True)
class Conv:
    """A grouped 2-D convolution, channels last; the group is the batch, the image a part of the row."""

    images: int
    height: int
    width: int
    groups: int
    channels: int  # per group
    filters: int  # per group
    kernel: tuple[int, int]
    stride: int
    padding: int
    dilation: int

    @property
    def out(self) -> tuple[int, int]:
        sizes = []
        for size, k in zip((self.height, self.width), self.kernel, strict=True):
            sizes.append((size + 2 * self.padding - self.dilation * (k - 1) - 1) // self.stride + 1)
        return sizes[0], sizes[1]

    def contraction(self, dtype: DType, output: DType) -> tuple[Contraction, dict[str, int]]:
        """Image sizes are scalars; kernel geometry is static, as lowering makes them."""
        oh, ow = self.out
        scalars = {"images": self.images, "H": self.height, "W": self.width, "OH": oh, "OW": ow}
        images, h, w, out_h, out_w = (dims.symbol(name, 1) for name in scalars)
        rows = images * out_h * out_w
        m = dims.symbol("m", 0, rows - 1)
        image, rest = m // (out_h * out_w), m % (out_h * out_w)
        ky, kx = T // self.kernel[1], T % self.kernel[1]
        y = rest // out_w * self.stride + ky * self.dilation - self.padding
        x = rest % out_w * self.stride + kx * self.dilation - self.padding
        row = ((image * h + y) * w + x) * (self.groups * self.channels) + B * self.channels
        guards = (Guard(y, h), Guard(x, w)) if self.padding else ()
        offset = m * (self.groups * self.filters) + B * self.filters
        contraction = Contraction(
            self.groups, rows, self.filters, self.kernel[0] * self.kernel[1], self.channels, 0, 1,
            dtype, row, guards, 0, result_rows(offset, self.filters, output), 3, tuple(scalars),
        )  # fmt: skip
        return contraction, scalars

    def reference(self, a: np.ndarray, w: np.ndarray) -> np.ndarray:
        """a [images, height, width, groups, channels], w [groups, taps, channels, filters]."""
        p, (oh, ow) = self.padding, self.out
        padded = np.pad(a, ((0, 0), (p, p), (p, p), (0, 0), (0, 0)))
        total = np.zeros((self.images, oh, ow, self.groups, self.filters), np.float32)
        for tap in range(w.shape[1]):
            ky, kx = (k * self.dilation for k in divmod(tap, self.kernel[1]))
            rows = slice(ky, ky + (oh - 1) * self.stride + 1, self.stride)
            cols = slice(kx, kx + (ow - 1) * self.stride + 1, self.stride)
            total += np.einsum("nyxgc,gcf->nyxgf", padded[:, rows, cols], w[:, tap])
        return total

    def check(self, target: Target, dtype: DType, output: DType, threads: int) -> None:
        rng = np.random.default_rng(self.channels)
        a = values(
            rng, (self.images, self.height, self.width, self.groups, self.channels), dtype
        )
        taps = self.kernel[0] * self.kernel[1]
        w = values(rng, (self.groups, taps, self.channels, self.filters), dtype)
        contraction, scalars = self.contraction(dtype, output)
        layout = contraction.layout(target.lanes)
        contraction = replace(contraction, b_batch_stride=layout.size)
        expected = self.reference(decode(a, dtype), decode(w, dtype))
        out = fenced(encode(np.full(expected.shape, 7.0, np.float32), output))
        arrays = [fenced(a), aligned(pack(w, layout)), out]
        run(contraction, target, arrays, list(scalars.values()), threads)
        np.testing.assert_array_equal(
            decode(out, output), decode(encode(expected, output), output)
        )


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    case = Conv(
        draw(st.integers(1, 2)), draw(st.integers(1, 12)), draw(st.integers(1, 12)),
        draw(st.integers(1, 3)), draw(st.integers(1, 24)), draw(st.integers(1, 70)),
        (draw(st.integers(1, 4)), draw(st.integers(1, 4))), draw(st.integers(1, 3)),
        draw(st.integers(0, 3)), draw(st.integers(1, 2)),
    )  # fmt: skip
    return case if min(case.out) > 0 else replace(case, padding=6)


@FEW
@given(convolutions(), targets, dtypes, dtypes, st.integers(1, 2))
def test_convolution(case: Conv, target: Target, dtype: DType, output: DType, threads: int) -> None:
    case.check(target, dtype, output, threads)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_convolution_with_more_taps_than_are_unrolled(target: Target) -> None:
    Conv(1, 13, 12, 1, 4, 20, (9, 9), 1, 4, 1).check(target, BF16, F32, 1)
    Conv(1, 9, 9, 2, 5, 7, (11, 11), 2, 5, 1).check(target, BF16, BF16, 2)
