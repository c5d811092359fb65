"""ATen operators that read or write at positions given by tensors, as NumPy indexes arrays."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.aten_data_sizes import coordinates, positions
from ranvier.frontends.torch.call import Call, Refusal, axis_of, static
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import product
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Shape, TensorType, Value
from ranvier.ir.operators import infer


@aten("embedding")
def embedding(
    call: Call,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    """The other arguments only change gradients."""
    return call.emit("gather", weight, indices, axis=0)


@aten("index_select")
def index_select(call: Call, x: Value, dim: int, index: Value) -> Value:
    if not x.rank:
        return x
    indices = call.reshape(index, (1,)) if not index.rank else index
    return call.emit("gather", x, indices, axis=axis_of(dim, x.rank))


@aten("gather")
def gather(call: Call, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    if not x.rank:
        return call.broadcast(x, index.shape)
    return call.emit("gather_elements", x, index, axis=axis_of(dim, x.rank))


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(call: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    """NumPy's indexing: the indexed dims are replaced by the indices' common shape."""
    masks = [i for i, entry in enumerate(indices) if entry is not None and entry.dtype == BOOL]
    if masks:
        return _index_by_mask(call, x, indices, masks[0])
    axes = [i for i, entry in enumerate(indices) if entry is not None]
    given = [entry for entry in indices if entry is not None]
    _require_integers(given)
    if not axes:
        return x
    if len(axes) == 1:
        return call.emit("gather", x, given[0], axis=axes[0])
    rest = [i for i in range(x.rank) if i not in axes]
    positions, common = _stacked(call, given)
    found = call.emit("gather_nd", call.transpose(x, axes + rest), positions, batch_dims=0)
    if axes != list(range(axes[0], axes[-1] + 1)):
        return found
    # adjacent indexed dims: the common shape stands where they stood
    n, first = len(common), axes[0]
    return call.transpose(found, (*range(n, n + first), *range(n), *range(n + first, found.rank)))


def _index_by_mask(call: Call, x: Value, indices: Sequence[Value | None], first: int) -> Value:
    """A mask stands for the positions of its true elements, one index per dim that it covers."""
    mask = indices[first]
    assert mask is not None
    flat = positions(call, mask, call.sizes[0] if call.sizes else call.shape[first])
    if all(entry is None or entry is mask for entry in indices):
        before, after = x.shape[:first], x.shape[first + mask.rank :]
        rows = call.reshape(x, (*before, product(mask.shape), *after))
        return call.emit("gather", rows, flat, axis=first)
    found = coordinates(call, flat, mask.shape)
    return index(call, x, [*indices[:first], *found, *indices[first + 1 :]])


def _require_integers(indices: Sequence[Value]) -> None:
    if any(entry.dtype == BOOL for entry in indices):
        raise Refusal("a boolean mask selects a number of elements that depends on data")


def _stacked(call: Call, indices: Sequence[Value]) -> tuple[Value, Shape]:
    """`[..., k]`: the indices broadcast to their common shape, side by side; and that shape."""
    wide = [call.cast(entry, I64) for entry in indices]
    common = wide[0].shape
    for entry in wide[1:]:
        common = infer("add", (_like(common, wide[0]), entry.type), {}, call.source)[0].shape
    columns = [call.reshape(call.broadcast(entry, common), (*common, 1)) for entry in wide]
    if len(columns) == 1:
        return columns[0], common
    return call.emit("concat", *columns, axis=len(common)), common


def _like(shape: Shape, value: Value) -> TensorType:
    return TensorType(value.dtype, shape)


@aten("take")
def take(call: Call, x: Value, index: Value) -> Value:
    return call.emit("gather", call.reshape(x, (product(x.shape),)), index, axis=0)


@aten("index_put", "_unsafe_index_put")
def index_put(
    call: Call, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    given = [entry for entry in indices if entry is not None]
    if not given:
        new = call.broadcast(call.cast(values, x.dtype), x.shape)
        return call.emit("add", x, new) if accumulate else new
    if len(given) == 1 and given[0].dtype == BOOL:
        first = next(i for i, entry in enumerate(indices) if entry is not None)
        return _masked_put(call, x, first, given[0], values, accumulate)
    _require_integers(given)
    axes = [i for i, entry in enumerate(indices) if entry is not None]
    rest = [i for i in range(x.rank) if i not in axes]
    positions, common = _stacked(call, given)
    front = call.transpose(x, axes + rest)
    updates = _updates(call, call.cast(values, x.dtype), x, axes, common)
    written = (
        _accumulate(call, front, positions, updates)
        if accumulate
        else call.emit("scatter_nd", front, positions, updates)
    )
    return call.transpose(written, [(axes + rest).index(i) for i in range(x.rank)])


def _updates(call: Call, values: Value, x: Value, axes: list[int], common: Shape) -> Value:
    """`values` broadcast to what `x[indices]` is like, with the indices' common shape in front."""
    rest = [i for i in range(x.rank) if i not in axes]
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    before = [i for i in rest if i < axes[0]] if adjacent else []
    after = [i for i in rest if i not in before]
    shape = (*(x.shape[i] for i in before), *common, *(x.shape[i] for i in after))
    placed, n, first = call.broadcast(values, shape), len(common), len(before)
    order = (*range(first, first + n), *range(first), *range(first + n, len(shape)))
    return call.transpose(placed, order)


