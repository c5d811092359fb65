"""ATen operators that read or write at positions given by a tensor, and sorting."""

# ruff: noqa: D103  (the overloads in its decorator say what a function translates)

from __future__ import annotations

from collections.abc import Sequence

from ranvier.frontends.torch.call import Call, Refusal, axis_of
from ranvier.frontends.torch.dtypes import Operand
from ranvier.frontends.torch.registry import aten
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import BOOL, I64
from ranvier.ir.graph import Shape, TensorType, Value
from ranvier.ir.operators import infer

_REDUCTIONS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max",
               "amin": "min"}  # fmt: skip


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


@aten("index_put", "_unsafe_index_put")
def index_put(
    call: Call, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    given = [entry for entry in indices if entry is not None]
    if len(given) == 1 and given[0].dtype == BOOL and indices[0] is given[0]:
        return _masked_put(call, x, given[0], values, accumulate)
    _require_integers(given)
    if accumulate:
        raise Refusal("accumulate=True is not supported")
    axes = [i for i, entry in enumerate(indices) if entry is not None]
    rest = [i for i in range(x.rank) if i not in axes]
    if axes != list(range(len(axes))):
        raise Refusal("indices that do not start at the first dim, one per dim, are not supported")
    positions, common = _stacked(call, given)
    updates = call.broadcast(call.cast(values, x.dtype), (*common, *(x.shape[i] for i in rest)))
    return call.emit("scatter_nd", x, positions, updates)


def _masked_put(call: Call, x: Value, mask: Value, values: Value, accumulate: bool) -> Value:
    """One value for all selected elements is a `where`; several depend on their number."""
    if any(size != 1 for size in values.shape):
        raise Refusal("values of a boolean mask must be one number")
    shape = (*mask.shape, *(1,) * (x.rank - mask.rank))
    value = call.reshape(call.cast(values, x.dtype), ())
    if accumulate:
        value = call.emit("add", x, value)
    return call.emit("where", call.reshape(mask, shape), value, x)


@aten("scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce")
def scatter(
    call: Call,
    x: Value,
    dim: int,
    index: Value,
    src: Value | None = None,
    value: Operand | None = None,
    reduce: str | None = None,
) -> Value:
    reduction = "none" if reduce is None else _REDUCTIONS[reduce]
    updates = src if src is not None else _filled(call, x, index, value)
    return _scatter(call, x, dim, index, updates, reduction)


def _filled(call: Call, x: Value, index: Value, value: Operand | None) -> Value:
    if value is None:
        raise Refusal("value is missing")
    return call.broadcast(call.tensor(value, x.dtype), index.shape)


def _scatter(call: Call, x: Value, dim: int, index: Value, src: Value, reduction: str) -> Value:
    if not x.rank:
        raise Refusal("a rank-0 tensor is not supported")
    for i, (size, wanted) in enumerate(zip(src.shape, index.shape, strict=True)):
        if size != wanted:
            src = call.slice(src, i, 0, wanted)
    axis = axis_of(dim, x.rank)
    return call.emit("scatter_elements", x, index, src, axis=axis, reduction=reduction)


@aten("scatter_add")
def scatter_add(call: Call, x: Value, dim: int, index: Value, src: Value) -> Value:
    return _scatter(call, x, dim, index, src, "add")


@aten("scatter_reduce.two")
def scatter_reduce(
    call: Call, x: Value, dim: int, index: Value, src: Value, reduce: str, include_self: bool
) -> Value:
    if reduce not in _REDUCTIONS or not include_self:
        raise Refusal(f"reduce={reduce!r} with include_self={include_self} is not supported")
    return _scatter(call, x, dim, index, src, _REDUCTIONS[reduce])


@aten("topk")
def topk(
    call: Call, x: Value, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, ...]:
    """Sorted in every case, which `sorted=False` allows."""
    if not x.rank:
        raise Refusal("a rank-0 tensor is not supported")
    return call.emit_all("top_k", x, k=k, axis=axis_of(dim, x.rank), largest=largest)


@aten("sort", "sort.stable")
def sort(
    call: Call, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> tuple[Value, ...]:
    if not x.rank:
        raise Refusal("a rank-0 tensor is not supported")
    return call.emit_all("sort", x, axis=axis_of(dim, x.rank), descending=descending)


@aten("argsort", "argsort.stable")
def argsort(
    call: Call, x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Value:
    return sort(call, x, dim, descending)[1]
