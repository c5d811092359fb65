"""Branches and loops of PyTorch: `torch.cond`, `while_loop`, `scan` and `map`.

A graph inside such a node takes everything that it reads as inputs; sizes are known inside it
without that. `HIGHER_ORDER` has a function for each: `(body, call, FX node) -> results`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule
from torch.fx import Node as FxNode

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.ir.dim import Dim, Polynomial, symbol
from ranvier.ir.dtype import I64
from ranvier.ir.graph import GraphBuilder, Shape, TensorType, Value

if TYPE_CHECKING:
    from ranvier.frontends.torch.body import Body

Results = tuple[Any, ...]
_NUMBER = TensorType(I64, ())


def cond(body: Body, call: Call, node: FxNode) -> Results:
    """`torch.cond(predicate, then, otherwise, operands)`."""
    predicate, then, otherwise, operands = body.resolve(node.args)
    if isinstance(predicate, bool):
        return tuple(_inlined(body, then if predicate else otherwise, operands))
    captured = [operand for operand in operands if isinstance(operand, Value)]
    branches = []
    for module, label in ((then, "then"), (otherwise, "otherwise")):
        inner = body.within(module, GraphBuilder(call.unique(f"{call.name}_{label}")))
        for place, operand in zip(inner.placeholders(), operands, strict=True):
            inner.assign(place, _given(inner, place, operand))
        inner.run()
        branches.append(inner.builder.finish(_values(inner, call, inner.outputs())))
    shapes = _shapes(call)
    results = call.builder.add_node(
        "if",
        (call.reshape(call.truth(predicate), ()), *captured),
        {
            "then": branches[0],
            "otherwise": branches[1],
            "shapes": shapes,
            "defines": _new_dims(call, shapes),
        },
        (f"{call.name}.if",),
        call.source,
    )
    return _returned(body, call, node, results)


def while_loop(body: Body, call: Call, node: FxNode) -> Results:
    """`while_loop(condition, step, carried, additional)`: the condition is asked before a step."""
    condition, step, carried, additional = body.resolve(node.args)
    state = [_value(call, value) for value in carried]
    (first,) = _values(body, call, _inlined(body, condition, [*carried, *additional]))
    label = call.unique(f"{call.name}_body")
    inner = body.within(step, GraphBuilder(label))
    places = inner.placeholders()
    varying: list[Dim] = []
    for place, value in zip(places, state, strict=False):
        inner.assign(place, _carried(inner, place, value, varying))
    for place, operand in zip(places[len(state) :], additional, strict=True):
        inner.assign(place, _given(inner, place, operand))
    inner.run()
    following = inner.outputs()
    rest = [inner.values[place] for place in places[len(state) :]]
    inside = inner.call_within(call)
    goes_on = _values(inner, inside, _inlined(inner, condition, [*following, *rest]))
    shapes = _shapes(call)
    count = symbol(call.unique(f"{call.name}_count"))
    results = call.builder.add_node(
        "loop",
        (call.reshape(first, ()), *state, *(v for v in additional if isinstance(v, Value))),
        {
            "body": inner.builder.finish(
                [inside.reshape(goes_on[0], ()), *_values(inner, inside, following)]
            ),
            "carried": len(state),
            "conditional": True,
            "iteration": symbol(f"{label}_i"),
            "varying": tuple(varying),
            "limit": None,
            "count": count,
            "shapes": shapes,
            "defines": (count, *_new_dims(call, shapes)),
        },
        (f"{call.name}.loop",),
        call.source,
    )
    return _returned(body, call, node, results)


def scan(body: Body, call: Call, node: FxNode) -> Results:
    """`scan(step, initial, sequences, additional)` over the first dim of the sequences."""
    step, initial, sequences, additional = body.resolve(node.args)
    return _over_rows(body, call, node, step, initial, sequences, additional)


def map_rows(body: Body, call: Call, node: FxNode) -> Results:
    """`map(step, sequences, additional)`: a scan that carries nothing."""
    step, sequences, additional = body.resolve(node.args)
    return _over_rows(body, call, node, step, (), sequences, additional)


def _over_rows(
    body: Body,
    call: Call,
    node: FxNode,
    step: GraphModule,
    initial: Sequence[Any],
    sequences: Sequence[Value],
    additional: Sequence[Any],
) -> Results:
    label = call.unique(f"{call.name}_body")
    place = symbol(f"{label}_i")
    length = sequences[0].shape[0]
    state = [_value(call, value) for value in initial]
    inner = body.within(step, GraphBuilder(label))
    inside = inner.call_within(call)
    places = inner.placeholders()
    for each, value in zip(places, state, strict=False):
        inner.assign(each, inner.builder.input(each.name, value.type))
    for each, sequence in zip(places[len(state) :], sequences, strict=False):
        whole = inner.builder.input(f"{each.name}_rows", sequence.type)
        row = inside.slice(whole, 0, place, place + 1)
        inner.assign(each, inside.reshape(row, sequence.shape[1:]))
    for each, operand in zip(places[len(state) + len(sequences) :], additional, strict=True):
        inner.assign(each, _given(inner, each, operand))
    inner.run()
    results = call.builder.add_node(
        "loop",
        (*state, *sequences, *(v for v in additional if isinstance(v, Value))),
        {
            "body": inner.builder.finish(_values(inner, inside, inner.outputs())),
            "carried": len(state),
            "conditional": False,
            "iteration": place,
            "varying": (),
            "limit": length,
            "count": length,
            "shapes": _shapes(call),
            "defines": (),
        },
        (f"{call.name}.loop",),
        call.source,
    )
    return _returned(body, call, node, results)


def _inlined(body: Body, module: GraphModule, arguments: Sequence[Any]) -> list[Any]:
    """What a module returns, its nodes put where the body is."""
    inner = body.within(module, body.builder)
    for place, given in zip(inner.placeholders(), arguments, strict=True):
        inner.assign(place, given)
    inner.run()
    return inner.outputs()


def _given(inner: Body, place: FxNode, operand: Any) -> Any:
    """Tensors become inputs; sizes and numbers are known inside as they are."""
    return inner.builder.input(place.name, operand.type) if isinstance(operand, Value) else operand


def _carried(inner: Body, place: FxNode, initial: Value, varying: list[Dim]) -> Any:
    """The input for what a loop carries; sizes that change are new symbols, put into `varying`."""
    found = place.meta["val"]
    if isinstance(found, (int, torch.SymInt)):
        return inner.builder.input(place.name, _NUMBER)
    shape = []
    for size, first in zip(found.shape, initial.shape, strict=True):
        new = inner.symbols.undefined(size)
        if new is None:
            shape.append(first)
            continue
        shape.append(inner.symbols.define(new))
        varying.append(shape[-1])
    return inner.builder.input(place.name, TensorType(initial.dtype, tuple(shape)))


def _value(call: Call, operand: Any) -> Value:
    """A tensor, or a number as one."""
    if isinstance(operand, Value):
        return operand
    if isinstance(operand, (int, Polynomial)) and not isinstance(operand, bool):
        return call.scalar(operand, I64)
    raise Refusal(f"carries {operand!r}, which is neither a tensor nor an integer")


def _values(body: Body, call: Call, operands: Sequence[Any]) -> list[Value]:
    inside = body.call_within(call)
    return [_value(inside, operand) for operand in operands]


def _shapes(call: Call) -> tuple[Shape, ...]:
    """Shapes of the results; integers are of rank 0."""
    return tuple(() if expected is None else expected.shape for expected in call.expected)


def _new_dims(call: Call, shapes: Sequence[Shape]) -> tuple[Dim, ...]:
    """The sizes of results that the node is the first to have."""
    known = {dim for shape in shapes for dim in shape}
    return tuple(size for size in call.sizes if size in known)


def _returned(body: Body, call: Call, node: FxNode, results: Sequence[Value]) -> Results:
    """Results as FX has them: an integer among them is a size."""
    found = node.meta["val"]
    return tuple(
        body.integer(call, each, value) if isinstance(each, (int, torch.SymInt)) else value
        for each, value in zip(found, results, strict=True)
    )


HIGHER_ORDER: dict[str, Callable[[Body, Call, FxNode], Results]] = {
    "higher_order.cond": cond,
    "higher_order.while_loop": while_loop,
    "higher_order.scan": scan,
    "higher_order.map_impl": map_rows,
}
