"""The steps of attention for a block of QUERY_ROWS queries and up to KEY_BLOCK keys.

Scores are products of packed queries and keys; the softmax is taken with the online recurrence of
"Online normalizer calculation for softmax" (arXiv 1805.02867) over key blocks, as in FlashAttention
(arXiv 2205.14135): each row keeps its maximum m and the sum l of exp(score - m), and what has been
accumulated is scaled by exp(m - m') when the maximum rises to m'. Exponentials are powers of two:
scores are multiplied by log2(e) on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ranvier.codegen import conversions
from ranvier.codegen.attention_frame import Frame
from ranvier.codegen.attention_packing import query_row_bytes
from ranvier.codegen.builder import (
    BFLOAT,
    FLOAT,
    I32,
    Val,
    float_const,
    int_const,
    vector,
)
from ranvier.codegen.expression import ExpressionEmitter, Lanes
from ranvier.codegen.indices import lane_steps
from ranvier.codegen.math_context import fma, intrinsic, like, polynomial
from ranvier.codegen.math_f32 import scale as scale_by_power
from ranvier.lowering.kernels.attention import (
    KEY,
    OUTER,
    QUERY,
    QUERY_ROWS,
    score_stride,
)

_LOG2E = 1.4426950408889634
# 2**x on |x| <= 1/2, minimax by Remez: relative error 7.5e-8, and 7.5e-5 for rounding to bf16
_EXP2 = (
    1.3276472e-3, 9.6755410e-3, 5.5507131e-2, 2.4022120e-1, 6.9314694e-1, 1.0000001,
)  # fmt: skip
_EXP2_SHORT = (5.5171669e-2, 2.4261113e-1, 6.9326097e-1, 9.9992806e-1)


@dataclass(frozen=True)
class Block:
    """Where the work stands: outer index, first query, their number, first key, their number."""

    outer: Val
    query: Val
    rows: Val
    key: Val
    keys: Val
    maxima: Val  # [QUERY_ROWS x float] on the stack, times log2(e)
    totals: Val  # likewise: sums of exponentials


def tile_vectors(frame: Frame) -> int:
    """Vectors per row of the register tile: QUERY_ROWS x this many sums."""
    return 4 if frame.target.registers >= 32 else 2


def emit_scores(frame: Frame, block: Block) -> None:
    """scores = queries * keys, tile by tile; the last keys by a narrower tile."""
    f, widest = frame.f, tile_vectors(frame)
    vectors = frame.round_up_div(block.keys, frame.lanes)
    first = f.binary("udiv", block.key, int_const(frame.lanes))
    panel = frame.head_words * frame.vector_bytes
    whole = f.binary("udiv", vectors, int_const(widest))
    rest = f.binary("urem", vectors, int_const(widest))

    def tile(done: Val, width: int) -> None:
        keys = frame.row(frame.key_area, frame.add(first, done), panel)
        factors = _Factors(
            frame.query_area, query_row_bytes(frame), keys, frame.vector_bytes, panel
        )
        target = frame.row(frame.score_area, done, frame.vector_bytes)
        zeros = [float_const(0.0, frame.vector)] * (QUERY_ROWS * width)
        sums = _product(frame, factors, int_const(frame.head_words), width, zeros)
        _store_sums(frame, sums, target, score_stride(), width)

    with f.loop(int_const(0), whole) as index:
        tile(f.binary("mul", index, int_const(widest)), widest)
    done = f.binary("mul", whole, int_const(widest))
    for width in range(1, widest):
        with f.when(f.compare("icmp eq", rest, int_const(width))):
            tile(done, width)


def emit_values(frame: Frame, block: Block) -> None:
    """sums += probabilities * values."""
    f, unit, widest = frame.f, frame.unit, tile_vectors(frame)
    columns = frame.value_vectors * frame.vector_bytes
    steps = frame.round_up_div(block.keys, frame.lanes)
    steps = f.binary("mul", steps, int_const(frame.lanes // unit))
    first = f.binary("udiv", block.key, int_const(unit))
    values = frame.row(frame.value_area, first, columns)

    def tile(start: Val, width: int) -> None:
        b = frame.row(values, start, frame.vector_bytes)
        factors = _Factors(frame.score_area, score_stride(), b, columns, frame.vector_bytes)
        target = frame.row(frame.sum_area, start, frame.vector_bytes)
        sums = _load_sums(frame, target, columns, width)
        sums = _product(frame, factors, steps, width, sums)
        _store_sums(frame, sums, target, columns, width)

    whole, rest = divmod(frame.value_vectors, widest)
    with f.loop(int_const(0), int_const(whole * widest), widest) as start:
        tile(start, widest)
    if rest:
        tile(int_const(whole * widest), rest)


# Products ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Factors:
    """Rows of words `a` and packed words `b`; distances in bytes."""

    a: Val
    a_row: int
    b: Val
    b_step: int
    b_vector: int


def _product(
    frame: Frame, factors: _Factors, steps: Val, width: int, sums: Sequence[Val]
) -> list[Val]:
    """Add `steps` outer products of QUERY_ROWS words of a and `width` vectors of b, row-major."""
    f = frame.f
    with f.loop_carrying(int_const(0), steps, 1, sums, "k") as loop:
        b_at = frame.row(factors.b, loop.index, factors.b_step)
        a_at = frame.row(factors.a, loop.index, 4)
        b = [
            f.load(frame.word_vector, frame.at(b_at, v * factors.b_vector), frame.vector_bytes)
            for v in range(width)
        ]
        for row in range(QUERY_ROWS):
            word = f.load(I32, frame.at(a_at, row * factors.a_row), 4)
            a = f.splat(word, frame.lanes)
            for v in range(width):
                place = row * width + v
                loop.next[place] = _multiply_add(frame, loop.next[place], a, b[v])
    return loop.results


def _multiply_add(frame: Frame, total: Val, a: Val, b: Val) -> Val:
    f = frame.f
    if not frame.pairs:
        left, right = f.cast("bitcast", a, frame.vector), f.cast("bitcast", b, frame.vector)
        return fma(f, left, right, total)
    pairs = vector(2 * frame.lanes, BFLOAT)
    left, right = f.cast("bitcast", a, pairs), f.cast("bitcast", b, pairs)
    name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * frame.lanes}"
    return f.call(name, frame.vector, total, left, right)


def _load_sums(frame: Frame, target: Val, row_bytes: int, width: int) -> list[Val]:
    return [
        frame.f.load(frame.vector, frame.at(target, offset), frame.vector_bytes)
        for offset in _places(frame, row_bytes, width)
    ]


def _store_sums(frame: Frame, sums: Sequence[Val], target: Val, row_bytes: int, width: int) -> None:
    for total, offset in zip(sums, _places(frame, row_bytes, width), strict=True):
        frame.f.store(total, frame.at(target, offset), frame.vector_bytes)


def _places(frame: Frame, row_bytes: int, width: int) -> list[int]:
    rows, vectors = range(QUERY_ROWS), range(width)
    return [row * row_bytes + v * frame.vector_bytes for row in rows for v in vectors]


# Softmax -----------------------------------------------------------------------------------------
def emit_softmax(frame: Frame, block: Block) -> None:
    """Turn the rows of scores into probabilities relative to the row's maximum, in place.

    bf16 probabilities take the first half of their row. The sums so far are rescaled.
    """
    f = frame.f
    with f.loop(int_const(0), block.rows) as row:
        scores = frame.row(frame.score_area, row, score_stride())
        limit = block.keys
        if frame.kernel.causal:
            index = frame.add(block.query, row)
            own = f.binary("sub", frame.add(index, 1), block.key)
            limit = frame.maximum(frame.minimum(limit, own), int_const(0))
        factor = _finish_scores(frame, block, row, scores, limit)
        maximum_at = f.element_pointer(block.maxima, FLOAT, row)
        before = f.load(FLOAT, maximum_at, 4)
        highest = _row_maximum(frame, scores, limit)
        highest = f.binary("fmul", highest, float_const(factor))
        highest = _larger(frame, highest, before)
        f.store(highest, maximum_at, 4)
        none = f.compare("fcmp oeq", highest, float_const(-math.inf))
        base = f.select(none, float_const(0.0), highest)
        total = _exponentials(frame, block, scores, limit, factor, base)
        with f.when(f.compare("icmp ne", block.key, int_const(0))):
            _rescale(frame, block, row, f.binary("fsub", before, base))
        place = f.element_pointer(block.totals, FLOAT, row)
        f.store(f.binary("fadd", f.load(FLOAT, place, 4), total), place, 4)


def _finish_scores(frame: Frame, block: Block, row: Val, scores: Val, limit: Val) -> float:
    """Apply scale and mask in place where needed; returns the factor still to be applied."""
    kernel = frame.kernel
    if kernel.mask is None and kernel.scale >= 0:
        return kernel.scale * _LOG2E
    f, mask = frame.f, kernel.mask
    query = frame.add(block.query, row)

    def change(position: Val, lanes: Val | None) -> None:
        place = f.element_pointer(scores, FLOAT, position)
        score = f.load(frame.vector, place, frame.vector_bytes)
        score = f.binary("fmul", score, like(score, kernel.scale))
        if mask is not None:
            key = frame.add(block.key, position)
            variables = {**frame.environment, OUTER: block.outer, QUERY: query, KEY: key}
            emitter = ExpressionEmitter(
                f, frame.target, frame.operands, variables, Lanes(KEY, frame.lanes, lanes), score
            )
            score = emitter.emit_lanes(mask)
        f.store(score, place, frame.vector_bytes)

    _each_vector(frame, limit, change)
    return _LOG2E


def _each_vector(frame: Frame, limit: Val, body: Callable[[Val, Val | None], None]) -> None:
    """Run `body(position, mask)` for all whole vectors below `limit`, then for a part of one."""
    f, lanes = frame.f, frame.lanes
    whole = f.binary("and", limit, int_const(-lanes))
    with f.loop(int_const(0), whole, lanes) as position:
        body(position, None)
    with f.when(f.compare("icmp slt", whole, limit)):
        body(whole, _mask_below(frame, whole, limit))


def _mask_below(frame: Frame, position: Val, limit: Val) -> Val:
    """The lanes from `position` on that are below `limit`."""
    f = frame.f
    count = f.cast("trunc", f.binary("sub", limit, position), I32)
    return f.compare("icmp slt", lane_steps(frame.lanes, 1, I32), f.splat(count, frame.lanes))


def _last_vector(frame: Frame, limit: Val) -> Val:
    """Where the vector starts that holds the last score below `limit`; 0 if there is none."""
    before = frame.maximum(frame.add(limit, -1), int_const(0))
    return frame.f.binary("and", before, int_const(-frame.lanes))


def _row_maximum(frame: Frame, scores: Val, limit: Val) -> Val:
    """The largest score below `limit`, -inf for none; NaN is passed over."""
    f, lanes = frame.f, frame.lanes
    lowest = float_const(-math.inf, frame.vector)
    whole = _last_vector(frame, limit)
    with f.loop_carrying(int_const(0), whole, lanes, [lowest]) as loop:
        place = f.element_pointer(scores, FLOAT, loop.index)
        score = f.load(frame.vector, place, frame.vector_bytes)
        loop.next = [_larger(frame, score, loop.values[0])]
    rest = f.load(frame.vector, f.element_pointer(scores, FLOAT, whole), frame.vector_bytes)
    rest = f.select(_mask_below(frame, whole, limit), rest, lowest)
    return _across(frame, _larger(frame, rest, loop.results[0]), lambda a, b: _larger(frame, a, b))


def _larger(frame: Frame, a: Val, b: Val) -> Val:
    """a if a > b else b: one instruction; b when a is NaN."""
    return frame.f.select(frame.f.compare("fcmp ogt", a, b), a, b)


def _across(frame: Frame, value: Val, combine: Callable[[Val, Val], Val]) -> Val:
    """Combine all lanes of a vector by halving."""
    f, lanes = frame.f, frame.lanes
    half = lanes // 2
    while half:
        picks = [(k + half) % lanes for k in range(lanes)]
        value = combine(value, f.shuffle(value, value, picks))
        half //= 2
    return f.emit(f"extractelement {value}, i64 0", FLOAT)


def _exponentials(
    frame: Frame, block: Block, scores: Val, limit: Val, factor: float, base: Val
) -> Val:
    """Replace scores by 2**(factor * score - base), zeros from `limit` on; returns their sum."""
    f, lanes = frame.f, frame.lanes
    shift = f.splat(f.emit(f"fneg {base}", FLOAT), lanes)

    def powers(position: Val) -> Val:
        place = f.element_pointer(scores, FLOAT, position)
        score = f.load(frame.vector, place, frame.vector_bytes)
        return _exp2(frame, fma(f, score, like(score, factor), shift))

    whole = f.binary("and", limit, int_const(-lanes))
    zeros = float_const(0.0, frame.vector)
    with f.loop_carrying(int_const(0), whole, lanes, [zeros]) as loop:
        value = powers(loop.index)
        _store_probabilities(frame, scores, loop.index, value)
        loop.next = [f.binary("fadd", loop.values[0], value)]
    rest = f.select(_mask_below(frame, whole, limit), powers(whole), zeros)
    _store_probabilities(frame, scores, whole, rest)
    with f.loop(frame.add(whole, lanes), block.keys, lanes) as position:
        _store_probabilities(frame, scores, position, zeros)
    total = f.binary("fadd", loop.results[0], rest)
    return _across(frame, total, lambda a, b: f.binary("fadd", a, b))


def _store_probabilities(frame: Frame, scores: Val, position: Val, value: Val) -> None:
    f = frame.f
    if not frame.pairs:
        f.store(value, f.element_pointer(scores, FLOAT, position), frame.vector_bytes)
        return
    bits = conversions.round_to_bf16(frame.context, value)
    f.store(bits, f.element_pointer(scores, "i16", position), frame.vector_bytes // 2)


def _exp2(frame: Frame, x: Val) -> Val:
    """2**x for x up to about 1, to the precision that the products keep; NaN stays NaN."""
    f = frame.f
    coefficients = _EXP2_SHORT if frame.pairs else _EXP2
    if frame.lanes == 16:
        x = f.select(f.compare("fcmp olt", x, like(x, -160.0)), like(x, -160.0), x)
        whole = intrinsic(f, "roundeven", x)
        part = polynomial(f, f.binary("fsub", x, whole), coefficients)
        return scale_by_power(frame.context, part, whole)
    tiny = f.compare("fcmp olt", x, like(x, -126.0))
    whole = intrinsic(f, "roundeven", f.select(tiny, like(x, 0.0), x))
    part = polynomial(f, f.binary("fsub", x, whole), coefficients)
    bits = f.cast("fptosi", whole, frame.word_vector)
    bits = f.binary("shl", bits, int_const(23, bits.type))
    scaled = f.binary("add", f.cast("bitcast", part, frame.word_vector), bits)
    return f.select(tiny, like(x, 0.0), f.cast("bitcast", scaled, frame.vector))


def _rescale(frame: Frame, block: Block, row: Val, change: Val) -> None:
    """Scale the row's sums and total so far by 2**change."""
    f = frame.f
    alpha = _exp2(frame, f.splat(change, frame.lanes))
    first = f.emit(f"extractelement {alpha}, i64 0", FLOAT)
    place = f.element_pointer(block.totals, FLOAT, row)
    f.store(f.binary("fmul", f.load(FLOAT, place, 4), first), place, 4)
    sums = frame.row(frame.sum_area, row, frame.value_vectors * frame.vector_bytes)
    with f.loop(int_const(0), int_const(frame.value_vectors)) as v:
        spot = frame.row(sums, v, frame.vector_bytes)
        value = f.binary("fmul", f.load(frame.vector, spot, frame.vector_bytes), alpha)
        f.store(value, spot, frame.vector_bytes)
