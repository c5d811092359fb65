"""`torchvision.ops.nms`: boxes that overlap a better one are dropped."""

from __future__ import annotations

from dataclasses import replace

from ranvier.frontends.torch.aten_data_sizes import positions
from ranvier.frontends.torch.call import Call
from ranvier.frontends.torch.registry import operator
from ranvier.ir.dim import Dim, symbol
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Graph, GraphBuilder, Value


@operator("torchvision.nms.default")
def nms(call: Call, dets: Value, scores: Value, iou_threshold: float) -> Value:
    """Positions of the boxes `[n, (x1, y1, x2, y2)]` that are kept, best score first."""
    _, order = call.emit_all("sort", scores, axis=0, descending=True)
    boxes = call.emit("gather", dets, order, axis=0)
    count = boxes.shape[0]
    label = call.unique(f"{call.name}_boxes")
    place = symbol(f"{label}_i")
    (dropped,) = call.builder.add_node(
        "loop",
        (call.emit("full", shape=(count,), value=False, dtype=BOOL), boxes),
        {
            "body": _body(call, label, place, boxes, iou_threshold),
            "carried": 1,
            "conditional": False,
            "iteration": place,
            "varying": (),
            "limit": count,
            "count": count,
            "shapes": ((count,),),
            "defines": (),
        },
        (f"{call.name}.loop",),
        call.source,
    )
    kept = positions(call, call.emit("logical_not", dropped), call.shape[0])
    return call.emit("gather", order, kept, axis=0)


def _body(call: Call, label: str, place: Dim, boxes: Value, iou_threshold: float) -> Graph:
    """Box `place`, unless it is dropped itself, drops later ones that overlap it too much."""
    builder = GraphBuilder(label)
    inside = replace(call, builder=builder)
    (count, _) = boxes.shape
    dropped = builder.input("dropped", replace(boxes.type, dtype=BOOL, shape=(count,)))
    every = builder.input("boxes", boxes.type)
    one = inside.slice(every, 0, place, place + 1)
    overlap = _intersection_over_union(inside, one, every)
    above = inside.emit("greater", overlap, inside.scalar(float(iou_threshold), boxes.dtype))
    numbers = inside.emit("iota", size=count, dtype=I64)
    later = inside.emit("greater", numbers, inside.scalar(place, I64))
    stays = inside.emit("logical_not", inside.slice(dropped, 0, place, place + 1))
    falls = inside.emit("logical_and", inside.emit("logical_and", above, later), stays)
    return builder.finish([inside.emit("logical_or", dropped, falls)])


def _intersection_over_union(call: Call, a: Value, b: Value) -> Value:
    """Of boxes `[1, 4]` and `[n, 4]`: `[n]`."""
    low_x = call.emit("maximum", _corner(call, a, 0), _corner(call, b, 0))
    low_y = call.emit("maximum", _corner(call, a, 1), _corner(call, b, 1))
    high_x = call.emit("minimum", _corner(call, a, 2), _corner(call, b, 2))
    high_y = call.emit("minimum", _corner(call, a, 3), _corner(call, b, 3))
    zero = call.scalar(0.0, a.dtype)
    width = call.emit("maximum", call.emit("sub", high_x, low_x), zero)
    height = call.emit("maximum", call.emit("sub", high_y, low_y), zero)
    shared = call.emit("mul", width, height)
    both = call.emit("add", _area(call, a), _area(call, b))
    return call.emit("div", shared, call.emit("sub", both, shared))


def _corner(call: Call, boxes: Value, i: int) -> Value:
    return call.reshape(call.slice(boxes, 1, i, i + 1), boxes.shape[:1])


def _area(call: Call, boxes: Value) -> Value:
    width = call.emit("sub", _corner(call, boxes, 2), _corner(call, boxes, 0))
    height = call.emit("sub", _corner(call, boxes, 3), _corner(call, boxes, 1))
    return call.emit("mul", width, height)
