"""Code of the attention kernel (`lowering/kernels/attention.py`).

for b of this thread:
    pack keys and values of b into the thread's scratch
    for block of query rows of b of this thread:
        for block of keys (up to the diagonal if causal):
            scores = queries * keys;  online softmax;  sums += probabilities * values
        store sums / totals
"""

from __future__ import annotations

import math

from ranvier.codegen.attention_block import Block, emit_scores, emit_softmax, emit_values
from ranvier.codegen.attention_frame import Frame
from ranvier.codegen.attention_packing import pack_keys, pack_queries, pack_values
from ranvier.codegen.builder import (
    FLOAT,
    I1,
    PTR,
    FunctionBuilder,
    ModuleWriter,
    Val,
    float_const,
    int_const,
    vector,
)
from ranvier.codegen.expression import ExpressionEmitter, Lanes
from ranvier.codegen.kernel_parameters import THREAD_PARAMETERS, kernel_parameters
from ranvier.errors import CompileError
from ranvier.ir.dtype import BF16, F32
from ranvier.lowering.kernels.attention import (
    DEPTH,
    KEY_BLOCK,
    OUTER,
    QUERY,
    QUERY_ROWS,
    Attention,
)
from ranvier.target import Target


def emit_attention(module: ModuleWriter, name: str, kernel: Attention, target: Target) -> None:
    """Add the function `name` for `kernel` to the module (calling convention: architecture.md).

    Raises:
        CompileError: queries, keys and values are neither f32 nor bf16.
    """
    if kernel.dtype not in (F32, BF16):
        raise CompileError(f"attention reads f32 or bf16, not {kernel.dtype}")
    f = FunctionBuilder(module, name, kernel_parameters(kernel) + THREAD_PARAMETERS)
    maxima = f.emit(f"alloca [{QUERY_ROWS} x float], align 64", PTR)
    totals = f.emit(f"alloca [{QUERY_ROWS} x float], align 64", PTR)
    frame = Frame(f, target, kernel)
    frame.start()
    _heads(frame, maxima, totals)
    f.ret()
    f.finish()


def _heads(frame: Frame, maxima: Val, totals: Val) -> None:
    """Loop over this thread's share of (b, block of queries), which are counted with b outside."""
    f = frame.f
    batches = frame.dim(frame.kernel.batches)
    blocks = frame.round_up_div(frame.queries, QUERY_ROWS)
    pieces = f.binary("mul", batches, blocks)
    thread, threads = f.arg("thread"), f.arg("threads")
    first = f.binary("udiv", f.binary("mul", pieces, thread), threads)
    last = f.binary("udiv", f.binary("mul", pieces, frame.add(thread, 1)), threads)
    divisor = frame.maximum(blocks, int_const(1))
    start = f.binary("udiv", first, divisor)
    end = f.binary("udiv", frame.add(last, frame.add(divisor, -1)), divisor)
    end = f.select(f.compare("icmp slt", first, last), end, start)
    with f.loop(start, end, hint="b") as outer:
        pack_keys(frame, outer)
        pack_values(frame, outer)
        before = f.binary("mul", outer, blocks)
        low = frame.maximum(f.binary("sub", first, before), int_const(0))
        high = frame.minimum(f.binary("sub", last, before), blocks)
        with f.loop(low, high) as index:
            place = _balanced(frame, index, blocks) if frame.kernel.causal else index
            query = f.binary("mul", place, int_const(QUERY_ROWS))
            _query_block(frame, outer, query, maxima, totals)


def _balanced(frame: Frame, index: Val, blocks: Val) -> Val:
    """0, n - 1, 1, n - 2, ...: any range of these below a diagonal costs about the same."""
    f = frame.f
    half = f.binary("lshr", index, int_const(1))
    odd = f.compare("icmp ne", f.binary("and", index, int_const(1)), int_const(0))
    from_end = f.binary("sub", frame.add(blocks, -1), half)
    return f.select(odd, from_end, half)


def _query_block(frame: Frame, outer: Val, query: Val, maxima: Val, totals: Val) -> None:
    f = frame.f
    pack_queries(frame, outer, query)
    rows = frame.minimum(f.binary("sub", frame.queries, query), int_const(QUERY_ROWS))
    _clear(frame, maxima, totals)
    end = frame.keys
    if frame.kernel.causal:
        end = frame.minimum(end, frame.add(query, rows))
    with f.loop(int_const(0), end, KEY_BLOCK) as key:
        keys = frame.minimum(f.binary("sub", end, key), int_const(KEY_BLOCK))
        block = Block(outer, query, rows, key, keys, maxima, totals)
        emit_scores(frame, block)
        emit_softmax(frame, block)
        emit_values(frame, block)
    with f.loop(int_const(0), rows) as row:
        _store_row(frame, outer, frame.add(query, row), row, totals)


def _clear(frame: Frame, maxima: Val, totals: Val) -> None:
    """Maxima -inf, totals and sums zero."""
    f = frame.f
    for row in range(QUERY_ROWS):
        place = int_const(row)
        f.store(float_const(-math.inf), f.element_pointer(maxima, FLOAT, place), 4)
        f.store(float_const(0.0), f.element_pointer(totals, FLOAT, place), 4)
    with f.loop(int_const(0), int_const(QUERY_ROWS * frame.value_vectors)) as v:
        spot = frame.row(frame.sum_area, v, frame.vector_bytes)
        f.store(float_const(0.0, frame.vector), spot, frame.vector_bytes)


def _store_row(frame: Frame, outer: Val, query: Val, row: Val, totals: Val) -> None:
    """Divide a row by its total and emit the stores."""
    f, kernel, lanes = frame.f, frame.kernel, frame.lanes
    total = f.load(FLOAT, f.element_pointer(totals, FLOAT, row), 4)
    inverse = f.binary("fdiv", float_const(1.0), total)
    if kernel.empty_rows_are_zero:
        empty = f.compare("fcmp oeq", total, float_const(0.0))
        inverse = f.select(empty, float_const(0.0), inverse)
    factor = f.splat(inverse, lanes)
    sums = frame.row(frame.sum_area, row, frame.value_vectors * frame.vector_bytes)

    def store(v: Val, present: int) -> None:
        value = f.load(frame.vector, frame.row(sums, v, frame.vector_bytes), frame.vector_bytes)
        column = f.binary("mul", v, int_const(lanes))
        variables = {**frame.environment, OUTER: outer, QUERY: query, DEPTH: column}
        active, value = _active(frame, present, f.binary("fmul", value, factor))
        emitter = ExpressionEmitter(f, frame.target, frame.operands, variables, active, value)
        for item in kernel.stores:
            emitter.store(item)

    whole, rest = divmod(kernel.value_dim, lanes)
    with f.loop(int_const(0), int_const(whole)) as vector_index:
        store(vector_index, lanes)
    if rest:
        store(int_const(whole), rest)


def _active(frame: Frame, present: int, value: Val) -> tuple[Lanes | None, Val]:
    """The lanes that store `present` columns of `value`.

    One column is stored as a scalar: of a masked store of one 16-bit lane under a constant mask
    LLVM 22 makes a store of four bytes when the value has been truncated.
    """
    lanes = frame.lanes
    if present >= lanes:
        return Lanes(DEPTH, lanes), value
    if present == 1:
        return None, frame.f.emit(f"extractelement {value}, i64 0", FLOAT)
    bits = ", ".join(f"i1 {int(lane < present)}" for lane in range(lanes))
    return Lanes(DEPTH, lanes, Val(f"<{bits}>", vector(lanes, I1))), value
