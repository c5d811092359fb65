"""Operators of `ai.onnx.ml` that work on numbers, and n-gram counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from ranvier.frontends.onnx.call import Call, static
from ranvier.frontends.onnx.dtypes import from_onnx, to_array
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import ML, onnx_operator
from ranvier.ir.dim import product
from ranvier.ir.dtype import F32, I64, Array
from ranvier.ir.graph import Value

_MODES = ("TF", "IDF", "TFIDF")


@onnx_operator("Binarizer", domain=ML)
def binarizer(call: Call, x: Value, *, threshold: float = 0.0) -> Value:
    """1 above a threshold, else 0."""
    return call.cast(call.number("greater", x, threshold), x.dtype)


@onnx_operator("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(call: Call, x: Value, indices: Value) -> Value:
    """Columns of the last dim."""
    count = product(indices.shape)
    flat = call.reshape(indices, (count,))
    found = call.emit("gather", x, flat, axis=x.rank - 1)
    return call.reshape(found, (1, count) if x.rank == 1 else (*x.shape[:-1], count))


@onnx_operator("Scaler", domain=ML)
def scaler(
    call: Call, x: Value, *, offset: tuple[float, ...] = (0.0,), scale: tuple[float, ...] = (1.0,)
) -> Value:
    """(x - offset) * scale, per column."""
    data = x if x.dtype.is_float else call.cast(x, F32)
    shift, factor = (
        call.cast(call.constant(np.asarray(row, np.float32)), data.dtype) for row in (offset, scale)
    )
    return call.cast(call.emit("mul", call.emit("sub", data, shift), factor), F32)


@onnx_operator("LabelEncoder", domain=ML, since=2)
def label_encoder(
    call: Call, x: Value, *, default_float: float = -0.0, default_int64: int = -1,
    default_string: str = "", default_tensor: TensorProto | None = None,
    keys_floats: tuple[float, ...] | None = None, keys_int64s: tuple[int, ...] | None = None,
    keys_strings: tuple[str, ...] | None = None, keys_tensor: TensorProto | None = None,
    values_floats: tuple[float, ...] | None = None, values_int64s: tuple[int, ...] | None = None,
    values_strings: tuple[str, ...] | None = None, values_tensor: TensorProto | None = None,
) -> Value:  # fmt: skip
    """The value that stands beside a key; a default for what is no key."""
    if keys_strings is not None or values_strings is not None:
        raise Refusal("maps strings, which have no native form")
    keys = _table(keys_tensor, keys_floats, keys_int64s)
    values = _table(values_tensor, values_floats, values_int64s)
    default: float = default_float if values_floats is not None else default_int64
    if default_tensor is not None:
        default = to_array(default_tensor).reshape(-1)[0].item()
    column = call.reshape(x, (*x.shape, 1))
    matches = call.emit("equal", column, call.cast(call.constant(keys), x.dtype))
    place = call.emit("arg_max", call.cast(matches, I64), axis=x.rank, keepdims=False)
    found = call.emit("gather", call.constant(values), place, axis=0)
    return call.where(call.reduce("any", matches, (x.rank,)), found, default)


def _table(
    tensor: TensorProto | None, floats: Sequence[float] | None, ints: Sequence[int] | None
) -> Array:
    if tensor is not None:
        from_onnx(tensor.data_type)
        return to_array(tensor).reshape(-1)
    if floats is not None:
        return np.asarray(floats, np.float32)
    return np.asarray(ints, np.int64)


# N-grams ------------------------------------------------------------------------------------------
@onnx_operator("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(
    call: Call, x: Value, *, max_gram_length: int, max_skip_count: int, min_gram_length: int,
    mode: str, ngram_counts: tuple[int, ...], ngram_indexes: tuple[int, ...],
    pool_int64s: tuple[int, ...] = (), pool_strings: tuple[str, ...] = (),
    weights: tuple[float, ...] = (),
) -> Value:  # fmt: skip
    """How often every n-gram of a pool occurs in a row, elements of it at most a skip apart."""
    if pool_strings:
        raise Refusal("counts strings, which have no native form")
    if mode not in _MODES:
        raise Refusal(f"has the mode {mode}")
    length = static(x.shape[-1], "the number of elements of a row")
    rows = call.cast(call.reshape(x, (1, length)) if x.rank == 1 else x, I64)
    outputs = max(ngram_indexes) + 1
    total = call.full((rows.shape[0], outputs), 0.0, F32)
    for grams, targets in _pools(ngram_counts, ngram_indexes, pool_int64s):
        size = grams.shape[1]
        if not min_gram_length <= size <= max_gram_length:
            continue
        for distance in range(1, 2 if size == 1 else max_skip_count + 2):
            if length <= distance * (size - 1):
                continue
            counts = _occurrences(call, rows, grams, length, distance)
            chosen = np.zeros((len(targets), outputs), np.float32)
            chosen[np.arange(len(targets)), targets] = 1.0
            part = call.emit("matmul", call.cast(counts, F32), call.constant(chosen))
            total = call.emit("add", total, part)
    result = _weighted(call, total, mode, weights)
    return call.reshape(result, (outputs,)) if x.rank == 1 else result


def _pools(
    starts: Sequence[int], targets: Sequence[int], pool: Sequence[int]
) -> list[tuple[Array, list[int]]]:
    """(n-grams `[count, n]`, the output of each) for every n that the pool has."""
    found: list[tuple[Array, list[int]]] = []
    first = 0
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else len(pool)
        if end > start:
            grams = np.asarray(pool[start:end], np.int64).reshape(-1, i + 1)
            found.append((grams, list(targets[first : first + len(grams)])))
            first += len(grams)
    return found


def _occurrences(call: Call, rows: Value, grams: Array, length: int, distance: int) -> Value:
    """How often every n-gram occurs in every row with a distance between its elements."""
    size = grams.shape[1]
    count = length - distance * (size - 1)
    places = np.arange(count)[:, None] + distance * np.arange(size)[None, :]
    seen = call.emit("gather", rows, call.constant(places), axis=1)
    seen = call.reshape(seen, (rows.shape[0], count, 1, size))
    hits = call.reduce("all", call.emit("equal", seen, call.constant(grams)), (3,))
    return call.reduce("sum", call.cast(hits, I64), (1,))


def _weighted(call: Call, counts: Value, mode: str, weights: Sequence[float]) -> Value:
    result = counts
    if mode == "IDF":
        result = call.cast(call.number("greater", counts, 0.0), F32)
    if mode == "TF" or not weights:
        return result
    return call.emit("mul", result, call.constant(np.asarray(weights, np.float32)))
