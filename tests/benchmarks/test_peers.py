"""The command: rows go to a file one by one, and a second run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.comparison import Plan
from benchmarks.job import Job
from benchmarks.result import Report, Result
from benchmarks.rows import Row
from tests.benchmarks.examples import SPEEDS, results


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which rows and precisions were measured; nothing is built or run."""
    done: list[tuple[str, str]] = []

    def compare(jobs: Sequence[Job], plan: Plan, peak_flops: float) -> list[Result]:
        row = Row(jobs[0].model, jobs[0].sizes)
        done.append((row.label, jobs[0].precision))
        engines = {job.engine for job in jobs} & set(SPEEDS)
        return results({name: SPEEDS[name] for name in engines}, row, jobs[0].precision)

    def describe(threads: int) -> dict[str, Any]:
        return {"peak_gflops": {"f32": 1.0, "bf16": None}}

    monkeypatch.setattr(peers, "describe_machine", describe)
    monkeypatch.setattr(peers, "prepare_model", lambda *_: "")
    monkeypatch.setattr(peers, "compare", compare)
    return done


def test_every_row_and_precision_is_written(
    measured: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "peers.json"
    peers.main(["--models", "mnist_cnn", "--batch", "1,64", "--threads", "2", "--json", str(path)])
    labels = ("mnist_cnn, batch 1", "mnist_cnn, batch 64")
    assert measured == [(label, name) for label in labels for name in ("f32", "bf16")]
    assert {result.key[:2] for result in Report.read(path).results} == set(measured)


def test_resume_measures_only_what_is_missing(
    measured: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "peers.json"
    common = ["--models", "mnist_cnn", "--threads", "2", "--json", str(path)]
    peers.main([*common, "--batch", "1", "--precision", "f32"])
    measured.clear()
    peers.main([*common, "--batch", "1,64", "--resume"])
    assert ("mnist_cnn, batch 1", "f32") not in measured
    assert len(measured) == 3
    assert len({result.key for result in Report.read(path).results}) == 4


def test_a_model_that_cannot_be_built_is_in_every_row(
    measured: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "prepare_model", lambda *_: "no weights")
    path = tmp_path / "peers.json"
    peers.main(["--models", "craft", "--batch", "1", "--json", str(path)])
    assert measured == []
    found = Report.read(path).results
    assert {result.failure for result in found} == {"no weights"}
    assert {result.precision for result in found} == {"f32", "bf16"}


def test_quick_has_few_rows(measured: list[tuple[str, str]]) -> None:
    peers.main(["--quick", "--precision", "f32"])
    assert 2 <= len(measured) <= 4
