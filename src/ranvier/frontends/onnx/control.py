"""Branches and loops.

A branch whose condition is known is put in the node's place; so are the iterations of a short loop
whose number is known. Everything else becomes a graph inside a node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx import GraphProto

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.frame import Frame
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.value_list import Result, ValueList, flatten, unflatten
from ranvier.ir.dim import Dim, Polynomial, maximum
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Shape, TensorType, Value

MOST_UNROLLED = 16
"""Loops of a known number of iterations are written out up to this number."""
_ENDLESS = 2**31 - 1
"""A number of iterations from which on only the condition ends a loop."""
_MOST_ATTEMPTS = 8

Fill = Callable[[Call, Frame, Dim, tuple[Value, ...]], list[Value]]
"""Builds a body: (the node as it appends to the frame, the frame, the iteration, carried values) ->
the condition of the next iteration if there is one, the next carried values, rows."""


@onnx_operator("If")
def if_(
    call: Call, condition: Value, *, then_branch: GraphProto, else_branch: GraphProto
) -> tuple[Result, ...]:
    """The branch that a condition chooses."""
    known = call.plain(condition)
    if known is not None:
        return call.around.inline(then_branch if known[0] else else_branch, ())
    frames = [call.around.open(f"{call.name}_{name}") for name in ("then", "otherwise")]
    nested = [
        call.around.inline(graph, (), frame)
        for graph, frame in zip((then_branch, else_branch), frames, strict=True)
    ]
    if _lengths(nested[0]) != _lengths(nested[1]):
        raise Refusal("its branches give sequences of different lengths")
    branches = [flatten(results) for results in nested]
    captured = tuple(dict.fromkeys(value for frame in frames for value in frame.captured))
    shapes, defines = _merged(call, branches)
    then, otherwise = (
        frame.finish(tuple(outputs), captured)
        for frame, outputs in zip(frames, branches, strict=True)
    )
    results = call.emit_all(
        "if", call.reshape(condition, ()), *captured,
        then=then, otherwise=otherwise, shapes=shapes, defines=defines,
    )  # fmt: skip
    return unflatten(results, nested[0])


def _lengths(results: Sequence[Result]) -> list[int]:
    """Numbers of tensors of sequences, -1 for a tensor."""
    return [len(x.items) if isinstance(x, ValueList) else -1 for x in results]


def _merged(
    call: Call, branches: Sequence[Sequence[Value]]
) -> tuple[tuple[Shape, ...], tuple[Dim, ...]]:
    """Shapes of what two branches give, and the symbols for sizes that differ."""
    shapes, defines = [], []
    for first, second in zip(*branches, strict=True):
        if first.dtype != second.dtype or first.rank != second.rank:
            raise Refusal(
                f"its branches give {first.type} and {second.type}; a range of dims that decides "
                "its condition lets one of them go"
            )
        shape: list[Dim] = []
        for a, b in zip(first.shape, second.shape, strict=True):
            if a == b:
                shape.append(a)
                continue
            size = call.around.symbol(f"{call.name}_size", 0, maximum(a, b))
            defines.append(size)
            shape.append(size)
        shapes.append(tuple(shape))
    return tuple(shapes), tuple(defines)


# Loops --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Body:
    """A translated body: what it gives, and its carried values as they are inside."""

    frame: Frame
    inputs: tuple[Value, ...]
    goes_on: Value | None
    state: tuple[Value, ...]
    rows: tuple[Value, ...]
    iteration: Polynomial
    varying: tuple[Dim, ...]


@onnx_operator("Loop")
def loop(
    call: Call, count: Value | None, condition: Value | None = None, *carried: Result,
    body: GraphProto,
) -> tuple[Result, ...]:  # fmt: skip
    """A body, as often as a number and a condition say."""
    goes_on = call.scalar(True, BOOL) if condition is None else call.reshape(condition, ())
    trips = call.plain(count)
    if trips is not None and trips[0] <= MOST_UNROLLED:
        found = _unrolled(call, int(trips[0]), goes_on, carried, body)
        if found is not None:
            return found
    limit: Dim | None = None
    if count is not None and (trips is None or trips[0] < _ENDLESS):
        limit = call.size(call.number("maximum", call.cast(count, I64), 0))
    return _looped(call, limit, goes_on, _tensors(carried), body)


def _tensors(results: Sequence[Result]) -> tuple[Value, ...]:
    """Results that are all tensors."""
    found = tuple(x for x in results if isinstance(x, Value))
    if len(found) != len(results):
        raise Refusal("carries a sequence through a loop whose iterations are not known")
    return found


def _unrolled(
    call: Call, trips: int, goes_on: Value, carried: tuple[Result, ...], body: GraphProto
) -> tuple[Result, ...] | None:
    """All iterations one behind the other; None where a condition is not known."""
    state: tuple[Result, ...] = carried
    scans: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    for trip in range(trips):
        known = call.plain(goes_on)
        if known is None:
            return None
        if not known[0]:
            break
        given = (call.scalar(trip, I64), goes_on, *state)
        condition, *results = call.around.inline(body, given)
        (goes_on,) = _tensors((condition,))
        state = tuple(results[: len(carried)])
        for row, value in zip(scans, _tensors(results[len(carried) :]), strict=True):
            row.append(value)
    if scans and not all(scans):
        return None
    return (*state, *(_stacked(call, row, 0, False) for row in scans))


def _looped(
    call: Call, limit: Dim | None, goes_on: Value, carried: tuple[Value, ...], body: GraphProto
) -> tuple[Value, ...]:
    def fill(inside: Call, frame: Frame, iteration: Dim, state: tuple[Value, ...]) -> list[Value]:
        given = (inside.scalar(iteration, I64), inside.scalar(True, BOOL), *state)
        return list(_tensors(call.around.inline(body, given, frame)))

    return emit_loop(call, limit, goes_on, carried, fill, True)


def emit_loop(
    call: Call,
    limit: Dim | None,
    goes_on: Value | None,
    carried: tuple[Value, ...],
    fill: Fill,
    has_condition: bool,
) -> tuple[Value, ...]:
    """A loop whose body `fill` builds; the carried values after it, then the stacked rows.

    Sizes of carried values that change from one iteration to the next become symbols; so the body
    is built again until no other size changes.
    """
    built = _settled(call, carried, fill, has_condition)
    known = [True] if goes_on is None else call.plain(goes_on)
    conditional = built.goes_on is not None or known is None or not known[0]
    defines: list[Dim] = []
    count: Dim
    if conditional or limit is None:
        count = call.around.symbol(f"{call.name}_count", 0, limit)
        defines.append(count)
        conditional = True
    else:
        count = limit
    shapes = [_after(call, value.shape, built, defines) for value in built.inputs]
    shapes += [(count, *_after(call, value.shape, built, defines)) for value in built.rows]
    captured = tuple(built.frame.captured)
    results = (*built.state, *built.rows)
    first: tuple[Value, ...] = ()
    if conditional:
        first = (call.scalar(True, BOOL) if goes_on is None else goes_on,)
        condition = built.goes_on
        if condition is None:
            condition = call.inside(built.frame).scalar(True, BOOL)
        results = (condition, *results)
    graph = built.frame.finish(results, captured)
    return call.emit_all(
        "loop", *first, *carried, *captured,
        body=graph, carried=len(carried), conditional=conditional, iteration=built.iteration,
        varying=built.varying, limit=limit, count=count, shapes=tuple(shapes),
        defines=tuple(defines),
    )  # fmt: skip


def _settled(call: Call, carried: tuple[Value, ...], fill: Fill, has_condition: bool) -> _Body:
    """The body for shapes of carried values that it keeps."""
    shapes = [list(value.shape) for value in carried]
    varying: list[Dim] = []
    for _ in range(_MOST_ATTEMPTS):
        built = _built(call, carried, shapes, fill, has_condition, tuple(varying))
        changed = False
        for value, following, shape in zip(carried, built.state, shapes, strict=True):
            if following.dtype != value.dtype or following.rank != value.rank:
                raise Refusal(f"what it carries changes from {value.type} to {following.type}")
            for axis, size in enumerate(following.shape):
                if size != shape[axis] and shape[axis] not in varying:
                    shape[axis] = call.around.symbol(f"{call.name}_size", 0, None)
                    varying.append(shape[axis])
                    changed = True
        if not changed:
            return built
    raise Refusal("the sizes of what it carries do not settle")


def _built(
    call: Call,
    carried: tuple[Value, ...],
    shapes: Sequence[Sequence[Dim]],
    fill: Fill,
    has_condition: bool,
    varying: tuple[Dim, ...],
) -> _Body:
    frame = call.around.open(call.name)
    iteration = call.around.symbol(f"{call.name}_i", 0, None)
    inputs = tuple(
        frame.builder.input(f"state_{i}", TensorType(value.dtype, tuple(shape)))
        for i, (value, shape) in enumerate(zip(carried, shapes, strict=True))
    )
    results = fill(call.inside(frame), frame, iteration, inputs)
    goes_on = None
    if has_condition:
        condition = results.pop(0)
        goes_on = call.inside(frame).reshape(condition, ())
        known = call.inside(frame).plain(goes_on)
        goes_on = None if known is not None and known[0] else goes_on
    state, rows = results[: len(carried)], results[len(carried) :]
    return _Body(frame, inputs, goes_on, tuple(state), tuple(rows), iteration, varying)


def _after(call: Call, shape: Shape, body: _Body, defines: list[Dim]) -> Shape:
    """The shape of a carried value behind the loop."""
    sizes: list[Dim] = []
    for size in shape:
        if size in body.varying:
            size = call.around.symbol(f"{call.name}_size", 0, None)
            defines.append(size)
        sizes.append(size)
    return tuple(sizes)


# Scans --------------------------------------------------------------------------------------------
@onnx_operator("Scan", since=9)
def scan(
    call: Call, *operands: Value, body: GraphProto, num_scan_inputs: int,
    scan_input_axes: tuple[int, ...] = (), scan_input_directions: tuple[int, ...] = (),
    scan_output_axes: tuple[int, ...] = (), scan_output_directions: tuple[int, ...] = (),
) -> tuple[Value, ...]:  # fmt: skip
    """A body for every slice of some operands."""
    states = len(operands) - num_scan_inputs
    rows = [
        call.transpose(x, (axis, *(i for i in range(x.rank) if i != axis)))
        for x, axis in _with_axes(operands[states:], scan_input_axes)
    ]
    backwards = scan_input_directions or (0,) * num_scan_inputs
    rows = [
        call.emit("reverse", x, axes=(0,)) if back else x
        for x, back in zip(rows, backwards, strict=True)
    ]

    def fill(inside: Call, frame: Frame, iteration: Dim, state: tuple[Value, ...]) -> list[Value]:
        seen = [frame.capture(x, call.around.frame) for x in rows]
        slices = [slice_of(inside, x, iteration) for x in seen]
        return list(_tensors(call.around.inline(body, (*state, *slices), frame)))

    length = rows[0].shape[0]
    if isinstance(length, int) and 0 < length <= MOST_UNROLLED:
        results = _scanned(call, operands[:states], rows, length, body)
    else:
        results = emit_loop(call, length, None, operands[:states], fill, False)
    outputs = len(body.output) - states
    along = scan_output_axes or (0,) * outputs
    order = scan_output_directions or (0,) * outputs
    placed = (
        _placed(call, x, axis, bool(back))
        for x, axis, back in zip(results[states:], along, order, strict=True)
    )
    return (*results[:states], *placed)


def _scanned(
    call: Call, state: tuple[Value, ...], rows: Sequence[Value], length: int, body: GraphProto
) -> tuple[Value, ...]:
    """All steps one behind the other."""
    count = len(state)
    parts: list[list[Value]] = [[] for _ in range(len(body.output) - count)]
    for step in range(length):
        slices = [slice_of(call, x, step) for x in rows]
        results = _tensors(call.around.inline(body, (*state, *slices)))
        state = results[:count]
        for part, value in zip(parts, results[count:], strict=True):
            part.append(value)
    return (*state, *(_stacked(call, part, 0, False) for part in parts))


def _with_axes(rows: Sequence[Value], axes: Sequence[int]) -> list[tuple[Value, int]]:
    given = axes or (0,) * len(rows)
    return [(x, axis_of(axis, x.rank)) for x, axis in zip(rows, given, strict=True)]


def _placed(call: Call, x: Value, axis: int, backwards: bool) -> Value:
    """Stacked rows with their dim at an axis."""
    x = call.emit("reverse", x, axes=(0,)) if backwards else x
    along = axis_of(axis, x.rank)
    order = [*range(1, x.rank)]
    order.insert(along, 0)
    return call.transpose(x, order)


@onnx_operator("Scan", since=8)
def scan_with_batch(
    call: Call, lengths: Value | None, *operands: Value, body: GraphProto, num_scan_inputs: int,
    directions: tuple[int, ...] = (),
) -> tuple[Value, ...]:  # fmt: skip
    """In operator set 8 every operand has a batch in front, and every batch its own length."""
    if lengths is not None:
        raise Refusal("has batches of different lengths")
    batches = operands[0].shape[0]
    if not isinstance(batches, int):
        raise Refusal("has a symbolic batch")
    rows = [
        scan(
            call, *(slice_of(call, x, i) for x in operands), body=body,
            num_scan_inputs=num_scan_inputs, scan_input_directions=directions,
        )
        for i in range(batches)
    ]  # fmt: skip
    return tuple(
        _stacked(call, [row[i] for row in rows], 0, False) for i in range(len(body.output))
    )


def slice_of(call: Call, x: Value, place: Dim) -> Value:
    """One slice of the first dim, without the dim."""
    return call.reshape(call.slice(x, 0, place, place + 1), x.shape[1:])


def _stacked(call: Call, parts: Sequence[Value], axis: int, backwards: bool) -> Value:
    """Values as slices of a new dim."""
    rank = parts[0].rank + 1
    along = axis_of(axis, rank)
    rows = [call.reshape(x, (*x.shape[:along], 1, *x.shape[along:])) for x in parts]
    return call.concat(list(reversed(rows)) if backwards else rows, along)
