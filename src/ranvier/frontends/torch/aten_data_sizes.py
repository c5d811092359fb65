"""ATen operators whose results have a size that depends on data.

PyTorch gives the size a symbol; `Call.bind` says where its value comes from. `MOST` has the largest
size that an operator can give, which bounds the memory of its results.
"""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Callable, Sequence

from ranvier.frontends.torch.call import Call, Refusal
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim, product, symbol
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Shape, TensorType, Value
from ranvier.ir.operators import infer


def _bind_count(call: Call, size: Dim, mask: Value) -> None:
    """Gives a size the number of true elements as its value."""
    counted = call.cast(mask, I64)
    axes = tuple(range(mask.rank))
    call.bind(call.emit("reduce_sum", counted, axes=axes, keepdims=False), size)


def positions(call: Call, mask: Value, size: Dim) -> Value:
    """Flat positions of the true elements, `size` of them.

    PyTorch gives the elements that the same mask selects twice the same size: it has its value
    from the first time.
    """
    flat = call.reshape(mask, (product(mask.shape),))
    if size in call.sizes:
        _bind_count(call, size, flat)
    return call.emit("nonzero", flat, count=size)


def coordinates(call: Call, flat: Value, shape: Shape) -> list[Value]:
    """Flat positions as a position in each dim."""
    found: list[Value] = []
    for axis in reversed(range(len(shape))):
        extent = call.scalar(shape[axis], I64)
        found.insert(0, call.emit("remainder", flat, extent) if axis else flat)
        flat = call.emit("floor_div", flat, extent) if axis else flat
    return found


@aten("nonzero")
def nonzero(call: Call, x: Value) -> Value:
    mask = call.truth(x)
    flat = positions(call, mask, call.shape[0])
    if not x.rank:
        return call.reshape(flat, call.shape)
    columns = [call.reshape(c, (*c.shape, 1)) for c in coordinates(call, flat, x.shape)]
    return columns[0] if len(columns) == 1 else call.emit("concat", *columns, axis=1)


@aten("masked_select")
def masked_select(call: Call, x: Value, mask: Value) -> Value:
    shape = _common(x, mask)
    flat = call.reshape(call.broadcast(x, shape), (product(shape),))
    kept = positions(call, call.broadcast(mask, shape), call.shape[0])
    return call.emit("gather", flat, kept, axis=0)


def _common(x: Value, mask: Value) -> Shape:
    types = [TensorType(BOOL, v.shape) for v in (x, mask)]
    return infer("logical_and", types, {})[0].shape


@aten("repeat_interleave.Tensor")
def repeat_interleave(call: Call, repeats: Value, output_size: Dim | None = None) -> Value:
    """Index i of the input, repeats[i] times: how many repeats end at or before each position."""
    wide = call.cast(repeats, I64)
    size = call.shape[0]
    if call.sizes:
        call.bind(call.emit("reduce_sum", wide, axes=(0,), keepdims=False), size)
    ends = call.emit("cumsum", wide, axis=0)
    places = call.reshape(call.emit("iota", size=size, dtype=I64), (size, 1))
    ended = call.cast(call.emit("less_equal", ends, places), I64)
    return call.cast(call.emit("reduce_sum", ended, axes=(1,), keepdims=False), call.dtype)


