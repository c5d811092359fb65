"""Boxes that do not overlap: `NonMaxSuppression`."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.frontends.onnx.call import Call
from ranvier.frontends.onnx.control import emit_loop
from ranvier.frontends.onnx.frame import Frame
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.frontends.onnx.selection import coordinates, true_positions
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import BOOL, F32, I64
from ranvier.ir.graph import Value


@dataclass(frozen=True)
class _Candidates:
    """Boxes above the threshold, `[batch, classes, count]` per class from the best on."""

    order: Value  # positions among all boxes
    kept: Value  # whether there is one at all
    corners: Value  # [5, batch, classes, count]: low, high of both dims, area


@onnx_operator("NonMaxSuppression", since=10)
def non_max_suppression(
    call: Call, boxes: Value, scores: Value, most: Value | None = None,
    overlap: Value | None = None, least: Value | None = None,
    *, center_point_box: int = 0,
) -> Value:  # fmt: skip
    """(batch, class, box) of the best boxes of which none overlaps a better one too much."""
    found = _candidates(call, boxes, scores, least, bool(center_point_box))
    limit = call.scalar(0.0, F32) if overlap is None else call.reshape(overlap, ())
    kept = _suppressed(call, found, limit)
    wanted = call.scalar(0, I64) if most is None else call.cast(call.reshape(most, ()), I64)
    number = call.emit("cumsum", call.cast(kept, I64), axis=2)
    kept = call.emit("logical_and", kept, call.emit("less_equal", number, wanted))
    batch, classes, count = kept.shape
    places = true_positions(call, call.reshape(kept, (product(kept.shape),)), call.stated(0))
    where = coordinates(call, places, (batch, classes, count), 1)
    order = call.reshape(found.order, (product(kept.shape),))
    box = call.emit("gather", order, call.reshape(places, (*places.shape, 1)), axis=0)
    return call.concat([call.slice(where, 1, 0, 2), box], 1)


def _candidates(
    call: Call, boxes: Value, scores: Value, least: Value | None, centred: bool
) -> _Candidates:
    batch, classes, count = scores.shape
    ranked, order = call.emit_all("sort", scores, axis=2, descending=True)
    kept = call.full((batch, classes, count), True, BOOL)
    if least is not None:
        kept = call.emit("greater", ranked, call.reshape(least, ()))
        each = call.reduce("sum", call.cast(kept, I64), (2,))
        longest = call.reduce("max", call.reshape(each, (product(each.shape),)), (0,))
        count = call.size(longest, most=count)
        kept, order = call.slice(kept, 2, 0, count), call.slice(order, 2, 0, count)
    places = call.reshape(order, (batch, classes * count, 1))
    chosen = call.emit("gather_nd", boxes, places, batch_dims=1)
    return _Candidates(order, kept, _corners(call, chosen, (batch, classes, count), centred))


def _corners(call: Call, boxes: Value, shape: tuple[Dim, ...], centred: bool) -> Value:
    sides = [call.reshape(call.slice(boxes, 2, i, i + 1), (1, *shape)) for i in range(4)]
    spans: list[Value] = []
    for i in range(2):
        if centred:
            half = call.number("mul", sides[2 + i], 0.5)
            spans += [call.emit("sub", sides[i], half), call.emit("add", sides[i], half)]
        else:
            spans += [call.emit(op, sides[i], sides[2 + i]) for op in ("minimum", "maximum")]
    extents = [call.emit("sub", spans[i + 1], spans[i]) for i in (0, 2)]
    return call.concat([*spans, call.emit("mul", *extents)], 0)


def _suppressed(call: Call, found: _Candidates, limit: Value) -> Value:
    """The candidates that no better one which is kept itself covers by more than the limit."""
    count = found.kept.shape[2]

    def fill(inside: Call, frame: Frame, iteration: Dim, state: tuple[Value, ...]) -> list[Value]:
        (kept,) = state
        corners = frame.capture(found.corners, call.around.frame)
        ratio = _overlap(inside, corners, inside.slice(corners, 3, iteration, iteration + 1))
        covers = inside.emit("greater", ratio, frame.capture(limit, call.around.frame))
        chosen = inside.slice(kept, 2, iteration, iteration + 1)
        behind = inside.number("greater", inside.iota(count, axis=2, rank=3), iteration)
        hit = inside.chain("logical_and", (covers, behind, chosen))
        return [inside.emit("logical_and", kept, inside.emit("logical_not", hit))]

    return emit_loop(call, count, None, (found.kept,), fill, False)[0]


def _overlap(call: Call, boxes: Value, box: Value) -> Value:
    """Intersection over union of one box of every class with all others; 0 without any."""

    def row(x: Value, i: int) -> Value:
        return call.reshape(call.slice(x, 0, i, i + 1), x.shape[1:])

    common: list[Value] = []
    for i in (0, 2):
        low = call.emit("maximum", row(boxes, i), row(box, i))
        high = call.emit("minimum", row(boxes, i + 1), row(box, i + 1))
        common.append(call.number("maximum", call.emit("sub", high, low), 0.0))
    inner = call.emit("mul", *common)
    union = call.emit("sub", call.emit("add", row(boxes, 4), row(box, 4)), inner)
    safe = call.where(call.number("greater", union, 0.0), union, 1.0)
    return call.where(call.number("greater", inner, 0.0), call.emit("div", inner, safe), 0.0)
