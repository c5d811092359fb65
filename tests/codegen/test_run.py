"""`ranvier_run` notes when every thread begins and finishes every step, and only when asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ranvier

pytestmark = pytest.mark.needs("torch", "llvmlite")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny_models

    path = tmp_path_factory.mktemp("run") / "fixed.rvr"
    ranvier.trace(*tiny_models.fixed(), target="x86-64-v3").save(path)
    return path


@pytest.mark.parametrize("cores", [1, None])
def test_ticks_are_in_order(artifact: Path, cores: int | None) -> None:
    with ranvier.load(artifact, cores=cores) as model:
        image = np.ones((2, 3, 8, 8), np.float32)
        before = model.run({"image": image})
        profile = model.profile({"image": image})
        begins, finishes = profile.ticks.astype(np.int64), profile.finishes.astype(np.int64)
        steps = len(profile.steps)
        assert steps > 1
        assert begins.shape == (model.cores.count, steps + 1)
        assert finishes.shape == (model.cores.count, steps)
        assert (begins[:, :-1] <= finishes).all()
        assert (finishes <= begins[:, 1:]).all()
        # A barrier: nobody begins a step before everybody has finished those before it.
        for step in range(1, steps):
            if profile.steps[step].barrier:
                assert finishes[:, :step].max() <= begins[:, step].min()
        after = model.run({"image": image})
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
