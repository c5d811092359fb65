"""Reductions, positions of extremes, running sums and products, softmax."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ranvier.frontends.onnx.call import Call, axes_of, axis_of
from ranvier.frontends.onnx.refusal import Refusal
from ranvier.frontends.onnx.registry import onnx_operator
from ranvier.ir.dim import Dim, product
from ranvier.ir.dtype import BOOL, F32, F64, I64
from ranvier.ir.graph import Value

Reduction = Callable[[Call, Value, Sequence[int], bool], Value]


# What the reductions compute ----------------------------------------------------------------------
def _plain(kind: str) -> Reduction:
    return lambda call, x, axes, keep: call.reduce(kind, x, axes, keep)


def _mean(call: Call, x: Value, axes: Sequence[int], keep: bool) -> Value:
    if x.dtype.is_float:
        return call.reduce("mean", x, axes, keep)
    total = call.reduce("sum", call.cast(x, I64), axes, keep)
    count = call.scalar(product(x.shape[axis] for axis in axes), I64)
    return call.cast(call.emit("floor_div", total, count), x.dtype)


def _l1(call: Call, x: Value, axes: Sequence[int], keep: bool) -> Value:
    return call.reduce("sum", call.emit("abs", x), axes, keep)


def _sum_square(call: Call, x: Value, axes: Sequence[int], keep: bool) -> Value:
    return call.reduce("sum", call.emit("mul", x, x), axes, keep)


def _l2(call: Call, x: Value, axes: Sequence[int], keep: bool) -> Value:
    inner = _floating(call, x)
    return call.cast(call.emit("sqrt", _sum_square(call, inner, axes, keep)), x.dtype)


def _log_sum(call: Call, x: Value, axes: Sequence[int], keep: bool) -> Value:
    inner = _floating(call, x)
    return call.cast(call.emit("log", call.reduce("sum", inner, axes, keep)), x.dtype)


def _log_sum_exp(call: Call, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """log(sum(exp(x - max))) + max, with a finite number in place of an infinite maximum."""
    inner = _floating(call, x)
    if any(x.shape[axis] == 0 for axis in axes):
        total = call.reduce("sum", call.emit("exp", inner), axes, keep)
        return call.cast(call.emit("log", total), x.dtype)
    top = call.reduce("max", inner, axes, True)
    top = call.where(call.emit("is_finite", top), top, 0)
    total = call.reduce("sum", call.emit("exp", call.emit("sub", inner, top)), axes, True)
    result = call.emit("add", call.emit("log", total), top)
    if not keep:
        result = call.reshape(result, _reduced(result, axes))
    return call.cast(result, x.dtype)


def _reduced(x: Value, axes: Sequence[int]) -> tuple[Dim, ...]:
    return tuple(size for i, size in enumerate(x.shape) if i not in axes)


def _floating(call: Call, x: Value) -> Value:
    return x if x.dtype.is_float else call.cast(x, F64)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _plain("sum"), "ReduceMax": _plain("max"), "ReduceMin": _plain("min"),
    "ReduceProd": _plain("prod"), "ReduceMean": _mean, "ReduceL1": _l1, "ReduceL2": _l2,
    "ReduceSumSquare": _sum_square, "ReduceLogSum": _log_sum, "ReduceLogSumExp": _log_sum_exp,
}  # fmt: skip


def _register_reduction(name: str, reduction: Reduction) -> None:
    @onnx_operator(name)
    def by_attribute(
        call: Call, x: Value, *, axes: tuple[int, ...] | None = None, keepdims: int = 1
    ) -> Value:
        over = tuple(range(x.rank)) if axes is None else axes_of(axes, x.rank)
        return reduction(call, x, over, bool(keepdims))

    @onnx_operator(name, since=13 if name == "ReduceSum" else 18)
    def by_operand(
        call: Call, x: Value, axes: Value | None = None,
        *, keepdims: int = 1, noop_with_empty_axes: int = 0,
    ) -> Value:  # fmt: skip
        keep = bool(keepdims)
        if axes is None or axes.shape == (0,):
            over = () if noop_with_empty_axes else tuple(range(x.rank))
            return reduction(call, x, over, keep)
        known = call.plain(axes)
        if known is not None:
            return reduction(call, x, axes_of(known, x.rank), keep)
        return _over_some(call, x, axes, keep, reduction)


for _name, _reduction in _REDUCTIONS.items():
    _register_reduction(_name, _reduction)


def _over_some(call: Call, x: Value, axes: Value, keep: bool, reduction: Reduction) -> Value:
    """Axes that are known at run time: every set that gives the declared shape, one is chosen."""
    shape = call.declared_shape()
    candidates = [
        over
        for count in range(x.rank + 1)
        for over in itertools.combinations(range(x.rank), count)
        if _shape_after(x, over, keep) == shape
    ]
    if not candidates:
        raise Refusal("no set of axes gives the declared shape of its result")
    result = reduction(call, x, candidates[0], keep)
    for over in candidates[1:]:
        if keep and _ones(x, over) == _ones(x, candidates[0]):
            continue  # they differ in dims of size 1
        chosen = _is_set(call, axes, over, x.rank)
        result = call.where(chosen, reduction(call, x, over, keep), result)
    return result


def _ones(x: Value, over: Sequence[int]) -> list[int]:
    return [axis for axis in over if x.shape[axis] != 1]


def _shape_after(x: Value, over: Sequence[int], keep: bool) -> tuple[object, ...]:
    kept = ((1 if i in over else size) for i, size in enumerate(x.shape))
    return tuple(size for i, size in enumerate(kept) if keep or i not in over)


def _is_set(call: Call, axes: Value, over: Sequence[int], rank: int) -> Value:
    """Whether a tensor of axes holds exactly the axes `over`."""
    given = call.cast(axes, I64)
    given = call.where(call.number("less", given, 0), call.number("add", given, rank), given)
    row = call.reshape(given, (*given.shape, 1))
    hit = call.emit("equal", row, call.iota(rank, axis=1, rank=2))
    named = call.reduce("any", hit, (0,))
    wanted = call.vector([int(i in over) for i in range(rank)])
    return call.reduce("all", call.emit("equal", named, call.cast(wanted, BOOL)), (0,))


# Positions ----------------------------------------------------------------------------------------
def _register_position(name: str, op: str) -> None:
    @onnx_operator(name)
    def position(
        call: Call, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Value:
        along, keep = axis_of(axis, x.rank), bool(keepdims)
        if not select_last_index:
            return call.emit(op, x, axis=along, keepdims=keep)
        backwards = call.emit("reverse", x, axes=(along,))
        found = call.emit(op, backwards, axis=along, keepdims=keep)
        last = call.scalar(x.shape[along] - 1, I64)
        return call.emit("sub", last, found)


_register_position("ArgMax", "arg_max")
_register_position("ArgMin", "arg_min")


# Running sums and products ------------------------------------------------------------------------
def _register_running(name: str) -> None:
    @onnx_operator(name)
    def running(
        call: Call, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0
    ) -> Value:
        known = call.plain(axis)
        axes = range(x.rank) if known is None else (axis_of(int(known[0]), x.rank),)
        result: Value | None = None
        for along in axes:
            found = _running(call, x, along, name, bool(exclusive), bool(reverse))
            if result is None:
                result = found
                continue
            chosen = is_axis(call, axis, along, x.rank)
            result = call.where(chosen, found, result)
        assert result is not None
        return result


def is_axis(call: Call, axis: Value, along: int, rank: int) -> Value:
    """Whether a tensor of one element, known at run time, is the axis `along`."""
    given = call.reshape(call.cast(axis, I64), ())
    same = call.number("equal", given, along)
    return call.emit("logical_or", same, call.number("equal", given, along - rank))


def _running(call: Call, x: Value, along: int, name: str, exclusive: bool, reverse: bool) -> Value:
    if reverse:
        x = call.emit("reverse", x, axes=(along,))
    if exclusive:
        first = 0 if name == "CumSum" else 1
        x = call.pad(x, {along: (1, -1)}, float(first) if x.dtype.is_float else first)
    x = call.emit("cumsum", x, axis=along) if name == "CumSum" else _products(call, x, along)
    return call.emit("reverse", x, axes=(along,)) if reverse else x


def _products(call: Call, x: Value, along: int) -> Value:
    """Running products: element j of a row is a factor of all from j on."""
    size = x.shape[along]
    last = call.reshape(call.move_last(x, along), _with_row(x, along))
    column = call.iota(size, axis=0, rank=2)
    row = call.iota(size, axis=1, rank=2)
    factors = call.where(call.emit("less_equal", row, column), last, 1)
    return call.move_back(call.reduce("prod", factors, (x.rank,)), along)


def _with_row(x: Value, along: int) -> tuple[Dim, ...]:
    others = tuple(size for i, size in enumerate(x.shape) if i != along)
    return (*others, 1, x.shape[along])


_register_running("CumSum")
_register_running("CumProd")


# Softmax ------------------------------------------------------------------------------------------
def _flat(call: Call, x: Value, axis: int) -> Value:
    """Before operator set 13, all dims from `axis` on count as one."""
    along = axis_of(axis, x.rank)
    return call.reshape(x, (product(x.shape[:along]), product(x.shape[along:])))


def _register_softmax(name: str, compute: Callable[[Call, Value, int], Value]) -> None:
    @onnx_operator(name)
    def flattened(call: Call, x: Value, *, axis: int = 1) -> Value:
        if axis_of(axis, x.rank) == x.rank - 1:
            return compute(call, x, x.rank - 1)
        return call.reshape(compute(call, _flat(call, x, axis), 1), x.shape)

    @onnx_operator(name, since=13)
    def along_axis(call: Call, x: Value, *, axis: int = -1) -> Value:
        return compute(call, x, axis_of(axis, x.rank))


def _hardmax(call: Call, x: Value, along: int) -> Value:
    """1 at the first largest element, 0 elsewhere."""
    top = call.emit("arg_max", x, axis=along, keepdims=True)
    places = call.iota(x.shape[along], axis=along, rank=x.rank)
    return call.cast(call.emit("equal", places, top), x.dtype)


_register_softmax("Softmax", lambda call, x, along: call.emit("softmax", x, axis=along))
_register_softmax("LogSoftmax", lambda call, x, along: call.emit("log_softmax", x, axis=along))
_register_softmax("Hardmax", _hardmax)


@onnx_operator("LpNormalization")
def lp_normalization(call: Call, x: Value, *, axis: int = -1, p: int = 2) -> Value:
    """x over its norm along a dim; zero where the norm is zero."""
    over = (axis_of(axis, x.rank),)
    norm = (_l1 if p == 1 else _l2)(call, x, over, True)
    return call.where(call.number("equal", norm, 0), 0, call.emit("div", x, norm))


@onnx_operator("MeanVarianceNormalization")
def mean_variance_normalization(
    call: Call, x: Value, *, axes: tuple[int, ...] = (0, 2, 3)
) -> Value:
    """(x - mean) / sqrt(variance) over some dims, with the standard's 1e-9 below."""
    over = axes_of(axes, x.rank)
    inner = call.cast(x, F32) if x.dtype.size == 2 else x
    centred = call.emit("sub", inner, call.reduce("mean", inner, over, True))
    spread = call.emit("sqrt", _mean(call, call.emit("mul", centred, centred), over, True))
    return call.cast(call.emit("div", centred, call.number("add", spread, 1e-9)), x.dtype)
