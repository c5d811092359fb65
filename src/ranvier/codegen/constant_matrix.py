"""A constant matrix times a few vector registers, with few operations.

Interpolation at points +p and -p gives matrices whose rows (or columns) come in pairs that agree
but for some signs. A pair of rows e + o and e - o shares its two halves; a pair of columns with
equal coefficients up to sign first becomes the sum and the difference of its operands. What is left
is one multiply-add per coefficient, an addition where it is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from ranvier.codegen.builder import FunctionBuilder, Val
from ranvier.codegen.math_context import fma, like

Row = Sequence[Fraction]
_Terms = dict[int, Fraction]  # operand number -> its coefficient, which is not zero


def multiply(f: FunctionBuilder, matrix: Sequence[Row], operands: Sequence[Val]) -> list[Val]:
    """matrix @ operands; the operands are floats or vectors of floats of one type.

    Every row has a coefficient that is not zero.
    """
    values = dict(enumerate(operands))
    rows = [{k: c for k, c in enumerate(row) if c != 0} for row in matrix]
    for left in range(len(operands)):
        for right in range(left + 1, len(operands)):
            _combine_columns(f, rows, values, left, right)
    results: dict[int, Val] = {}
    for number, row in enumerate(rows):
        if number in results:
            continue
        other = _mirrored(rows, number)
        if other is None:
            results[number] = _sum(f, row, values)
        else:
            results[number], results[other] = _pair(f, row, rows[other], values)
    return [results[number] for number in range(len(rows))]


def _combine_columns(
    f: FunctionBuilder, rows: list[_Terms], values: dict[int, Val], left: int, right: int
) -> None:
    """Replace x_left, x_right by their sum and difference, where all rows have them with +-1."""
    used = [row for row in rows if left in row or right in row]
    signs = {row.get(right, Fraction(0)) / row[left] if left in row else None for row in used}
    if signs != {Fraction(1), Fraction(-1)} or len(used) < 3:
        return
    a, b = values[left], values[right]
    plus, minus = len(values), len(values) + 1
    values[plus], values[minus] = f.binary("fadd", a, b), f.binary("fsub", a, b)
    for row in used:
        coefficient = row.pop(left)
        row[plus if row.pop(right) == coefficient else minus] = coefficient


def _mirrored(rows: Sequence[_Terms], number: int) -> int | None:
    """A later row with the same coefficients, some of them (not all) negated."""
    row = rows[number]
    for other in range(number + 1, len(rows)):
        if rows[other].keys() != row.keys() or len(row) < 2:
            continue
        ratios = {rows[other][k] / c for k, c in row.items()}
        if ratios == {Fraction(1), Fraction(-1)}:
            return other
    return None


def _pair(
    f: FunctionBuilder, first: _Terms, second: _Terms, values: Mapping[int, Val]
) -> tuple[Val, Val]:
    """even + odd and even - odd."""
    even = _sum(f, {k: c for k, c in first.items() if second[k] == c}, values)
    odd, scale = _scaled_sum(f, {k: c for k, c in first.items() if second[k] != c}, values)
    if scale == 1:
        return f.binary("fadd", even, odd), f.binary("fsub", even, odd)
    if scale == -1:
        return f.binary("fsub", even, odd), f.binary("fadd", even, odd)
    factor, negative = like(odd, float(scale)), like(odd, -float(scale))
    return fma(f, odd, factor, even), fma(f, odd, negative, even)


def _sum(f: FunctionBuilder, terms: _Terms, values: Mapping[int, Val]) -> Val:
    total, scale = _scaled_sum(f, terms, values)
    return total if scale == 1 else f.binary("fmul", total, like(total, float(scale)))


def _scaled_sum(
    f: FunctionBuilder, terms: _Terms, values: Mapping[int, Val]
) -> tuple[Val, Fraction]:
    """(value, scale): the sum is scale * value; a term with coefficient one makes the scale one."""
    start = next((k for k, c in terms.items() if c == 1), min(terms))
    scale, total = terms[start], values[start]
    for k, coefficient in terms.items():
        if k == start:
            continue
        ratio = coefficient / scale
        if abs(ratio) == 1:
            total = f.binary("fadd" if ratio > 0 else "fsub", total, values[k])
        else:
            total = fma(f, values[k], like(total, float(ratio)), total)
    return total, scale
