"""Dims: canonical form, against plain integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.ir.dim import (
    Dim,
    bounds,
    evaluate,
    floordiv,
    linear_in,
    maximum,
    minimum,
    modulo,
    product,
    rejoin,
    substitute,
    symbol,
)

N, H = symbol("n", 1), symbol("h", 8, 64)
NAMES = {"a": (1, None), "b": (1, 8), "c": (0, 5)}
SYMBOLS = {name: symbol(name, low, high) for name, (low, high) in NAMES.items()}
Pair = tuple[Dim, int]


def positive(pair: Pair) -> Pair:
    low, _ = bounds(pair[0])
    return pair if low is not None and low > 0 else (3, 3)


OPERATIONS: dict[str, Callable[[Pair, Pair], Pair]] = {
    "+": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "-": lambda x, y: (x[0] - y[0], x[1] - y[1]),
    "*": lambda x, y: (x[0] * y[0], x[1] * y[1]),
    "//": lambda x, y: (floordiv(x[0], y[0]), x[1] // y[1]),
    "%": lambda x, y: (modulo(x[0], y[0]), x[1] % y[1]),
    "min": lambda x, y: (minimum(x[0], y[0]), min(x[1], y[1])),
    "max": lambda x, y: (maximum(x[0], y[0]), max(x[1], y[1])),
}


@st.composite
def pairs(draw: Callable[..., object]) -> tuple[Dim, int, dict[str, int]]:
    """A dim, its value by integer arithmetic, and the values of its symbols."""
    values = {"a": 0, "b": 0, "c": 0}
    for name, (low, high) in NAMES.items():
        values[name] = int(str(draw(st.integers(low, high or 20))))
    leaves = st.one_of(
        st.sampled_from([(dim, values[name]) for name, dim in SYMBOLS.items()]),
        st.integers(0, 6).map(lambda number: (number, number)),
    )

    def grown(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
        def combined(parts: tuple[str, Pair, Pair]) -> Pair:
            op, x, y = parts
            return OPERATIONS[op](x, positive(y) if op in ("//", "%") else y)

        return st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner).map(combined)

    found = cast(Pair, draw(st.recursive(leaves, grown, max_leaves=10)))
    return found[0], found[1], values


@settings(max_examples=400, deadline=None, derandomize=True)
@given(pairs())
def test_arithmetic_agrees_with_integers(found: tuple[Dim, int, dict[str, int]]) -> None:
    dim, value, values = found
    assert evaluate(dim, values) == value
    assert evaluate(rejoin(dim), values) == value
    low, high = bounds(dim)
    assert low is None or low <= value
    assert high is None or value <= high
    replaced = substitute(dim, dict(values))
    assert replaced == value


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (N * 2 + 1 - N * 2, "1"),
        ((H * 4) // 4, "h"),
        ((H * 4 + 3) // 4, "h"),
        ((H * 6) % 3, "0"),
        ((H - 1) // 2 + 1, "((h + 1) // 2)"),
        (((H + 1) // 2 + 1) // 2, "((h + 3) // 4)"),
        (minimum(H, 100), "h"),
        (maximum(N, 1), "n"),
        (H // (N * 3), "(h // (3*n))"),
        (product([N, H, 2]), "2*h*n"),
    ],
)
def test_canonical_form(dim: Dim, text: str) -> None:
    assert str(dim) == text


def test_equal_polynomials_are_equal() -> None:
    assert (N + H) * (N - H) == N * N - H * H
    assert hash((N + 1) * 2) == hash(N * 2 + 2)


def test_quotients_and_remainders_rejoin() -> None:
    x = N * 3 + H
    assert rejoin(64 * floordiv(x, 64) + modulo(x, 64)) == x
    assert rejoin(N * modulo(H, 7) + 7 * N * floordiv(H, 7) + 2) == N * H + 2
    alone = modulo(x, 64) + 32 * floordiv(x, 64)
    assert rejoin(alone) == alone


def test_linear_in() -> None:
    assert linear_in(N * H * 2 + 3, "n") == (H * 2, 3)
    assert linear_in(N * N, "n") is None
    assert linear_in(N // 2, "n") is None
