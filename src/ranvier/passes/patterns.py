"""Expression patterns, for rules that recognise how models spell an operator that has a name.

`P("mul", X, P("sigmoid", X))` matches x * sigmoid(x); the operands of commutative operators match
in either order, a number matches a constant with that value in every element, and the same variable
must match the same value everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

from ranvier.ir.graph import Attribute, Node, Value
from ranvier.passes.rewrite import Match, Rule

COMMUTATIVE = frozenset({
    "add", "mul", "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or",
    "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
})  # fmt: skip
TOLERANCE = 1e-6  # relative: models round numbers such as sqrt(2) to f32 at different places


@dataclass(frozen=True)
class Variable:
    """Matches any value."""

    name: str


@dataclass(frozen=True)
class Pattern:
    """Matches a node with this operator, these operands and at least these attributes."""

    op: str
    operands: tuple[Operand, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


Operand = Pattern | Variable | float
Bindings = dict[str, Value]
X = Variable("x")


def P(op: str, *operands: Operand, **attributes: Attribute) -> Pattern:  # noqa: N802
    """A pattern."""
    return Pattern(op, operands, attributes)


def fused(pattern: Pattern, op: str, **attributes: Attribute) -> tuple[str, Rule]:
    """An entry of a table: `pattern` over the variable X becomes `op(x) {attributes}`."""

    def rule(match: Match) -> Value | None:
        for bound in _in_node(match, pattern, match.node, {}):
            x = bound[X.name]
            if match.fits(op, x, **attributes):
                return match.become(op, x, **attributes)
        return None

    return pattern.op, rule


def _in_node(match: Match, pattern: Pattern, node: Node, bound: Bindings) -> Iterator[Bindings]:
    if node.op != pattern.op or len(node.operands) != len(pattern.operands):
        return
    if not all(_same(node.attributes[k], v) for k, v in pattern.attributes.items()):
        return
    orders = permutations(node.operands) if node.op in COMMUTATIVE else [node.operands]
    for operands in orders:
        yield from _in_order(match, pattern.operands, tuple(operands), bound)


def _in_order(
    match: Match, patterns: tuple[Operand, ...], operands: tuple[Value, ...], bound: Bindings
) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for found in _in_value(match, patterns[0], operands[0], bound):
        yield from _in_order(match, patterns[1:], operands[1:], found)


def _in_value(match: Match, pattern: Operand, value: Value, bound: Bindings) -> Iterator[Bindings]:
    if isinstance(pattern, Variable):
        known = bound.get(pattern.name)
        if known is None or known is value:
            yield {**bound, pattern.name: value}
    elif isinstance(pattern, Pattern):
        node = match.producer(value, pattern.op)
        if node is not None:
            yield from _in_node(match, pattern, node, bound)
    elif _same(match.uniform(value), pattern):
        yield bound


def _same(given: Attribute, wanted: Attribute) -> bool:
    if isinstance(given, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(given, wanted, rel_tol=TOLERANCE)
    return given == wanted
