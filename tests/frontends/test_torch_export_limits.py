"""What torch.export cannot trace is reported as its limit: every reason, its line, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

from ranvier.errors import CompileError
from ranvier.frontends.torch import import_torch
from tests.frontends.comparison import Function


@torch.library.custom_op("ranvier_test::shapeless", mutates_args=())
def shapeless(x: torch.Tensor) -> torch.Tensor:
    """A custom operator without a rule for the shape of its result."""
    return x * 2


def _line(text: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    return f"{__file__}:{next(i for i, line in enumerate(lines, 1) if text in line)}: "


def _message(function: Callable[..., Any], *args: Any, dynamic: Any = None) -> str:
    with pytest.raises(CompileError) as caught:
        import_torch(Function(function), args, dynamic_shapes=dynamic)
    return str(caught.value)


def _branching(x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:  # first branch
        x = x + 1
    if x.max().item() > 2:  # second branch
        x = x * 2
    return x


def test_every_branch_on_data_is_listed(capfd: pytest.CaptureFixture[str]) -> None:
    message = _message(_branching, torch.ones(2))
    assert "the limit is PyTorch's, not Ranvier's" in message
    assert "these 2 things" in message
    for text in ("# first branch", "# second branch"):
        assert _line(text) + "`if" in message
    assert message.count("depends on data") == 2
    assert "What to do: " in message
    assert "torch.cond" in message
    assert capfd.readouterr().err == ""


def test_custom_operators_without_a_shape_rule() -> None:
    message = _message(lambda x: shapeless(x) + 1, torch.ones(2))  # uses it
    assert _line("# uses it") in message
    assert "shapeless" in message
    assert "register_fake" in message


def test_leaving_pytorch() -> None:
    message = _message(lambda x: torch.from_numpy(x.numpy()), torch.ones(2))  # leaves
    assert _line("# leaves") in message
    assert "not Ranvier's" in message
    assert ".numpy() is not supported" in message


def test_sizes_that_pytorch_cannot_name() -> None:
    message = _message(lambda x: torch.linalg.lstsq(x, x)[0], torch.eye(2))  # unknown size
    assert _line("# unknown size") in message
    assert "gives a size that depends on data" in message


def test_every_violated_range_is_listed_with_its_line() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 3:  # a long one
            return x + 1
        return y[:3]

    shapes = (({0: Dim("rows", max=10)}, {0: Dim("columns", max=10)}),)
    message = _message(forward, torch.ones(4), torch.ones(4), dynamic=shapes)
    assert "Not all values of rows" in message
    assert _line("# a long one") + "`if" in message
    assert "rows = Dim('rows', min=4, max=10)" in message


def test_a_model_that_fails_by_itself() -> None:
    message = _message(lambda x: x.view(7), torch.ones(3))  # fails anyway
    assert message.startswith("[RVR-E102] forward itself fails with the example inputs")
    assert _line("# fails anyway").removesuffix(": ") in message
    assert "not Ranvier's" not in message
