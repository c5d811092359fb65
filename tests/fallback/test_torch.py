"""PyTorch runs what has no translation: right at every size, within limits, and never unasked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier
from ranvier.errors import CompileError, UnsupportedOperatorError

pytestmark = pytest.mark.needs("torch", "llvmlite")


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    from tests.fallback import models

    model, args, kwargs, shapes = models.scattered()
    path = tmp_path_factory.mktemp("fallback") / "scattered.rvr"
    compiled = ranvier.trace(model, args, kwargs, dynamic_shapes=shapes, fallback="torch")
    compiled.save(path)
    return model, path


def differences(model: Any, path: Path, sizes: tuple[int, ...], cores: int) -> Iterator[float]:
    import torch

    with ranvier.load(path, cores=cores) as loaded:
        for size in sizes:
            image = torch.randn(size, 3, 8, 8)
            with torch.no_grad():
                expected = model(image)
            for ours, theirs in zip(loaded(image), expected, strict=True):
                assert ours.shape == tuple(theirs.shape)
                yield float(np.abs(ours - theirs.numpy()).max())


@pytest.mark.parametrize("cores", [1, 2])
def test_any_batch_goes_through_segments(scattered: tuple[Any, Path], cores: int) -> None:
    assert max(differences(*scattered, (1, 64, 2, 33, 1), cores)) < 2e-6


def test_the_report_and_the_log_name_every_operator(caplog: pytest.LogCaptureFixture) -> None:
    from tests.fallback import models

    model, args, kwargs, shapes = models.scattered()
    with caplog.at_level(logging.WARNING, "ranvier"):
        compiled = ranvier.trace(model, args, kwargs, dynamic_shapes=shapes, fallback="torch")
    report = compiled.report
    assert report.fallback is not None
    assert report.fallback.segments == 2
    assert report.native_percent == pytest.approx(100 * 7 / 11)
    uses = {each.operator: each for each in report.fallback.operators}
    assert {name: each.uses for name, each in uses.items()} == {
        "aten.special_bessel_j0.default": 2,
        "aten.special_bessel_j1.default": 1,
        "aten.view.default": 1,
    }
    for text in (str(report), caplog.text, report.to_json()):
        for each in uses.values():
            assert each.operator in text
            assert all("models.py:" in source and source in text for source in each.sources)


def test_without_fallback_the_model_is_refused() -> None:
    from tests.fallback import models

    model, args, kwargs, shapes = models.scattered()
    with pytest.raises(UnsupportedOperatorError, match="3 operator uses cannot be compiled"):
        ranvier.trace(model, args, kwargs, dynamic_shapes=shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_segments": 1}, "2 segments of the model; the limit is 1, and max_segments=2"),
        ({"min_native_percent": 80}, r"only 63.6 %.*limit is 80 %, and min_native_percent=63"),
        ({"max_segments": 0, "min_native_percent": 99}, r"max_segments=2[\s\S]*percent=63"),
    ],
)
def test_limits(options: dict[str, Any], message: str) -> None:
    from tests.fallback import models

    model, args, kwargs, shapes = models.scattered()
    with pytest.raises(UnsupportedOperatorError, match=message) as caught:
        ranvier.trace(model, args, kwargs, dynamic_shapes=shapes, fallback="torch", **options)
    assert "aten.special_bessel_j1.default x 1" in str(caught.value)
    assert "models.py:" in str(caught.value)


def test_a_native_model_has_no_segments(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()).eval()
    compiled = ranvier.trace(model, (torch.randn(2, 4),), fallback="torch")
    assert compiled.report.native_percent == 100
    compiled.save(tmp_path / "native.rvr")
    with ranvier.load(tmp_path / "native.rvr") as loaded:
        assert loaded.manifest.entries.keys() & {"segments/0.json"} == set()


def test_a_custom_operator_with_several_results(tmp_path: Path) -> None:
    import torch

    from tests.fallback import models

    model, x = models.Custom(), torch.randn(5, 6)
    shapes = ({0: torch.export.Dim("n", min=1, max=64)},)
    compiled = ranvier.trace(model, (x,), dynamic_shapes=shapes, fallback="torch")
    compiled.save(tmp_path / "custom.rvr")
    with ranvier.load(tmp_path / "custom.rvr") as loaded:
        for size in (1, 64, 5):
            x = torch.randn(size, 6)
            for ours, theirs in zip(loaded(x), model(x), strict=True):
                np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_a_numpy_definition_alone_falls_back() -> None:
    import torch

    from ranvier.ir.operators.custom import CUSTOM
    from tests.fallback import models

    name = "ranvier_tests::ranks"
    ranvier.register_operator(name, definition=lambda x, **_: x, shape=lambda x, **_: x)
    try:
        compiled = ranvier.trace(models.Custom(), (torch.randn(5, 6),), fallback="torch")
    finally:
        del CUSTOM[name]
    assert compiled.report.fallback is not None
    (operator,) = compiled.report.fallback.operators
    assert operator.reason == "has a NumPy definition alone"


def test_symbolic_sizes_are_arguments_of_calls(tmp_path: Path) -> None:
    import torch

    from tests.fallback import models

    shapes = ({0: torch.export.Dim("n", min=1, max=9), 1: torch.export.Dim("m", min=2, max=50)},)
    model, path = models.Ramp(), tmp_path / "sizes.rvr"
    ranvier.trace(model, (torch.randn(2, 5),), dynamic_shapes=shapes, fallback="torch").save(path)
    with ranvier.load(path) as loaded:
        for size in ((1, 2), (9, 50), (3, 7)):
            x = torch.randn(size)
            np.testing.assert_allclose(loaded(x), model(x).numpy(), rtol=1e-5, atol=1e-5)


def test_what_no_segment_can_hold_is_refused_with_its_line() -> None:
    import torch

    from tests.fallback import models

    with pytest.raises(UnsupportedOperatorError) as caught:
        ranvier.trace(models.Mutating(), (torch.randn(3),), fallback="torch", min_native_percent=0)
    assert "ranvier_tests.bump.default" in str(caught.value)
    assert "writes one of its arguments" in str(caught.value)
    assert "models.py:" in str(caught.value)


def test_other_frameworks_are_no_fallback() -> None:
    import torch

    linear = torch.nn.Linear(2, 2)
    with pytest.raises(CompileError, match="pass fallback='torch'"):
        ranvier.trace(linear, (torch.randn(1, 2),), fallback="onnxruntime")
    with pytest.raises(CompileError, match="known: torch, onnxruntime"):
        ranvier.trace(linear, (torch.randn(1, 2),), fallback="caffe")


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_both_precisions(tmp_path: Path, precision: str) -> None:
    from tests.fallback import models

    model, args, kwargs, shapes = models.scattered()
    path = tmp_path / "model.rvr"
    ranvier.trace(
        model, args, kwargs, dynamic_shapes=shapes, precision=precision, fallback="torch"
    ).save(path)
    found = ranvier.verify(
        model, path, args, dynamic_shapes=shapes, sizes=[{"batch": 1}, {"batch": 64}], layers=True
    )
    assert found.passed, str(found)
    layers = {layer.name for case in found.cases for layer in case.layers}
    assert "special_bessel_j0" in layers


def test_operators_in_branches_are_refused_by_their_own_names() -> None:
    import torch

    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wave = torch.special.bessel_j0(x)

            def yes(x: torch.Tensor) -> torch.Tensor:
                return torch.special.bessel_j1(x)

            return torch.cond(x.sum() > 0, yes, torch.neg, (wave,))

    with pytest.raises(UnsupportedOperatorError) as caught:
        ranvier.trace(Branches(), (torch.randn(4),), fallback="torch", min_native_percent=0)
    assert "aten.special_bessel_j1.default x 1" in str(caught.value)
    assert "a segment cannot hold control flow" in str(caught.value)
    assert "bessel_j0" not in str(caught.value)


def test_linear_algebra_runs_in_one_segment(tmp_path: Path) -> None:
    import torch

    class Algebra(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            square = x @ x.mT + torch.eye(4)
            values = torch.linalg.eigvalsh(square)
            return torch.relu(values), torch.linalg.cholesky(square).tanh(), torch.linalg.inv(x)

    path = tmp_path / "algebra.rvr"
    shapes = ({0: torch.export.Dim("batch", min=1, max=9)},)
    compiled = ranvier.trace(
        Algebra(), (torch.randn(2, 4, 4),), dynamic_shapes=shapes, fallback="torch"
    )
    assert compiled.report.fallback is not None
    assert compiled.report.fallback.segments == 1
    compiled.save(path)
    with ranvier.load(path) as loaded:
        for size in (1, 9, 4):
            x = torch.randn(size, 4, 4) + 3 * torch.eye(4)
            for ours, theirs in zip(loaded(x), Algebra()(x), strict=True):
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)
