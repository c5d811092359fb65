"""Sizes that only the data tell, branches and loops.

These operators define *symbols*: from such a node on, in the order of the graph, a symbol has the
value that the node gave it. `ir/definitions.py` says which symbols a node defines and needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np

from ranvier.errors import InputError
from ranvier.ir.dim import Dim, Polynomial, Symbol, evaluate, linear_in, symbols
from ranvier.ir.dtype import BOOL, I64, Array
from ranvier.ir.graph import Graph, Shape, TensorType, Value
from ranvier.ir.operators.operator import (
    BOOLEAN,
    DIM,
    GRAPH,
    INT,
    OPTIONAL_DIM,
    SHAPES,
    SYMBOL,
    SYMBOLS,
    Call,
    Numbers,
    Operator,
    Types,
)

MOST_ITERATIONS = 2**63 - 1


def _infer_bind_dim(call: Call) -> Types:
    if call.first != TensorType(I64, ()):
        raise call.error("a size is an i64 scalar")
    return call.same()


def _bind_dim(call: Call, x: Numbers) -> Numbers:
    symbol = cast(Polynomial, call.dim("dim")).symbol
    assert symbol is not None
    define(symbol, int(x), call.symbols)
    return x


def define(symbol: Symbol, value: int, values: dict[str, int]) -> None:
    """Give a symbol its value. Raises InputError when that is outside the symbol's range."""
    low, high = symbol.minimum, symbol.maximum
    high = None if high is None else evaluate(high, values)
    if value < low or (high is not None and value > high):
        most = "any size" if high is None else high
        raise InputError(f"the size {symbol.name} is {value}, outside its range, {low} to {most}")
    values[symbol.name] = value


def _require_inputs(call: Call, graph: Graph, given: Sequence[TensorType]) -> None:
    expected = tuple(value.type for value in graph.inputs)
    if expected != tuple(given):
        wanted, found = ", ".join(map(str, expected)), ", ".join(map(str, given))
        raise call.error(f"{graph.name} takes ({wanted}), got ({found})")


def _require_condition(call: Call, type: TensorType) -> None:
    if type != TensorType(BOOL, ()):
        raise call.error(f"a condition is a bool scalar, got {type}")


def _infer_if(call: Call) -> Types:
    _require_condition(call, call.first)
    branches = call.graph("then"), call.graph("otherwise")
    for branch in branches:
        _require_inputs(call, branch, call.operands[1:])
    shapes = call.shapes()
    if any(len(branch.outputs) != len(shapes) for branch in branches):
        raise call.error(f"both branches need {len(shapes)} results, one for each shape")
    results = []
    for shape, *values in zip(shapes, *(branch.outputs for branch in branches), strict=True):
        if values[0].dtype != values[1].dtype or {v.rank for v in values} != {len(shape)}:
            raise call.error(f"the branches give {values[0].type} and {values[1].type}")
        for dim, *found in zip(shape, *(value.shape for value in values), strict=True):
            _require_same_or_defined(call, dim, found)
        results.append(TensorType(values[0].dtype, shape))
    return tuple(results)


def _require_same_or_defined(call: Call, dim: Dim, found: Sequence[Dim]) -> None:
    """A dim of a result is that of the graphs inside, or a symbol that the node defines."""
    if any(each != dim for each in found) and dim not in call.dims("defines"):
        raise call.error(f"a result dim {dim} must be defined here, since it is {found} inside")


def _if(call: Call, condition: Numbers, *captured: Array) -> tuple[Array, ...]:
    from ranvier.ir.interpreter import run

    branch = call.graph("then" if condition else "otherwise")
    results = run(branch, captured, dict(call.symbols))
    _define_shapes(call.shapes(), results, call.symbols)
    return tuple(results)


def _define_shapes(
    shapes: Iterable[Shape], arrays: Sequence[Array], values: dict[str, int]
) -> None:
    """Give symbols that have no value yet the sizes that results turned out to have."""
    for shape, array in zip(shapes, arrays, strict=True):
        for dim, size in zip(shape, array.shape, strict=True):
            for name in [name for name in symbols(dim) if name not in values]:
                linear = linear_in(dim, name)
                assert linear is not None
                assert linear[0] == 1
                values[name] = size - evaluate(linear[1], values)


