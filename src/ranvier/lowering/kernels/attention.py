"""The attention kernel: softmax(scale * Q K^T + mask) V without the matrix of scores in memory.

For every outer index b (usually image and head), query i and value column d:

    score[j] = mask(scale * sum over k: query(b, i, k) * key(b, j, k))        for j < keys
    sum[d]   = sum over j: softmax(score)[j] * value(b, j, d)
    store.operand[store.offset(b, i, d)] = store.value(sum, b, i, d)

- Queries, keys and values are rows of adjacent elements. Where row r of index b starts is a Dim
  over the variables `b` and `r`: slices of one fused projection, windows of an image.
- `mask` is an expression over `b`, `i`, `j` whose `Accumulator` is the scaled score; it may give
  -inf. With `causal`, key j takes part for query i only if j <= i (PyTorch's `is_causal`).
- A query without any key that takes part (all scores -inf) gives zeros, as PyTorch's
  `scaled_dot_product_attention` does, or NaN as a plain softmax does (`empty_rows_are_zero`).
- Each thread packs the keys and values of one b at a time into its part of the scratch operand,
  `scratch_bytes(...)` long, 64-byte aligned. Work is split over threads by (b, block of queries).
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BF16, DType
from ranvier.lowering.expression import Expression
from ranvier.lowering.kernels.nest import Store

OUTER, QUERY, KEY, DEPTH = "$b", "$i", "$j", "$d"  # names of the variables in mask and stores
ROW = "$r"  # name of the row variable in `Rows.start`
QUERY_ROWS = 6  # queries that are computed together
KEY_BLOCK = 512  # keys whose scores are in scratch at a time
_LANES = 16  # scratch is laid out for the widest vectors


@dataclass(frozen=True)
class Rows:
    """Row r of outer index b: adjacent elements of `operand` from `start`, a Dim over (b, r)."""

    operand: int
    start: Dim


@dataclass(frozen=True)
class Attention:
    """Static description; extents are scalar arguments or integers, widths are static."""

    batches: Dim  # extent of b
    queries: Dim
    keys: Dim
    head_dim: int  # elements of a query and a key
    value_dim: int  # elements of a value
    dtype: DType  # F32 or BF16, of queries, keys and values
    query: Rows
    key: Rows
    value: Rows
    scale: float
    causal: bool
    mask: Expression | None
    stores: tuple[Store, ...]
    scratch_operand: int
    operand_count: int
    scalars: tuple[str, ...]
    empty_rows_are_zero: bool = True


@dataclass(frozen=True)
class ScratchLayout:
    """Byte offsets within a thread's scratch and its size; every part starts 64-byte aligned.

    Keys: [vector of keys][words][keys of the vector], values: [words of keys][columns]; a word
    is one f32, or two bf16 that are adjacent in the direction of the sum.
    """

    keys: Dim
    values: Dim
    queries: Dim
    scores: Dim
    sums: Dim
    size: Dim


def words(elements: int, pairs: bool) -> int:
    """32-bit words that hold `elements`, as pairs of bf16 or as f32."""
    return (elements + 1) // 2 if pairs else elements


def uses_pairs(dtype: DType, has_bf16_dot: bool) -> bool:
    """Whether the products are of bf16 pairs; everything is widened to f32 otherwise."""
    return dtype is BF16 and has_bf16_dot


def score_stride() -> int:
    """Bytes from one row of scores to the next: off a power of two, for the sake of cache sets."""
    return KEY_BLOCK * 4 + 64


def scratch_layout(kernel: Attention, pairs: bool) -> ScratchLayout:
    """Where a thread keeps what; `pairs` as in `uses_pairs`."""
    padded_keys = dims.floordiv(kernel.keys + _LANES - 1, _LANES) * _LANES
    width = words(kernel.head_dim, pairs)
    columns = _round_up(kernel.value_dim, _LANES)
    values = padded_keys * (width * 4)
    queries = values + dims.floordiv(padded_keys, 2 if pairs else 1) * (columns * 4)
    scores = queries + QUERY_ROWS * _round_up(width, _LANES) * 4
    sums = scores + QUERY_ROWS * score_stride()
    size = sums + QUERY_ROWS * columns * 4
    return ScratchLayout(0, values, queries, scores, sums, size)


def scratch_bytes(kernel: Attention, has_bf16_dot: bool) -> Dim:
    """Bytes of scratch that each thread needs on a target with or without AVX512-BF16."""
    return scratch_layout(kernel, uses_pairs(kernel.dtype, has_bf16_dot)).size


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
