"""Sizes and numbers that depend on data, against PyTorch, interpreted and compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.export import Dim

from ranvier.errors import InputError, UnsupportedOperatorError
from tests.frontends.comparison import check, named, run
from tests.frontends.test_torch_operators import integers, randn
from tests.lowering.native import run_native

ROWS = Dim("rows", min=1, max=40)
X, OTHERS = randn(4, 3), [(randn(1, 3),), (randn(31, 3),), (-torch.ones(5, 3),)]

SIZES: dict[str, Callable[..., Any]] = {
    "nonzero": lambda x: torch.nonzero(x > 0),
    "where": lambda x: torch.where(x > 0)[1],
    "argwhere": lambda x: torch.argwhere(x.round()),
    "mask": lambda x: x[x > 0],
    "mask_of_rows": lambda x: x[x.sum(1) > 0] * 2,
    "mask_of_columns": lambda x: x[:, torch.tensor([True, False, True])],
    "mask_and_index": lambda x: x[x.sum(1) > 0, torch.tensor([1])],
    "masked_select": lambda x: torch.masked_select(x, x[:, :1] > 0).sum(),
    "masked_select_of_more": lambda x: torch.masked_select(x[:, :1], x > -9),
    "mean_of_selected": lambda x: x[x > -5].mean(),
    "two_masks": lambda x: (x[x > 0], x[x < 0.3].exp()),
    "joined": lambda x: torch.cat([x[x > 0], x[x <= 0]]),
    "reshaped": lambda x: x[x.sum(1) > 0].reshape(-1),
    "matmul": lambda x: x[x.sum(1) > 0] @ torch.ones(3, 2),
    "written_back": lambda x: _doubled(x),
    "unique": lambda x: torch.unique((x * 2).long()),
    "unique_all": lambda x: torch.unique((x * 2).long(), return_inverse=True, return_counts=True),
    "unique_floats": lambda x: torch.unique(x.round(), return_counts=True),
    "unique_consecutive": lambda x: torch.unique_consecutive(
        (x * 2).long(), return_inverse=True, return_counts=True
    ),
    "repeat": lambda x: x.repeat_interleave((x[:, 0].abs() * 3).long(), 0),
    "bincount": lambda x: torch.bincount((x.flatten().abs() * 4).long()),
    "bincount_weighted": lambda x: torch.bincount(
        (x[:, 0].abs() * 4).long(), x[:, 1], minlength=20
    ),
    "nonzero_static": lambda x: torch.nonzero_static(x > 0, size=7, fill_value=-3),
}


def _doubled(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y > 0] = y[y > 0] * 2
    return y


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str) -> None:
    check(SIZES[name], X)


@pytest.mark.parametrize(
    "name", ["nonzero", "mask_of_rows", "joined", "unique_all", "written_back", "bincount"]
)
def test_sizes_in_symbolic_sizes(name: str) -> None:
    others = OTHERS[:2] if name == "bincount" else OTHERS
    check(SIZES[name], X, dynamic=({0: ROWS},), others=others)


def test_the_largest_size_bounds_the_memory() -> None:
    graph = check(lambda x: x[x > 0], X, dynamic=({0: ROWS},), others=OTHERS)
    (node,) = (node for node in graph.nodes if node.op == "bind_dim")
    assert str(node.attribute("dim").symbol.maximum) == "3*rows"


def test_a_size_from_an_element() -> None:
    def first(x: torch.Tensor, n: torch.Tensor) -> Any:
        size = n.item()
        torch._check(size >= 1)
        torch._check(size <= x.shape[0])
        return x[:size], torch.zeros(size, 2) + size

    check(first, X, torch.tensor(2), others=[(X, torch.tensor(4)), (X, torch.tensor(1))])


NUMBERS: dict[str, Callable[..., Any]] = {
    "float": lambda x, n: x * x.sum().item() + 1,
    "computed": lambda x, n: x * (x.max().item() * 2 + 1) / (n.item() + 7),
    "negative": lambda x, n: x + n.item(),
    "filled": lambda x, n: torch.full((3,), n.item()),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str) -> None:
    check(NUMBERS[name], X, torch.tensor(-2), others=[(X * 2, torch.tensor(3))])


SLICES: dict[str, Callable[..., Any]] = {
    "up_to": lambda x, n: x[: n.item()],
    "from": lambda x, n: x[n.item() :] * 2,
    "columns": lambda x, n: x[:, n.item() : 2],
    "element": lambda x, n: x[n.item()] if n.dim() else x.select(0, n.item()),
}


@pytest.mark.parametrize("name", SLICES)
def test_slices_by_numbers(name: str) -> None:
    others = [(X, torch.tensor(n)) for n in (-1, 0, 3)]
    others += [] if name == "element" else [(X, torch.tensor(n)) for n in (-9, 9)]
    check(SLICES[name], X, torch.tensor(2), others=others)


def test_slices_that_the_model_has_checked() -> None:
    def first(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        size = n.item()
        torch._check(size >= 0)
        torch._check(size <= x.shape[0])
        return x[:size] + 1

    graph = check(
        first,
        X,
        torch.tensor(2),
        dynamic=({0: ROWS}, None),
        others=[(randn(9, 3), torch.tensor(9)), (randn(9, 3), torch.tensor(0))],
    )
    (node,) = (node for node in graph.nodes if node.op == "bind_dim")
    assert str(node.attribute("dim").symbol.maximum) == "rows"
    with pytest.raises(InputError, match="outside its range"):
        run(graph, (X, torch.tensor(5)))


def test_parts_of_sizes_from_data() -> None:
    def parts(x: torch.Tensor, sizes: torch.Tensor) -> Any:
        return x.split(sizes.tolist())

    check(parts, X, torch.tensor([1, 3]), others=[(X, torch.tensor([4, 0]))])


def test_what_the_model_checks_is_checked() -> None:
    def checked(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        first, second = n.tolist()
        torch._check(first * 2 + second == 7)
        torch._check(second != 1)
        return x + first

    graph = check(checked, X, torch.tensor([2, 3]))
    compiled = replace(graph, input_tree=None, output_tree=None)
    for wrong in ([2, 4], [3, 1]):
        with pytest.raises(InputError, match="check"):
            run(graph, (X, torch.tensor(wrong)))
        with pytest.raises(InputError, match="check"):
            run_native(compiled, [named(graph, (X, torch.tensor(wrong)))])


def test_parts_that_do_not_add_up_are_refused() -> None:
    graph = check(lambda x, n: x.split(n.tolist()), X, torch.tensor([1, 3]))
    with pytest.raises(InputError, match="check"):
        run(graph, (X, torch.tensor([1, 4])))


def test_how_many_of_the_largest() -> None:
    check(lambda x, n: x.topk(n.item(), 0), X, torch.tensor(2), others=[(X, torch.tensor(4))])


def test_a_number_that_may_be_negative_is_no_size() -> None:
    def rolled(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return torch.tril(x, n.item())

    with pytest.raises(UnsupportedOperatorError, match="diagonal is a number that depends on data"):
        check(rolled, X, torch.tensor(1))


def _boxes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    low = torch.rand(count, 2, generator=generator)
    size = torch.rand(count, 2, generator=generator) * 0.6
    return torch.cat([low, low + size], 1), torch.rand(count, generator=generator)


@pytest.fixture(scope="module")
def nms() -> Any:
    """`torchvision::nms` with a definition in Python, where its native library does not load."""
    from tests.zoo.torchvision_import import import_torchvision_operators

    return import_torchvision_operators()


def test_non_maximum_suppression(nms: Any) -> None:
    boxes = Dim("boxes", min=2, max=99)
    others = [_boxes(2), _boxes(37), _boxes(99)]
    check(
        lambda b, s: torch.ops.torchvision.nms(b, s, 0.3),
        *_boxes(12),
        dynamic=({0: boxes}, {0: boxes}),
        others=others,
    )


def test_a_detection_head(nms: Any) -> None:
    """Scores above a threshold, per class, best first: what detectors do behind their network."""

    def head(boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        keep = scores > 0.2
        boxes, scores = boxes[keep], scores[keep]
        best = torch.ops.torchvision.nms(boxes, scores, 0.5)
        return boxes[best], scores[best]

    check(head, *_boxes(20), others=[_boxes(20)])


def test_integers_stay_exact() -> None:
    check(lambda x: x[x > 0] * 3, integers(17))
