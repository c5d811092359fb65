"""Indexing, scatters, selection and search against PyTorch, interpreted and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812

from tests.frontends.comparison import check
from tests.frontends.test_torch_operators import integers, randn

Case = tuple[Callable[..., Any], tuple[Any, ...]]

X = randn(3, 5, 7)
ROWS = torch.tensor([2, 0, 2, -1])
MASK = randn(3, 5) > 0
BASE, INDEX = randn(4, 6), torch.tensor([[0, 3, 3], [5, 1, 1], [2, 2, 2]])
SOURCE = randn(3, 3)
HOLES = torch.where(randn(4, 9) > 0.7, torch.nan, randn(4, 9))

put = torch.ops.aten.index_put.default
INDEXING: dict[str, Case] = {
    "take": (lambda x, i: torch.take(x, i), (X, torch.tensor([[0, 104], [-1, 50]]))),
    "put_middle": (lambda x, i, v: put(x, [None, i], v), (X, ROWS[:2], randn(3, 2, 7))),
    "put_last": (lambda x, i: put(x, [None, None, i], torch.tensor(2.0)), (X, ROWS)),
    "put_apart": (
        lambda x, i, v: put(x, [i[:2], None, i[1:3]], v),
        (X, torch.tensor([2, 0, 1]), randn(2, 5)),
    ),
    "put_adjacent": (
        lambda x, i, v: put(x, [None, i[:2], i[1:3]], v),
        (X, torch.tensor([2, 0, 1]), randn(3, 2)),
    ),
    "accumulate": (
        lambda x, i, v: x.index_put((i,), v, accumulate=True),
        (X, ROWS, randn(4, 5, 7)),
    ),
    "accumulate_pairs": (
        lambda x, i, v: put(x, [i, None, i], v, True),
        (X, ROWS, randn(4, 1)),
    ),
    "masked_rows": (lambda x, m, v: x.index_put((m,), v), (X, MASK, randn(7))),
    "masked_accumulate": (
        lambda x, m, v: x.index_put((m,), v, accumulate=True),
        (X, MASK, randn(1, 7)),
    ),
    "masked_inner": (lambda x, m: put(x, [None, m], torch.tensor(4.0)), (X, X[0] > 0)),
    "masked_values": (
        lambda x, v: x.index_put((torch.tensor([True, False, True]),), v),
        (X, randn(2, 5, 7)),
    ),
    "masked_scatter": (lambda x, m, s: x.masked_scatter(m, s), (X[..., 0], MASK, randn(20))),
    "masked_scatter_rows": (lambda x, m, s: x.masked_scatter(m, s), (X, MASK[..., None], X * 2)),
    "index_add": (lambda x, i, s: x.index_add(1, i, s, alpha=0.5), (X, ROWS % 3, randn(3, 4, 7))),
    "index_copy": (lambda x, i, s: x.index_copy(1, i, s), (X, ROWS[:2], randn(3, 2, 7))),
    "index_fill": (lambda x, i: x.index_fill(2, i, 1.5), (X, ROWS % 3)),
    "index_reduce": (
        lambda x, i, s: x.index_reduce(0, i, s, "amax", include_self=False),
        (X, ROWS % 3, randn(4, 5, 7)),
    ),
    "put": (lambda x, i, s: x.put(i, s, accumulate=True), (X, ROWS, randn(4))),
    "put_over": (lambda x, i, s: x.put(i, s), (X, ROWS[1:], randn(3))),
    "scatter_shorter": (lambda x, i, s: x.scatter(1, i, s), (BASE, INDEX[:1], SOURCE)),
    "scatter_multiply": (
        lambda x, i, s: x.scatter(1, i, s, reduce="multiply"),
        (BASE, INDEX, SOURCE),
    ),
    "slice_scatter": (lambda x, s: x.slice_scatter(s, 1, 1, 4), (X, randn(3, 3, 7))),
    "slice_scatter_steps": (lambda x, s: x.slice_scatter(s, 1, 1, 5, 3), (X, randn(3, 2, 7))),
    "select_scatter": (lambda x, s: x.select_scatter(s, 2, -2), (X, randn(3, 5))),
    "diagonal_scatter": (lambda x, s: x.diagonal_scatter(s, 1, 0, 2), (X, randn(5, 3))),
    "diagonal_scatter_below": (lambda x, s: x.diagonal_scatter(s, -2, 1, 2), (X, randn(3, 3))),
    "as_strided": (lambda x: (x * 2).as_strided((4, 3), (2, 7), 5), (X,)),
    "as_strided_scatter": (
        lambda x, s: x.as_strided_scatter(s, (4, 3), (2, 12), 5),
        (X, randn(4, 3)),
    ),
}  # fmt: skip
SELECTION: dict[str, Callable[..., Any]] = {
    "topk_smallest": lambda x: x.topk(3, 1, largest=False),
    "topk_of_one": lambda x: x[0, 0, 0].topk(1),
    "sort_of_one": lambda x: x[0, 0, 0].sort(),
    "kthvalue": lambda x: x.kthvalue(3, 1),
    "median": lambda x: x.median(2, keepdim=True),
    "median_flat": lambda x: x.median(),
    "nanmedian": lambda x: x.nanmedian(1)[0],
    "isin": lambda x: torch.isin((x * 4).long(), torch.tensor([0, 2, 9])),
    "isin_inverted": lambda x: torch.isin((x * 4).long(), torch.arange(7), invert=True),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 0.5, 2.0])),
    "bucketize_right": lambda x: torch.bucketize(
        x.round(), torch.tensor([-1.0, 0.0, 1.0]), right=True, out_int32=True
    ),
    "searchsorted": lambda x: torch.searchsorted(x.sort()[0], x[..., :2].contiguous()),
    "searchsorted_flat": lambda x: torch.searchsorted(torch.arange(-2.0, 2.0), x, side="right"),
    "searchsorted_sorter": lambda x: torch.searchsorted(
        x, x[..., 2:4].contiguous(), sorter=x.argsort()
    ),
    "histc": lambda x: torch.histc(x, 5, -1.0, 1.0),
    "histc_free": lambda x: torch.histc(x, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name: str) -> None:
    function, args = INDEXING[name]
    check(function, *args)


@pytest.mark.parametrize("name", SELECTION)
def test_selection(name: str) -> None:
    check(SELECTION[name], X)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_scatter_reduce(reduce: str, include_self: bool) -> None:
    def scattered(x: torch.Tensor, i: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return x.scatter_reduce(1, i, s, reduce, include_self=include_self)

    check(scattered, BASE, INDEX, SOURCE)
    check(scattered, (BASE * 9).long(), INDEX, (SOURCE * 9).long())


def test_nan_among_what_is_selected() -> None:
    check(lambda x: (x.median(1), x.nanmedian(1)[0], x.sort(1)[0]), HOLES)
    check(lambda x: torch.bucketize(x, torch.tensor([-0.5, 0.5])), HOLES)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bags(mode: str) -> None:
    weight, offsets = randn(10, 3), torch.tensor([0, 2, 2, 5])  # the second bag is empty
    indices = torch.tensor([1, 1, 4, 9, 0, 3, 7])

    def bags(i: torch.Tensor, o: torch.Tensor, **options: Any) -> torch.Tensor:
        return F.embedding_bag(i, weight, o, mode=mode, **options)

    check(bags, indices, offsets)
    check(lambda i, o: bags(i, o, padding_idx=4), indices, offsets)
    check(lambda i, o: bags(i, o, include_last_offset=True), indices, torch.tensor([0, 3, 3, 7]))
    check(lambda i: F.embedding_bag(i, weight, mode=mode), integers(3, 4, low=0, high=10))


def test_weighted_embedding_bags() -> None:
    weight, offsets = randn(10, 3), torch.tensor([0, 2])
    check(
        lambda i, w: F.embedding_bag(i, weight, offsets, mode="sum", per_sample_weights=w),
        torch.tensor([1, 1, 4, 9]),
        randn(4),
    )


def test_positions_in_symbolic_sizes() -> None:
    rows, columns = Dim("rows", min=3, max=40), Dim("columns", min=3, max=40)

    def many(x: torch.Tensor) -> Any:
        order = x.argsort(1)
        return (
            x.scatter_reduce(1, order, x, "mean"),
            x.index_add(0, torch.tensor([0, 2, 0]), x[:3]),
            x.masked_scatter(x > 0, x.flip(1)),
            x.diagonal(),
            x.median(1),
            torch.searchsorted(x.sort(1)[0], x),
        )

    check(lambda x: many(x)[:4], randn(4, 6), dynamic=({0: rows, 1: columns},), others=[
        (randn(3, 9),), (randn(31, 17),)])  # fmt: skip
    check(lambda x: many(x)[4:], randn(4, 6), dynamic=({0: rows, 1: columns},), others=[
        (randn(3, 9),), (randn(31, 17),)])  # fmt: skip
