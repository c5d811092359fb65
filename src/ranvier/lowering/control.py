"""Sizes from data, branches and loops -> marks in the one list of steps.

A graph inside a node is lowered into the same program: it reads what it captures where that lies,
and writes its results to memory that was chosen outside. What a loop carries has two buffers that
change places after every iteration, so that a body may write the next state while it reads the
current one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim, Polynomial, Symbol
from ranvier.ir.graph import Graph, Node, Shape, Value
from ranvier.lowering.kernels.control import (
    Assignments,
    BindDim,
    BranchBegin,
    BranchElse,
    BranchEnd,
    Control,
    LoopBegin,
    LoopEnd,
)
from ranvier.lowering.program import Argument, Buffer, Step, Tensor
from ranvier.lowering.rules.indices import row_major

if TYPE_CHECKING:
    from ranvier.lowering.lower import Lowering


def lower_bind_dim(lowering: Lowering, node: Node) -> None:
    """The symbol is read from where the number lies."""
    tensor = lowering.materialize(node.operands[0])
    _add_mark(lowering, node, BindDim(_symbol(node.attribute("dim"))), [tensor])
    lowering.tensors[node.result] = tensor


def lower_if(lowering: Lowering, node: Node) -> None:
    """Both branches write to the same results."""
    condition = lowering.materialize(node.operands[0])
    captured = [lowering.materialize(value) for value in node.operands[1:]]
    results = [lowering.dense_result(value) for value in node.results]
    _add_mark(lowering, node, BranchBegin(), [condition])
    for name, mark in (("then", BranchElse), ("otherwise", BranchEnd)):
        branch: Graph = node.attribute(name)
        places = [_shaped(t, v.shape) for t, v in zip(results, branch.outputs, strict=True)]
        lowering.inner(branch, captured, places).run()
        sizes = _defined(node, node.attribute("shapes"), [v.shape for v in branch.outputs])
        _add_mark(lowering, node, mark(sizes))
    lowering.tensors.update(zip(node.results, results, strict=True))


def lower_loop(lowering: Lowering, node: Node) -> None:
    """State is copied in once; then bodies write one buffer of a pair and read the other."""
    body: Graph = node.attribute("body")
    conditional, carried = int(node.attribute("conditional")), int(node.attribute("carried"))
    state, captured = node.operands[: conditional + carried], node.operands[conditional + carried :]
    captures = [lowering.materialize(value) for value in captured]
    insides = (*body.outputs[:conditional], *body.inputs[:carried])
    pairs = [_pair(lowering, value) for value in insides]
    current = [first for first, _ in pairs]
    for value, tensor in zip(state, current, strict=True):
        _copy_in(lowering, value, _shaped(tensor, value.shape))
    collected = [lowering.dense_result(value) for value in node.results[carried:]]
    rows = body.outputs[conditional + carried :]
    initial, following, final = _sizes(node, body, conditional, carried)
    mark = LoopBegin(
        _symbol(node.attribute("iteration")),
        node.attribute("limit"),
        bool(conditional),
        initial,
        tuple((a.buffer, b.buffer) for a, b in pairs),
    )
    _add_mark(lowering, node, mark, current[:conditional])
    places = [
        *(_shaped(b, v.shape) for (_, b), v in zip(pairs, body.outputs, strict=False)),
        *(_row(node, t, v.shape) for t, v in zip(collected, rows, strict=True)),
    ]
    inner = lowering.inner(body, [*current[conditional:], *captures], places)
    inner.growing |= {place.buffer for place in places[conditional + carried :]}
    inner.run()
    _add_mark(lowering, node, LoopEnd(following, final))
    results = [
        _shaped(t, v.shape) for t, v in zip(current[conditional:], node.results, strict=False)
    ]
    lowering.tensors.update(zip(node.results, [*results, *collected], strict=True))
    if any(other.op == "foreign" for other in lowering.graph.nodes):
        _settle(lowering, node.results[:carried])


def _settle(lowering: Lowering, values: Sequence[Value]) -> None:
    """Copy what a loop carried out of its pairs: which buffer of a pair is the current one is known
    to native code alone, and only until it returns to have a framework run.
    """
    for value in values:
        settled = lowering.temporary(value.type)
        lowering.write_nest(value, settled)
        lowering.tensors[value] = settled


def _pair(lowering: Lowering, value: Value) -> tuple[Tensor, Tensor]:
    """The current and the next state of what is called `value` inside."""
    size = dims.product(value.shape) * value.dtype.size
    first, second = (lowering.add_buffer(Buffer("temporary", size)) for _ in range(2))
    strides = row_major(value.shape)
    return (
        Tensor(first, value.dtype, value.shape, strides),
        Tensor(second, value.dtype, value.shape, strides),
    )


def _copy_in(lowering: Lowering, value: Value, tensor: Tensor) -> None:
    lowering.materialize(value)
    lowering.reserve(tensor)
    lowering.write_nest(value, tensor)


def _shaped(tensor: Tensor, shape: Shape) -> Tensor:
    """The start of the memory of a dense tensor as a dense tensor of another shape."""
    return Tensor(tensor.buffer, tensor.dtype, shape, row_major(shape), tensor.offset)


def _row(node: Node, collected: Tensor, shape: Shape) -> Tensor:
    """Where one iteration puts its row; the whole may itself be a row of a loop around."""
    offset = collected.offset + node.attribute("iteration") * dims.product(shape)
    return Tensor(collected.buffer, collected.dtype, shape, row_major(shape), offset)


def _sizes(
    node: Node, body: Graph, conditional: int, carried: int
) -> tuple[Assignments, Assignments, Assignments]:
    """What symbols are before the first iteration, after each, and after the loop."""
    varying = {_symbol(dim) for dim in node.attribute("varying")}
    defined = {_symbol(dim) for dim in node.attribute("defines")}
    initial: dict[Symbol, Dim] = {}
    following: dict[Symbol, Dim] = {}
    final: dict[Symbol, Dim] = {}
    outputs = body.outputs[conditional:]
    for place, result in enumerate(node.results[:carried]):
        shapes = (
            node.operands[conditional + place].shape,
            body.inputs[place].shape,
            outputs[place].shape,
            result.shape,
        )
        for before, during, after, end in zip(*shapes, strict=True):
            if _is_among(during, varying):
                initial[_symbol(during)], following[_symbol(during)] = before, after
            if _is_among(end, defined):
                final[_symbol(end)] = during
    for value, result in zip(outputs[carried:], node.results[carried:], strict=True):
        for size, end in zip(value.shape, result.shape[1:], strict=True):
            if _is_among(end, defined):
                initial[_symbol(end)], following[_symbol(end)] = 0, size
    count = node.attribute("count")
    if _is_among(count, defined):
        final[_symbol(count)] = node.attribute("iteration")
    return tuple(initial.items()), tuple(following.items()), tuple(final.items())


def _defined(node: Node, shapes: Sequence[Shape], found: Sequence[Shape]) -> Assignments:
    """The symbols that a branch defines, with the sizes that they have there."""
    defined = {_symbol(dim) for dim in node.attribute("defines")}
    sizes: dict[Symbol, Dim] = {}
    for shape, inside in zip(shapes, found, strict=True):
        for dim, size in zip(shape, inside, strict=True):
            if _is_among(dim, defined):
                sizes[_symbol(dim)] = size
    return tuple(sizes.items())


def _is_among(dim: Dim, symbols: set[Symbol]) -> bool:
    return isinstance(dim, Polynomial) and dim.symbol in symbols


def _symbol(dim: Dim) -> Symbol:
    assert isinstance(dim, Polynomial)
    assert dim.symbol is not None
    return dim.symbol


def _add_mark(lowering: Lowering, node: Node, mark: Control, reads: Sequence[Tensor] = ()) -> None:
    lowering.add_step(control_step(mark, reads, node.op, node.source))


def control_step(
    mark: Control, reads: Sequence[Tensor] = (), operator: str = "reserve", source: str = ""
) -> Step:
    """A step that steers; it reads scalars."""
    arguments = tuple(Argument(t.buffer, t.offset * t.dtype.size) for t in reads)
    buffers = tuple(sorted({t.buffer for t in reads}))
    return Step(mark, arguments, (), buffers, (), operator, source, (operator,), 0, 0)
