"""Attention kernels against their NumPy definition: odd sizes, masks, types, threads, targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.codegen.attention import emit_attention
from ranvier.codegen.attention_block import _EXP2, _EXP2_SHORT
from ranvier.codegen.builder import ModuleWriter
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dtype import BF16, BOOL, F32, F64, DType, decode, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Expression, Literal
from ranvier.lowering.kernels import attention
from ranvier.lowering.kernels.attention import (
    QUERY_ROWS,
    Attention,
    Rows,
    scratch_bytes,
    scratch_layout,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target
from tests.codegen.jit import Compiled
from tests.targets import HOST

Doubles = npt.NDArray[np.float64]
SCALARS = ("B", "SQ", "SK")
B, SQ, SK = (dims.symbol(name) for name in SCALARS)
OUTER, QUERY, KEY, DEPTH, ROW = (
    dims.symbol(name)
    for name in (attention.OUTER, attention.QUERY, attention.KEY, attention.DEPTH, attention.ROW)
)
TARGETS = pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
DTYPES = pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
ADDED = Apply("add", (Accumulator(), Access(3, QUERY * SK + KEY, F32)), F32)
HEADS = 3


def describe(
    head_dim: int,
    value_dim: int,
    dtype: DType = F32,
    causal: bool = False,
    mask: Expression | None = None,
    scale: float = 0.25,
    empty_rows_are_zero: bool = True,
) -> Attention:
    """Self-attention on one fused projection [image, row, q | k | v], all heads in each part.

    Operands: projection, output [image, row, head, column], scratch, mask [query, key].
    """
    image, head = OUTER // HEADS, OUTER % HEADS
    width = HEADS * (2 * head_dim + value_dim)
    rows = dims.maximum(SQ, SK)
    start = image * rows * width + ROW * width
    keys, values = HEADS * head_dim, 2 * HEADS * head_dim
    out = ((image * SQ + QUERY) * HEADS + head) * value_dim + DEPTH
    return Attention(
        batches=B, queries=SQ, keys=SK, head_dim=head_dim, value_dim=value_dim, dtype=dtype,
        query=Rows(0, start + head * head_dim),
        key=Rows(0, start + keys + head * head_dim),
        value=Rows(0, start + values + head * value_dim),
        scale=scale, causal=causal, mask=mask,
        stores=(Store(1, out, dtype, Accumulator()),),
        scratch_operand=2, operand_count=4, scalars=SCALARS,
        empty_rows_are_zero=empty_rows_are_zero,
    )  # fmt: skip


def reference(kernel: Attention, x: Doubles, mask: Doubles | None, sq: int, sk: int) -> Doubles:
    """softmax(scale * q k^T + mask) v in f64; a row without keys is 0 or NaN as described."""
    parts = np.cumsum([HEADS * kernel.head_dim] * 2)
    q, k, v = (p.reshape(*x.shape[:2], HEADS, -1) for p in np.split(x, parts, axis=2))
    scores = kernel.scale * np.einsum("nihd,njhd->nhij", q[:, :sq], k[:, :sk])
    if mask is not None:
        scores = scores + mask
    if kernel.causal:
        scores = np.where(np.tril(np.ones((sq, sk), bool)), scores, -np.inf)
    highest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = np.exp(scores - np.where(np.isinf(highest), 0, highest))
    totals = powers.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares = powers / totals
    if kernel.empty_rows_are_zero:
        shares = np.where(totals == 0, 0, shares)
    return np.asarray(np.einsum("nhij,njhd->nihd", shares, v[:, :sk]))


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of 64 bytes."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy with NaNs before and behind it, so that reading them shows."""
    bits = 0x7FC0 if array.itemsize == 2 else 0x7FC00000
    raw = np.full(array.size + 128, bits, f"u{array.itemsize}")
    inside = raw[64:-64].view(array.dtype).reshape(array.shape)
    inside[...] = array
    return inside


