"""Depthwise convolutions against their NumPy definition: odd sizes, types, threads, targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.depthwise import emit_depthwise
from ranvier.errors import CompileError
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F32, F64, DType, decode, encode
from ranvier.lowering.expression import Access, Accumulator, Apply, Expression
from ranvier.lowering.kernels import depthwise
from ranvier.lowering.kernels.depthwise import (
    Depthwise,
    interleaved_channels,
    pack_weights,
    packed_weight_bytes,
    tile_sizes,
    uses_pairs,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.target import Target
from tests.codegen.jit import Compiled
from tests.targets import HOST

Floats = npt.NDArray[np.float32]
SCALARS = ("N", "H", "W", "HO", "WO", "BLOCKS")
N, H, W, HO, WO, BLOCKS = (dims.symbol(name) for name in SCALARS)
IMAGE, ROW, COLUMN, CHANNEL = (
    dims.symbol(name)
    for name in (depthwise.IMAGE, depthwise.ROW, depthwise.COLUMN, depthwise.CHANNEL)
)
TARGETS = pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)


@dataclass(frozen=True)
class Geometry:
    """Filter, strides, dilations and padding, each as (vertical, horizontal)."""

    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)

    def out(self, axis: int, size: int) -> int:
        span = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return (size + 2 * self.padding[axis] - span) // self.strides[axis] + 1


def reference(x: Floats, w: Floats, g: Geometry) -> Floats:
    """The sum over taps of shifted slices, in f64."""
    (py, px), (sy, sx), (dy, dx) = g.padding, g.strides, g.dilations
    padded = np.pad(x.astype(np.float64), ((0, 0), (py, py), (px, px), (0, 0)))
    ho, wo = g.out(0, x.shape[1]), g.out(1, x.shape[2])
    total = np.zeros((x.shape[0], ho, wo, x.shape[3]))
    for ky in range(g.kernel[0]):
        for kx in range(g.kernel[1]):
            rows = slice(ky * dy, ky * dy + (ho - 1) * sy + 1, sy)
            columns = slice(kx * dx, kx * dx + (wo - 1) * sx + 1, sx)
            total += padded[:, rows, columns] * w[ky, kx]
    return total.astype(np.float32)


def describe(
    g: Geometry,
    dtype: DType = F32,
    out_dtype: DType = F32,
    value: Expression | None = None,
    tile: int = 8,
    channels: Dim = BLOCKS * 32,
) -> Depthwise:
    """A kernel with input, weight, output and bias as operands 0 to 3."""
    offset = ((IMAGE * HO + ROW) * WO + COLUMN) * channels + CHANNEL
    return Depthwise(
        batch=N, in_height=H, in_width=W, out_height=HO, out_width=WO, channels=channels,
        kernel=g.kernel, strides=g.strides, dilations=g.dilations, padding=g.padding,
        right_padding=g.padding[1], input_operand=0, input_dtype=dtype, input_offset=0,
        input_strides=(H * W * channels, W * channels, channels), weight_operand=1,
        stores=(Store(2, offset, out_dtype, value or Accumulator()),),
        operand_count=4, scalars=SCALARS, tile=tile,
    )  # fmt: skip


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy with NaNs before and behind it, so that reading them shows."""
    bits = 0x7FC0 if array.itemsize == 2 else 0x7FC00000
    raw = np.full(array.size + 128, bits, f"u{array.itemsize}")
    inside = raw[64:-64].view(array.dtype).reshape(array.shape)
    inside[...] = array
    return inside


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of 64 bytes."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def packed_for(weight: Floats, dtype: DType, target: Target) -> np.ndarray:
    """The weights as the target's kernel reads them."""
    return aligned(pack_weights(weight, uses_pairs(dtype, target.has_bf16_dot)))


def compile_kernel(kernel: Depthwise, target: Target) -> Compiled:
    """The module with `kernel` as the function "k"."""
    writer = ModuleWriter(target.triple)
    emit_depthwise(writer, "k", kernel, target)
    return Compiled(writer, target)