def _infer_loop(call: Call) -> Types:
    body, carried, conditional = (
        call.graph("body"),
        call.integer("carried"),
        call.flag("conditional"),
    )
    if conditional:
        _require_condition(call, call.first)
        _require_condition(call, body.outputs[0].type if body.outputs else call.first)
    rest = call.operands[conditional:]
    initial, captured = rest[:carried], rest[carried:]
    results = body.outputs[int(conditional) :]
    shapes = call.shapes()
    if len(initial) < carried or len(results) < carried or len(results) != len(shapes):
        raise call.error(f"{len(initial)} values go in, {len(results)} come out of {body.name}")
    _require_inputs(call, body, (*(v.type for v in body.inputs[:carried]), *captured))
    types = []
    for first, inside, last, shape in zip(
        initial, body.inputs[:carried], results[:carried], shapes[:carried], strict=True
    ):
        _require_carried(call, first, inside, last, shape)
        types.append(TensorType(first.dtype, shape))
    for value, shape in zip(results[carried:], shapes[carried:], strict=True):
        if len(shape) != value.rank + 1 or shape[0] != call.dim("count"):
            raise call.error(f"{value.type} of every iteration cannot become {shape}")
        for dim, found in zip(shape[1:], value.shape, strict=True):
            _require_same_or_defined(call, dim, [found])
        types.append(TensorType(value.dtype, shape))
    return tuple(types)


def _require_carried(
    call: Call, first: TensorType, inside: Value, last: Value, shape: Shape
) -> None:
    """Element type and rank stay; a dim stays too, or is a symbol in the body and afterwards."""
    if len({first.dtype, inside.dtype, last.dtype}) > 1 or len({
        first.rank, inside.rank, last.rank, len(shape)
    }) > 1:  # fmt: skip
        raise call.error(f"what is carried changes from {first} to {inside.type} to {last.type}")
    for begin, during, end, after in zip(first.shape, inside.shape, last.shape, shape, strict=True):
        if begin == during == end == after:
            continue
        if during not in call.dims("varying") or after not in call.dims("defines"):
            raise call.error(f"a size that goes from {begin} to {end} must be a symbol that varies")


def _loop(call: Call, *arrays: Array) -> tuple[Array, ...]:
    from ranvier.ir.interpreter import run

    body, carried, conditional = (
        call.graph("body"),
        call.integer("carried"),
        call.flag("conditional"),
    )
    limit = call.attributes["limit"]
    most = MOST_ITERATIONS if limit is None else call.size(cast(Dim, limit))
    goes_on = bool(arrays[0]) if conditional else True
    rest = arrays[conditional:]
    state, captured = list(rest[:carried]), rest[carried:]
    scans: list[list[Array]] = [[] for _ in body.outputs[conditional + carried :]]
    (iteration,) = symbols(call.dim("iteration"))
    count = 0
    while goes_on and count < most:
        inside = {**call.symbols, iteration: count}
        _define_shapes([v.shape for v in body.inputs[:carried]], state, inside)
        results = run(body, [*state, *captured], inside)
        if conditional:
            goes_on = bool(results.pop(0))
        state = results[:carried]
        for rows, row in zip(scans, results[carried:], strict=True):
            rows.append(row)
        count += 1
    stacked = [
        np.stack(rows) if rows else _no_rows(call, shape, value)
        for rows, shape, value in zip(
            scans, call.shapes()[carried:], body.outputs[conditional + carried :], strict=True
        )
    ]
    _define_shapes([(call.dim("count"),)], [np.empty(count)], call.symbols)
    _define_shapes(call.shapes(), [*state, *stacked], call.symbols)
    return (*state, *stacked)


def _no_rows(call: Call, shape: Shape, value: Value) -> Array:
    """What a loop without iterations has collected; sizes that nothing told are 0."""
    known = {name: 0 for dim in shape for name in symbols(dim)} | call.symbols
    sizes = (0, *(evaluate(dim, known) for dim in shape[1:]))
    return np.empty(sizes, value.dtype.storage)


OPERATORS = (
    Operator("bind_dim", 1, 1, _infer_bind_dim, _bind_dim, {"dim": SYMBOL}, "raw"),
    Operator(
        "if",
        1,
        None,
        _infer_if,
        _if,
        {"then": GRAPH, "otherwise": GRAPH, "shapes": SHAPES, "defines": SYMBOLS},
        "raw",
    ),
    Operator(
        "loop",
        0,
        None,
        _infer_loop,
        _loop,
        {
            "body": GRAPH,
            "carried": INT,
            "conditional": BOOLEAN,
            "iteration": SYMBOL,
            "varying": SYMBOLS,
            "limit": OPTIONAL_DIM,
            "count": DIM,
            "shapes": SHAPES,
            "defines": SYMBOLS,
        },
        "raw",
    ),
)
