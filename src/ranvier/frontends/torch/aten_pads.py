"""Padding of ATen: with a number, by reflection, by repetition, in a circle."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, static
from ranvier.frontends.torch.dtypes import Scalar
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Value


def _pad(call: Call, x: Value, pad: Sequence[Dim], mode: str, value: Scalar = 0) -> Value:
    """ATen lists (low, high) pairs from the last dim on."""
    lows: list[Dim] = [0] * x.rank
    highs: list[Dim] = [0] * x.rank
    for i in range(len(pad) // 2):
        lows[x.rank - 1 - i], highs[x.rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    if not any(side != 0 for side in (*lows, *highs)):
        return x
    if not isinstance(value, (bool, int, float)):
        raise Refusal(f"value is symbolic ({value})")
    if mode == "constant":
        return call.emit("pad", x, low=tuple(lows), high=tuple(highs), mode=mode, value=value)
    return _pad_then_crop(call, x, lows, highs, mode)


def _pad_then_crop(
    call: Call, x: Value, lows: Sequence[Dim], highs: Sequence[Dim], mode: str
) -> Value:
    """What is added repeats or reflects elements that are cropped afterwards."""
    added = [tuple(_not_negative(side) for side in sides) for sides in (lows, highs)]
    if any(side != 0 for side in (*added[0], *added[1])):
        x = call.emit("pad", x, low=added[0], high=added[1], mode=mode, value=0)
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        first, last = added[0][i] - low, added[1][i] - high
        x = call.slice(x, i, first, x.shape[i] - last)
    return x


def _not_negative(side: Dim) -> Dim:
    """The side where it adds elements, 0 where it crops them."""
    return max(side, 0) if isinstance(side, int) else side


@aten("constant_pad_nd")
def constant_pad(call: Call, x: Value, pad: Sequence[Dim], value: Scalar = 0) -> Value:
    return _pad(call, x, pad, "constant", value)


@aten("pad")
def pad(call: Call, x: Value, pad: Sequence[Dim], mode: str, value: float | None = None) -> Value:
    if mode == "circular":
        return _pad_circular(call, x, pad)
    return _pad(call, x, pad, {"replicate": "edge"}.get(mode, mode), value or 0)


def _pad_circular(call: Call, x: Value, pad: Sequence[Dim]) -> Value:
    """The end of every padded dim before it, its start behind it."""
    for i in range(len(pad) // 2):
        axis = x.rank - 1 - i
        low, high = (static(side, "circular padding") for side in pad[2 * i : 2 * i + 2])
        if low < 0 or high < 0:
            raise Refusal("circular padding that crops is not supported")
        size = x.shape[axis]
        parts = [x]
        if low:
            parts.insert(0, call.slice(x, axis, size - low, size))
        if high:
            parts.append(call.slice(x, axis, 0, high))
        x = x if len(parts) == 1 else call.emit("concat", *parts, axis=axis)
    return x


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(call: Call, x: Value, padding: Sequence[Dim]) -> Value:
    return _pad(call, x, padding, "reflect")


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(call: Call, x: Value, padding: Sequence[Dim]) -> Value:
    return _pad(call, x, padding, "edge")
