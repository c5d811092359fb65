"""Activations that models spell out, and bounds that merge into one clamp."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from ranvier.ir.dtype import BOOL
from ranvier.ir.graph import Node, Value
from ranvier.passes.patterns import P, X, fused
from ranvier.passes.rewrite import Match, Table

_SQRT_HALF = math.sqrt(0.5)
_GELU_SCALE = math.sqrt(2 / math.pi)
_RELU6_OF_X_PLUS_3 = P("clamp", P("add", X, 3.0), min=0, max=6)
_CUBES = (P("pow", X, 3.0), P("mul", P("mul", X, X), X))
_SCALED_X = (P("mul", X, _SQRT_HALF), P("div", X, math.sqrt(2)))


def _gelus() -> Table:
    """0.5 * x * (1 + tail), in the two orders of multiplication that models use."""
    tails = [(P("erf", scaled), "none") for scaled in _SCALED_X]
    for cube in _CUBES:
        inner = P("mul", P("add", X, P("mul", cube, 0.044715)), _GELU_SCALE)
        tails.append((P("tanh", inner), "tanh"))
    entries = []
    for tail, approximate in tails:
        body = P("add", tail, 1.0)
        for whole in (P("mul", P("mul", X, 0.5), body), P("mul", P("mul", X, body), 0.5)):
            entries.append(fused(whole, "gelu", approximate=approximate))
    return tuple(entries)


def clamp_of_clamp(m: Match) -> Value | None:
    """Two bounds in a row become one clamp, unless they contradict each other."""
    inner = m.producer(m.x, "clamp", "relu")
    if inner is None:
        return None
    low = _tightest(max, _bounds(inner)[0], _bounds(m.node)[0])
    high = _tightest(min, _bounds(inner)[1], _bounds(m.node)[1])
    if low is not None and high is not None and high < low:
        return None
    return m.become("clamp", inner.operands[0], min=low, max=high)


def clamp_from_zero(m: Match) -> Value | None:
    """clamp(x, 0, None) is relu; clamp without bounds is nothing."""
    low, high = _bounds(m.node)
    if low is None and high is None:
        return m.x
    if high is None and low == 0:
        return m.become("relu", m.x)
    return None


def bound_by_number(m: Match) -> Value | None:
    """maximum and minimum with a number are clamps."""
    for x, bound in (m.node.operands, m.node.operands[::-1]):
        number = m.uniform(bound)
        if number is None or number != number or x.type != m.result.type or x.dtype == BOOL:
            continue
        if m.node.op == "maximum":
            return m.become("clamp", x, min=number, max=None)
        return m.become("clamp", x, min=None, max=number)
    return None


def _bounds(node: Node) -> tuple[float | None, float | None]:
    if node.op == "relu":
        return 0, None
    low, high = node.attributes["min"], node.attributes["max"]
    return cast("float | None", low), cast("float | None", high)


def _tightest(choose: Callable[[list[float]], float], *given: float | None) -> float | None:
    known = [number for number in given if number is not None]
    return choose(known) if known else None


ACTIVATIONS: Table = (
    fused(P("div", _RELU6_OF_X_PLUS_3, 6.0), "hard_sigmoid"),
    fused(P("mul", _RELU6_OF_X_PLUS_3, 1 / 6), "hard_sigmoid"),
    fused(P("mul", X, P("hard_sigmoid", X)), "hard_swish"),
    fused(P("div", P("mul", X, _RELU6_OF_X_PLUS_3), 6.0), "hard_swish"),
    fused(P("mul", P("mul", X, _RELU6_OF_X_PLUS_3), 1 / 6), "hard_swish"),
    fused(P("mul", X, P("sigmoid", X)), "silu"),
    fused(P("mul", X, P("tanh", P("softplus", X))), "mish"),
    *_gelus(),
)
BOUNDS: Table = (
    ("clamp", clamp_from_zero),
    ("clamp", clamp_of_clamp),
    ("relu", clamp_of_clamp),
    ("maximum", bound_by_number),
    ("minimum", bound_by_number),
)