def check(
    compiled: Compiled, target: Target, kernel: Depthwise, g: Geometry,
    shape: tuple[int, int, int, int], threads: int, activation: bool = False,
) -> None:  # fmt: skip
    """Run on random data and compare with the reference; the memory around the output stays."""
    rng = np.random.default_rng(sum(shape) + threads)
    n, h, w, c = shape
    dtype, out_dtype = kernel.input_dtype, kernel.stores[0].storage
    x = encode(rng.standard_normal(shape).astype(np.float32), dtype)
    weight = rng.standard_normal((*g.kernel, c)).astype(np.float32)
    weight = np.asarray(decode(encode(weight, dtype), dtype), np.float32)
    bias = rng.standard_normal(c).astype(np.float32)
    ho, wo = g.out(0, h), g.out(1, w)
    out = fenced(np.full((n, ho, wo, c), 7, out_dtype.storage))
    memory = np.asarray(out.base)
    around = memory.copy()
    arrays = [fenced(x), packed_for(weight, dtype, target), out, fenced(bias)]
    compiled("k", arrays, (n, h, w, ho, wo, c // 32), threads)
    expected = reference(np.asarray(decode(x, dtype), np.float32), weight, g)
    if activation:
        expected = np.maximum(expected + bias, 0)
    tolerance = 1e-5 * g.kernel[0] * g.kernel[1] if out_dtype is F32 else 1e-2
    actual = np.asarray(decode(out, out_dtype), np.float32)
    np.testing.assert_allclose(actual, expected, tolerance, tolerance)
    np.testing.assert_array_equal(memory[:64], around[:64])
    np.testing.assert_array_equal(memory[-64:], around[-64:])


CASES = [
    Geometry(),
    Geometry(strides=(2, 2)),
    Geometry(kernel=(5, 5), padding=(2, 2)),
    Geometry(kernel=(7, 7), padding=(3, 3)),
    Geometry(dilations=(2, 3), padding=(2, 3)),
    Geometry(kernel=(1, 4), strides=(1, 2), padding=(0, 2)),
    Geometry(kernel=(2, 3), strides=(3, 1), dilations=(1, 2), padding=(0, 0)),
    Geometry(kernel=(5, 3), strides=(2, 2), padding=(4, 4)),
]


@TARGETS
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("g", CASES, ids=str)
def test_matches_the_definition(target: Target, g: Geometry, dtype: DType) -> None:
    rests = (0, 1, 9, 16, 24)
    first = CASES.index(g)
    for rest in {rests[first % 5], rests[(first + 2) % 5]}:
        _matches(target, g, dtype, rest)


def _matches(target: Target, g: Geometry, dtype: DType, rest: int) -> None:
    kernel = describe(g, dtype, channels=BLOCKS * 32 + rest)
    compiled = compile_kernel(kernel, target)

    @settings(max_examples=6, deadline=None, derandomize=True)
    @given(
        n=st.integers(1, 2),
        h=st.integers(7, 15),
        w=st.integers(7, 27),
        blocks=st.integers(0, 2),
        threads=st.integers(1, 3),
    )
    def run(n: int, h: int, w: int, blocks: int, threads: int) -> None:
        if blocks or rest:
            check(compiled, target, kernel, g, (n, h, w, blocks * 32 + rest), threads)

    run()


@TARGETS
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("tile", [1, 5])
def test_epilogue_with_static_channels(target: Target, dtype: DType, tile: int) -> None:
    biased = Apply("add", (Accumulator(), Access(3, CHANNEL, F32)), F32)
    kernel = describe(Geometry(), dtype, dtype, Apply("relu", (biased,), F32), tile, channels=40)
    compiled = compile_kernel(kernel, target)
    for shape in ((1, 6, 11, 40), (3, 1, 1, 40)):
        for threads in (1, 2):
            check(compiled, target, kernel, Geometry(), shape, threads, activation=True)


@TARGETS
@pytest.mark.parametrize("out_dtype", [F32, BF16], ids=str)
def test_operands_that_move_with_the_column(target: Target, out_dtype: DType) -> None:
    """A residual, a long function, and channels that end inside the second vector."""
    offset = ((IMAGE * HO + ROW) * WO + COLUMN) * 56 + CHANNEL
    scale = Access(3, CHANNEL, F32)
    scaled = Apply("mul", (Apply("silu", (Accumulator(),), F32), scale), F32)
    for function in (scaled, Apply("mul", (Accumulator(), scale), F32)):
        value = Apply("add", (function, Access(4, offset, BF16)), F32)
        kernel = replace(describe(Geometry(), BF16, out_dtype, value, channels=56), operand_count=5)
        compiled = compile_kernel(kernel, target)
        rng = np.random.default_rng(5)
        x, residual = (encode(rng.standard_normal((1, 5, 9, 56)), BF16) for _ in range(2))
        weight = np.asarray(decode(encode(rng.standard_normal((3, 3, 56)), BF16), BF16), np.float32)
        factor = rng.standard_normal(56).astype(np.float32)
        out = fenced(np.zeros((1, 5, 9, 56), out_dtype.storage))
        arrays = [
            fenced(x),
            packed_for(weight, BF16, target),
            out,
            fenced(factor),
            fenced(residual),
        ]
        compiled("k", arrays, (1, 5, 9, 5, 9, 1), 2)
        total = reference(np.asarray(decode(x, BF16), np.float32), weight, Geometry())
        if function is scaled:
            total = total / (1 + np.exp(-total))
        expected = total * factor + np.asarray(decode(residual, BF16))
        actual = np.asarray(decode(out, out_dtype), np.float32)
        tolerance = 1e-4 if out_dtype is F32 else 1e-2
        np.testing.assert_allclose(actual, expected, tolerance, tolerance)


def test_no_work_writes_nothing() -> None:
    target = HOST[0]
    compiled = compile_kernel(describe(Geometry()), target)
    out = np.full(64, 7, np.float32)
    empty = np.zeros(64, np.float32)
    compiled("k", [empty, empty, out, empty], (0, 4, 4, 4, 4, 1), 2)
    compiled("k", [empty, empty, out, empty], (1, 4, 4, 4, 4, 0), 2)
    assert (out == 7).all()


def test_other_types_are_refused() -> None:
    target = HOST[0]
    with pytest.raises(CompileError, match="f64"):
        emit_depthwise(ModuleWriter(target.triple), "k", describe(Geometry(), F64), target)


def test_packing() -> None:
    weight = np.arange(2 * 3 * 20, dtype=np.float32).reshape(2, 3, 20)
    packed = pack_weights(weight)
    assert packed.shape == (2, 6, 16)
    assert packed.nbytes == packed_weight_bytes((2, 3), 20)
    np.testing.assert_array_equal(packed[0, 4], weight[1, 1, :16])
    np.testing.assert_array_equal(packed[1, 5], [*weight[1, 2, 16:], *[0] * 12])


def test_packing_of_pairs() -> None:
    weight = np.arange(2 * 3 * 48, dtype=np.float32).reshape(2, 3, 48) % 256
    packed = pack_weights(weight, pairs=True)
    assert packed.shape == (2, 6, 32)
    assert packed.nbytes == packed_weight_bytes((2, 3), 48, pairs=True)
    assert packed.itemsize == 4
    halves = np.asarray(decode(packed.view(np.uint16), BF16)).reshape(2, 2, 3, 32, 2)
    order = interleaved_channels()
    assert order[:6] == [0, 1, 2, 3, 8, 9]
    assert sorted(order) == list(range(32))
    np.testing.assert_array_equal(halves[0, 0, :, :, 0], weight[0, :, order].T)
    np.testing.assert_array_equal(halves[0, 0, :, :, 1], weight[1, :, order].T)
    np.testing.assert_array_equal(halves[0, 1, :, :, 0], weight[1, :, order].T)
    np.testing.assert_array_equal(halves[1, 0, :, :16, 0], weight[0, :, 32:])
    np.testing.assert_array_equal(halves[:, 1, :, :, 1], 0)


def test_tile_sizes() -> None:
    assert tile_sizes(W, 8) == (1, 4, 5, 6, 7, 8)
    assert [tile_sizes(w, 8) for w in (3, 4, 7, 14, 56, 10)] == [(1,), (4,), (7,), (7,), (8,), (5,)]
    for tile in (1, 3, 5, 8):
        for width in range(1, 100):
            assert set(tile_sizes(width, tile)) <= set(tile_sizes(W, tile))
