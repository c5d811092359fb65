"""Artifacts that older versions of Ranvier wrote still load and give the same results.

`data/format_<n>.rvr` was written when that format was the newest, for x86-64-v3; `.npz` beside it
has inputs by name and, under `output`, what the model returned first then.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier.artifact.format import FORMAT_VERSION
from ranvier.artifact.reader import Artifact
from ranvier.target import TARGETS
from tests.targets import HOST

OLD = sorted(Path(__file__).with_name("data").glob("format_*.rvr"))
RUNS_HERE = TARGETS["x86-64-v3"] in HOST


def test_there_is_one_of_every_format() -> None:
    assert [path.stem for path in OLD] == [f"format_{n}" for n in range(1, FORMAT_VERSION + 1)]
    for path in OLD:
        with Artifact(path, "full") as artifact:
            assert path.stem == f"format_{artifact.document['format']}"


@pytest.mark.skipif(not RUNS_HERE, reason="this CPU has no AVX2, which the old artifacts need")
@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_an_old_artifact_gives_what_it_gave(path: Path) -> None:
    kept = dict(np.load(path.with_suffix(".npz")))
    expected = kept.pop("output")
    for cores in (1, 2):
        with ranvier.load(path, cores=cores, verify="full") as model:
            found = next(iter(model.run(kept).values()))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
