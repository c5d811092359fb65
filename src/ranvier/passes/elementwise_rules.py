"""Identities of element-wise operators."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ranvier.ir.dtype import BF16, BOOL, F32, F64, DType, encode
from ranvier.ir.graph import Value
from ranvier.ir.operators import GROUPS, infer
from ranvier.passes.rewrite import Match, Rule, Table

ELEMENTWISE = frozenset(operator.name for operator in GROUPS["elementwise"])
MOST_SCALAR_ELEMENTS = 1 << 16  # constants up to this size are looked at for equal elements


def _identity(side: int, number: float) -> Rule:
    """x when the operand at `side` is `number` everywhere and does not change the shape."""

    def rule(m: Match) -> Value | None:
        kept = m.node.operands[1 - side]
        neutral = kept.type == m.result.type and m.uniform(m.node.operands[side]) == number
        return kept if neutral and kept.dtype != BOOL else None

    return rule


def _bits_identity(side: int, ones: bool) -> Rule:
    """x for x & 111... and for x | 000...; True and False are all ones and all zeros."""

    def rule(m: Match) -> Value | None:
        kept, number = m.node.operands[1 - side], m.uniform(m.node.operands[side])
        if number is None or kept.type != m.result.type:
            return None
        neutral = number is ones if kept.dtype == BOOL else number == -int(ones)
        return kept if neutral else None

    return rule


def integer_power(m: Match) -> Value | None:
    """pow(x, 2), pow(x, 3) and pow(x, -1) of floats are products and a reciprocal."""
    x, exponent = m.x, m.uniform(m.node.operands[1])
    if x.type != m.result.type or not x.dtype.is_float:
        return None
    if exponent == 2:
        return m.become("mul", x, x)
    if exponent == 3:
        return m.become("mul", m.add("mul", x, x), x)
    if exponent == -1:
        return m.become("reciprocal", x)
    return None


def division_by_power_of_two(m: Match) -> Value | None:
    """x / 2**k is x * 2**-k, exactly."""
    x, divisor = m.node.operands
    number = m.uniform(divisor)
    if number is None or not x.dtype.is_float or isinstance(number, bool):
        return None
    if not math.isfinite(number) or abs(math.frexp(number)[0]) != 0.5 or abs(number) > 2.0**14:
        return None
    if abs(number) < 2.0**-14:
        return None
    inverse = m.new_constant(encode(np.asarray(1 / number), x.dtype), x.dtype)
    return m.become("mul", x, inverse) if m.fits("mul", x, inverse) else None


def twice_nothing(op: str) -> Rule:
    """An operator that undoes itself."""

    def rule(m: Match) -> Value | None:
        inner = m.producer(m.x, op)
        undone = inner is not None and inner.operands[0].type == m.result.type
        return inner.operands[0] if inner is not None and undone else None

    return rule


def where_decided(m: Match) -> Value | None:
    """where with a constant condition, or with two equal branches."""
    condition, yes, no = m.node.operands
    number = m.uniform(condition)
    if number is None:
        return yes if yes is no and yes.type == m.result.type else None
    kept = yes if number else no
    return kept if kept.type == m.result.type else None


def cast_chain(m: Match) -> Value | None:
    """A cast to the same type is nothing; a cast of a lossless cast starts from the source."""
    target = m.result.dtype
    if m.x.dtype == target:
        return m.x
    inner = m.producer(m.x, "cast")
    if inner is None or not lossless(inner.operands[0].dtype, m.x.dtype):
        return None
    return m.become("cast", inner.operands[0], dtype=target)


def lossless(source: DType, target: DType) -> bool:
    """Whether every value of `source` is a value of `target`."""
    if source in (target, BOOL):
        return True
    if target == BOOL or target.is_narrow:
        return False
    if source.is_narrow:
        return target in (F32, F64)
    if source.is_float:
        return target.is_float and _digits(target) >= _digits(source) and _range(source, target)
    if target.is_float:
        return _digits(target) >= source.bits - (source.kind == "int")
    if source.kind == target.kind:
        return target.size >= source.size
    return target.kind == "int" and target.size > source.size


def _digits(dtype: DType) -> int:
    """Bits of the significand, the hidden one included."""
    return {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}[dtype.name]


def _range(source: DType, target: DType) -> bool:
    return not (target.name == "f16" and source == BF16)


def drop_broadcast(m: Match) -> tuple[Value, ...] | None:
    """An operand is broadcast by its reader anyway, when another operand has the full shape."""
    for i, operand in enumerate(m.node.operands):
        inner = m.producer(operand, "broadcast")
        if inner is None:
            continue
        operands = (*m.node.operands[:i], inner.operands[0], *m.node.operands[i + 1 :])
        if _same_types(m, operands):
            return m.again(*operands)
    return None


def scalar_operand(m: Match) -> tuple[Value, ...] | None:
    """A constant with one number in every element becomes a rank-0 constant."""
    for i, operand in enumerate(m.node.operands):
        if operand.rank == 0 or not _looked_at(m, operand):
            continue
        number = m.uniform(operand)
        if number is None:
            continue
        others = [value for j, value in enumerate(m.node.operands) if j != i]
        if not any(value.shape == m.result.shape for value in others):
            continue
        scalar = m.new_constant(encode(np.asarray(number), operand.dtype), operand.dtype)
        return m.again(*m.node.operands[:i], scalar, *m.node.operands[i + 1 :])
    return None


def _looked_at(m: Match, value: Value) -> bool:
    array = m.constant(value)
    return m.producer(value, "full") is not None or (
        array is not None and array.size <= MOST_SCALAR_ELEMENTS
    )


def _same_types(m: Match, operands: tuple[Value, ...]) -> bool:
    found = infer(m.node.op, operands, m.node.attributes, m.node.source)
    return found == tuple(value.type for value in m.node.results)


def _for_operators(
    names: frozenset[str], rule: Callable[[Match], tuple[Value, ...] | None]
) -> Table:
    return tuple((name, rule) for name in sorted(names))


IDENTITIES: Table = (
    ("add", _identity(0, 0)),
    ("add", _identity(1, 0)),
    ("sub", _identity(1, 0)),
    ("mul", _identity(0, 1)),
    ("mul", _identity(1, 1)),
    ("div", _identity(1, 1)),
    ("pow", _identity(1, 1)),
    *((op, _bits_identity(side, True)) for op in ("bitwise_and", "logical_and") for side in (0, 1)),
    *((op, _bits_identity(side, False)) for op in ("bitwise_or", "logical_or") for side in (0, 1)),
    ("pow", integer_power),
    ("div", division_by_power_of_two),
    ("neg", twice_nothing("neg")),
    ("logical_not", twice_nothing("logical_not")),
    ("bitwise_not", twice_nothing("bitwise_not")),
    ("where", where_decided),
    ("cast", cast_chain),
)
_SEVERAL_OPERANDS = frozenset(
    operator.name for operator in GROUPS["elementwise"] if operator.maximum != 1
)
BROADCASTS: Table = (
    *_for_operators(_SEVERAL_OPERANDS, drop_broadcast),
    *_for_operators(_SEVERAL_OPERANDS, scalar_operand),
)
