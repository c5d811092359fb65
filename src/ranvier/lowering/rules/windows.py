"""Rules of pooling: reductions over sliding windows, guarded where one can leave the input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.ir.graph import Node, Value
from ranvier.lowering.expression import Expression, Guard, Loop, Reduce, compute_dtype
from ranvier.lowering.rules.indices import Guards, Indices, Rule
from ranvier.lowering.rules.reductions import loops_over, mean_of

if TYPE_CHECKING:
    from ranvier.lowering.inline import Inliner


def _pool(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    operand = node.operands[0]
    kernel, strides, padding = (tuple(node.attribute(k)) for k in ("kernel", "strides", "padding"))
    is_max = node.op == "max_pool"
    dilations = tuple(node.attribute("dilations")) if is_max else (1,) * len(kernel)
    loops = loops_over(inliner, kernel)
    lead = operand.rank - len(kernel)
    outputs = indices[lead:]
    spatial, own = sliding_window(operand, loops, outputs, strides, dilations, padding, node)
    dtype = compute_dtype(node.result.dtype)
    read = inliner.read(operand, (*indices[:lead], *spatial), guards + own)
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
    return _average(node, total, outputs, kernel, strides, padding)


def sliding_window(
    operand: Value,
    loops: tuple[Loop, ...],
    outputs: Indices,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    node: Node,
) -> tuple[Indices, Guards]:
    """Input positions of a sliding window; guards for the axes on which it can leave the input."""
    spatial: list[Dim] = []
    guards: list[Guard] = []
    lead = operand.rank - len(loops)
    result = node.result.shape[lead:]
    for axis, (loop, output) in enumerate(zip(loops, outputs, strict=True)):
        position = output * strides[axis] + loop.variable * dilations[axis] - padding[axis][0]
        size = operand.shape[lead + axis]
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
    """Divide by the window's size.

    With `count_include_pad` padding counts, but what ceil_mode adds behind it never does.
    """
    counted = bool(node.attribute("count_include_pad"))
    clipped = bool(node.attribute("ceil_mode")) or (
        not counted and any(low or high for low, high in padding)
    )
    if not clipped:
        return mean_of(total, dims.product(kernel))
    count: Dim = 1
    shape = node.operands[0].shape
    for axis, size in enumerate(shape[len(shape) - len(kernel) :]):
        low, high = padding[axis]
        start = outputs[axis] * strides[axis] - low
        end = dims.minimum(start + kernel[axis], size + (high if counted else 0))
        count = count * (end - (start if counted else dims.maximum(start, 0)))
    return mean_of(total, count)


def _adaptive_pool(inliner: Inliner, node: Node, indices: Indices, guards: Guards) -> Expression:
    """Window i of o over size s is [i * s // o, ceil((i + 1) * s / o)), as PyTorch defines it."""
    operand, sizes = node.operands[0], tuple(node.attribute("output_size"))
    loops: list[Loop] = []
    spatial: list[Dim] = []
    count: Dim = 1
    lead = operand.rank - len(sizes)
    for output, result, size in zip(indices[lead:], sizes, operand.shape[lead:], strict=True):
        start = (output * size) // result
        extent = ((output + 1) * size + (result - 1)) // result - start
        loops.append(inliner.scope.loop(extent))
        spatial.append(start + loops[-1].variable)
        count = count * extent
    dtype = compute_dtype(node.result.dtype)
    read = inliner.read(operand, (*indices[:lead], *spatial), guards)
    if node.op == "adaptive_max_pool":
        return Reduce("max", tuple(loops), read, dtype)
    return mean_of(Reduce("sum", tuple(loops), read, dtype), count)


RULES: dict[str, Rule] = {
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive_pool,
    "adaptive_max_pool": _adaptive_pool,
}
