"""The state of a running reduction, by operator: identity, one step, merging of partial results.

Simple reductions have one value of state; arg_max and arg_min have two, the best value and its i64
position.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ranvier.codegen import conversions, scalar_ops
from ranvier.codegen.builder import I64, FunctionBuilder, Val, int_const, lanes_of, vector
from ranvier.codegen.math_context import Context
from ranvier.errors import UnsupportedOperatorError
from ranvier.ir.dtype import BOOL, DType
from ranvier.ir.dtype import I64 as I64_DTYPE
from ranvier.lowering.expression import Apply, Expression, Reduce, compute_dtype

State = tuple[Val, ...]


def state_dtype(reduce: Reduce) -> DType:
    """The type in which values are accumulated."""
    if reduce.op in ("any", "all"):
        return BOOL
    return compute_dtype(reduce.body.dtype if _is_arg(reduce) else reduce.dtype)


def identity(f: FunctionBuilder, reduce: Reduce, lanes: int) -> State:
    """The state of an empty range, per lane."""
    dtype = state_dtype(reduce)
    if reduce.op not in _IDENTITY:
        raise UnsupportedOperatorError(f"no native code for reduction {reduce.op!r}")
    value = f.splat(conversions.constant(_IDENTITY[reduce.op](dtype), dtype), lanes)
    if not _is_arg(reduce):
        return (value,)
    return value, int_const(0, vector(lanes, I64))


def step(context: Context, reduce: Reduce, state: State, value: Val, position: Val) -> State:
    """Take in one value per lane, found at `position` of the innermost loop."""
    value = conversions.convert(context, value, reduce.body.dtype, state_dtype(reduce))
    if not _is_arg(reduce):
        return (_combine(context, reduce, state[0], value),)
    f = context.builder
    better = _beats(context, reduce, value, state[0])
    return f.select(better, value, state[0]), f.select(better, position, state[1])


def factors(reduce: Reduce) -> tuple[Expression, Expression] | None:
    """(a, b) of a floating sum of a * b in the type that it is accumulated in, else None."""
    body, dtype = reduce.body, state_dtype(reduce)
    if reduce.op != "sum" or not dtype.is_float or not isinstance(body, Apply):
        return None
    if body.op != "mul" or any(compute_dtype(x.dtype) is not dtype for x in body.operands):
        return None
    return body.operands[0], body.operands[1]


def mask_step(context: Context, reduce: Reduce, old: State, new: State, mask: Val) -> State:
    """The new state in the lanes of `mask`, the old one elsewhere."""
    return tuple(context.builder.select(mask, b, a) for a, b in zip(old, new, strict=True))


def merge(context: Context, reduce: Reduce, a: State, b: State) -> State:
    """The state of two ranges together; of equal bests the earlier position wins."""
    if not _is_arg(reduce):
        return (_combine(context, reduce, a[0], b[0]),)
    f = context.builder
    wins, loses = _beats(context, reduce, b[0], a[0]), _beats(context, reduce, a[0], b[0])
    earlier = f.compare("icmp slt", b[1], a[1])
    tie = f.binary("and", earlier, f.binary("xor", loses, int_const(-1, loses.type)))
    better = f.binary("or", wins, tie)
    return f.select(better, b[0], a[0]), f.select(better, b[1], a[1])


def across_lanes(context: Context, reduce: Reduce, state: State) -> State:
    """Fold the lanes of a state in halves until scalars are left."""
    f = context.builder
    lanes = lanes_of(state[0].type)
    while lanes > 1:
        lanes //= 2
        low = tuple(_part(f, v, 0, lanes) for v in state)
        high = tuple(_part(f, v, lanes, lanes) for v in state)
        state = merge(context, reduce, low, high)
    return state


def result(context: Context, reduce: Reduce, state: State) -> Val:
    """The value of the reduction in the compute type of its dtype."""
    if _is_arg(reduce):
        return conversions.convert(context, state[1], I64_DTYPE, reduce.dtype)
    return conversions.convert(context, state[0], state_dtype(reduce), reduce.dtype)


def _part(f: FunctionBuilder, value: Val, start: int, count: int) -> Val:
    element = value.type[value.type.index(" x ") + 3 : -1]
    if count == 1:
        return f.emit(f"extractelement {value}, i64 {start}", element)
    return f.shuffle(value, None, range(start, start + count))


def _is_arg(reduce: Reduce) -> bool:
    return reduce.op in ("arg_max", "arg_min")


def _combine(context: Context, reduce: Reduce, a: Val, b: Val) -> Val:
    dtype = state_dtype(reduce)
    if reduce.op in ("max", "min"):
        return scalar_ops.extremum(context, reduce.op, a, b, dtype)
    floating, integer, boolean = _OPCODE[reduce.op]
    opcode = floating if dtype.is_float else boolean if dtype is BOOL else integer
    return context.builder.binary(opcode, a, b)


def _beats(context: Context, reduce: Reduce, new: Val, old: Val) -> Val:
    """Whether `new` replaces `old`: strictly better, or the first NaN."""
    f, dtype = context.builder, state_dtype(reduce)
    if not dtype.is_float:
        letter = "s" if dtype.kind == "int" else "u"
        return f.compare(f"icmp {letter}{'gt' if reduce.op == 'arg_max' else 'lt'}", new, old)
    # "not (new <= old)" holds for better values and for NaN on either side; an old NaN stays.
    better = f.compare("fcmp ugt" if reduce.op == "arg_max" else "fcmp ult", new, old)
    return f.binary("and", better, f.compare("fcmp ord", old, old))


def _lowest(dtype: DType) -> float | int:
    if dtype.is_float:
        return -math.inf
    return -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0


def _highest(dtype: DType) -> float | int:
    if dtype.is_float:
        return math.inf
    return 1 if dtype is BOOL else (1 << (dtype.bits - (dtype.kind == "int"))) - 1


_OPCODE = {
    "sum": ("fadd", "add", "or"),
    "prod": ("fmul", "mul", "and"),
    "any": ("fadd", "or", "or"),
    "all": ("fmul", "and", "and"),
}
_IDENTITY: dict[str, Callable[[DType], float | int]] = {
    "sum": lambda dtype: 0,
    "prod": lambda dtype: 1,
    "any": lambda dtype: 0,
    "all": lambda dtype: 1,
    "max": _lowest,
    "min": _highest,
    "arg_max": _lowest,
    "arg_min": _highest,
}
