"""Packing for the attention kernel: queries, keys and values of one head into a thread's scratch.

A word is one f32, or two bf16 adjacent in the direction of the sum (`ScratchLayout`). Keys are
transposed in registers, a square of `lanes x lanes` words at a time: log2(lanes) rounds that swap
the off-diagonal blocks of ever smaller squares (Eklundh, IEEE Trans. Computers C-21, 1972).
"""

from __future__ import annotations

from collections.abc import Callable

from ranvier.codegen import memory
from ranvier.codegen.attention_frame import Frame
from ranvier.codegen.builder import FLOAT, I16, Val, int_const
from ranvier.ir.dtype import F32
from ranvier.lowering.kernels.attention import OUTER, QUERY_ROWS, ROW, Rows


def pack_queries(frame: Frame, outer: Val, first: Val) -> None:
    """Copy QUERY_ROWS queries from `first` on, as words; past the end the last one is repeated."""
    f = frame.f
    row_bytes = query_row_bytes(frame)
    last = frame.add(frame.queries, -1)
    with f.loop(int_const(0), int_const(QUERY_ROWS)) as row:
        index = frame.minimum(frame.add(first, row), last)
        source = _row_start(frame, frame.kernel.query, outer, index), None
        target = frame.row(frame.query_area, row, row_bytes)

        def copy(chunk: Val, size: int, source: _Row = source, target: Val = target) -> None:
            words = _load_words(frame, source, chunk, size)
            f.store(words, frame.row(target, chunk, frame.vector_bytes), frame.vector_bytes)

        _chunks(frame, frame.kernel.head_dim, frame.lanes * frame.unit, copy)


