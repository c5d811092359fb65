"""Index maps: every result element is an operand element, its bits as another type, or padding."""

from __future__ import annotations

import numpy as np

from ranvier.ir.dim import Dim, bounds, product
from ranvier.ir.dtype import BOOL
from ranvier.ir.graph import TensorType
from ranvier.ir.operators.operator import (
    DIMS,
    DTYPE,
    INT,
    INTS,
    SCALAR,
    Call,
    Numbers,
    Operator,
    Types,
    choice,
    unary,
)
from ranvier.ir.operators.shapes import axes, axis, broadcasts_to, require_same_dtype


def _infer_reshape(call: Call) -> Types:
    shape = call.dims("shape")
    if product(shape) != product(call.first.shape):
        raise call.error(
            f"{product(call.first.shape)} elements cannot be proved equal to {product(shape)}"
        )
    return call.same(shape)


def _infer_transpose(call: Call) -> Types:
    order = call.ints("permutation")
    if sorted(order) != list(range(call.first.rank)):
        raise call.error(f"{order} is not a permutation of {call.first.rank} dims")
    return call.same(tuple(call.first.shape[i] for i in order))


def _infer_broadcast(call: Call) -> Types:
    shape = call.dims("shape")
    if not broadcasts_to(call.first.shape, shape):
        raise call.error("the operand does not broadcast to the shape")
    return call.same(shape)


def _require_entries(call: Call, *names: str) -> None:
    for name in names:
        if len(call.dims(name)) != call.first.rank:
            raise call.error(f"{name} needs one entry per dim of the operand")


def _infer_slice(call: Call) -> Types:
    _require_entries(call, "starts", "stops", "steps")
    starts, stops, steps = call.dims("starts"), call.dims("stops"), call.ints("steps")
    sizes: list[Dim] = []
    for size, start, stop, step in zip(call.first.shape, starts, stops, steps, strict=True):
        if step < 1 or _negative(start) or _negative(stop - start) or _negative(size - stop):
            raise call.error(f"{start}:{stop}:{step} is not within 0..{size}")
        sizes.append((stop - start + (step - 1)) // step)
    return call.same(tuple(sizes))


def _negative(dim: Dim) -> bool:
    """Whether a dim is below zero whatever its symbols are."""
    _, high = bounds(dim)
    return high is not None and high < 0


def _slice(call: Call, x: Numbers) -> Numbers:
    bounds_and_steps = zip(
        call.sizes("starts"), call.sizes("stops"), call.ints("steps"), strict=True
    )
    return x[tuple(slice(*entry) for entry in bounds_and_steps)]


def _infer_reverse(call: Call) -> Types:
    axes(call, call.ints("axes"))
    return call.same()


def _infer_pad(call: Call) -> Types:
    _require_entries(call, "low", "high")
    padded = zip(call.first.shape, call.dims("low"), call.dims("high"), strict=True)
    shape = tuple(size + low + high for size, low, high in padded)
    if any(map(_negative, shape)):
        raise call.error("crops more than the operand has")
    return call.same(shape)


def _pad(call: Call, x: Numbers) -> Numbers:
    if not x.ndim:
        return x
    low, high = call.sizes("low"), call.sizes("high")
    crop = tuple(
        slice(max(-a, 0), size - max(-b, 0)) for a, b, size in zip(low, high, x.shape, strict=True)
    )
    widths = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
    mode = call.text("mode")
    if mode == "constant":
        value = np.asarray(call.attributes["value"]).astype(x.dtype)
        return np.pad(x[crop], widths, constant_values=value)
    return np.pad(x[crop], widths, mode="edge" if mode == "edge" else "reflect")


def _infer_concat(call: Call) -> Types:
    dtype = require_same_dtype(call)
    along = axis(call, call.integer("axis"))
    shapes = [operand.shape for operand in call.operands]
    others = {shape[:along] + shape[along + 1 :] for shape in shapes}
    if len(others) != 1:
        raise call.error(f"operands differ outside axis {along}")
    total: Dim = 0
    for shape in shapes:
        total = total + shape[along]
    first = shapes[0]
    return (TensorType(dtype, (*first[:along], total, *first[along + 1 :])),)


def _infer_roll(call: Call) -> Types:
    axes(call, call.ints("axes"))
    if len(call.dims("shifts")) != len(call.ints("axes")):
        raise call.error("needs one shift per axis")
    return call.same()


def _infer_bit_cast(call: Call) -> Types:
    target = call.dtype()
    if target.size != call.first.dtype.size:
        raise call.error(f"{target} has another size than {call.first.dtype}")
    if target == BOOL and call.first.dtype != BOOL:
        raise call.error("a bool is 0 or 1; compare with 0 instead")
    return call.same(dtype=target)


def _bit_cast(call: Call, x: Numbers) -> Numbers:
    return np.ascontiguousarray(x).view(call.dtype().storage).reshape(x.shape)


def _transpose(call: Call, x: Numbers) -> Numbers:
    return np.transpose(x, call.ints("permutation"))


def _concat(call: Call, *arrays: Numbers) -> Numbers:
    return np.concatenate(arrays, axis=call.integer("axis"))


_PAD = {"low": DIMS, "high": DIMS, "mode": choice("constant", "reflect", "edge"), "value": SCALAR}

OPERATORS = (
    unary(
        "reshape",
        _infer_reshape,
        lambda call, x: x.reshape(call.sizes("shape")),
        {"shape": DIMS},
        "raw",
    ),
    unary("bit_cast", _infer_bit_cast, _bit_cast, {"dtype": DTYPE}, "raw"),
    unary("transpose", _infer_transpose, _transpose, {"permutation": INTS}, "raw"),
    unary(
        "broadcast",
        _infer_broadcast,
        lambda call, x: np.broadcast_to(x, call.sizes("shape")),
        {"shape": DIMS},
        "raw",
    ),
    unary("slice", _infer_slice, _slice, {"starts": DIMS, "stops": DIMS, "steps": INTS}, "raw"),
    unary(
        "reverse",
        _infer_reverse,
        lambda call, x: np.flip(x, call.ints("axes")),
        {"axes": INTS},
        "raw",
    ),
    unary("pad", _infer_pad, _pad, _PAD),
    Operator("concat", 1, None, _infer_concat, _concat, {"axis": INT}, "raw"),
    unary(
        "roll",
        _infer_roll,
        lambda call, x: np.roll(x, call.sizes("shifts"), call.ints("axes")),
        {"shifts": DIMS, "axes": INTS},
        "raw",
    ),
)
