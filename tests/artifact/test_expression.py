from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.artifact.expression import (
    OPERATIONS,
    Expr,
    ExpressionTable,
    evaluate,
    expr_to_json,
    expr_to_text,
    parse_expr,
    symbols_of,
)
from ranvier.errors import ArtifactError

SYMBOLS = ("a", "b")
expressions: st.SearchStrategy[Expr] = st.recursive(
    st.integers(-9, 9) | st.sampled_from(SYMBOLS),
    lambda children: st.tuples(st.sampled_from(sorted(OPERATIONS)), children, children),
    max_leaves=12,
)


def outcome(function: object, *args: object) -> object:
    try:
        return function(*args)  # type: ignore[operator]
    except ArtifactError:
        return "division by zero"


@given(expressions)
def test_json_round_trip(expr: Expr) -> None:
    assert parse_expr(expr_to_json(expr), SYMBOLS, "here") == expr


@given(expressions, st.integers(-5, 50), st.integers(0, 50))
def test_the_text_and_the_value_agree(expr: Expr, a: int, b: int) -> None:
    value = outcome(evaluate, expr, {"a": a, "b": b})
    if value != "division by zero":
        assert eval(expr_to_text(expr), {"a": a, "b": b, "min": min, "max": max}) == value


@given(st.lists(expressions, max_size=6), st.integers(-5, 50), st.integers(0, 50))
def test_a_table_gives_what_single_evaluation_gives(many: list[Expr], a: int, b: int) -> None:
    scope = {"a": a, "b": b}
    table = ExpressionTable()
    rows = [table.add(expr) for expr in many]
    single = [outcome(evaluate, expr, scope) for expr in many]
    if "division by zero" in single:
        with pytest.raises(ArtifactError, match="divides by zero"):
            table.evaluate(scope)
    else:
        values = table.evaluate(scope)
        assert [values[row] for row in rows] == single


def test_symbols_of() -> None:
    assert symbols_of(("+", ("*", 2, "a"), ("min", "b", 3))) == {"a", "b"}
    assert symbols_of(7) == frozenset()


def test_a_symbol_without_a_value_is_an_error() -> None:
    with pytest.raises(ArtifactError, match="'b'"):
        evaluate(("+", "a", "b"), {"a": 1})


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, "c", [], ["+", 1], ["+", 1, 2, 3], ["^", 1, 2], [["+"], 1, 2], {}, 1 << 63],
)
def test_malformed(value: object) -> None:
    with pytest.raises(ArtifactError, match="here"):
        parse_expr(value, SYMBOLS, "here")


def test_depth_is_bounded() -> None:
    deep: object = 1
    for _ in range(1000):
        deep = ["+", deep, 1]
    with pytest.raises(ArtifactError, match="nested deeper"):
        parse_expr(deep, SYMBOLS, "here")
