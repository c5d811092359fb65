"""Dimension expressions of a manifest: parsing with bounds, and evaluation of many at once.

`expr` is an integer, a symbol name, or a list `[op, a, b]` with op one of `+ - * // % min max` on
unbounded integers; `//` and `%` round towards minus infinity, as in Python.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from ranvier.errors import ArtifactError

Expr: TypeAlias = "int | str | tuple[str, Expr, Expr]"

THREADS = "threads"
"""The symbol for the size of the core group; every manifest has it without declaring it."""

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}
MAXIMUM_DEPTH = 200
INTEGER_LIMIT = 1 << 63


def parse_expr(value: object, symbols: Collection[str], where: str, depth: int = 0) -> Expr:
    """Return the expression that the JSON value means.

    Args:
        value: parsed JSON.
        symbols: names that may appear.
        where: place in the manifest, for messages.

    Raises:
        ArtifactError: not an expression, an unknown symbol, an integer beyond 64 bits, or too
            deeply nested.
    """
    if type(value) is int:
        if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
            raise ArtifactError(f"{where}: the integer {value} does not fit into 64 bits")
        return value
    if isinstance(value, str):
        if value not in symbols:
            raise ArtifactError(
                f"{where}: unknown symbol {value!r}; declared: {', '.join(symbols)}"
            )
        return value
    if not isinstance(value, list) or len(value) != 3:
        raise ArtifactError(
            f"{where}: expected an integer, a symbol or [op, a, b], got {value!r:.80}"
        )
    op, a, b = value
    if not isinstance(op, str) or op not in OPERATIONS:
        raise ArtifactError(f"{where}: unknown operation {op!r:.40}; known: {' '.join(OPERATIONS)}")
    if depth >= MAXIMUM_DEPTH:
        raise ArtifactError(f"{where}: an expression is nested deeper than {MAXIMUM_DEPTH}")
    return op, parse_expr(a, symbols, where, depth + 1), parse_expr(b, symbols, where, depth + 1)


def expr_to_json(expr: Expr) -> object:
    """Return the JSON form of an expression; `parse_expr` reads it back."""
    if isinstance(expr, tuple):
        op, a, b = expr
        return [op, expr_to_json(a), expr_to_json(b)]
    return expr


def expr_to_text(expr: Expr) -> str:
    """Return an expression as a person writes it, for instance "2*batch+1"."""
    if not isinstance(expr, tuple):
        return str(expr)
    op, a, b = expr
    if op in ("min", "max"):
        return f"{op}({expr_to_text(a)}, {expr_to_text(b)})"
    left, right = (f"({expr_to_text(x)})" if isinstance(x, tuple) else str(x) for x in (a, b))
    return f"{left}{op}{right}"


def symbols_of(expr: Expr) -> frozenset[str]:
    """Return the names of the symbols in an expression."""
    if isinstance(expr, tuple):
        return symbols_of(expr[1]) | symbols_of(expr[2])
    return frozenset((expr,)) if isinstance(expr, str) else frozenset()


class ExpressionTable:
    """Expressions with shared parts evaluated once.

    `add` returns a row number; `evaluate` computes all rows for given symbol values in one pass,
    which is what a plan with thousands of dimensions needs to be made in about a millisecond.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[str, object, object]] = []
        self._index: dict[tuple[str, object, object], int] = {}

    def add(self, expr: Expr) -> int:
        """Return the row of an expression; equal expressions have the same row."""
        if isinstance(expr, tuple):
            return self._row((expr[0], self.add(expr[1]), self.add(expr[2])))
        return self._row(("symbol" if isinstance(expr, str) else "integer", expr, None))

    def evaluate(self, symbols: Mapping[str, int]) -> list[int]:
        """Return the value of every row.

        Raises:
            ArtifactError: a division by zero, or a symbol without a value.
        """
        values: list[int] = []
        for kind, a, b in self._rows:
            if kind == "integer":
                values.append(a)  # type: ignore[arg-type]
            elif kind == "symbol":
                values.append(_lookup(symbols, a))  # type: ignore[arg-type]
            else:
                values.append(_apply(kind, values[a], values[b]))  # type: ignore[call-overload]
        return values

    def _row(self, key: tuple[str, object, object]) -> int:
        row = self._index.setdefault(key, len(self._rows))
        if row == len(self._rows):
            self._rows.append(key)
        return row


def evaluate(expr: Expr, symbols: Mapping[str, int]) -> int:
    """Return the value of one expression.

    Raises:
        ArtifactError: a division by zero, or a symbol without a value.
    """
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        return _lookup(symbols, expr)
    return _apply(expr[0], evaluate(expr[1], symbols), evaluate(expr[2], symbols))


def _lookup(symbols: Mapping[str, int], name: str) -> int:
    if name not in symbols:
        raise ArtifactError(f"an expression needs the symbol {name!r}, which has no value")
    return symbols[name]


def _apply(op: str, a: int, b: int) -> int:
    if b == 0 and op in ("//", "%"):
        raise ArtifactError(
            f"an expression of the artifact divides by zero ({a} {op} 0) for these sizes"
        )
    return OPERATIONS[op](a, b)
