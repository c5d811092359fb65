"""Ratios between engines, and results that survive a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.result import Report
from benchmarks.rows import Row
from tests.benchmarks.examples import ROW, SPEEDS, results


def test_latency_is_compared_with_the_quickest_latency_peer() -> None:
    by_engine = {result.engine: result for result in results(SPEEDS)}
    assert by_engine["ranvier"].ratio == 2.0
    assert by_engine["ranvier"].best_peer == "onnxruntime"
    assert by_engine["onnxruntime"].ratio == 1.0
    assert by_engine["torch-eager"].ratio == 0.5


def test_throughput_is_compared_with_every_peer_but_not_with_ranvier() -> None:
    by_engine = {result.engine: result for result in results(SPEEDS | {"ranvier": 0.01})}
    ours = by_engine["ranvier-throughput"]
    assert ours.best_peer == "onnxruntime"  # its latency setup serves more than any queue
    assert ours.ratio == 2.0
    assert by_engine["openvino-throughput"].ratio == 0.4


def test_failed_peers_are_no_peers_and_a_failed_engine_has_no_ratio() -> None:
    by_engine = {result.engine: result for result in results(SPEEDS | {"onnxruntime": -1})}
    assert by_engine["ranvier"].best_peer == "openvino"
    assert by_engine["onnxruntime"].ratio != by_engine["onnxruntime"].ratio
    (alone,) = results({"ranvier": 1.0})
    assert alone.ratio != alone.ratio
    assert alone.best_peer == ""


def test_report_survives_its_file_with_missing_figures(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    report = Report({"cpu": "x"}, tuple(results(SPEEDS | {"openvino": -1})))
    report.write(path)
    assert "NaN" not in path.read_text()
    read = Report.read(path)
    assert repr(read) == repr(report)  # NaN differs from itself, its text does not


@pytest.mark.parametrize(
    ("row", "precision", "threads", "known"),
    [
        (ROW, "f32", 2, True),
        (ROW, "bf16", 2, False),
        (ROW, "f32", 1, False),
        (Row("mnist_cnn", {"batch": 9}), "f32", 2, False),
    ],
)
def test_rows_that_were_measured_are_known(
    row: Row, precision: str, threads: int, known: bool
) -> None:
    report = Report({}, tuple(results(SPEEDS)))
    assert report.has(row, precision, threads) is known


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    report = Report({}, tuple(results(SPEEDS)))
    report.write(path)
    replace(report, results=report.results[:1]).write(path)
    assert len(Report.read(path).results) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
