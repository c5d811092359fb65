"""Steps of optimisers: plain arithmetic, without gradients of their own."""

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import TRAINING, onnx_operator
from ranvier.ir.dtype import F32
from ranvier.ir.graph import Value


def _rows(tensors: Sequence[Value], kinds: int) -> list[tuple[Value, ...]]:
    """Tensors that lie kind by kind, as one row per parameter."""
    count = len(tensors) // kinds
    return [tuple(tensors[k * count + i] for k in range(kinds)) for i in range(count)]


def _by_kind(rows: Sequence[tuple[Value, ...]]) -> tuple[Value, ...]:
    return tuple(value for kind in zip(*rows, strict=True) for value in kind)


def _sum(call: Call, a: Value, factor: float, b: Value, other: float = 1.0) -> Value:
    """factor * a + other * b."""
    first = call.number("mul", a, factor)
    return call.emit("add", first, b if other == 1.0 else call.number("mul", b, other))


def _scaled(call: Call, rate: Value, x: Value) -> Value:
    return call.emit("mul", call.cast(call.reshape(rate, ()), x.dtype), x)


@onnx_operator("Momentum", domain=TRAINING)
def momentum(
    call: Call, rate: Value, time: Value, *tensors: Value,
    alpha: float, beta: float, mode: str, norm_coefficient: float,
) -> tuple[Value, ...]:  # fmt: skip
    """New parameters and momentums, by the plain rule or Nesterov's."""
    if mode not in ("standard", "nesterov"):
        raise Refusal(f"has the mode {mode}")
    started = call.number("greater", call.reshape(time, ()), 0)
    rows = []
    for x, gradient, velocity in _rows(tensors, 3):
        slope = _sum(call, x, norm_coefficient, gradient)
        share = call.where(started, call.scalar(beta, x.dtype), 1.0)
        fresh = _sum(call, velocity, alpha, call.emit("mul", share, slope))
        step = fresh if mode == "standard" else _sum(call, fresh, alpha, slope)
        rows.append((call.emit("sub", x, _scaled(call, rate, step)), fresh))
    return _by_kind(rows)


@onnx_operator("Adagrad", domain=TRAINING)
def adagrad(
    call: Call, rate: Value, time: Value, *tensors: Value,
    decay_factor: float = 0.0, epsilon: float = 1e-6, norm_coefficient: float = 0.0,
) -> tuple[Value, ...]:  # fmt: skip
    """New parameters and sums of squares."""
    age = call.cast(call.reshape(time, ()), F32)
    decay = call.number("add", call.number("mul", age, decay_factor), 1.0)
    adjusted = call.emit("div", call.cast(call.reshape(rate, ()), F32), decay)
    rows = []
    for x, gradient, squares in _rows(tensors, 3):
        slope = _sum(call, x, norm_coefficient, gradient)
        fresh = call.emit("add", squares, call.emit("mul", slope, slope))
        below = call.number("add", call.emit("sqrt", fresh), epsilon)
        step = call.emit("div", _scaled(call, adjusted, slope), below)
        rows.append((call.emit("sub", x, step), fresh))
    return _by_kind(rows)


@onnx_operator("Adam", domain=TRAINING)
def adam(
    call: Call, rate: Value, time: Value, *tensors: Value,
    alpha: float = 0.9, beta: float = 0.999, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0, norm_coefficient_post: float = 0.0,
) -> tuple[Value, ...]:  # fmt: skip
    """New parameters, momentums and sums of squares."""
    age = call.cast(call.reshape(time, ()), F32)
    first = call.cast(call.reshape(rate, ()), F32)
    above = call.emit("sqrt", _remaining(call, beta, age))
    corrected = call.emit("div", call.emit("mul", first, above), _remaining(call, alpha, age))
    adjusted = call.emit("where", call.number("greater", age, 0.0), corrected, first)
    rows = []
    for x, gradient, velocity, squares in _rows(tensors, 4):
        slope = _sum(call, x, norm_coefficient, gradient)
        fresh = _sum(call, velocity, alpha, slope, 1 - alpha)
        spread = _sum(call, squares, beta, call.emit("mul", slope, slope), 1 - beta)
        below = call.number("add", call.emit("sqrt", spread), epsilon)
        step = _scaled(call, adjusted, call.emit("div", fresh, below))
        moved = call.emit("sub", x, step)
        rows.append((call.number("mul", moved, 1 - norm_coefficient_post), fresh, spread))
    return _by_kind(rows)


def _remaining(call: Call, factor: float, age: Value) -> Value:
    """1 - factor ** age."""
    power = call.emit("pow", call.scalar(factor, F32), age)
    return call.emit("sub", call.scalar(1.0, F32), power)
