"""Softmax as a nest: along any axis, for any number of threads, with each exponential once."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ranvier.codegen.expression_table import ExpressionTable
from ranvier.codegen.kept_terms import kept_terms
from ranvier.ir import dim as dims
from ranvier.ir import dtype as dt
from ranvier.ir.dim import Dim
from ranvier.ir.dtype import DType
from ranvier.lowering.expression import Access, Apply, Expression, Loop, Reduce, map_dims
from ranvier.lowering.kernels.nest import Nest, Store
from ranvier.target import Target
from tests.codegen.test_nest import check
from tests.targets import HOST


def softmax(extents: tuple[Dim, ...], axis: int, op: str = "exp", storage: DType = dt.F32) -> Nest:
    """Over one axis of a dense array; the last loop is the vectorised one."""
    loops = tuple(Loop(f"i{n}", extent) for n, extent in enumerate(extents))
    first, again = Loop("k", extents[axis]), Loop("m", extents[axis])

    def offset(along: Loop) -> Dim:
        total: Dim = 0
        for n, loop in enumerate(loops):
            name = along.name if n == axis else loop.name
            total = total * loop.extent + dims.symbol(name)
        return total

    def term(along: Loop) -> Expression:
        gap = Apply("sub", (Access(0, offset(along), dt.F32), largest), dt.F32)
        return Apply(op, (gap,), dt.F32)

    largest = Reduce("max", (first,), Access(0, offset(first), dt.F32), dt.F32)
    total = Reduce("sum", (again,), term(again), dt.F32)
    value = Apply("div", (term(loops[axis]), total), dt.F32)
    scalars = tuple(sorted({n for extent in extents for n in dims.symbols(extent)}))
    store = Store(1, offset(loops[axis]), storage, value)
    return Nest(loops, (store,), 2, scalars, len(loops) - 1)


def keeps(nest: Nest, *inside: str) -> bool:
    return kept_terms(nest.stores[0], nest.loops, inside, ExpressionTable()) is not None


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(3, 5, 17), (2, 21, 40), (1, 1, 9), (70, 2, 3), (1, 3, 5000)])
def test_every_axis(shape: tuple[int, int, int], target: Target) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 5
    n = dims.symbol("n")
    for axis, free in product(range(3), (False, True)):
        extents: tuple[Dim, ...] = (shape[0], n, shape[2]) if free else shape
        scalars = {"n": shape[1]} if free else {}
        nest = softmax(extents, axis)
        check(nest, [x], [np.zeros_like(x)], target, scalars, tolerance=2e-6)


@pytest.mark.parametrize("target", HOST, ids=lambda t: t.name)
def test_one_long_row(target: Target) -> None:
    """The vectorised loop is not cut between threads, each of which would write all terms."""
    x = np.random.default_rng(1).normal(size=(1, 70001)).astype(np.float32)
    for extents in ((1, 70001), (dims.symbol("n"), 70001)):
        scalars = {"n": 1} if extents[0] != 1 else {}
        check(softmax(extents, 1), [x], [np.zeros_like(x)], target, scalars, tolerance=2e-6)


def test_what_is_kept() -> None:
    assert keeps(softmax((4, 30), 1), "i1")
    assert keeps(softmax((4, 30, 8), 1), "i1")
    assert not keeps(softmax((4, 30), 1, "abs"), "i1")  # cheaper to compute again
    assert not keeps(softmax((4, 30), 1, storage=dt.BF16), "i1")  # would be rounded
    assert not keeps(softmax((4, 30), 0), "i1")  # the loop that may run last is another one


def test_terms_that_several_iterations_share_are_not_kept() -> None:
    """The sum does not depend on i0: threads with different i0 would all write its terms."""
    nest = softmax((4, 30), 1)
    (store,) = nest.stores
    value = map_dims(store.value, lambda dim: dims.substitute(dim, {"i0": 0}))
    assert not keeps(replace(nest, stores=(replace(store, value=value),)), "i1")