def compile_kernel(kernel: Attention, target: Target) -> Compiled:
    """The module with `kernel` as the function "k"."""
    writer = ModuleWriter(target.triple)
    emit_attention(writer, "k", kernel, target)
    return Compiled(writer, target)


def run(
    compiled: Compiled, kernel: Attention, target: Target, x: np.ndarray, mask: np.ndarray,
    sq: int, sk: int, threads: int,
) -> Doubles:  # fmt: skip
    """The output for a projection in storage form; checks that nothing around it is written."""
    images = x.shape[0]
    shape = (images, sq, HEADS, kernel.value_dim)
    out = fenced(np.full(shape, 7, kernel.dtype.storage))
    memory = np.asarray(out.base)
    around = memory.copy()
    sizes = {"B": images * HEADS, "SQ": sq, "SK": sk}
    per_thread = dims.evaluate(scratch_bytes(kernel, target.has_bf16_dot), sizes)
    scratch = aligned(np.full(per_thread * threads + 64, 255, np.uint8))
    arrays = [fenced(x), out, scratch, mask]
    compiled("k", arrays, tuple(sizes.values()), threads, own_bytes={2: per_thread})
    assert (scratch[per_thread * threads :] == 255).all()
    np.testing.assert_array_equal(memory[:64], around[:64])
    np.testing.assert_array_equal(memory[-64:], around[-64:])
    return np.asarray(decode(out, kernel.dtype), np.float64)


def check(
    compiled: Compiled, kernel: Attention, target: Target, images: int, sq: int, sk: int,
    threads: int = 1,
) -> None:  # fmt: skip
    """Compare with the reference on random data; a third of the mask is -inf, and all of row 1."""
    rng = np.random.default_rng(sq * 1000 + sk)
    width = HEADS * (2 * kernel.head_dim + kernel.value_dim)
    drawn = rng.standard_normal((images, max(sq, sk), width)).astype(np.float32)
    x = encode(drawn, kernel.dtype)
    mask = rng.standard_normal((sq, sk)).astype(np.float32)
    mask[rng.random((sq, sk)) < 0.3] = -np.inf
    mask[1:2] = -np.inf
    out = run(compiled, kernel, target, x, mask, sq, sk, threads)
    exact = np.asarray(decode(x, kernel.dtype), np.float64)
    used = mask.astype(np.float64) if kernel.mask is not None else None
    expected = reference(kernel, exact, used, sq, sk)
    tolerance = 2e-6 if kernel.dtype is F32 else 1.5e-2
    np.testing.assert_allclose(out, expected, tolerance, tolerance * (1 + np.abs(exact).max()))


@TARGETS
@DTYPES
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("head_dim", "value_dim", "mask"),
    [(32, 32, None), (17, 5, ADDED), (1, 1, None)],
    ids=["even", "odd-masked", "one"],
)
def test_matches_the_definition(
    target: Target, dtype: DType, causal: bool, head_dim: int, value_dim: int,
    mask: Expression | None,
) -> None:  # fmt: skip
    kernel = describe(head_dim, value_dim, dtype, causal, mask)
    compiled = compile_kernel(kernel, target)

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(
        images=st.integers(1, 2),
        sq=st.integers(1, 4 * QUERY_ROWS),
        sk=st.integers(1, 150),
        threads=st.integers(1, 3),
    )
    def sizes(images: int, sq: int, sk: int, threads: int) -> None:
        check(compiled, kernel, target, images, sq, sk, threads)

    sizes()


@TARGETS
@DTYPES
@pytest.mark.parametrize("causal", [False, True])
def test_several_key_blocks(target: Target, dtype: DType, causal: bool) -> None:
    kernel = describe(24, 88, dtype, causal, ADDED)
    compiled = compile_kernel(kernel, target)
    check(compiled, kernel, target, 1, 7, 1100)
    check(compiled, kernel, target, 1, 529, 512, threads=2)


