"""Builds contractions with their NumPy reference, for the property tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.contraction import emit_contraction
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, F32, DType, decode, encode
from ranvier.lowering.expression import Accumulator, Expression
from ranvier.lowering.kernels.contraction import (
    BATCH,
    COLUMN,
    ROW,
    SUM_BYTES,
    TAP,
    Contraction,
)
from ranvier.lowering.kernels.nest import Store
from ranvier.lowering.packing import pack
from ranvier.target import Target
from tests.codegen.jit import Compiled

Floats = npt.NDArray[np.float32]
B, M, T, N = (dims.symbol(name) for name in (BATCH, ROW, TAP, COLUMN))


def values(rng: np.random.Generator, shape: Sequence[int], dtype: DType) -> np.ndarray:
    """Storage array of values that bf16 holds."""
    drawn = (rng.integers(-8, 9, shape) * 0.125).astype(np.float32)
    return encode(drawn, dtype)


def single(array: np.ndarray, dtype: DType) -> Floats:
    """The f32 values of a storage array."""
    return np.asarray(decode(array, dtype), np.float32)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy whose data starts at a multiple of 64 bytes."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy with NaNs before and behind it: a kernel that uses them gives a NaN."""
    pad = 64
    bits = 0x7FC0 if array.itemsize == 2 else 0x7FC00000
    raw = np.full(array.size + 2 * pad, bits, f"u{array.itemsize}")
    inside = raw[pad : pad + array.size].view(array.dtype).reshape(array.shape)
    inside[...] = array
    return inside


def result_rows(store: Dim, dtype: DType, value: Expression | None = None) -> tuple[Store, ...]:
    """One store to operand 2 at `store + n`."""
    return (Store(2, store + N, dtype, value if value is not None else Accumulator()),)


@dataclass
class Matmul:
    """batches x [rows, depth] @ [depth, columns], extents as scalars where named in `symbolic`."""

    batches: int
    rows: int
    columns: int
    depth: int
    dtype: DType = BF16
    output: DType = F32
    symbolic: tuple[str, ...] = ("rows",)
    shared_b: bool = False
    cut: bool = False  # the depth is cut into parts
    scalars: dict[str, int] = field(default_factory=dict)

    def extent(self, name: str) -> Dim:
        """The extent as the kernel sees it; a symbolic one becomes a scalar argument."""
        value = int(getattr(self, name))
        if name not in self.symbolic:
            return value
        self.scalars[name] = value
        return dims.symbol(name)

    def contraction(self, lanes: int) -> Contraction:
        """The description for a target with `lanes` f32 lanes."""
        rows, columns = self.extent("rows"), self.extent("columns")
        depth, batches = self.extent("depth"), self.extent("batches")
        row = B * rows * depth + M * depth
        stores = result_rows(B * rows * columns + M * columns, self.output)
        base = Contraction(
            batches, rows, columns, 1, depth, 0, 1, self.dtype, row, (), 0, stores, 3,
            tuple(self.scalars),
        )  # fmt: skip
        if self.cut:
            base = replace(base, sums_operand=3, operand_count=4)
        return base if self.shared_b else replace(base, b_batch_stride=base.layout(lanes).size)

    def check(self, target: Target, seed: int, threads: int) -> None:
        """Compile, run on random values and compare."""
        rng = np.random.default_rng(seed)
        a = values(rng, (self.batches, self.rows, self.depth), self.dtype)
        groups = 1 if self.shared_b else self.batches
        b = values(rng, (groups, self.depth, self.columns), self.dtype)
        contraction = self.contraction(target.lanes)
        layout = replace(contraction.layout(target.lanes), columns=self.columns, depth=self.depth)
        if "columns" in self.symbolic:
            packed = pack_symbolic(b, contraction, target)
        else:
            packed = pack(b[:, None], layout)
        expected = single(a, self.dtype) @ single(b, self.dtype)
        c = encode(np.full(expected.shape, 7.0, np.float32), self.output)
        arrays = [fenced(a), aligned(packed), out := fenced(c)]
        if self.cut:
            arrays.append(aligned(np.full(SUM_BYTES // 4, np.nan, np.float32)))
        run(contraction, target, arrays, list(self.scalars.values()), threads)
        np.testing.assert_array_equal(
            decode(out, self.output), decode(encode(expected, self.output), self.output)
        )


def pack_symbolic(b: np.ndarray, contraction: Contraction, target: Target) -> np.ndarray:
    """Pack with the panel width that symbolic columns get."""
    layout = contraction.layout(target.lanes)
    width = layout.width
    groups, depth, columns = b.shape
    padded = np.zeros((groups, depth, -(-columns // width) * width), b.dtype)
    padded[:, :, :columns] = b
    panels = [
        pack(padded[:, None, :, n : n + width], replace(layout, columns=width, depth=depth, taps=1))
        for n in range(0, columns, width)
    ]
    return np.concatenate(panels, axis=1) if panels else np.zeros((groups, 0), b.dtype)


def run(
    contraction: Contraction, target: Target, arrays: list[np.ndarray], scalars: list[int],
    threads: int,
) -> None:  # fmt: skip
    """Compile and call a contraction."""
    compiled(contraction, target)("k", arrays, scalars, threads)


@lru_cache(maxsize=16)
def compiled(contraction: Contraction, target: Target) -> Compiled:
    """The contraction as function `k`."""
    module = ModuleWriter(target.triple)
    emit_contraction(module, "k", contraction, target)
    return Compiled(module, target)
