"""Values as expressions: element (i0, i1, ...) of a value in terms of the kernel operands that it is computed from.

`RULES` maps an operator to a function that writes one element of its result. A value that lies in memory is an
`Access`; any other is inlined through its operator's rule, so a chain of element-wise operators and index maps
becomes one expression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ranvier.errors import UnsupportedOperatorError
from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Node, Value
from ranvier.lowering.expression import (
    Access,
    Accumulator,
    Apply,
    Expression,
    Guard,
    Index,
    Literal,
    Loop,
    Reduce,
    compute_dtype,
    walk,
)
from ranvier.lowering.layout import ELEMENTWISE
from ranvier.lowering.scope import KernelScope, delinearize, linear_offset

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering

Indices = tuple[Dim, ...]
Guards = tuple[Guard, ...]
Rule = Callable[["Inliner", Node, Indices, Guards], Expression]


class Inliner:
    """Writes elements of values for one kernel; `pending` values are given as expressions by the caller."""

    def __init__(self, lowering: Lowering, scope: KernelScope) -> None:
        self.lowering = lowering
        self.scope = scope
        self.pending: dict[Value, Expression] = {}
        self.operators: list[str] = []

    def element(self, value: Value, indices: Indices, guards: Guards = ()) -> Expression:
        """Element `indices` of `value`; reads happen only where all `guards` hold."""
        if value in self.pending:
            return self.pending[value]
        tensor = self.lowering.tensors.get(value)
        if tensor is not None:
            return self.scope.access(tensor, indices, guards)
        node = self.lowering.producer(value)
        if node.op == "constant" and (value.rank == 0 or self.lowering.is_splat(value)):
            return Literal(self.lowering.scalar_of(value), compute_dtype(value.dtype))
        if not self.lowering.may_inline(value):
            return self.scope.access(self.lowering.materialize(value), indices, guards)
        self.operators.append(node.op)
        return RULES[node.op](self, node, indices, guards)

    def read(self, value: Value, indices: Indices, guards: Guards = ()) -> Access:
        """Element `indices` of `value` as a plain memory read, written to memory first if need be."""
        found = self.lowering.tensors.get(value) or self.lowering.materialize(value)
        return self.scope.access(found, indices, guards)


def broadcast_indices(operand: Value, indices: Indices) -> Indices:
    """The indices at which `operand` is read for element `indices` of a NumPy-broadcast result."""
    own = indices[len(indices) - operand.rank :]
    return tuple(0 if size == 1 else index for size, index in zip(operand.shape, own, strict=True))


def _elementwise(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operands = tuple(
        inliner.element(v, broadcast_indices(v, indices), guards) for v in node.operands
    )
    dtype = compute_dtype(node.result.dtype)
    if node.op == "cast" and operands[0].dtype == dtype:
        return operands[0]
    attributes = tuple(sorted((k, v) for k, v in node.attributes.items() if k != "dtype"))
    if (
        node.op in ("add", "mul")
        and not _has_accumulator(operands[0])
        and _has_accumulator(operands[1])
    ):
        operands = operands[::-1]  # one form for both orders, so their kernels are shared
    return Apply(node.op, operands, dtype, attributes)


def _has_accumulator(expression: Expression) -> bool:
    return any(isinstance(node, Accumulator) for node in walk(expression))


# Index maps -----------------------------------------------------------------------------------------------------------
def _reshape(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand = node.operands[0]
    strides = row_major(node.result.shape)
    aligned = _aligned_reshape(operand.shape, node.result.shape, indices)
    if aligned is None:
        aligned = delinearize(linear_offset(indices, strides), operand.shape)
    return inliner.element(operand, aligned, guards)


def _aligned_reshape(
    source: tuple[Dim, ...], result: tuple[Dim, ...], indices: Indices
) -> Indices | None:
    """Reshape block by block: dims whose products agree from the left are mapped without the others."""
    mapped: list[Dim] = []
    i = j = 0
    while i < len(source) or j < len(result):
        from_i, from_j = i, j
        left: Dim = 1
        right: Dim = 1
        if i < len(source):
            left, i = source[i], i + 1
        if j < len(result):
            right, j = result[j], j + 1
        while left != right:
            smaller_left = _known_smaller(left, right)
            if smaller_left and i < len(source):
                left, i = left * source[i], i + 1
            elif j < len(result) and not smaller_left:
                right, j = right * result[j], j + 1
            elif i < len(source):
                left, i = left * source[i], i + 1
            elif j < len(result):
                right, j = right * result[j], j + 1
            else:
                return None
        block = result[from_j:j]
        linear = linear_offset(indices[from_j:j], row_major(block))
        mapped.extend(delinearize(linear, source[from_i:i]))
    return tuple(mapped)


def _known_smaller(left: Dim, right: Dim) -> bool:
    """Whether the left block is the one to extend: its product divides the right one's, or is the smaller number."""
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    if isinstance(left, int):
        return True
    return dims.divides(left, right)


