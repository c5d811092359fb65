"""Resampling of the spatial dims of `[N, C, spatial...]`.

Every dim is resampled on its own by a matrix of weights `[out, in]`. Output position i lies at the
input coordinate (i + 0.5) * in / out - 0.5 (half_pixel), i * (in - 1) / (out - 1) (align_corners)
or i * in / out (asymmetric).
"""

from __future__ import annotations

import numpy as np

from ranvier.ir.operators.operator import BOOLEAN, DIMS, Call, Numbers, Types, choice, unary
from ranvier.ir.operators.shapes import require_float

CUBIC_COEFFICIENT = -0.75  # Keys' a, as PyTorch and ONNX use it; -0.5 with antialiasing, as Pillow


def _infer(call: Call) -> Types:
    size = call.dims("size")
    if call.text("mode") != "nearest":
        require_float(call)
    if call.first.rank != len(size) + 2:
        raise call.error(f"needs data [N, C, ...] with {len(size)} spatial dims")
    smooth = call.text("mode") != "nearest" and call.text("coordinates") == "half_pixel"
    if call.flag("antialias") and not smooth:
        raise call.error("antialias needs mode linear or cubic and coordinates half_pixel")
    return call.same((*call.first.shape[:2], *size))


def coordinates(out: int, size: int, rule: str) -> Numbers:
    """Input coordinate of every output position, in f64."""
    places = np.arange(out, dtype=np.float64)
    if rule == "half_pixel":
        return (places + 0.5) * size / out - 0.5
    if rule == "asymmetric":
        return places * size / out
    return places * (size - 1) / (out - 1) if out > 1 else np.zeros(out)


def _nearest(out: int, size: int, rule: str) -> Numbers:
    """Index read by every output position.

    PyTorch's "nearest" is asymmetric, its "nearest-exact" half_pixel.
    """
    places = np.arange(out)
    if rule == "asymmetric":
        return places * size // out
    if rule == "half_pixel":
        return (2 * places + 1) * size // (2 * out)
    return np.floor(coordinates(out, size, rule) + 0.5).astype(np.int64)


def _kernel(mode: str, distance: Numbers, cubic: float) -> Numbers:
    """Weight at a distance: a triangle, or Keys' cubic convolution (IEEE TASSP 29, 1981)."""
    d = np.abs(distance)
    if mode == "linear":
        return np.asarray(np.maximum(1 - d, 0))
    near = ((cubic + 2) * d - (cubic + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * cubic - 4 * cubic
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def weights(out: int, size: int, mode: str, rule: str, antialias: bool) -> Numbers:
    """The matrix `[out, size]` that resamples one dim."""
    if antialias:
        return _antialias_weights(out, size, mode)
    matrix = np.zeros((out, size))
    where = coordinates(out, size, rule)
    if mode == "linear":
        where = np.clip(where, 0, None)
    base = np.floor(where).astype(np.int64)
    reach = range(2) if mode == "linear" else range(-1, 3)
    for offset in reach:
        weight = _kernel(mode, where - (base + offset), CUBIC_COEFFICIENT)
        np.add.at(matrix, (np.arange(out), np.clip(base + offset, 0, size - 1)), weight)
    return matrix


def _antialias_weights(out: int, size: int, mode: str) -> Numbers:
    """The kernel stretched by the scale where the dim shrinks, normalised over the input."""
    scale = max(size / out, 1.0)
    distance = np.arange(size)[None, :] - coordinates(out, size, "half_pixel")[:, None]
    matrix = _kernel(mode, distance / scale, -0.5)
    return np.asarray(matrix / np.sum(matrix, axis=1, keepdims=True))


def _resize(call: Call, x: Numbers) -> Numbers:
    mode, rule = call.text("mode"), call.text("coordinates")
    for i, out in enumerate(call.sizes("size")):
        axis = i + 2
        if mode == "nearest":
            x = np.take(x, np.clip(_nearest(out, x.shape[axis], rule), 0, x.shape[axis] - 1), axis)
            continue
        matrix = weights(out, x.shape[axis], mode, rule, call.flag("antialias"))
        x = np.moveaxis(np.tensordot(x, matrix.astype(np.float64), (axis, 1)), -1, axis)
    return x


OPERATORS = (
    unary(
        "resize",
        _infer,
        _resize,
        {
            "size": DIMS,
            "mode": choice("nearest", "linear", "cubic"),
            "coordinates": choice("half_pixel", "align_corners", "asymmetric"),
            "antialias": BOOLEAN,
        },
    ),
)
