from __future__ import annotations

from pathlib import Path

import pytest

import ranvier
from ranvier.profiling import document, page, profile_artifact
from ranvier.profiling.roofline import LIMITS

pytestmark = pytest.mark.needs("torch", "llvmlite")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny_models

    path = tmp_path_factory.mktemp("profile") / "classifier.rvr"
    model, args, kwargs, shapes = tiny_models.classifier()
    ranvier.trace(model, args, kwargs, dynamic_shapes=shapes, target="x86-64-v3").save(path)
    return path


def test_profile_attributes_the_whole_call(artifact: Path) -> None:
    found = profile_artifact(artifact, {"batch": 3}, repeat=3)
    assert (found.batch, found.calls, found.sizes) == (3, 3, {"batch": 3})
    assert sum(kernel.share for kernel in found.kernels) == pytest.approx(1)
    assert sum(kernel.microseconds for kernel in found.kernels) == pytest.approx(found.microseconds)
    # Python prepares a call and hands out its results: that is in the call, in no kernel.
    assert found.typical.seconds * 1e6 < found.call_microseconds * 2
    assert found.items_per_second == pytest.approx(3e6 / found.call_microseconds)
    assert found.share_of_peak is not None
    assert found.share_waiting is not None
    assert 0 <= found.share_waiting < 1
    assert [kernel.index for kernel in found.kernels] == list(range(len(found.kernels)))


def test_work_rates_and_limits_fit_together(artifact: Path) -> None:
    found = profile_artifact(artifact, repeat=3)
    conv = next(kernel for kernel in found.kernels if "conv" in kernel.operators)
    assert conv.flops >= 2 * 3 * 9 * 8 * 64  # of one 8x8 image, 3 channels to 8
    assert conv.gflops == pytest.approx(conv.flops / conv.microseconds / 1e3)
    assert "tiny_models.py:" in conv.source
    for kernel in found.kernels:
        assert kernel.limit in LIMITS
        assert kernel.busy_microseconds is not None
        assert len(kernel.busy_microseconds) == found.cores
        assert kernel.imbalance is not None
        assert 1 <= kernel.imbalance <= found.cores
        assert kernel.wait_microseconds is not None
        assert kernel.wait_microseconds >= 0


def test_one_thread_waits_for_nobody(artifact: Path) -> None:
    found = profile_artifact(artifact, cores=1, repeat=5)
    assert all(kernel.imbalance == 1 for kernel in found.kernels)
    assert found.share_waiting is not None
    assert found.share_waiting < 0.5


def test_what_an_old_artifact_does_not_say_is_unknown(tiny: Path) -> None:
    found = profile_artifact(tiny, {"n": 500}, repeat=3)
    assert [kernel.label for kernel in found.kernels] == ["add", "flip"]
    assert found.microseconds > 0
    assert (found.share_of_peak, found.share_waiting) == (None, None)
    for kernel in found.kernels:
        known = (kernel.busy_microseconds, kernel.wait_microseconds, kernel.imbalance)
        assert known == (None, None, None)
        assert (kernel.share_of_peak, kernel.share_of_roof) == (None, None)
        assert kernel.limit in (None, "memory")
    assert found.typical.finishes is None
    assert "timeline" in page(found)


def test_the_document_lists_what_is_asked_for(artifact: Path) -> None:
    found = profile_artifact(artifact, repeat=2)
    last = document(found, found.kernels[-1:])
    assert [step["index"] for step in last["steps"]] == [len(found.kernels) - 1]  # type: ignore[attr-defined]
    assert last["sources"] == document(found)["sources"]