@TARGETS
def test_maximum_that_rises_and_extreme_scores(target: Target) -> None:
    """Scores of several hundred that rise with the keys neither overflow nor vanish."""
    kernel = describe(4, 8, scale=40.0)
    compiled = compile_kernel(kernel, target)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 1100, HEADS * 16)).astype(np.float32)
    x[:, :, 12:24] *= np.linspace(0.1, 4, 1100, dtype=np.float32)[None, :, None]
    out = run(compiled, kernel, target, x, np.zeros(1, np.float32), 9, 1100, 1)
    expected = reference(kernel, x.astype(np.float64), None, 9, 1100)
    np.testing.assert_allclose(out, expected, 1e-4, 1e-4)


@TARGETS
@DTYPES
def test_special_values(target: Target, dtype: DType) -> None:
    """NaN stays in its row, +inf gives NaN; a negative scale; rows without a key give NaN or 0."""
    kernel = describe(8, 8, dtype, mask=ADDED, scale=-0.5, empty_rows_are_zero=False)
    compiled = compile_kernel(kernel, target)
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((1, 20, HEADS * 24)).astype(np.float32)
    x = encode(drawn, dtype)
    mask = np.zeros((20, 20), np.float32)
    mask[3], mask[5, 4], mask[7, 19] = -np.inf, np.nan, np.inf
    out = run(compiled, kernel, target, x, mask, 20, 20, 1)
    assert set(np.nonzero(np.isnan(out).any(axis=(0, 2, 3)))[0]) == {3, 5, 7}
    good = [row for row in range(20) if row not in (3, 5, 7)]
    expected = reference(kernel, np.asarray(decode(x, dtype), np.float64), None, 20, 20)
    tolerance = 2e-6 if dtype is F32 else 1.5e-2
    np.testing.assert_allclose(out[:, good], expected[:, good], tolerance, tolerance * 3)


def test_negative_scale_without_mask_and_no_work() -> None:
    target = HOST[-1]
    kernel = describe(8, 8, scale=-0.5)
    compiled = compile_kernel(kernel, target)
    check(compiled, kernel, target, 1, 13, 21)
    x = np.zeros((1, 4, HEADS * 24), np.float32)
    nothing = np.zeros(1, np.float32)
    assert not run(compiled, kernel, target, x, nothing, 4, 0, 2).any()
    assert run(compiled, kernel, target, x, nothing, 0, 4, 2).size == 0


def test_mask_as_a_condition() -> None:
    """A boolean mask is a `where` in the mask expression."""
    target = HOST[-1]
    far = Apply("less", (Access(3, QUERY * SK + KEY, F32), Literal(0.0, F32)), BOOL)
    chosen = Apply("where", (far, Literal(float("-inf"), F32), Accumulator()), F32)
    kernel = describe(16, 16, mask=chosen)
    compiled = compile_kernel(kernel, target)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 30, HEADS * 48)).astype(np.float32)
    mask = rng.standard_normal((30, 30)).astype(np.float32)
    out = run(compiled, kernel, target, x, mask, 30, 30, 2)
    expected = reference(kernel, x.astype(np.float64), np.where(mask < 0, -np.inf, 0), 30, 30)
    np.testing.assert_allclose(out, expected, 1e-5, 1e-5)


def test_other_types_are_refused() -> None:
    target = HOST[0]
    with pytest.raises(CompileError, match="f64"):
        emit_attention(ModuleWriter(target.triple), "k", describe(8, 8, F64), target)


def test_scratch_parts_are_aligned() -> None:
    for pairs in (False, True):
        layout = scratch_layout(describe(17, 5, BF16), pairs)
        for sk in (0, 1, 16, 333):
            parts = [dims.evaluate(part, {"SK": sk}) for part in vars(layout).values()]
            assert all(part % 64 == 0 for part in parts)
            assert parts == sorted(parts)


def test_powers_of_two_are_accurate() -> None:
    x = np.linspace(-0.5, 0.5, 4001)
    for coefficients, error in ((_EXP2, 2e-7), (_EXP2_SHORT, 8e-5)):
        assert np.abs(np.polyval(coefficients, x) / 2**x - 1).max() < error
