"""`torch.cond`, `while_loop`, `scan`, `map` against PyTorch, interpreted and compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._higher_order_ops.map import map as map_rows
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.export import Dim

from ranvier.errors import CompileError, UnsupportedOperatorError
from ranvier.frontends.torch import import_torch
from ranvier.ir.definitions import all_graphs
from ranvier.ir.graph import Graph
from tests.frontends.comparison import Function, check
from tests.frontends.test_torch_operators import randn

ROWS = Dim("rows", min=1, max=40)
X, OTHERS = randn(4, 3), [(randn(1, 3) - 2,), (randn(31, 3),), (-torch.ones(5, 3),)]


def _operators(graph: Graph) -> list[str]:
    return [node.op for each in all_graphs(graph) for node in each.nodes]


def test_a_branch_on_data() -> None:
    def branch(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x.cos(), (x,))

    graph = check(branch, X, dynamic=({0: ROWS},), others=OTHERS)
    assert "if" in _operators(graph)


def test_a_branch_on_a_size() -> None:
    def branch(x: torch.Tensor) -> Any:
        return torch.cond(x.shape[0] > 5, lambda x: x.relu(), lambda x: x * x.shape[0], (x,))

    check(branch, X, dynamic=({0: ROWS},), others=OTHERS)


def test_a_branch_on_numbers() -> None:
    def branch(x: torch.Tensor) -> Any:
        total, most = x.sum().item(), x.max().item()
        return torch.cond(
            total * 2 > most, lambda x: (x + 1, x * 2), lambda x: (x - 1, x / 2), (x,)
        )

    check(branch, X, others=[(-X,)])


def test_numbers_inside_branches() -> None:
    def branch(x: torch.Tensor, n: torch.Tensor) -> Any:
        def scaled(x: torch.Tensor) -> torch.Tensor:
            return x * x.max().item() + 1

        def shifted(x: torch.Tensor) -> torch.Tensor:
            return x - x.min().item() * 2

        total, step = x.sum().item(), n.item()
        return torch.cond(total > step, scaled, shifted, (x,)) + total * step

    check(branch, X, torch.tensor(-3), others=[(-X, torch.tensor(2))])


def test_numbers_from_outside_are_beyond_pytorch() -> None:
    def branch(x: torch.Tensor) -> Any:
        total = x.sum().item()
        return torch.cond(x.max() > 0, lambda x: x * total, lambda x: x * 2, (x,))

    with pytest.raises(CompileError, match=r"not Ranvier's[\s\S]*Missing `as_proxy\(\)`"):
        import_torch(Function(branch), (X,))


def test_nested_branches_with_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            def inner(x: torch.Tensor) -> torch.Tensor:
                return torch.cond(x.max() > 1, lambda x: self.b(x), lambda x: x.sin(), (x,))

            return torch.cond(x.sum() > 0, inner, lambda x: self.a(x) + 1, (x,)).relu()

    torch.manual_seed(1)
    graph = check(Net(), X, dynamic=({0: ROWS},), others=OTHERS)
    assert _operators(graph).count("if") == 2


def test_branches_of_different_sizes() -> None:
    def branch(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: x[x > 0] * 2, lambda x: x[x < 0] - 1, (x,))

    check(branch, X, dynamic=({0: ROWS},), others=OTHERS)


def test_a_loop_that_data_end() -> None:
    def halve(x: torch.Tensor) -> Any:
        def goes_on(i: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (y.abs().max() > 0.1) & (i < 20)

        def step(i: torch.Tensor, y: torch.Tensor) -> Any:
            return i + 1, y / 2

        return while_loop(goes_on, step, (torch.tensor(0), x))

    graph = check(halve, X, dynamic=({0: ROWS},), others=[*OTHERS, (torch.zeros(2, 3),)])
    assert "loop" in _operators(graph)


def test_a_loop_with_weights_and_a_branch_inside() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> Any:
            def goes_on(i: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return i < 4

            def step(i: torch.Tensor, y: torch.Tensor) -> Any:
                z = self.linear(y)
                return i + 1, torch.cond(z.sum() > 0, lambda z: z.tanh(), lambda z: z * 0.5, (z,))

            return while_loop(goes_on, step, (torch.tensor(0), x))[1]

    torch.manual_seed(2)
    check(Net(), X, dynamic=({0: ROWS},), others=OTHERS)


def test_a_loop_that_counts() -> None:
    def powers(x: torch.Tensor) -> Any:
        def goes_on(i: int, y: torch.Tensor) -> Any:
            return i < 5

        def step(i: int, y: torch.Tensor) -> Any:
            return i + 1, y * i

        return while_loop(goes_on, step, (1, x))[1]

    check(powers, X, dynamic=({0: ROWS},), others=OTHERS)


def test_scan() -> None:
    def running(x: torch.Tensor) -> Any:
        return scan(lambda c, row: (c * 0.5 + row, c - row), torch.zeros(3), x)

    check(running, X, dynamic=({0: ROWS},), others=OTHERS[1:])


def test_scan_backwards_over_several_sequences() -> None:
    def running(x: torch.Tensor) -> Any:
        def step(carried: Any, rows: Any) -> Any:
            a, b = carried
            return (a + rows[0], b * 0.5 + rows[1]), (a * b, rows[0] - rows[1])

        return scan(step, (torch.zeros(3), torch.ones(3)), (x, x.cos()), reverse=True)

    check(running, X)


def test_map() -> None:
    weights = randn(3, 2)
    check(lambda x: map_rows(lambda row, w: (row @ w).tanh(), x, weights), X)


def test_what_is_unsupported_inside_is_listed() -> None:
    def branch(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: torch.special.i0(x), lambda x: x.cos(), (x,))

    with pytest.raises(UnsupportedOperatorError) as caught:
        import_torch(Function(branch), (X,))
    assert "1 operator use cannot be compiled" in str(caught.value)
    assert "i0" in str(caught.value)