def row_major(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Strides, in elements, of a dense row-major array."""
    strides: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def _transpose(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    permutation = node.attribute("permutation")
    source: list[Dim] = [0] * len(indices)
    for position, axis in enumerate(permutation):
        source[axis] = indices[position]
    return inliner.element(node.operands[0], tuple(source), guards)


def _broadcast(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand = node.operands[0]
    return inliner.element(operand, broadcast_indices(operand, indices), guards)


def _slice(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    starts, steps = node.attribute("starts"), node.attribute("steps")
    source = tuple(
        start + index * step for index, start, step in zip(indices, starts, steps, strict=True)
    )
    return inliner.element(node.operands[0], source, guards)


def _reverse(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axes = node.attribute("axes")
    source = tuple(
        size - 1 - index if axis in axes else index
        for axis, (index, size) in enumerate(zip(indices, node.result.shape, strict=True))
    )
    return inliner.element(node.operands[0], source, guards)


def _roll(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    source = list(indices)
    for shift, axis in zip(node.attribute("shifts"), node.attribute("axes"), strict=True):
        size = node.result.shape[axis]
        source[axis] = (source[axis] + (size - shift % size)) % size
    return inliner.element(node.operands[0], tuple(source), guards)


def _pad(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand, low, mode = node.operands[0], node.attribute("low"), node.attribute("mode")
    source = tuple(index - before for index, before in zip(indices, low, strict=True))
    if mode != "constant":
        return _pad_from_inside(inliner, node, source, guards)
    own = tuple(
        Guard(index, size)
        for index, size, before, after in zip(
            source, operand.shape, low, node.attribute("high"), strict=True
        )
        if before != 0 or after != 0
    )
    value = node.attribute("value")
    body = inliner.element(operand, source, guards + own)
    if isinstance(body, Access) and body.guards == own:
        return replace(body, fill=value)
    return guarded(own, body, Literal(value, body.dtype))


def _pad_from_inside(inliner: Inliner, node: Node, source: Indices, guards: Guards) -> Expression:
    """Reflection and replication: the index is folded back, through an integer expression."""
    mapped: list[Dim] = []
    operand = node.operands[0]
    bound: list[tuple[str, Expression]] = []
    tensor = inliner.lowering.tensors.get(operand) or inliner.lowering.materialize(operand)
    for index, size, before, after in zip(
        source, operand.shape, node.attribute("low"), node.attribute("high"), strict=True
    ):
        if before == 0 and after == 0:
            mapped.append(index)
            continue
        position: Expression = Index(index, I64)
        last = Index(size - 1, I64)
        if node.attribute("mode") == "reflect":
            position = Apply("abs", (position,), I64)
            over = Apply("sub", (position, last), I64)
            position = Apply("sub", (last, Apply("abs", (over,), I64)), I64)
        else:
            position = Apply(
                "maximum", (Literal(0, I64), Apply("minimum", (position, last), I64)), I64
            )
        name, symbol = inliner.scope.data_symbol(size - 1)
        bound.append((name, position))
        mapped.append(symbol)
    return inliner.scope.access(tensor, tuple(mapped), guards, tuple(bound))


def guarded(guards: Guards, body: Expression, otherwise: Expression) -> Expression:
    """`body` where every guard holds, else `otherwise`."""
    condition: Expression | None = None
    for guard in guards:
        for test in (
            Apply("greater_equal", (Index(guard.index, I64), Literal(0, I64)), BOOL),
            Apply("less", (Index(guard.index, I64), Index(guard.limit, I64)), BOOL),
        ):
            condition = test if condition is None else Apply("logical_and", (condition, test), BOOL)
    return body if condition is None else Apply("where", (condition, body, otherwise), body.dtype)


# Gathers --------------------------------------------------------------------------------------------------------------
def _data_index(
    inliner: Inliner, indices_value: Value, indices: Indices, size: Dim, guards: Guards
) -> tuple[tuple[str, Expression], Dim]:
    """A data symbol for an index read from memory: negative counts from the end; clamped, so no read leaves the data."""
    raw = inliner.element(indices_value, indices, guards)
    wide = raw if raw.dtype is I64 else Apply("cast", (raw,), I64)
    extent = Index(size, I64)
    wrapped = Apply(
        "where",
        (Apply("less", (wide, Literal(0, I64)), BOOL), Apply("add", (wide, extent), I64), wide),
        I64,
    )
    high = Apply("minimum", (wrapped, Index(size - 1, I64)), I64)
    name, symbol = inliner.scope.data_symbol(size - 1)
    return (name, Apply("maximum", (high, Literal(0, I64)), I64)), symbol


def _read_indirect(
    inliner: Inliner,
    data: Value,
    indices: Indices,
    guards: Guards,
    bound: tuple[tuple[str, Expression], ...],
) -> Expression:
    tensor = inliner.lowering.tensors.get(data) or inliner.lowering.materialize(data)
    return inliner.scope.access(tensor, indices, guards, bound)


def _gather(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    data, positions = node.operands
    axis = node.attribute("axis")
    inner = indices[axis : axis + positions.rank]
    bound, symbol = _data_index(inliner, positions, inner, data.shape[axis], guards)
    source = (*indices[:axis], symbol, *indices[axis + positions.rank :])
    return _read_indirect(inliner, data, source, guards, (bound,))


def _gather_elements(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    data, positions = node.operands
    axis = node.attribute("axis")
    bound, symbol = _data_index(inliner, positions, indices, data.shape[axis], guards)
    source = (*indices[:axis], symbol, *indices[axis + 1 :])
    return _read_indirect(inliner, data, source, guards, (bound,))


def _gather_nd(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    data, positions = node.operands
    batch = node.attribute("batch_dims")
    depth = positions.shape[-1]
    if not isinstance(depth, int):
        raise UnsupportedOperatorError(f"gather_nd with a symbolic index depth @ {node.source}")
    outer = indices[: positions.rank - 1]
    bound, source = [], list(indices[:batch])
    for axis in range(depth):
        entry, symbol = _data_index(
            inliner, positions, (*outer, axis), data.shape[batch + axis], guards
        )
        bound.append(entry)
        source.append(symbol)
    source.extend(indices[positions.rank - 1 :])
    return _read_indirect(inliner, data, tuple(source), guards, tuple(bound))


# Sources --------------------------------------------------------------------------------------------------------------
def _full(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    return Literal(node.attribute("value"), compute_dtype(node.result.dtype))


def _iota(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    return Index(indices[0], compute_dtype(node.result.dtype))


def _dim(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    return Index(node.attribute("value"), compute_dtype(node.result.dtype))


# Reductions -----------------------------------------------------------------------------------------------------------
_REDUCTIONS = {
    "reduce_sum": "sum", "reduce_mean": "sum", "reduce_max": "max", "reduce_min": "min",
    "reduce_prod": "prod", "reduce_any": "any", "reduce_all": "all",
}  # fmt: skip


def _reduce(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand, axes = node.operands[0], tuple(node.attribute("axes"))
    loops = {axis: inliner.scope.loop(operand.shape[axis]) for axis in axes}
    body = inliner.element(operand, _reduced(node, indices, loops), guards)
    if node.op in ("reduce_any", "reduce_all") and body.dtype is not BOOL:
        body = Apply("not_equal", (body, Literal(0, body.dtype)), BOOL)
    dtype = compute_dtype(node.result.dtype)
    if body.dtype != dtype:
        body = Apply("cast", (body,), dtype)
    total = Reduce(_REDUCTIONS[node.op], tuple(loops.values()), body, dtype)
    if node.op != "reduce_mean":
        return total
    return _mean(total, dims.product(loop.extent for loop in loops.values()))


def _reduced(node: Node, indices: Indices, loops: dict[int, Loop]) -> Indices:
    """Operand indices: loop variables on reduced axes, the result's indices elsewhere."""
    operand = node.operands[0]
    if node.attribute("keepdims"):
        return tuple(loops[a].variable if a in loops else indices[a] for a in range(operand.rank))
    rest = iter(indices)
    return tuple(loops[a].variable if a in loops else next(rest) for a in range(operand.rank))


def _mean(total: Expression, count: Dim) -> Expression:
    divisor: Expression = (
        Literal(float(count), total.dtype) if isinstance(count, int) else Index(count, total.dtype)
    )
    return Apply("div", (total, divisor), total.dtype)


def _variance(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand, axes = node.operands[0], tuple(node.attribute("axes"))
    correction = node.attribute("correction")
    dtype = compute_dtype(operand.dtype)
    count = dims.product(operand.shape[axis] for axis in axes)
    first = {axis: inliner.scope.loop(operand.shape[axis]) for axis in axes}
    again = {axis: inliner.scope.loop(operand.shape[axis]) for axis in axes}
    mean = _mean(
        Reduce(
            "sum",
            tuple(first.values()),
            inliner.element(operand, _reduced(node, indices, first), guards),
            dtype,
        ),
        count,
    )
    gap = Apply(
        "sub", (inliner.element(operand, _reduced(node, indices, again), guards), mean), dtype
    )
    total = Reduce("sum", tuple(again.values()), Apply("mul", (gap, gap), dtype), dtype)
    return _mean(total, count - correction)


def _arg(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axis = node.attribute("axis")
    loops = {axis: inliner.scope.loop(node.operands[0].shape[axis])}
    body = inliner.element(node.operands[0], _reduced(node, indices, loops), guards)
    return Reduce(node.op, tuple(loops.values()), body, I64)


def _cumsum(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axis = node.attribute("axis")
    loop = inliner.scope.loop(indices[axis] + 1)
    source = (*indices[:axis], loop.variable, *indices[axis + 1 :])
    body = inliner.element(node.operands[0], source, guards)
    dtype = compute_dtype(node.result.dtype)
    body = body if body.dtype == dtype else Apply("cast", (body,), dtype)
    return Reduce("sum", (loop,), body, dtype)


# Normalisation --------------------------------------------------------------------------------------------------------
def _softmax(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    axis = node.attribute("axis")
    operand, dtype = node.operands[0], compute_dtype(node.result.dtype)

    def at(position: Dim) -> Expression:
        return inliner.element(operand, (*indices[:axis], position, *indices[axis + 1 :]), guards)

    first, again = inliner.scope.loop(operand.shape[axis]), inliner.scope.loop(operand.shape[axis])
    largest = Reduce("max", (first,), at(first.variable), dtype)
    shifted = Apply("sub", (at(again.variable), largest), dtype)
    total = Reduce("sum", (again,), Apply("exp", (shifted,), dtype), dtype)
    here = Apply("sub", (at(indices[axis]), largest), dtype)
    if node.op == "log_softmax":
        return Apply("sub", (here, Apply("log", (total,), dtype)), dtype)
    inverse = Apply("reciprocal", (total,), dtype)
    return Apply("mul", (Apply("exp", (here,), dtype), inverse), dtype)


def _layer_norm(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the trailing dims (arXiv 1607.06450)."""
    operand, axis = node.operands[0], node.attribute("axis")
    dtype, sizes = compute_dtype(operand.dtype), operand.shape[node.attribute("axis") :]
    count = dims.product(sizes)
    first, again = _loops(inliner, sizes), _loops(inliner, sizes)

    def at(inner: Indices) -> Expression:
        return inliner.element(operand, (*indices[:axis], *inner), guards)

    mean = _mean(Reduce("sum", first, at(_variables(first)), dtype), count)
    gap = Apply("sub", (at(_variables(again)), mean), dtype)
    variance = _mean(Reduce("sum", again, Apply("mul", (gap, gap), dtype), dtype), count)
    scale = _inverse_deviation(variance, node)
    normal = Apply("mul", (Apply("sub", (at(indices[axis:]), mean), dtype), scale), dtype)
    return _scale_and_shift(inliner, node, normal, indices[axis:], guards)


def _rms_norm(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """x / sqrt(mean(x^2) + epsilon) * scale over the trailing dims (arXiv 1910.07467)."""
    operand, axis = node.operands[0], node.attribute("axis")
    dtype, sizes = compute_dtype(operand.dtype), operand.shape[axis:]
    loops = _loops(inliner, sizes)
    x = inliner.element(operand, (*indices[:axis], *_variables(loops)), guards)
    square = _mean(Reduce("sum", loops, Apply("mul", (x, x), dtype), dtype), dims.product(sizes))
    here = inliner.element(operand, indices, guards)
    normal = Apply("mul", (here, _inverse_deviation(square, node)), dtype)
    return _scale_and_shift(inliner, node, normal, indices[axis:], guards)


def _loops(inliner: Inliner, sizes: tuple[Dim, ...]) -> tuple[Loop, ...]:
    return tuple(inliner.scope.loop(size) for size in sizes)


def _variables(loops: tuple[Loop, ...]) -> Indices:
    return tuple(loop.variable for loop in loops)


def _inverse_deviation(variance: Expression, node: Node) -> Expression:
    dtype = variance.dtype
    epsilon = Literal(float(node.attribute("epsilon")), dtype)
    return Apply("rsqrt", (Apply("add", (variance, epsilon), dtype),), dtype)


def _scale_and_shift(
    inliner: Inliner, node: Node, normal: Expression, inner: Indices, guards: Guards
) -> Expression:
    for op, parameter in zip(("mul", "add"), node.operands[1:], strict=False):
        factor = inliner.element(parameter, inner, guards)
        normal = Apply(op, (normal, factor), normal.dtype)
    return normal


# Windows and products as plain reductions -----------------------------------------------------------------------------
def _pool(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand = node.operands[0]
    kernel, strides, padding = (tuple(node.attribute(k)) for k in ("kernel", "strides", "padding"))
    is_max = node.op == "max_pool"
    dilations = tuple(node.attribute("dilations")) if is_max else (1,) * len(kernel)
    loops = _loops(inliner, kernel)
    spatial, own = _window(operand, loops, indices[2:], strides, dilations, padding, node)
    dtype = compute_dtype(node.result.dtype)
    read = inliner.read(operand, (*indices[:2], *spatial), guards + own)
    if is_max:
        lowest: float | int = (
            float("-inf")
            if dtype.is_float
            else -(2 ** (dtype.bits - 1))
            if dtype.kind == "int"
            else 0
        )
        return Reduce("max", loops, replace(read, fill=lowest), dtype)
    total = Reduce("sum", loops, read, dtype)
    return _average(node, total, indices[2:], kernel, strides, padding)


def _window(
    operand: Value,
    loops: tuple[Loop, ...],
    outputs: Indices,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    node: Node,
) -> tuple[Indices, Guards]:
    """Input positions of a sliding window, with a guard for every axis on which it can leave the input."""
    spatial: list[Dim] = []
    guards: list[Guard] = []
    result = node.result.shape[2:]
    for axis, (loop, output) in enumerate(zip(loops, outputs, strict=True)):
        position = output * strides[axis] + loop.variable * dilations[axis] - padding[axis][0]
        size = operand.shape[2 + axis]
        reach = (
            (result[axis] - 1) * strides[axis]
            + (loop.extent - 1) * dilations[axis]
            - padding[axis][0]
        )
        room, _ = dims.bounds(size - 1 - reach)
        if padding[axis][0] or room is None or room < 0:
            guards.append(Guard(position, size))
        spatial.append(position)
    return tuple(spatial), tuple(guards)


def _average(
    node: Node,
    total: Expression,
    outputs: Indices,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
) -> Expression:
    """Divide by the window's size: with `count_include_pad` padding counts, but what ceil_mode adds behind it never does."""
    counted = bool(node.attribute("count_include_pad"))
    clipped = bool(node.attribute("ceil_mode")) or (
        not counted and any(low or high for low, high in padding)
    )
    if not clipped:
        return _mean(total, dims.product(kernel))
    count: Dim = 1
    for axis, size in enumerate(node.operands[0].shape[2:]):
        low, high = padding[axis]
        start = outputs[axis] * strides[axis] - low
        end = dims.minimum(start + kernel[axis], size + (high if counted else 0))
        count = count * (end - (start if counted else dims.maximum(start, 0)))
    return _mean(total, count)


def _adaptive_pool(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """Window i of o over size s is [i * s // o, ceil((i + 1) * s / o)), as PyTorch defines it."""
    operand, sizes = node.operands[0], tuple(node.attribute("output_size"))
    loops: list[Loop] = []
    spatial: list[Dim] = []
    count: Dim = 1
    for output, result, size in zip(indices[2:], sizes, operand.shape[2:], strict=True):
        start = (output * size) // result
        extent = ((output + 1) * size + (result - 1)) // result - start
        loops.append(inliner.scope.loop(extent))
        spatial.append(start + loops[-1].variable)
        count = count * extent
    dtype = compute_dtype(node.result.dtype)
    read = inliner.read(operand, (*indices[:2], *spatial), guards)
    if node.op == "adaptive_max_pool":
        return Reduce("max", tuple(loops), read, dtype)
    return _mean(Reduce("sum", tuple(loops), read, dtype), count)


def _matmul(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """For element types without a contraction kernel (integers, f64)."""
    a, b = node.operands
    loop = inliner.scope.loop(a.shape[-1])
    row = (*indices[:-1], loop.variable)
    column = (*indices[:-2], loop.variable, indices[-1])
    left = inliner.element(a, broadcast_indices(a, row), guards)
    right = inliner.element(b, broadcast_indices(b, column), guards)
    dtype = compute_dtype(node.result.dtype)
    return Reduce("sum", (loop,), Apply("mul", (left, right), dtype), dtype)


def _conv(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """A convolution as a plain reduction, for the cases that no convolution kernel takes."""
    x, weight = node.operands[:2]
    strides, padding, dilations = (
        tuple(node.attribute(k)) for k in ("strides", "padding", "dilations")
    )
    groups = node.attribute("groups")
    depth = inliner.scope.loop(weight.shape[1])
    loops = _loops(inliner, weight.shape[2:])
    spatial, own = _window(x, loops, indices[2:], strides, dilations, padding, node)
    group = indices[1] // (weight.shape[0] // groups)
    left = inliner.read(
        x, (indices[0], group * weight.shape[1] + depth.variable, *spatial), guards + own
    )
    right = inliner.read(weight, (indices[1], depth.variable, *_variables(loops)), guards)
    dtype = compute_dtype(node.result.dtype)
    total: Expression = Reduce("sum", (*loops, depth), Apply("mul", (left, right), dtype), dtype)
    if len(node.operands) > 2:
        total = Apply(
            "add", (total, inliner.element(node.operands[2], (indices[1],), guards)), dtype
        )
    return total


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "reshape": _reshape, "transpose": _transpose, "broadcast": _broadcast, "slice": _slice,
    "reverse": _reverse, "roll": _roll, "pad": _pad,
    "gather": _gather, "gather_elements": _gather_elements, "gather_nd": _gather_nd,
    "full": _full, "iota": _iota, "dim": _dim,
    "reduce_variance": _variance, "arg_max": _arg, "arg_min": _arg, "cumsum": _cumsum,
    "softmax": _softmax, "log_softmax": _softmax, "layer_norm": _layer_norm, "rms_norm": _rms_norm,
    "max_pool": _pool, "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive_pool, "adaptive_max_pool": _adaptive_pool,
    "matmul": _matmul, "conv": _conv,
}  # fmt: skip

# Index maps and sources: recomputing an element costs no more than reading it.
VIEWS = frozenset({
    "reshape", "transpose", "broadcast", "slice", "reverse", "roll", "pad", "full", "iota", "dim", "constant", "cast",
})  # fmt: skip
HAS_REDUCTION = frozenset({
    *_REDUCTIONS, "reduce_variance", "arg_max", "arg_min", "cumsum", "softmax", "log_softmax", "layer_norm",
    "rms_norm", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "matmul", "conv",
})  # fmt: skip
