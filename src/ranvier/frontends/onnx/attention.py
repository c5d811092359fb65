"""Attention as one operator of the IR; masks of every kind become one operand."""

from __future__ import annotations

import math

from ranvier.frontends.onnx.call import Call, static
from ranvier.frontends.onnx.refusal import Expand
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Value


@onnx_operator("Attention", since=23)
def attention(
    call: Call, q: Value, k: Value, v: Value, mask: Value | None = None,
    past_key: Value | None = None, past_value: Value | None = None,
    lengths: Value | None = None,
    *, is_causal: int = 0, kv_num_heads: int | None = None, left_window_size: int = -1,
    q_num_heads: int | None = None, qk_matmul_output_mode: int = 0, right_window_size: int = -1,
    scale: float | None = None, softcap: float = 0.0, softmax_precision: int | None = None,
) -> tuple[Value | None, ...]:  # fmt: skip
    """softmax(scale * q k^T + mask) v per head; keys and values continue those of the past."""
    if softcap or 3 in call.used:
        raise Expand("shows or changes its scores")
    flat = q.rank == 3
    if flat:
        q = _heads(call, q, q_num_heads)
        k, v = _heads(call, k, kv_num_heads), _heads(call, v, kv_num_heads)
    offset: Value | None = None
    if past_key is not None and past_value is not None:
        offset = call.scalar(past_key.shape[2], I64)
        k = call.concat((past_key, k), 2)
        v = call.concat((past_value, v), 2)
    elif lengths is not None:
        each = call.reshape(call.cast(lengths, I64), (q.shape[0], 1, 1, 1))
        offset = call.emit("sub", each, call.scalar(q.shape[2], I64))
    present = (k, v)
    size = static(q.shape[3], "the size of its heads")
    factor = 1 / math.sqrt(size) if scale is None else scale
    plain = bool(is_causal) and offset is None and left_window_size < 0 and right_window_size < 0
    kept = _kept(
        call, q.shape[2], k.shape[2], offset, bool(is_causal) and not plain,
        (left_window_size, right_window_size), lengths,
    )  # fmt: skip
    combined = _combined(call, mask, kept, k.shape[2])
    groups = _groups(q.shape[1], k.shape[1])
    result = call.emit(
        "attention", q, _repeated(call, k, groups), _repeated(call, v, groups),
        *([] if combined is None else [combined]), scale=float(factor), causal=plain,
    )  # fmt: skip
    if flat:
        result = call.transpose(result, (0, 2, 1, 3))
        result = call.reshape(result, (*result.shape[:2], result.shape[2] * result.shape[3]))
    return result, *present, None


def _heads(call: Call, x: Value, heads: int | None) -> Value:
    """`[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`."""
    if heads is None:
        raise Expand("does not say how many heads it has")
    batch, length, width = x.shape
    split = call.reshape(x, (batch, length, heads, width // heads))
    return call.transpose(split, (0, 2, 1, 3))


def _groups(queries: Dim, keys: Dim) -> int:
    """How many heads of queries share one of keys."""
    return static(queries, "the number of its heads") // static(keys, "the number of its heads")


def _repeated(call: Call, x: Value, count: int) -> Value:
    """Every head `count` times."""
    if count == 1:
        return x
    batch, heads, length, size = x.shape
    spread = call.reshape(x, (batch, heads, 1, length, size))
    spread = call.broadcast(spread, (batch, heads, count, length, size))
    return call.reshape(spread, (batch, heads * count, length, size))


def _kept(
    call: Call, rows: Dim, columns: Dim, offset: Value | None, causal: bool,
    window: tuple[int, int], lengths: Value | None,
) -> Value | None:  # fmt: skip
    """The scores that count, or None where all of them do.

    Row i is the position i + offset: a causal row sees columns up to it, one with a window those
    near it. Columns from a batch's length on are padding.
    """
    parts: list[Value] = []
    column = call.iota(columns, axis=3, rank=4)
    row = call.iota(rows, axis=2, rank=4)
    place = row if offset is None else call.emit("add", row, offset)
    if causal:
        parts.append(call.emit("less_equal", column, place))
    behind = call.emit("sub", place, column)
    left, right = window
    if left >= 0:
        parts.append(call.number("less_equal", behind, left))
    if right >= 0:
        parts.append(call.number("greater_equal", behind, -right))
    if lengths is not None:
        each = call.reshape(call.cast(lengths, I64), (lengths.shape[0], 1, 1, 1))
        parts.append(call.emit("less", column, each))
    return call.chain("logical_and", parts) if parts else None


def _combined(call: Call, mask: Value | None, kept: Value | None, columns: Dim) -> Value | None:
    """A mask that counts for fewer columns hides the others."""
    if mask is None:
        return kept
    last = mask.rank - 1
    if mask.shape[last] != columns and mask.shape[last] != 1:
        fill = False if mask.dtype == BOOL else -math.inf
        mask = call.pad(mask, {last: (0, columns - mask.shape[last])}, fill)
    if kept is None:
        return mask
    if mask.dtype == BOOL:
        return call.emit("logical_and", mask, kept)
    return call.where(kept, mask, -math.inf)
