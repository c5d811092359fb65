"""Generated loop nests against their NumPy definition, for random nests and awkward cases."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.codegen.builder import ModuleWriter
from ranvier.codegen.interleaved_stores import alternating_loop
from ranvier.codegen.nest import emit_nest
from ranvier.ir import dim as dims
from ranvier.ir import dtype as dt
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType
from ranvier.lowering.expression import (
    Access,
    Apply,
    Expression,
    Guard,
    Index,
    Literal,
    Loop,
    Reduce,
    compute_dtype,
)  # fmt: skip
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.target import Target
from tests.codegen import expression_interpreter
from tests.codegen.jit import Compiled
from tests.targets import HOST

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SIZES = st.sampled_from([1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 131])


def build(nest: Nest, target: Target) -> Compiled:
    module = ModuleWriter(target.triple)
    emit_nest(module, "kernel", nest, target)
    return Compiled(module, target)


def random_array(dtype: DType, size: int, seed: int = 0) -> np.ndarray:
    """Floats with NaN, infinities and signed zeros among them; small integers."""
    rng = np.random.default_rng(seed)
    if dtype is dt.BOOL:
        return rng.integers(0, 2, size).astype(bool)
    if not dtype.is_float:
        low = -100 if dtype.kind == "int" else 0
        return rng.integers(low, 100, size).astype(dtype.storage)
    values = rng.normal(size=size).astype(np.float32)
    values[rng.random(size) < 0.03] = np.nan
    values[rng.random(size) < 0.03] = -0.0
    values[rng.random(size) < 0.03] = np.inf
    return dt.encode(values, dtype)


def check(
    nest: Nest, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], target: Target,
    scalars: dict[str, int] | None = None, tolerance: float = 0.0,
) -> None:  # fmt: skip
    """Compare for 1, 2 and 3 threads (two of them at the same time)."""
    scalars = scalars or {}
    wanted = [o.copy() for o in outputs]
    expression_interpreter.run(nest, [*inputs, *wanted], scalars)
    compiled = build(nest, target)
    for threads in (1, 2, 3):
        got = [o.copy() for o in outputs]
        compiled("kernel", [*inputs, *got], list(scalars.values()), threads, threads == 2)
        for store, g, w in zip(nest.stores, got, wanted, strict=True):
            a, b = dt.decode(g, store.storage), dt.decode(w, store.storage)
            if tolerance and store.storage.is_float:
                x, y = a.astype(np.float64), b.astype(np.float64)
                np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
            else:
                np.testing.assert_array_equal(a, b)


@st.composite
def elementwise(draw: st.DrawFn) -> tuple[Nest, list[np.ndarray], list[np.ndarray], dict[str, int]]:
    """A nest over one to three loops that reads through views, guards and gathers."""
    rank = draw(st.integers(1, 3))
    sizes = [draw(SIZES) if k == rank - 1 else draw(st.integers(1, 4)) for k in range(rank)]
    symbolic = draw(st.booleans())
    extents: list[Dim] = list(sizes)
    scalars: dict[str, int] = {}
    if symbolic:
        at = draw(st.integers(0, rank - 1))
        scalars["n"] = sizes[at]
        extents[at] = dims.symbol("n")
    loops = [Loop(f"i{k}", e) for k, e in enumerate(extents)]
    variables = [loop.variable for loop in loops]
    dtype = draw(st.sampled_from(dt.ALL))
    values: list[Expression] = []
    arrays = []
    for operand in range(draw(st.integers(1, 3))):
        access, size = _view(draw, operand, variables, sizes, dtype)
        values.append(access)
        arrays.append(random_array(dtype, size, operand))
    value = values[0]
    for other in values[1:]:
        value = _combine(draw, value, other)
    order = draw(st.permutations(range(rank)))
    offset: Dim = 0
    stride: Dim = 1
    for k in order:
        offset, stride = offset + variables[k] * stride, stride * extents[k]
    vector = draw(st.sampled_from([None, *range(rank)]))
    total = int(np.prod(sizes))
    storage = draw(st.sampled_from([dtype, dtype, _neighbour(dtype)]))
    count = len(arrays)
    nest = Nest(
        tuple(loops), (Store(count, offset, storage, value),), count + 1, tuple(scalars), vector
    )
    output = np.zeros(total, storage.storage)
    return nest, arrays, [output], scalars


def _neighbour(dtype: DType) -> DType:
    return {"f32": dt.BF16, "bf16": dt.F32, "f16": dt.F32, "i32": dt.I64, "i8": dt.I32}.get(
        dtype.name, dtype
    )


def _view(
    draw: st.DrawFn, operand: int, variables: list[Dim], sizes: list[int], dtype: DType
) -> tuple[Access, int]:
    """An access and the number of elements that its operand needs."""
    offset: Dim = 0
    reach = 0
    for variable, size in zip(variables, sizes, strict=True):
        step = draw(st.sampled_from([0, 1, 1, 2, 3, 5]))
        offset, reach = offset + variable * step, reach + step * (size - 1)
    kind = draw(st.sampled_from(["plain", "plain", "guard", "reverse", "fold"]))
    last, size = variables[-1], sizes[-1]
    if kind == "guard":
        shift = draw(st.integers(-3, 3))
        limit = draw(st.integers(1, size + 2))
        guard = Guard(last + shift, limit)
        return Access(operand, last + shift, dtype, (guard,), draw(st.sampled_from([0, 1]))), limit
    if kind == "reverse":
        return Access(operand, last * -1 + (size - 1), dtype), size
    if kind == "fold":
        by = draw(st.integers(2, 7))
        return Access(
            operand, dims.floordiv(last, by) + dims.modulo(last, by) * 2, dtype
        ), size + 14
    return Access(operand, offset, dtype), reach + 1


def _combine(draw: st.DrawFn, a: Expression, b: Expression) -> Expression:
    dtype = compute_dtype(a.dtype)
    if dtype is dt.BOOL:
        return Apply("logical_and", (a, b), dtype)
    op = draw(st.sampled_from(["add", "sub", "mul", "maximum", "minimum", "where"]))
    if op == "where":
        return Apply("where", (Apply("less", (a, b), dt.BOOL), b, a), dtype)
    return Apply(op, (a, b), dtype)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@QUICK
@given(data=st.data())
def test_elementwise_nests(target: Target, data: st.DataObject) -> None:
    nest, inputs, outputs, scalars = data.draw(elementwise())
    check(nest, inputs, outputs, target, scalars)


@st.composite
def reductions(draw: st.DrawFn) -> tuple[Nest, list[np.ndarray], list[np.ndarray], dict[str, int]]:
    """Rows or columns of a matrix, with one or two loops in the reduction."""
    rows, inner, columns = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(SIZES)
    op = draw(st.sampled_from(["sum", "max", "min", "prod", "any", "all", "arg_max", "arg_min"]))
    if op in ("any", "all"):
        dtype = dt.BOOL
    else:
        dtype = draw(st.sampled_from([dt.F32, dt.F64, dt.BF16, dt.I32, dt.I64, dt.U8]))
    i, j, k = Loop("i", rows), Loop("j", inner), Loop("k", columns)
    if draw(st.booleans()):
        k = Loop("k", dims.symbol("n"))
    body: Expression = Access(0, (i.variable * inner + j.variable) * columns + k.variable, dtype)
    over = draw(st.sampled_from(["k", "jk", "j", "i"]))
    if op.startswith("arg"):
        over = over[-1]
    loops = {"i": i, "j": j, "k": k}
    kept = [loop for name, loop in loops.items() if name not in over]
    result = dt.I64 if op.startswith("arg") else compute_dtype(dtype)
    value = Reduce(op, tuple(loops[n] for n in over), body, result)
    sizes = {"i": rows, "j": inner, "k": columns}
    offset: Dim = 0
    for loop in kept:
        offset = offset * sizes[loop.name] + loop.variable
    vector = draw(st.sampled_from([None, len(kept) - 1]))
    total = int(np.prod([sizes[loop.name] for loop in kept]))
    nest = Nest(tuple(kept), (Store(1, offset, result, value),), 2, ("n",), vector)
    source = random_array(dtype, rows * inner * columns, draw(st.integers(0, 3)))
    if op == "prod" and not dtype.is_float:
        source = (source % 3).astype(source.dtype)
    return nest, [source], [np.zeros(total, result.storage)], {"n": columns}


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@QUICK
@given(data=st.data())
def test_reductions(target: Target, data: st.DataObject) -> None:
    nest, inputs, outputs, scalars = data.draw(reductions())
    check(nest, inputs, outputs, target, scalars, tolerance=1e-4)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (64, 50), (2, 1000)])
def test_softmax_with_a_reduction_inside_a_reduction(
    shape: tuple[int, int], target: Target
) -> None:
    rows, columns = shape
    i, j, k, m = Loop("i", rows), Loop("j", columns), Loop("k", columns), Loop("m", columns)

    def at(loop: Loop) -> Access:
        return Access(0, i.variable * columns + loop.variable, dt.F32)

    largest = Reduce("max", (k,), at(k), dt.F32)

    def weight(loop: Loop) -> Apply:
        return Apply("exp", (Apply("sub", (at(loop), largest), dt.F32),), dt.F32)

    total = Reduce("sum", (m,), weight(m), dt.F32)
    value = Apply("div", (weight(j), total), dt.F32)
    nest = Nest((i, j), (Store(1, i.variable * columns + j.variable, dt.F32, value),), 2, (), 1)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    check(nest, [x], [np.zeros_like(x)], target, tolerance=2e-6)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
def test_gather_with_indirect_index(target: Target) -> None:
    rows, columns = 7, 37
    i, j = Loop("i", rows), Loop("j", columns)
    index = Access(1, j.variable, dt.I64)
    row = Access(2, i.variable, dt.I32)
    across = Access(0, dims.symbol("q") + i.variable * 50, dt.F32, (), 0, (("q", index),))
    down = Access(0, dims.symbol("q") * 50 + j.variable, dt.F32, (), 0, (("q", row),))
    value = Apply("sub", (across, down), dt.F32)
    nest = Nest((i, j), (Store(3, i.variable * columns + j.variable, dt.F32, value),), 4, (), 1)
    rng = np.random.default_rng(0)
    inputs: list[np.ndarray] = [
        np.asarray(rng.normal(size=(rows, 50)), np.float32),
        np.asarray(rng.integers(0, 50, columns)),
        np.asarray(rng.integers(0, rows, rows), np.int32),
    ]
    check(nest, inputs, [np.zeros((rows, columns), np.float32)], target)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
def test_empty_extents(target: Target) -> None:
    i, k = Loop("i", dims.symbol("m")), Loop("k", dims.symbol("n"))
    body = Access(0, i.variable * dims.symbol("n") + k.variable, dt.F32)
    nest = Nest(
        (i,), (Store(1, i.variable, dt.F32, Reduce("sum", (k,), body, dt.F32)),), 2, ("m", "n"), 0
    )
    compiled = build(nest, target)
    result = np.full(5, 7.0, np.float32)
    compiled("kernel", [np.zeros(0, np.float32), result], [0, 4])
    assert (result == 7).all()
    compiled("kernel", [np.zeros(0, np.float32), result], [5, 0])
    assert (result == 0).all()


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@QUICK
@given(
    channels=st.integers(2, 4),
    width=SIZES,
    storage=st.sampled_from([dt.F32, dt.BF16, dt.I8, dt.F64]),
    is_symbolic=st.booleans(),
)
def test_a_padded_image_is_copied_channels_last(
    target: Target, channels: int, width: int, storage: DType, is_symbolic: bool
) -> None:
    """The channels of a pixel alternate in memory, and are stored together."""
    rows, padded = 3, dims.symbol("w") if is_symbolic else width
    y, c, x = Loop("y", rows), Loop("c", channels), Loop("x", padded)
    source = width + 1
    plane = c.variable * (rows * source) + y.variable * source
    dtype = dt.F32 if storage.is_float else storage
    guard = Guard(x.variable - 1, width - 1)
    value = Access(0, plane + x.variable - 1, dtype, (guard,), 1)
    offset = (y.variable * padded + x.variable) * channels + c.variable
    scalars = {"w": width} if is_symbolic else {}
    nest = Nest((y, c, x), (Store(1, offset, storage, value),), 2, tuple(scalars), 2)
    assert width == 1 or alternating_loop(nest) == c  # the only column is no loop
    image = random_array(dtype, channels * rows * source)
    result = np.zeros(rows * width * channels, storage.storage)
    check(nest, [image], [result], target, scalars)


def test_only_short_loops_that_fill_the_gaps_alternate() -> None:
    y, x = Loop("y", 3), Loop("x", 40)
    value = Access(0, y.variable * 40 + x.variable, dt.F32)

    def nest(offset: Dim, value: Expression = value, loops: tuple[Loop, ...] = (y, x)) -> Nest:
        return Nest(loops, (Store(1, offset, dt.F32, value),), 2, (), 1)

    filled = x.variable * 3 + y.variable
    assert alternating_loop(nest(filled)) == y
    assert alternating_loop(nest(x.variable * 4 + y.variable)) is None
    assert alternating_loop(nest(y.variable * 40 + x.variable)) is None
    long = Loop("y", 5)
    assert alternating_loop(nest(x.variable * 5 + long.variable, value, (long, x))) is None
    ragged = Loop("x", y.variable + 1)
    assert alternating_loop(nest(filled, value, (y, ragged))) is None
    inner = Loop("k", 2)
    total = Reduce("sum", (inner,), value, dt.F32)
    assert alternating_loop(nest(filled, total)) is None


class Guarded:
    """An array whose last element ends at a page that must not be touched."""

    def __init__(self, values: np.ndarray) -> None:
        page = mmap.PAGESIZE
        used = -(-values.nbytes // page) * page
        self._map = mmap.mmap(-1, used + page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(address + used), page, 0) == 0
        start = used - values.nbytes
        self.array = np.frombuffer(self._map, values.dtype, values.size, start)
        self.array[:] = values


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [dt.F32, dt.BF16, dt.I8, dt.F64], ids=str)
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_nothing_is_read_past_the_operand(target: Target, dtype: DType, step: int) -> None:
    size = 45
    j = Loop("j", size)
    inside = Access(0, j.variable * step, dtype)
    padded = Access(1, j.variable - 3, dtype, (Guard(j.variable - 3, size - 3),), 1)
    outside = Access(1, j.variable + 9999, dtype, (Guard(dims.symbol("n"), 1),), 1)
    total = Apply("add", (Apply("add", (inside, padded), inside.dtype), outside), inside.dtype)
    nest = Nest((j,), (Store(2, j.variable, dtype, total),), 3, ("n",), 0)
    source = Guarded(random_array(dtype, (size - 1) * step + 1))
    other = Guarded(random_array(dtype, size - 3, 1))
    result = Guarded(np.zeros(size, dtype.storage))
    want = np.zeros(size, dtype.storage)
    # The interpreter reads element 0 where a guard fails, so it can follow the address 9999 away.
    expression_interpreter.run(nest, [source.array, other.array, want], {"n": 5})
    build(nest, target)("kernel", [source.array, other.array, result.array], [5])
    np.testing.assert_array_equal(dt.decode(result.array, dtype), dt.decode(want, dtype))


INTEGERS = [d for d in dt.ALL if d.is_integer]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("op", ["div", "floor_div", "remainder", "fmod"])
def test_integer_division_never_traps(op: str, dtype: DType) -> None:
    signed = dtype.kind == "int"
    most = (1 << (dtype.bits - signed)) - 1
    least = -most - 1 if signed else 0
    values = np.array([0, 1, 2, 3, 7, most, least, most - 1], dtype.storage)
    if signed:
        values = np.concatenate([values, np.array([-1, -2, -7], dtype.storage)])
    a, b = (v.ravel().copy() for v in np.meshgrid(values, values))
    j = Loop("j", a.size)
    value = Apply(op, (Access(0, j.variable, dtype), Access(1, j.variable, dtype)), dtype)
    nest = Nest((j,), (Store(2, j.variable, dtype, value),), 3, (), 0)
    got = np.zeros_like(a)
    build(nest, HOST[-1])("kernel", [a, b, got])
    want = [_divide(op, int(x), int(y)) for x, y in zip(a, b, strict=True)]
    wrapped = np.array(want, object) & ((1 << dtype.bits) - 1)
    np.testing.assert_array_equal(got.astype(object) & ((1 << dtype.bits) - 1), wrapped)


def _divide(op: str, a: int, b: int) -> int:
    if b == 0:
        return 0
    toward_zero = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return {
        "div": toward_zero, "floor_div": a // b, "remainder": a % b, "fmod": a - toward_zero * b,
    }[op]  # fmt: skip


@pytest.mark.parametrize("source", dt.ALL, ids=str)
@pytest.mark.parametrize("target", dt.ALL, ids=str)
def test_casts(source: DType, target: DType) -> None:
    values = random_array(source, 67)
    if source.is_float and not target.is_float:
        numbers = dt.decode(values, source).astype(np.float64)
        usable = np.isfinite(numbers) & ((numbers >= 0) | (target.kind == "int"))
        values = np.where(usable, values, np.zeros(1, values.dtype))
    j = Loop("j", values.size)
    value = Apply("cast", (Access(0, j.variable, source),), target)
    nest = Nest((j,), (Store(1, j.variable, target, value),), 2, (), 0)
    got = np.zeros(values.size, target.storage)
    build(nest, HOST[-1])("kernel", [values, got])
    with np.errstate(all="ignore"):
        want = dt.encode(dt.decode(values, source), target)
    np.testing.assert_array_equal(dt.decode(got, target), dt.decode(want, target))


def test_index_and_literal() -> None:
    i, j = Loop("i", 3), Loop("j", 21)
    ramp = Index(i.variable * 100 + dims.floordiv(j.variable, 4), dt.F32)
    value = Apply("add", (ramp, Literal(0.5, dt.F32)), dt.F32)
    nest = Nest((i, j), (Store(0, i.variable * 21 + j.variable, dt.F32, value),), 1, (), 1)
    for target in HOST:
        check(nest, [], [np.zeros(63, np.float32)], target)
