"""What cannot be compiled is named, with its source line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from ranvier.errors import CompileError, UnsupportedOperatorError
from ranvier.frontends.detect import detect
from ranvier.frontends.torch import import_torch, supported_operators, survey
from tests.frontends.comparison import Function, check


class Unsupported(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.linalg.inv(x)
        b = torch.linalg.inv(x + 1)
        c = torch.special.i0(x)
        return torch.relu(a + b * c)


def _line(text: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    return f"{__file__}:{next(i for i, line in enumerate(lines, 1) if text in line)}"


def test_all_unsupported_operators_are_listed_with_their_lines() -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        import_torch(Unsupported(), (torch.eye(3),))
    message = str(caught.value)
    assert "3 operator uses" in message
    assert "linalg_inv" in message
    assert "x 2" in message
    assert "i0" in message
    for text in ("linalg.inv(x)", "linalg.inv(x + 1)", "special.i0(x)"):
        assert _line(text) in message


def test_survey_counts_every_operator() -> None:
    uses = survey(Unsupported(), (torch.eye(3),))
    assert [use.supported for use in uses][:2] == [False, False]
    assert uses[0].uses == 2
    assert uses[0].sources == (_line("linalg.inv(x)"), _line("linalg.inv(x + 1)"))
    assert {use.operator for use in uses if use.supported} >= {
        "aten.add.Tensor",
        "aten.relu.default",
    }


REFUSED: dict[str, tuple[Any, str]] = {
    "unique_rows": (lambda x: torch.unique(x[0, 0], dim=0), "depends on data"),
    "complex": (lambda x: torch.fft.fft(x), "return torch.view_as_real of it"),
    "complex_operator": (lambda x: torch.fft.fft(x).sin().real, "not supported on complex numbers"),
    "dropout": (lambda x: F.dropout(x, 0.5, True), "eval()"),
    "scale": (
        lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear", antialias=True),
        "scale_factor (1.3)",
    ),
    "strides": (lambda x: (x + 1)[:, 1:].as_strided((2, 2), (1, 3)), "call .contiguous() first"),
    "integers": (lambda x: F.avg_pool2d(x.long(), 2), "needs a float operand"),
    "random": (lambda x: x + torch.rand(3), "rand"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, reason = REFUSED[name]
    with pytest.raises(UnsupportedOperatorError) as caught:
        check(function, torch.randn(1, 2, 3, 3))
    assert reason in str(caught.value)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


def test_writing_a_buffer_is_refused() -> None:
    with pytest.raises(CompileError, match="writes the buffer calls"):
        import_torch(Counter(), (torch.ones(2),))


def test_training_batch_norm_is_refused() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3)).train()
    with pytest.raises(CompileError, match=r"running_mean.*eval\(\)"):
        import_torch(module, (torch.ones(2, 3),))


def test_writing_an_input_is_refused() -> None:
    with pytest.raises(CompileError, match="writes its input"):
        import_torch(Function(lambda x: x.add_(1)), (torch.ones(2),))


def test_in_place_writes_keep_their_meaning() -> None:
    def views(x: torch.Tensor) -> Any:
        y = x + 1
        first = y[0]
        y.mul_(2)
        z = y * 3
        y.relu_()
        return first, y, z

    check(views, torch.randn(3, 4))

    def chain(x: torch.Tensor) -> Any:
        y = torch.sin(x)
        y += x
        y = F.relu(y, inplace=True)
        y *= 0.5
        return y

    check(chain, torch.randn(3, 4))

    def twice(x: torch.Tensor) -> Any:
        y = torch.sin(x)
        a = y.relu_()
        y.add_(1)
        return a * 2

    check(twice, torch.randn(3, 4))


def test_not_a_model() -> None:
    with pytest.raises(CompileError, match="no front end reads"):
        detect(3)
    with pytest.raises(CompileError, match="no front end reads"):
        detect("model.bin")
    with pytest.raises(CompileError, match="is not a file"):
        import_torch("missing.pt2")
    with pytest.raises(CompileError, match=r"nn\.Module only"):
        import_torch("missing.pt2", (torch.ones(1),))


def test_supported_operators_are_listed() -> None:
    names = supported_operators()
    assert names == sorted(names)
    assert {"aten.conv2d.default", "aten._fft_r2c.default", "higher_order.cond"} <= set(names)
    for library, packet, *overload in (name.split(".") for name in names):
        if library == "aten":
            assert getattr(getattr(torch.ops.aten, packet), overload[0]) is not None
        elif library == "higher_order":
            assert getattr(torch.ops.higher_order, packet) is not None


def test_detection_imports_no_framework() -> None:
    program = (
        "import sys, ranvier.frontends.detect as d\n"
        "assert d.detect('a.pt2') == 'torch' and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
