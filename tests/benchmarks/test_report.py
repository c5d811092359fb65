"""Tables of documents and charts, from a handful of results."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import report as reports
from benchmarks import scaling
from benchmarks import startup as startups
from benchmarks.result import Report
from benchmarks.rows import Row
from benchmarks.scaling import Scaling
from tests.benchmarks.examples import SPEEDS, results, startup

MACHINE = {
    "cpu": "A CPU",
    "threads": 2,
    "peak_gflops": {"f32": 235.0, "bf16": 469.0},
    "versions": {"torch": "2.13"},
}
DOCUMENT = """# Performance

<!-- benchmarks: latency -->
old figures
<!-- benchmarks: end -->

prose

<!-- benchmarks: throughput -->
<!-- benchmarks: end -->
"""


def example() -> Report:
    lost = results(SPEEDS | {"ranvier": 4.0}, precision="bf16")
    return Report(MACHINE, (*results(SPEEDS), *lost))


def test_marked_places_are_filled_and_stay_marked() -> None:
    texts = reports.tables(example(), [])
    once = reports.fill(DOCUMENT, texts)
    assert "old figures" not in once
    assert "prose" in once
    assert reports.fill(once, texts) == once


def test_the_tables_of_one_machine_leave_those_of_another() -> None:
    texts = reports.tables(example(), [])
    both = DOCUMENT + DOCUMENT.replace("benchmarks: l", "benchmarks: old/l").replace(
        "benchmarks: t", "benchmarks: old/t"
    )
    filled = reports.fill(both, texts)
    assert filled.count("old figures") == 1
    assert "old figures" not in reports.fill(filled, texts, "old")
    with pytest.raises(ValueError, match="new/latency"):
        reports.fill(both, texts, "new")


def test_rows_come_in_one_order_whatever_was_measured_first() -> None:
    late = Row("craft", {"batch": 1, "height": 640, "width": 640})
    early = Row("mnist_cnn", {"batch": 1})
    found = Report(MACHINE, (*results(SPEEDS, late), *results(SPEEDS, early)))
    lines = reports.tables(found, [])["latency"].splitlines()
    assert lines[2].startswith(f"| {early.label} |")
    assert lines[3].startswith(f"| {late.label} |")


def test_a_precision_that_was_not_measured_has_no_columns() -> None:
    found = Report(MACHINE, tuple(results(SPEEDS)))
    assert "bf16" not in reports.tables(found, [])["latency"]
    assert "bf16" not in reports.tables(found, [])["summary"]


def test_latency_table_marks_lost_rows() -> None:
    table = reports.tables(example(), [])["latency"]
    row = table.splitlines()[-1]
    assert row.startswith("| mnist_cnn, batch 8 | 1.00 | 2.00 (onnxruntime) | 2.00 |")
    assert "| **0.50** ▼ |" in row


def test_the_summary_counts_lost_rows_and_takes_geometric_means() -> None:
    table = reports.tables(example(), [])["summary"].splitlines()
    assert table[2].startswith("| latency | f32 | 1 | 0 | 2.00 | 2.00 | 2.00 |")
    assert table[3].startswith("| latency | bf16 | 1 | 1 | 0.50 | 0.50 | 0.50 |")


def test_a_document_without_marks_or_with_unknown_ones_is_refused() -> None:
    texts = reports.tables(example(), [])
    with pytest.raises(ValueError, match="the document marks"):
        reports.fill("# nothing", texts)
    with pytest.raises(ValueError, match="startup"):
        reports.fill(DOCUMENT.replace("latency", "startup"), texts)


def test_machine_names_cpu_peak_and_versions() -> None:
    text = reports.tables(example(), [])["machine"]
    assert text == "A CPU, 2 threads, peak 235 GFLOP/s in f32, 469 GFLOP/s in bf16; torch 2.13."


def test_startup_is_compared_with_the_best_peer_of_each_figure() -> None:
    found = [
        startup("ranvier", 6, 50),
        startup("onnxruntime", 16, 200),
        startup("openvino", 96, 100),
        startup("torch-eager", 1, 1, failure="it does not run"),
    ]
    row = reports.tables(example(), found)["startup"].splitlines()[-1]
    assert "| 10 | 20 (onnxruntime) | 2.00 | 7 | 17 (onnxruntime) | 2.43 |" in row
    assert "| 50 | 100 (openvino) | 0.50 |" in row


def test_startup_survives_its_file(tmp_path: Path) -> None:
    found = [startup("ranvier", 6, 50), startup("openvino", float("nan"), 0, failure="no")]
    path = tmp_path / "startup.json"
    startups.write(found, path)
    read = startups.read(path)
    assert read[0] == found[0]
    assert read[1].failure == "no"
    assert read[1].total_ms != read[1].total_ms


def test_scaling_is_beside_what_copies_reach(tmp_path: Path) -> None:
    found = [Scaling("mnist_cnn", {"batch": 64}, "f32", 2, 10.0, 6.25, 12.5, 0.08)]
    path = tmp_path / "scaling.json"
    scaling.write(found, path)
    assert scaling.read(path) == found
    row = scaling.table(scaling.read(path)).splitlines()[-1]
    assert row == "| mnist_cnn, batch 64 | f32 | 10.00 | 6.25 | 1.60 | ±5% | 1.60 |"


@pytest.mark.needs("matplotlib")
def test_charts_are_drawn_alike_each_time_and_mark_what_is_lost(tmp_path: Path) -> None:
    from benchmarks.charts import draw

    failed = results(SPEEDS | {"ranvier": -1.0}, precision="bf16")
    found = [startup("ranvier", 6, 50), startup("openvino", 900, 100), startup("onnxruntime", 9, 9)]
    first = draw((*example().results[: len(SPEEDS)], *failed), found, tmp_path / "a")
    second = draw((*example().results[: len(SPEEDS)], *failed), found, tmp_path / "b")
    assert [path.name for path in first] == [
        "latency.svg", "throughput.svg", "startup.svg", "memory.svg"
    ]  # fmt: skip
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert ElementTree.parse(one).getroot().tag.endswith("svg")
    assert "<!-- failed -->" in first[0].read_text()
    assert "<!-- mnist_cnn, batch 8 -->" in first[0].read_text()