@aten("_unique2")
def unique(
    call: Call,
    x: Value,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> tuple[Value | None, ...]:
    """Sorted in every case, which `sorted=False` allows."""
    flat = call.reshape(x, (product(x.shape),))
    wide = call.cast(flat, I64) if x.dtype == BOOL else flat
    ordered, order = call.emit_all("sort", wide, axis=0, descending=False)
    is_first, firsts = _firsts(call, ordered)
    values = call.cast(call.emit("gather", ordered, firsts, axis=0), x.dtype)
    inverse: Value | None = None
    if 1 in call.used and return_inverse:
        start = call.emit("full", shape=flat.shape, value=0, dtype=I64)
        ranks = _ranks(call, is_first)
        inverse = call.emit("scatter_elements", start, order, ranks, axis=0, reduction="none")
        inverse = call.reshape(inverse, x.shape)
    counts = _counts(call, firsts, flat.shape[0]) if 2 in call.used and return_counts else None
    return values, _or_empty(call, 1, inverse), _or_empty(call, 2, counts)


@aten("unique_consecutive")
def unique_consecutive(
    call: Call,
    x: Value,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> tuple[Value | None, ...]:
    if dim is not None and x.rank != 1:
        raise Refusal(f"dim is {dim}: only runs of single elements are supported")
    flat = call.reshape(x, (product(x.shape),))
    is_first, firsts = _firsts(call, flat)
    values = call.emit("gather", flat, firsts, axis=0)
    inverse = None
    if 1 in call.used and return_inverse:
        inverse = call.reshape(_ranks(call, is_first), x.shape)
    counts = _counts(call, firsts, flat.shape[0]) if 2 in call.used and return_counts else None
    return values, _or_empty(call, 1, inverse), _or_empty(call, 2, counts)


def _firsts(call: Call, x: Value) -> tuple[Value, Value]:
    """Which elements of a vector differ from the one before, and their positions."""
    size = x.shape[0]
    numbers = call.emit("iota", size=size, dtype=I64)
    zero = call.scalar(0, I64)
    before = call.emit("maximum", call.emit("sub", numbers, call.scalar(1, I64)), zero)
    differs = call.emit("not_equal", x, call.emit("gather", x, before, axis=0))
    is_first = call.emit("logical_or", differs, call.emit("equal", numbers, zero))
    return is_first, positions(call, is_first, call.shape[0])


def _ranks(call: Call, is_first: Value) -> Value:
    """The number of the run that every element belongs to."""
    total = call.emit("cumsum", call.cast(is_first, I64), axis=0)
    return call.emit("sub", total, call.scalar(1, I64))


def _counts(call: Call, firsts: Value, size: Dim) -> Value:
    """Lengths of runs by the positions of their first elements."""
    (count,) = firsts.shape
    end = call.reshape(call.scalar(size, I64), (1,))
    following = call.emit("concat", firsts, end, axis=0)
    return call.emit("sub", call.slice(following, 0, 1, count + 1), firsts)


def _or_empty(call: Call, place: int, value: Value | None) -> Value | None:
    """What was not asked for is an empty tensor."""
    expected = call.expected[place]
    if value is not None or place not in call.used or expected is None:
        return value
    return call.emit("full", shape=expected.shape, value=0, dtype=expected.dtype)


@aten("bincount")
def bincount(call: Call, x: Value, weights: Value | None = None, minlength: Dim = 0) -> Value:
    size = call.shape[0]
    wide = call.cast(x, I64)
    if call.sizes:
        most = call.emit("reduce_max", wide, axes=(0,), keepdims=False)
        length = call.emit("add", most, call.scalar(1, I64))
        call.bind(call.emit("maximum", length, call.scalar(minlength, I64)), size)
    ones = call.broadcast(call.scalar(1, call.dtype), x.shape)
    updates = ones if weights is None else call.cast(weights, call.dtype)
    zeros = call.broadcast(call.scalar(0, call.dtype), (size,))
    return call.emit("scatter_elements", zeros, wide, updates, axis=0, reduction="add")


@aten("nonzero_static")
def nonzero_static(call: Call, x: Value, size: Dim, fill_value: int = -1) -> Value:
    """As many positions as asked for; rows behind the last one are filled."""
    mask = call.truth(call.reshape(x, (product(x.shape),)))
    found = symbol(call.unique(f"{call.name}_found"), 0, product(x.shape))
    _bind_count(call, found, mask)
    flat = call.emit("nonzero", mask, count=found)
    numbers = call.emit("iota", size=size, dtype=I64)
    is_found = call.emit("less", numbers, call.scalar(found, I64))
    # a row of no position reads an appended one
    flat = call.emit("concat", flat, call.emit("full", shape=(1,), value=0, dtype=I64), axis=0)
    place = call.emit(
        "gather", flat, call.emit("minimum", numbers, call.scalar(found, I64)), axis=0
    )
    fill = call.scalar(fill_value, I64)
    columns = [
        call.reshape(call.emit("where", is_found, column, fill), (size, 1))
        for column in coordinates(call, place, x.shape)
    ]
    return columns[0] if len(columns) == 1 else call.emit("concat", *columns, axis=1)


def _mask_size(indices: Sequence[Value | None], **others: object) -> Dim | None:
    masks = [entry for entry in indices if entry is not None and entry.dtype == BOOL]
    return product(masks[0].shape) if masks else None


MOST: dict[str, Callable[..., Dim | None]] = {
    "aten.nonzero.default": lambda x: product(x.shape),
    "aten.masked_select.default": lambda x, mask: product(_common(x, mask)),
    "aten.index.Tensor": lambda x, indices: _mask_size(indices),
    "aten._unique2.default": lambda x, **others: product(x.shape),
    "aten.unique_consecutive.default": lambda x, **others: product(x.shape),
    "torchvision.nms.default": lambda dets, **others: dets.shape[0],
}
MISJUDGED = frozenset({"aten.masked_select.default"})
"""Operators for which PyTorch asserts a limit that broadcasting exceeds: it counts the elements of
the data before it is broadcast to the mask."""
