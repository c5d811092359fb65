"""Activation functions of recurrent layers, by name, with their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.ir.graph import Value

Activation = Callable[[Call, Value], Value]


class _Kind(NamedTuple):
    """Defaults of alpha and beta (None: the function has no such parameter), and the function."""

    alpha: float | None
    beta: float | None
    apply: Callable[[Call, Value, float, float], Value]


def _affine(call: Call, x: Value, alpha: float, beta: float) -> Value:
    return call.number("add", call.number("mul", x, alpha), beta)


def _hard_sigmoid(call: Call, x: Value, alpha: float, beta: float) -> Value:
    return call.emit("clamp", _affine(call, x, alpha, beta), min=0.0, max=1.0)


def _scaled_tanh(call: Call, x: Value, alpha: float, beta: float) -> Value:
    return call.number("mul", call.emit("tanh", call.number("mul", x, beta)), alpha)


def _thresholded(call: Call, x: Value, alpha: float, beta: float) -> Value:
    return call.where(call.number("greater_equal", x, alpha), x, 0.0)


def _softsign(call: Call, x: Value, alpha: float, beta: float) -> Value:
    return call.emit("div", x, call.number("add", call.emit("abs", x), 1.0))


def _plain(op: str) -> _Kind:
    return _Kind(None, None, lambda call, x, alpha, beta: call.emit(op, x))


_KINDS = {
    "sigmoid": _plain("sigmoid"),
    "tanh": _plain("tanh"),
    "relu": _plain("relu"),
    "softplus": _plain("softplus"),
    "softsign": _Kind(None, None, _softsign),
    "affine": _Kind(1.0, 0.0, _affine),
    "leakyrelu": _Kind(
        0.01, None, lambda call, x, alpha, beta: call.emit("leaky_relu", x, alpha=alpha)
    ),
    "thresholdedrelu": _Kind(1.0, None, _thresholded),
    "scaledtanh": _Kind(1.0, 1.0, _scaled_tanh),
    "hardsigmoid": _Kind(0.2, 0.5, _hard_sigmoid),
    "elu": _Kind(
        1.0,
        None,
        lambda call, x, alpha, beta: call.emit("elu", x, alpha=alpha, scale=1.0, input_scale=1.0),
    ),
}


def activations_of(
    names: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
    clips: Sequence[float | None],
) -> list[Activation]:
    """The functions in order; those that have a parameter take the next of the numbers given.

    `clips` are limits of their operands.
    """
    alpha, beta = iter(alphas), iter(betas)
    return [_activation(name, alpha, beta, clip) for name, clip in zip(names, clips, strict=True)]


def _activation(
    name: str, alphas: Iterator[float], betas: Iterator[float], clip: float | None
) -> Activation:
    kind = _KINDS.get(name.lower())
    if kind is None:
        raise Refusal(f"has the activation {name}")
    alpha = 0.0 if kind.alpha is None else next(alphas, kind.alpha)
    beta = 0.0 if kind.beta is None else next(betas, kind.beta)

    def apply(call: Call, x: Value) -> Value:
        limited = x if clip is None else call.emit("clamp", x, min=-clip, max=clip)
        return kind.apply(call, limited, alpha, beta)

    return apply