def query_row_bytes(frame: Frame) -> int:
    """Bytes from one packed query to the next."""
    return -(-frame.head_words // frame.lanes) * frame.vector_bytes


def pack_keys(frame: Frame, outer: Val) -> None:
    """Transpose the keys of `outer`: [vector of keys][words][keys of the vector]."""
    f, lanes = frame.f, frame.lanes
    vectors = frame.round_up_div(frame.keys, lanes)
    with f.loop(int_const(0), vectors) as group:
        first = f.binary("mul", group, int_const(lanes))
        indices = [frame.add(first, lane) for lane in range(lanes)]
        rows = [_key_row(frame, frame.kernel.key, outer, index) for index in indices]
        target = frame.row(frame.key_area, group, frame.head_words * frame.vector_bytes)

        def copy(chunk: Val, size: int, rows: list[_Row] = rows, target: Val = target) -> None:
            square = [_load_words(frame, row, chunk, size) for row in rows]
            place = frame.row(target, chunk, lanes * frame.vector_bytes)
            count = -(-size // frame.unit)
            for word, column in enumerate(transpose(frame, square)[:count]):
                spot = frame.at(place, word * frame.vector_bytes)
                f.store(column, spot, frame.vector_bytes)

        _chunks(frame, frame.kernel.head_dim, lanes * frame.unit, copy)


def pack_values(frame: Frame, outer: Val) -> None:
    """Copy the values of `outer`: [words of keys][value columns], zeros behind the last key."""
    f, lanes, unit = frame.f, frame.lanes, frame.unit
    steps = f.binary("mul", frame.round_up_div(frame.keys, lanes), int_const(lanes // unit))
    columns = frame.value_vectors * frame.vector_bytes
    with f.loop(int_const(0), steps) as step:
        first = f.binary("mul", step, int_const(unit))
        indices = [frame.add(first, k) for k in range(unit)]
        rows = [_key_row(frame, frame.kernel.value, outer, index) for index in indices]
        target = frame.row(frame.value_area, step, columns)

        def copy(chunk: Val, size: int, rows: list[_Row] = rows, target: Val = target) -> None:
            words = _interleave(frame, [_load_columns(frame, row, chunk, size) for row in rows])
            f.store(words, frame.row(target, chunk, frame.vector_bytes), frame.vector_bytes)

        _chunks(frame, frame.kernel.value_dim, lanes, copy)


def transpose(frame: Frame, rows: list[Val]) -> list[Val]:
    """The transpose of a square of words held as one vector per row."""
    lanes = frame.lanes
    half = lanes // 2
    while half:
        swapped = list(rows)
        for i in (i for i in range(lanes) if not i & half):
            a, b = rows[i], rows[i + half]
            low = [k if not k & half else lanes + k - half for k in range(lanes)]
            high = [k + half if not k & half else lanes + k for k in range(lanes)]
            swapped[i] = frame.f.shuffle(a, b, low)
            swapped[i + half] = frame.f.shuffle(a, b, high)
        rows = swapped
        half //= 2
    return rows


# Rows --------------------------------------------------------------------------------------------
_Row = tuple[Val, Val | None]  # address of the first element, and whether the row exists


def _row_start(frame: Frame, rows: Rows, outer: Val, index: Val) -> Val:
    start = frame.dim(rows.start * frame.kernel.dtype.size, **{OUTER: outer, ROW: index})
    return frame.at(frame.operands[rows.operand], start)


def _key_row(frame: Frame, rows: Rows, outer: Val, index: Val) -> _Row:
    exists = frame.f.compare("icmp slt", index, frame.keys)
    return _row_start(frame, rows, outer, index), exists


def _chunks(frame: Frame, elements: int, width: int, body: Callable[[Val, int], None]) -> None:
    """Run `body(chunk, size)` for every `width` elements, and for the rest with its own size."""
    whole, rest = divmod(elements, width)
    if whole == 1:
        body(int_const(0), width)
    elif whole:
        with frame.f.loop(int_const(0), int_const(whole)) as chunk:
            body(chunk, width)
    if rest:
        body(int_const(whole), rest)


def _load_words(frame: Frame, row: _Row, chunk: Val, size: int) -> Val:
    """A vector of words of a row from its chunk of `lanes * unit` elements, zero padded."""
    f, lanes = frame.f, frame.lanes
    pointer = _chunk_pointer(frame, row, chunk, lanes * frame.unit)
    if frame.pairs:
        pairs = frame.load_padded(pointer, I16, size, 2 * lanes)
        return f.cast("bitcast", pairs, frame.word_vector)
    return f.cast("bitcast", _load_f32(frame, pointer, size), frame.word_vector)


def _load_columns(frame: Frame, row: _Row, chunk: Val, size: int) -> Val:
    """`lanes` elements of a row: bf16 for pairs, else f32."""
    pointer = _chunk_pointer(frame, row, chunk, frame.lanes)
    if frame.pairs:
        return frame.load_padded(pointer, I16, size, frame.lanes)
    return _load_f32(frame, pointer, size)


def _load_f32(frame: Frame, pointer: Val, size: int) -> Val:
    f, lanes = frame.f, frame.lanes
    if frame.kernel.dtype is F32:
        return frame.load_padded(pointer, FLOAT, size, lanes)
    bits = f.cast("zext", frame.load_padded(pointer, I16, size, lanes), frame.word_vector)
    shifted = f.binary("shl", bits, int_const(16, bits.type))
    return f.cast("bitcast", shifted, frame.vector)


def _chunk_pointer(frame: Frame, row: _Row, chunk: Val, elements: int) -> Val:
    """The address of a chunk of `elements` per step, or of zeros for a row that does not exist."""
    start, exists = row
    pointer = frame.row(start, chunk, elements * frame.kernel.dtype.size)
    if exists is None:
        return pointer
    return frame.f.select(exists, pointer, memory.zeros(frame.context))


def _interleave(frame: Frame, rows: list[Val]) -> Val:
    """The words of one step: a row of f32, or two rows of bf16 element by element."""
    if len(rows) == 1:
        return rows[0]
    lanes = frame.lanes
    picks = [k // 2 + lanes * (k % 2) for k in range(2 * lanes)]
    return frame.f.shuffle(rows[0], rows[1], picks)