def _accumulate(call: Call, x: Value, positions: Value, updates: Value) -> Value:
    """`x` plus every update at its position; several at one position add up."""
    depth = static(positions.shape[-1], "the number of indexed dims")
    count, lead, rest = product(positions.shape[:-1]), x.shape[:depth], x.shape[depth:]
    flat = _flat_positions(call, call.reshape(positions, (count, depth)), lead)
    column = call.broadcast(call.reshape(flat, (count, 1)), (count, product(rest)))
    total = call.emit(
        "scatter_elements",
        call.reshape(x, (product(lead), product(rest))),
        column,
        call.reshape(updates, (count, product(rest))),
        axis=0,
        reduction="add",
    )
    return call.reshape(total, x.shape)


def _flat_positions(call: Call, positions: Value, sizes: Shape) -> Value:
    """Positions `[n, k]` in `k` dims as positions `[n]` in the flattened dims."""
    flat: Value | None = None
    for i, size in enumerate(sizes):
        column = call.reshape(call.slice(positions, 1, i, i + 1), positions.shape[:1])
        extent = call.scalar(size, I64)
        below = call.emit("less", column, call.scalar(0, I64))
        column = call.emit("where", below, call.emit("add", column, extent), column)
        outer = None if flat is None else call.emit("mul", flat, extent)
        flat = column if outer is None else call.emit("add", outer, column)
    assert flat is not None
    return flat


def _masked_put(
    call: Call, x: Value, first: int, mask: Value, values: Value, accumulate: bool
) -> Value:
    """The mask covers the dims from `first` on; the k-th selected element takes the k-th value."""
    behind = x.rank - first - mask.rank
    place = values.rank - behind - 1
    value = call.cast(values, x.dtype)
    if place >= 0 and value.shape[place] == 1:
        value = call.reshape(
            value, (*value.shape[:place], *(1,) * mask.rank, *value.shape[place + 1 :])
        )
    elif place >= 0:
        value = _with_a_row(call, value, place)
        value = call.emit("gather", value, rank_among_selected(call, mask), axis=place)
    if accumulate:
        value = call.emit("add", x, value)
    mask = call.reshape(mask, (*mask.shape, *(1,) * behind))
    return call.emit("where", mask, value, x)


def _with_a_row(call: Call, x: Value, axis: int) -> Value:
    """A row of zeros behind what may have none, for unselected elements to read."""
    size = x.shape[axis]
    if isinstance(size, int) and size > 0:
        return x
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    row = call.broadcast(call.scalar(0, x.dtype), shape)
    return call.emit("concat", x, row, axis=axis)


def rank_among_selected(call: Call, mask: Value) -> Value:
    """How many selected elements lie before each one, in i64; of use at selected elements only."""
    flat = call.reshape(call.cast(mask, I64), (product(mask.shape),))
    counted = call.emit("sub", call.emit("cumsum", flat, axis=0), call.scalar(1, I64))
    return call.reshape(call.emit("maximum", counted, call.scalar(0, I64)), mask.shape)


@aten("masked_scatter")
def masked_scatter(call: Call, x: Value, mask: Value, source: Value) -> Value:
    """The k-th selected element takes the k-th element of `source`."""
    mask = call.broadcast(mask, call.shape)
    flat = call.reshape(source, (product(source.shape),))
    taken = call.emit("gather", flat, rank_among_selected(call, mask), axis=0)
    return call.emit("where", mask, taken, call.broadcast(x, call.shape))
