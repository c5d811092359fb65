"""Branches and loops."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import GraphProto

from ranvier.frontends.onnx.call import Call, axis_of
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Value

MOST_ITERATIONS = 256
"""Loops of a known number of iterations are written out up to this number."""


@onnx_operator("If")
def if_(
    call: Call, condition: Value, *, then_branch: GraphProto, else_branch: GraphProto
) -> tuple[Value, ...]:
    """The branch that a condition chooses; only that one is compiled when it is known."""
    known = call.plain(condition)
    if known is not None:
        return call.inline(then_branch if known[0] else else_branch, ())
    raise Refusal("chooses a branch by a condition that is known only at run time")


@onnx_operator("Loop")
def loop(
    call: Call, count: Value | None, condition: Value | None = None, *carried: Value,
    body: GraphProto,
) -> tuple[Value, ...]:  # fmt: skip
    """A body, as often as a number and a condition say; written out when both are known."""
    trips = call.plain(count)
    if count is not None and trips is None:
        raise Refusal("repeats its body a number of times that is known only at run time")
    most = None if trips is None else int(trips[0])
    state: tuple[Value, ...] = carried
    scans: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    goes_on = call.scalar(True, BOOL) if condition is None else condition
    trip = 0
    while most is None or trip < most:
        known = call.plain(goes_on)
        if known is None:
            raise Refusal("ends by a condition that is known only at run time")
        if not known[0]:
            break
        if trip >= MOST_ITERATIONS:
            raise Refusal(f"repeats its body more than {MOST_ITERATIONS} times")
        results = call.inline(body, (call.scalar(trip, I64), goes_on, *state))
        goes_on, state = results[0], results[1 : 1 + len(carried)]
        for row, value in zip(scans, results[1 + len(carried) :], strict=True):
            row.append(value)
        trip += 1
    return (*state, *(_stacked(call, row, 0, False) for row in scans))


@onnx_operator("Scan", since=9)
def scan(
    call: Call, *operands: Value, body: GraphProto, num_scan_inputs: int,
    scan_input_axes: tuple[int, ...] = (), scan_input_directions: tuple[int, ...] = (),
    scan_output_axes: tuple[int, ...] = (), scan_output_directions: tuple[int, ...] = (),
) -> tuple[Value, ...]:  # fmt: skip
    """A body for every slice of some operands; written out when their number is known."""
    states = len(operands) - num_scan_inputs
    rows = operands[states:]
    axes = [
        axis_of(axis, x.rank)
        for axis, x in zip(scan_input_axes or (0,) * num_scan_inputs, rows, strict=True)
    ]
    backwards = scan_input_directions or (0,) * num_scan_inputs
    length = rows[0].shape[axes[0]]
    if not isinstance(length, int):
        raise Refusal(f"repeats its body for every slice of a symbolic dim ({length})")
    if length > MOST_ITERATIONS:
        raise Refusal(f"repeats its body more than {MOST_ITERATIONS} times")
    state: tuple[Value, ...] = operands[:states]
    outputs = len(body.output) - states
    parts: list[list[Value]] = [[] for _ in range(outputs)]
    for step in range(length):
        slices = [
            _slice(call, x, axis, length - 1 - step if back else step)
            for x, axis, back in zip(rows, axes, backwards, strict=True)
        ]
        results = call.inline(body, (*state, *slices))
        state = results[:states]
        for part, value in zip(parts, results[states:], strict=True):
            part.append(value)
    along = scan_output_axes or (0,) * outputs
    order = scan_output_directions or (0,) * outputs
    stacked = (
        _stacked(call, part, axis, bool(back))
        for part, axis, back in zip(parts, along, order, strict=True)
    )
    return (*state, *stacked)


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
            call, *(_slice(call, x, 0, i) for x in operands), body=body,
            num_scan_inputs=num_scan_inputs, scan_input_directions=directions,
        )
        for i in range(batches)
    ]  # fmt: skip
    return tuple(
        _stacked(call, [row[i] for row in rows], 0, False) for i in range(len(body.output))
    )


def _slice(call: Call, x: Value, axis: int, place: int) -> Value:
    """One slice of a dim, without the dim."""
    cut = call.slice(x, axis, place, place + 1)
    return call.reshape(cut, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _stacked(call: Call, parts: Sequence[Value], axis: int, backwards: bool) -> Value:
    """Values as slices of a new dim."""
    if not parts:
        raise Refusal("collects the results of no iteration, whose shape is unknown")
    rank = parts[0].rank + 1
    along = axis_of(axis, rank)
    rows = [call.reshape(x, (*x.shape[:along], 1, *x.shape[along:])) for x in parts]
    return call.concat(list(reversed(rows)) if backwards else rows, along)
