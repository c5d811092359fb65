"""Cases for every operator of the table: operands, attributes and how exact the result must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ranvier.errors import CompileError
from ranvier.ir.dtype import (
    ALL,
    BF16,
    BOOL,
    BY_NAME,
    F16,
    F32,
    F64,
    I8,
    I32,
    I64,
    NARROW,
    U8,
    DType,
    encode,
)
from ranvier.ir.graph import TensorType
from ranvier.ir.narrow import FloatFormat, IntegerFormat
from ranvier.ir.operators import GROUPS, infer

Numbers = npt.NDArray[Any]
FLOATS = (F16, BF16, F32, F64)
PLAIN = (F32, F64, BF16, F16, I8, I32, I64, U8, BOOL)  # what index maps are tried with
MOVED = (*PLAIN, BY_NAME["f8e5m2"], BY_NAME["i4"])  # those that need no padding value
RANDOM = np.random.default_rng(11)
_START = RANDOM.bit_generator.state


@dataclass(frozen=True)
class Operand:
    """An operand: storage array, element type, and whether it is a constant of the graph."""

    array: Numbers
    dtype: DType
    is_constant: bool = False


@dataclass(frozen=True)
class Case:
    """One application of an operator.

    `units` is the tolerance in units of the last place, 0 for equal numbers; `is_sum` measures
    them at the largest element of the result instead of at each. Without `signs`, 0.0 equals -0.0.
    """

    op: str
    operands: tuple[Operand, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    units: float = 0.0
    is_sum: bool = False
    signs: bool = True


def numbers(dtype: DType, *shape: int, low: float = -3, high: float = 3) -> Operand:
    """Random numbers of an element type: uniform floats, integers, bools."""
    if dtype is BOOL:
        return Operand(RANDOM.integers(0, 2, shape).astype(bool), dtype)
    if dtype.is_integer:
        least = max(int(low), 0 if dtype.kind == "uint" else -100)
        return Operand(RANDOM.integers(least, int(high) + 1, shape).astype(dtype.storage), dtype)
    return Operand(encode(RANDOM.uniform(low, high, shape), dtype), dtype)


def restart() -> None:
    """Draw the same random numbers again, whatever was drawn before."""
    RANDOM.bit_generator.state = _START


def fixed(operand: Operand) -> Operand:
    """The operand as a constant."""
    return Operand(operand.array, operand.dtype, is_constant=True)


def integers(low: int, high: int, *shape: int, dtype: DType = I64) -> Operand:
    """Random integers, `low` to `high` inclusive."""
    return Operand(RANDOM.integers(low, high + 1, shape).astype(dtype.storage), dtype)


def edges(dtype: DType) -> Operand:
    """The numbers at which operators go wrong, and some random ones."""
    if dtype is BOOL:
        return Operand(np.array([False, True, True, False, True]), dtype)
    if dtype.is_narrow:
        return Operand(np.arange(_codes(dtype), dtype=np.uint8).view(dtype.storage), dtype)
    if dtype.is_integer:
        limits = np.iinfo(dtype.storage.name)
        given = [limits.min, limits.min + 1, 0, 1, 2, 7, limits.max - 1, limits.max]
        given += [] if dtype.kind == "uint" else [-1, -2, -7]
        return Operand(np.array(given, dtype.storage), dtype)
    tiny = {"f16": 6e-8, "bf16": 1e-40, "f32": 1e-45, "f64": 5e-324}[dtype.name]
    large = {"f16": 6.5e4, "bf16": 3e38, "f32": 3.4e38, "f64": 1.7e308}[dtype.name]
    special = [0.0, tiny, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 6.0, 7.3, 88.5, large, np.inf]
    values = np.array([*special, *(-x for x in special), np.nan, *RANDOM.normal(0, 3, 12)])
    return Operand(encode(values, dtype), dtype)


def _codes(dtype: DType) -> int:
    """How many bytes, counted from 0, stand for elements of a narrow type.

    Those of a small signed integer would be the negative ones, too.
    """
    if isinstance(dtype.format, IntegerFormat):
        return 1 << (dtype.format.bits - dtype.format.signed)
    return 2 * dtype.format.sign if isinstance(dtype.format, FloatFormat) else 256


# Element-wise -------------------------------------------------------------------------------------
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "leaky_relu": [{"alpha": 0.01}, {"alpha": 0.25}],
    "elu": [{"alpha": 1.0, "scale": 1.0, "input_scale": 1.0},
            {"alpha": 1.5, "scale": 1.25, "input_scale": 0.5}],
    "clamp": [{"min": 0, "max": 6}, {"min": None, "max": 2}, {"min": 1, "max": None}],
}  # fmt: skip
_WIDE = {op.name for op in GROUPS["elementwise"] if op.width == "wide"}
_SIGNLESS = {"relu", "clamp", "maximum", "minimum"}  # either zero will do


def elementwise(op: str) -> Iterator[Case]:
    """Edges of every element type that the operator takes; binary ones on all pairs."""
    arity = 3 if op == "where" else 1 if op in _unary_names() else 2
    for dtype in (*ALL, *NARROW) if op == "where" else ALL:
        for attributes in VARIANTS.get(op, [{}]):
            operands = _elementwise_operands(op, arity, dtype)
            for given in operands:
                if _is_defined(op, given, attributes):
                    units, is_sum = _units(op, dtype), op == "gelu"
                    yield Case(op, given, attributes, units, is_sum, op not in _SIGNLESS)


def _unary_names() -> set[str]:
    return {entry.name for entry in GROUPS["elementwise"] if entry.maximum == 1}


def _units(op: str, dtype: DType) -> float:
    if op not in _WIDE and op not in ("leaky_relu", "fmod", "remainder"):
        return 0.0
    if op == "pow" and dtype is F64:
        return 2048.0  # the logarithm is rounded to f64 and multiplied by up to 700
    return {"f16": 1.0, "bf16": 1.0, "f32": 4.0, "f64": 16.0}.get(dtype.name, 0.0)


def _elementwise_operands(op: str, arity: int, dtype: DType) -> Iterator[tuple[Operand, ...]]:
    x = _moderate(op, edges(dtype))
    size = x.array.size
    if arity == 1:
        yield (x,)
        yield (Operand(x.array[:1].reshape(1, 1), dtype),)
        return
    column = Operand(x.array.reshape(size, 1), dtype)
    y = _divisors(x) if op in ("div", "floor_div", "remainder", "fmod", "pow") else x
    if op.startswith("shift"):
        y = integers(0, dtype.bits - 1, size, dtype=dtype) if dtype.is_integer else x
    if arity == 3:
        yield (Operand(np.arange(size) % 3 == 0, BOOL), column, x)
        yield (Operand(np.arange(size).reshape(size, 1) % 2 == 0, BOOL), x, x)
        return
    yield (column, y)
    yield (Operand(x.array[::-1].copy(), dtype), y)
    yield (Operand(x.array[2:3].reshape(()), dtype), y)


def _moderate(op: str, x: Operand) -> Operand:
    """Edges without what an operator leaves undefined."""
    if x.dtype.is_integer and op == "pow":
        return integers(0, 5, 7, dtype=x.dtype)
    if op == "gelu":  # a product of x and a tail that is small beside 1
        return Operand(encode(np.linspace(8, -8, 39), x.dtype), x.dtype)
    if x.dtype is F64 and op in ("sin", "cos", "tan", "hard_swish"):
        small = np.abs(x.array) < 1e15
        return Operand(x.array[small | ~np.isfinite(x.array)], x.dtype)
    return x


def _divisors(x: Operand) -> Operand:
    """No division of integers by zero: it has no meaning in most frameworks."""
    return Operand(x.array[x.array != 0], x.dtype) if x.dtype.is_integer else x


def _is_defined(op: str, operands: tuple[Operand, ...], attributes: dict[str, Any]) -> bool:
    try:
        infer(op, [TensorType(x.dtype, x.array.shape) for x in operands], attributes)
    except CompileError:
        return False
    if op in ("clamp",) and operands[0].dtype is BOOL:
        return False
    return all(np.broadcast_shapes(*(x.array.shape for x in operands)))


# Index maps, gathers, sources ---------------------------------------------------------------------
def views(op: str) -> Iterator[Case]:
    """Odd shapes, dims of size 1 and 0, several element types."""
    for dtype in PLAIN if op == "pad" else MOVED:
        x = numbers(dtype, 3, 5, 7)
        for attributes in _VIEWS[op]:
            if op == "concat":
                parts = (x, numbers(dtype, 3, 2, 7), numbers(dtype, 3, 0, 7), x)
                yield Case(op, parts[: attributes["count"]], {"axis": 1})
            else:
                if op == "pad":
                    attributes = {**attributes, "value": _pad_value(dtype, attributes["value"])}
                yield Case(op, (x,), attributes)
    empty, scalar = numbers(F32, 0, 4), numbers(F32)
    yield from {
        "reshape": [Case(op, (empty,), {"shape": (4, 0)}), Case(op, (scalar,), {"shape": (1, 1)}),
                    Case(op, (numbers(F32, 1, 1),), {"shape": ()})],
        "transpose": [Case(op, (empty,), {"permutation": (1, 0)}),
                      Case(op, (scalar,), {"permutation": ()}),
                      Case(op, (numbers(F32, 2, 3, 4, 5),), {"permutation": (3, 1, 0, 2)})],
        "broadcast": [Case(op, (scalar,), {"shape": (2, 3)}),
                      Case(op, (numbers(F32, 1, 4, 1),), {"shape": (2, 3, 4, 5)})],
        "slice": [Case(op, (empty,), {"starts": (0, 1), "stops": (0, 4), "steps": (1, 2)})],
        "pad": [Case(op, (empty,), {"low": (2, 0), "high": (1, 1), "mode": "constant",
                                    "value": 3.5})],
        "concat": [Case(op, (empty, numbers(F32, 2, 4)), {"axis": 0})],
        "roll": [Case(op, (empty,), {"shifts": (1,), "axes": (1,)})],
    }.get(op, [])  # fmt: skip


def _pad_value(dtype: DType, value: float) -> float | int | bool:
    if dtype is BOOL:
        return bool(value)
    return value if dtype.is_float else int(value)


_VIEWS: dict[str, list[dict[str, Any]]] = {
    "reshape": [
        {"shape": (15, 7)}, {"shape": (7, 5, 3)}, {"shape": (1, 105)}, {"shape": (3, 35, 1)},
    ],
    "transpose": [{"permutation": (2, 0, 1)}, {"permutation": (1, 0, 2)}],
    "broadcast": [{"shape": (2, 3, 5, 7)}],
    "slice": [{"starts": (1, 0, 2), "stops": (3, 5, 7), "steps": (1, 2, 3)},
              {"starts": (2, 2, 2), "stops": (2, 5, 7), "steps": (1, 1, 1)}],
    "reverse": [{"axes": (2,)}, {"axes": (0, 1)}],
    "pad": [{"low": (1, 0, 2), "high": (0, 3, 1), "mode": "constant", "value": 1.5},
            {"low": (-1, 0, 2), "high": (0, -2, -3), "mode": "constant", "value": 0.0},
            {"low": (0, 2, 3), "high": (0, 4, 6), "mode": "reflect", "value": 0},
            {"low": (0, 9, 3), "high": (2, 0, 6), "mode": "edge", "value": 0},
            {"low": (0, -1, 2), "high": (0, -1, 2), "mode": "edge", "value": 0},
            {"low": (0, -1, 2), "high": (0, 2, -1), "mode": "reflect", "value": 0}],
    "concat": [{"count": 1}, {"count": 2}, {"count": 3}, {"count": 4}],
    "roll": [{"shifts": (2,), "axes": (1,)}, {"shifts": (-1, 9), "axes": (0, 2)}],
}  # fmt: skip


def gathers(op: str) -> Iterator[Case]:
    """Positions of all integer types, negative and repeated ones, constants and inputs."""
    yield from {
        "gather": _gather, "gather_elements": _gather_elements, "gather_nd": _gather_nd,
        "scatter_nd": _scatter_nd, "scatter_elements": _scatter_elements,
    }[op]()  # fmt: skip


def _gather() -> Iterator[Case]:
    for dtype in MOVED:
        x = numbers(dtype, 5, 3, 7)
        yield Case("gather", (x, integers(-5, 4, 4)), {"axis": 0})
        yield Case("gather", (x, integers(0, 6, 2, 3, dtype=I32)), {"axis": 2})
        yield Case("gather", (x, fixed(integers(-3, 2))), {"axis": 1})
    yield Case("gather", (numbers(F32, 5, 3), integers(0, 2, 0)), {"axis": 1})
    yield Case("gather", (numbers(F32, 5, 3), integers(0, 4, 9, dtype=U8)), {"axis": 0})
    yield Case("gather", (numbers(F32, 5, 3), integers(-5, 4, 9, dtype=I8)), {"axis": 0})


def _gather_elements() -> Iterator[Case]:
    for dtype in PLAIN:
        x = numbers(dtype, 5, 3, 7)
        yield Case("gather_elements", (x, integers(-5, 4, 2, 3, 6)), {"axis": 0})
        yield Case("gather_elements", (x, integers(0, 6, 5, 2, 9, dtype=I32)), {"axis": 2})


def _gather_nd() -> Iterator[Case]:
    for dtype in (F32, BF16, I64, BOOL):
        x = numbers(dtype, 4, 3, 5, 2)
        yield Case("gather_nd", (x, integers(-3, 2, 6, 2)), {"batch_dims": 0})
        yield Case("gather_nd", (x, integers(-2, 1, 6, 4)), {"batch_dims": 0})
        yield Case("gather_nd", (x, integers(0, 2, 4, 3, 1)), {"batch_dims": 1})
        yield Case("gather_nd", (x, integers(0, 1, 4, 3, 7, 2)), {"batch_dims": 2})
        yield Case("gather_nd", (x, integers(0, 2, 4, 1)), {"batch_dims": 1})


def _distinct(count: int, *sizes: int) -> Operand:
    """`count` different positions in an array of `sizes`, some of them negative."""
    flat = RANDOM.permutation(int(np.prod(sizes)))[:count]
    places = np.stack(np.unravel_index(flat, sizes), axis=-1)
    negative = RANDOM.integers(0, 2, places.shape) * np.array(sizes)
    return Operand(places - negative, I64)


def _scatter_nd() -> Iterator[Case]:
    for dtype in (F32, F16, BF16, F64, I8, I64, BOOL):
        x = numbers(dtype, 4, 5, 3)
        yield Case("scatter_nd", (x, _distinct(3, 4), numbers(dtype, 3, 5, 3)))
        yield Case("scatter_nd", (x, _distinct(9, 4, 5), numbers(dtype, 9, 3)))
        yield Case("scatter_nd", (x, _distinct(11, 4, 5, 3), numbers(dtype, 11)))
    repeated = Operand(np.array([[1], [3], [1], [-3]]), I64)  # the last one wins
    yield Case("scatter_nd", (numbers(F32, 4, 2), repeated, numbers(F32, 4, 2)))
    yield Case("scatter_nd", (numbers(F32, 4, 2), integers(0, 3, 0, 1), numbers(F32, 0, 2)))


def _scatter_elements() -> Iterator[Case]:
    for dtype in (F32, F64, BF16, I8, I64, U8):
        for reduction in ("none", "add", "mul", "max", "min"):
            x = numbers(dtype, 4, 5, 3)
            options = {"reduction": reduction}
            # Sums in 16 bits depend on where one rounds.
            units = 1.0 if dtype is BF16 and reduction in ("add", "mul") else 0.0
            yield Case("scatter_elements", (x, integers(-4, 3, 6, 5, 2), numbers(dtype, 6, 5, 2)),
                       {"axis": 0, **options}, 2 * units, is_sum=True)  # fmt: skip
            yield Case("scatter_elements", (x, integers(0, 4, 3, 7, 3), numbers(dtype, 3, 7, 3)),
                       {"axis": 1, **options}, 2 * units, is_sum=True)  # fmt: skip
    empty = integers(0, 3, 0, 2)
    plain = {"axis": 0, "reduction": "none"}
    yield Case("scatter_elements", (numbers(F32, 4, 2), empty, numbers(F32, 0, 2)), plain)


def sources(op: str) -> Iterator[Case]:
    """Every element type."""
    for dtype in ALL:
        if op == "constant":
            yield Case("reverse", (fixed(edges(dtype)),), {"axes": (0,)})
        elif op == "full":
            yield Case(op, (), {"shape": (3, 5), "value": dtype is BOOL or 7, "dtype": dtype})
        elif dtype is not BOOL:
            size: dict[str, Any] = {"size": 37} if op == "iota" else {"value": 37}
            yield Case(op, (), {**size, "dtype": dtype})
    if op == "full":
        for value in (-0.0, float("nan"), float("-inf"), 0.1, 1e-45):
            for dtype in FLOATS:
                yield Case(op, (), {"shape": (2,), "value": value, "dtype": dtype})


# Reductions, normalisation, selection -------------------------------------------------------------
def _sum_units(dtype: DType) -> float:
    return {"f16": 1.0, "bf16": 1.0, "f32": 16.0, "f64": 64.0}.get(dtype.name, 0.0)


def reductions(op: str) -> Iterator[Case]:
    """Inner, outer and several axes of odd sizes; NaN and infinities; empty axes where allowed."""
    for dtype in ALL:
        for shape in ((3, 5, 7), (2, 1, 33), (40, 3)):
            x = numbers(dtype, *shape, low=-1, high=1.5 if op == "reduce_prod" else 3)
            for attributes in _reduction_attributes(op, len(shape)):
                yield from _if_defined(Case(op, (x,), attributes, _sum_units(dtype), is_sum=True))
    for special in (np.nan, np.inf, -np.inf):
        array = numbers(F32, 5, 19).array.copy()
        array[1, 7] = array[3, 18] = array[4, 0] = array[4, 2] = special
        for attributes in _reduction_attributes(op, 2):
            given = (Operand(array, F32),)
            yield from _if_defined(Case(op, given, attributes, 16.0, is_sum=True))
    if op in ("reduce_sum", "reduce_mean", "reduce_prod", "reduce_variance"):
        attributes = _reduction_attributes(op, 2)[-1]
        yield Case(op, (numbers(F32, 3, 0),), attributes)
    if op not in ("reduce_any", "reduce_all"):
        nothing = _reduction_attributes(op, 2)[-1]
        yield Case(op, (numbers(F32, 0, 3),), nothing)


def _reduction_attributes(op: str, rank: int) -> list[dict[str, Any]]:
    if op in ("arg_max", "arg_min"):
        return [{"axis": a, "keepdims": bool(a % 2)} for a in range(rank)]
    if op == "cumsum":
        return [{"axis": axis} for axis in range(rank)]
    found: list[dict[str, Any]] = [
        {"axes": (0, rank - 1), "keepdims": False}, {"axes": (0,), "keepdims": True},
        {"axes": (rank - 1,), "keepdims": False},
    ]  # fmt: skip
    if op == "reduce_variance":
        return [{**given, "correction": n % 2} for n, given in enumerate(found)]
    return found


def _if_defined(case: Case) -> Iterator[Case]:
    if _is_defined(case.op, case.operands, case.attributes) or 0 in case.operands[0].array.shape:
        yield case


def normalization(op: str) -> Iterator[Case]:
    """Every float type, axes in every place, parameters present and absent."""
    for dtype in FLOATS:
        x, units = numbers(dtype, 3, 6, 5), 2 * _sum_units(dtype)
        for attributes, parameters in _normalization_variants(op, dtype):
            yield Case(op, (x, *parameters), attributes, units, is_sum=True)
    if op in ("softmax", "log_softmax"):
        values = np.array([[1e4, -1e4, 0, 2], [-np.inf, 0, 1, -np.inf], [np.nan, 1, 2, 3],
                           [np.inf, 0, 0, 1], [-np.inf] * 4], np.float32)  # fmt: skip
        yield Case(op, (Operand(values, F32),), {"axis": 1}, 16.0)
        yield Case(op, (numbers(F32, 0, 4),), {"axis": 1})


def _normalization_variants(
    op: str, dtype: DType
) -> Iterator[tuple[dict[str, Any], tuple[Operand, ...]]]:
    parameter = F32 if dtype.size == 2 else dtype
    if op in ("softmax", "log_softmax"):
        yield from (({"axis": axis}, ()) for axis in range(3))
    elif op in ("layer_norm", "rms_norm"):
        for axis, shape in ((2, (5,)), (1, (6, 5))):
            given = tuple(numbers(parameter, *shape) for _ in range(2 if op == "layer_norm" else 1))
            for count in range(len(given) + 1):
                yield {"axis": axis, "epsilon": 1e-3}, given[:count]
    elif op == "group_norm":
        given = numbers(parameter, 6), fixed(numbers(parameter, 6))
        for groups in (1, 2, 6):
            yield {"groups": groups, "epsilon": 1e-3}, given[: groups % 3]
    else:
        statistics = (*(numbers(parameter, 6) for _ in range(3)), numbers(parameter, 6, low=0.5))
        yield {"epsilon": 1e-3}, statistics
        yield {"epsilon": 1e-3}, tuple(map(fixed, statistics))


def selection(op: str) -> Iterator[Case]:
    """Ties, NaN, all element types, every axis."""
    if op == "nonzero":
        for shape in ((), (1,), (7,), (3, 0), (5, 40), (2, 3, 700)):
            for share in (0.0, 0.3, 1.0):
                mask = np.asarray(RANDOM.random(shape) < share)
                yield Case(op, (Operand(mask, BOOL),), {"count": int(mask.sum())})
        return
    for dtype in ALL:
        x = numbers(dtype, 4, 9, 3)
        for axis in range(3):
            for flag in (False, True):
                if op == "sort":
                    yield Case(op, (x,), {"axis": axis, "descending": flag})
                else:
                    yield Case(op, (x,), {"axis": axis, "k": 1 + axis, "largest": flag})
    values = RANDOM.integers(-3, 3, (5, 40)).astype(np.float32)
    values[0, [3, 30]], values[1, 5], values[2, ::2], values[3, [0, 39]] = np.nan, np.inf, 0.0, -0.0
    for flag in (False, True):
        name = "descending" if op == "sort" else "largest"
        count: dict[str, Any] = {} if op == "sort" else {"k": 17}
        yield Case(op, (Operand(values, F32),), {"axis": 1, name: flag, **count})
        yield Case(op, (numbers(F32, 0, 40),), {"axis": 1, name: flag, **count})
