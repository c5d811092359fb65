from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranvier
from ranvier.errors import CompileError, InputError
from ranvier.verification import Verification, difference, original_name, widened

pytestmark = pytest.mark.needs("torch", "llvmlite")


def artifact_of(builder: str, folder: Path, precision: str = "f32") -> tuple[tuple[Any, ...], Path]:
    from tests import tiny_models

    model, args, kwargs, shapes = getattr(tiny_models, builder)()
    path = folder / f"{builder}.{precision}.rvr"
    ranvier.trace(
        model, args, kwargs, dynamic_shapes=shapes, precision=precision, target="x86-64-v3"
    ).save(path)
    return (model, args, kwargs, shapes), path


def test_difference_is_normwise() -> None:
    reference = np.array([3.0, 4.0], np.float32)
    found = difference("x", reference + np.array([0.0, 0.5], np.float32), reference)
    assert found.relative_error == pytest.approx(0.1)
    assert found.maximum_error == 0.5
    assert difference("x", reference, reference).cosine == pytest.approx(1)
    assert difference("x", -reference, reference).cosine == pytest.approx(-1)


@pytest.mark.parametrize(
    ("result", "reference", "relative"),
    [
        ([np.nan, 1.0], [np.nan, 1.0], 0),
        ([np.inf, 1.0], [np.inf, 1.0], 0),
        ([np.inf, 1.0], [-np.inf, 1.0], math.inf),
        ([np.nan, 1.0], [0.0, 1.0], math.inf),
        ([0.0, 1.0], [np.nan, 1.0], math.inf),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([1e-30, 0.0], [0.0, 0.0], math.inf),
        ([], [], 0),
    ],
)
def test_difference_of_special_values(
    result: list[float], reference: list[float], relative: float
) -> None:
    found = difference("x", np.array(result), np.array(reference))
    assert found.relative_error == relative
    assert not math.isnan(found.cosine)


def test_bools_and_integers_compare_as_numbers() -> None:
    found = difference("x", np.array([True, False]), np.array([True, True]))
    assert found.relative_error == pytest.approx(math.sqrt(0.5))


def test_names_of_stored_forms_are_the_models() -> None:
    assert [original_name(name) for name in ("relu", "relu.bf16", "relu.f32", "relu.padded")] == [
        "relu", "relu", "relu", "relu.padded"
    ]  # fmt: skip


def test_bf16_bits_widen() -> None:
    assert widened(np.array([0x3F80, 0xC000], np.uint16), "bf16").tolist() == [1.0, -2.0]


def test_layers_are_in_order_and_have_source_lines(tmp_path: Path) -> None:
    (model, args, kwargs, shapes), path = artifact_of("classifier", tmp_path)
    found = ranvier.verify(
        model, path, args, kwargs, dynamic_shapes=shapes, sizes=[{"batch": 7}], layers=True
    )
    assert isinstance(found, Verification)
    assert found.passed
    assert found.first_failing_layer is None
    assert [case.sizes for case in found.cases] == [{"batch": 2}, {"batch": 7}]
    for case in found.cases:
        assert [each.name for each in case.outputs] == ["logits", "probabilities"]
        names = [layer.name for layer in case.layers]
        assert names.index("relu") < names.index("softmax")
        assert all("tiny_models.py:" in layer.source for layer in case.layers)
    assert "passed" in str(found)


def test_the_first_wrong_layer_is_named(tmp_path: Path) -> None:
    import torch

    (model, args, kwargs, shapes), path = artifact_of("classifier", tmp_path)
    with torch.no_grad():
        model.head.bias += 1.0
    found = ranvier.verify(model, path, args, kwargs, dynamic_shapes=shapes, layers=True)
    assert not found.passed
    assert found.first_failing_layer is not None
    assert found.first_failing_layer.name == "linear"
    assert "first layer beyond the tolerance: linear" in str(found)


def test_bf16_has_its_own_tolerance(tmp_path: Path) -> None:
    (model, args, kwargs, shapes), path = artifact_of("classifier", tmp_path, "bf16")
    found = ranvier.verify(model, path, args[0], kwargs, dynamic_shapes=shapes, layers=True)
    assert found.tolerance == 3e-2
    assert found.passed
    assert found.cases[0].outputs[0].relative_error > 1e-5
    assert found.cases[0].layers


def test_further_sizes_keep_indices_valid(tmp_path: Path) -> None:
    (model, args, kwargs, shapes), path = artifact_of("lookup", tmp_path)
    found = ranvier.verify(
        model, path, args, kwargs, dynamic_shapes=shapes, sizes=[{"length": 31}], layers=True
    )
    assert found.passed
    assert found.cases[1].outputs[0].shape == (1, 31, 4)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    (model, args, kwargs, _), path = artifact_of("classifier", tmp_path)
    with pytest.raises(InputError, match="1 to 64"):
        ranvier.verify(model, path, args, kwargs, sizes=[{"batch": 100}])
    with pytest.raises(InputError, match="missing"):
        ranvier.verify(model, path)
    with pytest.raises(CompileError, match=r"no front end reads builtins\.int"):
        ranvier.verify(3, path, args)
