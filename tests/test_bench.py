from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier.artifact.reader import Artifact
from ranvier.bench import bench
from ranvier.errors import InputError
from ranvier.peak import can_measure, peak_flops
from ranvier.runtime.cores import Cores, select_cores
from ranvier.sample_inputs import batch_symbol, complete_sizes, random_inputs

pytestmark = pytest.mark.needs("torch", "llvmlite")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny_models

    folder = tmp_path_factory.mktemp("bench")
    for name in ("fixed", "sized", "lookup"):
        model, args, *rest = getattr(tiny_models, name)()
        kwargs, shapes = rest or ({}, None)
        ranvier.trace(model, args, kwargs, dynamic_shapes=shapes, target="x86-64-v3").save(
            folder / f"{name}.rvr"
        )
    return folder


def test_percentiles_and_rates_are_consistent(artifacts: Path) -> None:
    told: list[str] = []
    found = bench(
        artifacts / "sized.rvr", (1, 3), {"height": 8}, seconds=0.05, cores=1, progress=told.append
    )
    assert told == ["batch=1, height=8", "batch=3, height=8"]
    assert found.cores == 1
    assert found.load_ms > 0
    for each, batch in zip(found.measurements, (1, 3), strict=True):
        assert each.batch == batch
        assert each.calls >= 3
        assert each.best_ms <= each.p50_ms <= each.p90_ms <= each.p95_ms <= each.p99_ms
        assert each.average_per_second <= each.maximum_per_second
        assert each.maximum_per_second == pytest.approx(batch / each.best_ms * 1000)
        assert each.gflop > 0
        assert each.share_of_peak is not None
        assert each.share_of_peak > 0
        assert each.resident_bytes > 1_000_000
        assert each.arena_bytes > 0
    assert found.fastest in found.measurements


def test_sizes_have_to_be_known(artifacts: Path) -> None:
    with pytest.raises(InputError, match="--set height=SIZE"):
        bench(artifacts / "sized.rvr", (1,), seconds=0)
    with pytest.raises(InputError, match="no symbol width"):
        bench(artifacts / "sized.rvr", (1,), {"width": 3}, seconds=0)
    with pytest.raises(InputError, match="4 to 64"):
        bench(artifacts / "sized.rvr", (1,), {"height": 65}, seconds=0)
    with pytest.raises(InputError, match="batch of 2"):
        bench(artifacts / "fixed.rvr", (4,), seconds=0)
    assert bench(artifacts / "fixed.rvr", (2,), seconds=0).measurements[0].batch == 2


def test_random_inputs_are_seeded_and_valid(artifacts: Path) -> None:
    with Artifact(artifacts / "lookup.rvr") as artifact:
        manifest = artifact.manifest
    assert batch_symbol(manifest) is None
    sizes = complete_sizes(manifest, {"length": 9})
    tokens = random_inputs(manifest, sizes)["tokens"]
    assert (tokens.dtype, tokens.shape) == (np.int64, (1, 9))
    assert set(np.unique(tokens)) <= {0, 1}
    np.testing.assert_array_equal(tokens, random_inputs(manifest, sizes)["tokens"])


def test_the_peak_follows_the_features() -> None:
    assert can_measure()
    one = Cores(1, select_cores().cpus[:1], pinned=True)
    assert peak_flops(("sse2",), "f32", one) is None
    peak = peak_flops(("avx2", "fma"), "f32", one)
    assert peak is not None
    assert 1e9 < peak < 1e12
