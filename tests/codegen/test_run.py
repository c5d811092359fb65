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
        after = model.run({"image": image})
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_nobody_begins_behind_a_barrier_early(artifact: Path) -> None:
    """Every step behind a barrier begins after all threads have finished those before it.

    A clock that is read out of order shows this wrongly once in a thousand to four thousand runs.
    """
    image = np.ones((2, 3, 8, 8), np.float32)
    with ranvier.load(artifact) as model:
        barriers = [
            at for at, step in enumerate(model.profile({"image": image}).steps) if step.barrier
        ]
        assert barriers
        for _ in range(4000):
            profile = model.profile({"image": image})
            for step in barriers:
                others = profile.finishes[:, :step]
                assert step == 0 or others.max() <= profile.ticks[:, step].min()
