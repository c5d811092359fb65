"""Contractions against NumPy: odd extents, dtypes, batches, threads, epilogues, convolutions."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.contraction import emit_contraction
from ranvier.codegen.contraction_epilogue import split_bias
from ranvier.codegen.microkernel import tile_rows
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, F32, DType, decode, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Expression, Guard
from ranvier.lowering.kernels.contraction import (
    PART_BYTES,
    ROW,
    SUM_COLUMNS,
    SUM_ROWS,
    Contraction,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.kernels.panels import PanelLayout
from ranvier.lowering.packing import pack
from ranvier.target import TARGETS, Target
from tests.codegen.contraction_cases import (
    B,
    M,
    Matmul,
    N,
    T,
    aligned,
    fenced,
    result_rows,
    run,
    single,
    values,
)
from tests.codegen.jit import assembly
from tests.targets import HOST

if not HOST:
    pytest.skip("this CPU runs none of the targets", allow_module_level=True)
FEW = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
targets = st.sampled_from(HOST)
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


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
@pytest.mark.parametrize("columns", [1, 4, 8, 24, 40, 72, 120])
def test_last_vectors_that_are_half_full(target: Target, dtype: DType, columns: int) -> None:
    for rows, depth in ((1, 9), (13, 32)):
        Matmul(1, rows, columns, depth, dtype, dtype).check(target, columns, 1)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("rows", [1, 2, 5, 49, 197])
def test_threads_share_large_work(target: Target, rows: int) -> None:
    for threads in (2, 3, 4):
        Matmul(1, rows, 192, 256).check(target, rows, threads)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
@pytest.mark.parametrize("shape", [(1, 40), (7, 600), (SUM_ROWS + 5, 72), (13, SUM_COLUMNS + 1)])
def test_depth_cut_into_parts(target: Target, dtype: DType, shape: tuple[int, int]) -> None:
    """More than two parts, blocks of rows and groups of panels; the memory for sums holds NaN."""
    depth = 2 * PART_BYTES // dtype.size + 48
    for batches, threads in ((1, 1), (2, 2)):
        case = Matmul(batches, *shape, depth, dtype, symbolic=("rows", "depth"), cut=True)
        case.check(target, sum(shape), threads)


def test_inner_loop_of_a_part_reads_rows_and_panels_alone() -> None:
    """No instruction but what the step needs, counting and asking ahead."""
    target = TARGETS["x86-64-v3"]
    module = ModuleWriter(target.triple)
    case = Matmul(1, 60, 64, 4096, F32, cut=True)
    emit_contraction(module, "k", case.contraction(target.lanes), target)
    text = assembly(module, target)
    body = text[text.index("\nk.r6v2f:") :]
    loops = re.findall(r"^(\.LBB\w+):\n((?:\t.*\n)+?)\tj\w+\t\1$", body, re.MULTILINE)
    (inner,) = (code for _, code in loops[:1] if "vfmadd" in code)
    steps = inner.count("vfmadd") // 12
    assert steps == 4
    assert inner.count("\n") <= steps * (12 + 6 + 2) + 5


@dataclass(frozen=True)
class Conv:
    """A grouped 2-D convolution, channels last; a group is a batch, the image a part of the row."""

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
        m = dims.symbol(ROW, 0, rows - 1)
        image, rest = m // (out_h * out_w), m % (out_h * out_w)
        ky, kx = T // self.kernel[1], T % self.kernel[1]
        y = rest // out_w * self.stride + ky * self.dilation - self.padding
        x = rest % out_w * self.stride + kx * self.dilation - self.padding
        row = ((image * h + y) * w + x) * (self.groups * self.channels) + B * self.channels
        guards = (Guard(y, h), Guard(x, w)) if self.padding else ()
        offset = m * (self.groups * self.filters) + B * self.filters
        contraction = Contraction(
            self.groups, rows, self.filters, self.kernel[0] * self.kernel[1], self.channels, 0, 1,
            dtype, row, guards, 0, result_rows(offset, output), 3, tuple(scalars),
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
        a = values(rng, (self.images, self.height, self.width, self.groups, self.channels), dtype)
        taps = self.kernel[0] * self.kernel[1]
        w = values(rng, (self.groups, taps, self.channels, self.filters), dtype)
        contraction, scalars = self.contraction(dtype, output)
        layout = contraction.layout(target.lanes)
        contraction = replace(contraction, b_batch_stride=layout.size)
        expected = self.reference(single(a, dtype), single(w, dtype))
        out = fenced(encode(np.full(expected.shape, 7.0, np.float32), output))
        arrays = [fenced(a), aligned(pack(w, layout)), out]
        run(contraction, target, arrays, list(scalars.values()), threads)
        np.testing.assert_array_equal(decode(out, output), decode(encode(expected, output), output))


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


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
def test_convolution_with_more_taps_than_are_unrolled(target: Target) -> None:
    Conv(1, 13, 12, 1, 4, 20, (9, 9), 1, 4, 1).check(target, BF16, F32, 1)
    Conv(1, 9, 9, 2, 5, 7, (11, 11), 2, 5, 1).check(target, BF16, BF16, 2)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
@pytest.mark.parametrize("columns", [75, 64, 24, 5])
def test_epilogue(target: Target, dtype: DType, columns: int) -> None:
    """Two stores of relu(sum + bias[n]) + scale[m // size] * residual[m, n], bf16 and f32."""
    rows, depth, size = 31, 10, 4
    rng = np.random.default_rng(0)
    a, b = values(rng, (rows, depth), dtype), values(rng, (1, depth, columns), dtype)
    bias = values(rng, (columns,), F32)
    residual = values(rng, (rows, columns), BF16)
    scale = values(rng, (rows // size + 1,), F32)
    m, at = dims.symbol(ROW, 0, rows - 1), M * columns + N
    biased = Apply("relu", (Apply("add", (Access(3, N, F32), Accumulator()), F32),), F32)
    factor = Apply("mul", (Access(5, m // size, F32), Access(4, at, BF16)), F32)
    value = Apply("add", (biased, factor), F32)
    stores = (Store(2, at, BF16, value), Store(6, at, F32, Apply("neg", (value,), F32)))
    contraction = Contraction(
        1, rows, columns, 1, depth, 0, 1, dtype, M * depth, (), 0, stores, 7, ()
    )
    packed = aligned(pack(b, contraction.layout(target.lanes)))
    half = fenced(np.zeros((rows, columns), np.uint16))
    full = fenced(np.zeros((rows, columns), np.float32))
    arrays = [fenced(a), packed, half, fenced(bias), fenced(residual), fenced(scale), full]
    run(contraction, target, arrays, [], 1)
    expected = np.maximum(single(a, dtype) @ single(b[0], dtype) + bias, 0)
    expected += np.repeat(scale, size)[:rows, None] * single(residual, BF16)
    np.testing.assert_allclose(full, -expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(half, encode(expected, BF16))


def test_bias_that_is_not_common_to_all_uses_stays_in_the_epilogue() -> None:
    bias, other = Access(3, N, F32), Access(4, N, F32)
    total: Expression = Apply("add", (Accumulator(), bias), F32)
    once = Store(2, M + N, F32, total)
    assert split_bias((once, once)) == (bias, (Store(2, M + N, F32, Accumulator()),) * 2)
    nested = Store(2, M + N, F32, Apply("add", (total, other), F32))
    rest = Apply("add", (Accumulator(), other), F32)
    assert split_bias((nested,)) == (bias, (Store(2, M + N, F32, rest),))
    plain = Store(2, M + N, F32, Accumulator())
    assert split_bias((once, plain)) == (None, (once, plain))
    different = Store(2, M + N, F32, Apply("add", (Accumulator(), other), F32))
    assert split_bias((once, different)) == (None, (once, different))
    by_row = Store(2, M + N, F32, Apply("add", (Accumulator(), Access(3, M, F32)), F32))
    assert split_bias((by_row,)) == (None, (by_row,))


def test_depth_zero_stores_the_bias() -> None:
    columns = 20
    stores = result_rows(M * columns, F32, Apply("add", (Accumulator(), Access(3, N, F32)), F32))
    depth = dims.symbol("depth")
    contraction = Contraction(
        1, 3, columns, 1, depth, 0, 1, BF16, M * depth, (), 0, stores, 4, ("depth",)
    )
    bias, out = np.arange(columns, dtype=np.float32), np.zeros((3, columns), np.float32)
    empty = np.zeros(64, np.uint16)
    run(contraction, HOST[-1], [empty, aligned(empty), out, bias], [0], 1)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, out.shape))


@pytest.mark.parametrize("extents", [(0, 5), (2, 0)])
def test_nothing_to_do(extents: tuple[int, int]) -> None:
    batches, rows = extents
    Matmul(batches, rows, 16, 4, symbolic=("batches", "rows")).check(HOST[-1], 0, 2)


def test_rows_that_cannot_be_addressed_are_errors() -> None:
    taps, depth = dims.symbol("taps"), dims.symbol("depth")
    stores = result_rows(M * 4, F32)
    unknown = Contraction(1, 8, 4, taps, 4, 0, 1, F32, M * 4 + T, (), 0, stores, 3, ("taps",))
    guard = Guard(M - 1, 4)
    open_depth = Contraction(
        1, 8, 4, 1, depth, 0, 1, F32, M * depth, (guard,), 0, stores, 3, ("depth",)
    )
    for contraction in (unknown, open_depth):
        with pytest.raises(CompileError, match=r"static number of taps|bounded depth"):
            emit_contraction(ModuleWriter("x86_64"), "k", contraction, HOST[-1])


@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("columns", [1, 16, 33, 80, 144])
def test_pack_follows_the_layout_formula(dtype: DType, lanes: int, columns: int) -> None:
    taps, depth = 3, 5
    layout = PanelLayout(columns, depth, taps, dtype, lanes)
    b = np.arange(1, taps * depth * columns + 1).reshape(taps, depth, columns)
    packed = pack(b.astype(dtype.storage), layout)[0]
    panel, tap, step, column, element = names = [dims.symbol(x) for x in "ptsce"]
    offset = layout.offset(panel, tap, step, column, element)
    source = layout.source(panel, tap, step, column, element)
    extents = (layout.panels, taps, layout.steps_per_tap, layout.width, layout.unit)
    sizes = [dims.evaluate(extent, {}) for extent in extents]
    assert len(packed) == layout.size == np.prod(sizes)
    for place in np.ndindex(*sizes):
        at = {str(name): int(i) for name, i in zip(names, place, strict=True)}
        inside = all(
            0 <= dims.evaluate(g.index, at) < dims.evaluate(g.limit, at) for g in source.guards
        )
        found = tuple(dims.evaluate(x, at) for x in (source.tap, source.k, source.n))
        assert packed[dims.evaluate(offset, at)] == (b[found] if inside else 0)


def test_pack_refuses_what_does_not_fit() -> None:
    layout = PanelLayout(4, 4, 1, BF16, 16)
    with pytest.raises(ValueError, match="shape"):
        pack(np.zeros((1, 4, 5), np.uint16), layout)
    with pytest.raises(ValueError, match="dtype"):
        pack(np.zeros((1, 4, 4), np.float32), layout)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [BF16, F32], ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
def test_inner_loops_do_not_touch_the_stack(target: Target, dtype: DType, kernel: int) -> None:
    """The innermost loops of the largest tile hold all sums in registers."""
    case = Conv(1, 8, 8, 1, 64, 64, (kernel, kernel), 1, kernel // 2, 1)
    contraction, _ = case.contraction(dtype, dtype)
    module = ModuleWriter(target.triple)
    emit_contraction(module, "k", contraction, target)
    layout = contraction.layout(target.lanes)
    name = f"k.r{tile_rows(layout, target)}v{layout.vectors}f"
    text = assembly(module, target)
    body = text[text.index(f"\n{name}:") : text.index(".Lfunc_end", text.index(f"\n{name}:"))]
    loops = re.findall(r"^(\.LBB\w+):\n((?:\t.*\n)+?)\tj\w+\t\1$", body, re.MULTILINE)
    inner = [code for _, code in loops if "vdpbf16ps" in code or "vfmadd" in code]
    assert inner, body
    assert not any("%rsp" in code for code in inner)


def test_columns_of_whole_panels_need_no_partial_kinds() -> None:
    target = HOST[-1]
    panels = dims.symbol("panels")
    columns, stores = panels * 64, result_rows(M * panels * 64, F32)
    contraction = Contraction(1, 7, columns, 1, 6, 0, 1, F32, M * 6, (), 0, stores, 3, ("panels",))
    module = ModuleWriter(target.triple)
    emit_contraction(module, "k", contraction, target)
    assert re.search(r"@k\.r1v\df\(", str(module))
    assert not re.search(r"@k\.r1v\dt\(", str(module))
    rng = np.random.default_rng(0)
    a, b = values(rng, (7, 6), F32), values(rng, (1, 6, 128), F32)
    packed = aligned(pack(b, PanelLayout(128, 6, 1, F32, target.lanes)))
    out = fenced(np.zeros((7, 128), np.float32))
    run(contraction, target, [fenced(a), packed, out], [2], 1)
    np.testing.assert_array_equal(out, a @ b[0])
