"""Results of small runs for tests: engines with a speed each."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.engines import SETUPS
from benchmarks.result import Result, with_ratios
from benchmarks.rows import Row
from benchmarks.startup import STAGES, Startup

ROW = Row("mnist_cnn", {"batch": 8})
SPEEDS = {
    "torch-eager": 4.0,
    "onnxruntime": 2.0,
    "openvino": 2.5,
    "ranvier": 1.0,
    "openvino-throughput": 5.0,
    "ranvier-throughput": 1.0,
}
"""Milliseconds of a call; a throughput engine is given one call at a time, which is simple."""


def results(
    milliseconds: Mapping[str, float], row: Row = ROW, precision: str = "f32"
) -> list[Result]:
    """Results of engines that answer in this time; a negative time is a failure."""
    found = []
    for engine, time_ms in milliseconds.items():
        blank = Result(engine, row.model, row.sizes, precision, threads=2)
        if time_ms < 0:
            found.append(Result(**vars(blank) | {"failure": "it does not run"}))
            continue
        figures = {
            "median_ms": time_ms,
            "p99_ms": 2 * time_ms,
            "spread": 0.05,
            "items_per_second": 1000 * row.sizes["batch"] / time_ms,
            "share_of_peak": 0.5,
            "error": 1e-6,
            "rounds": 3,
        }
        assert engine in SETUPS
        found.append(Result(**vars(blank) | figures))
    return with_ratios(found)


def startup(engine: str, load_ms: float, megabytes: int, failure: str = "") -> Startup:
    """A start-up whose stages take 1 ms but for loading."""
    stages = dict.fromkeys(STAGES, 1.0) | {"load": load_ms}
    size = megabytes * 1_000_000
    return Startup(
        engine=engine,
        model="mnist_cnn",
        precision="f32",
        threads=2,
        stages_ms=stages,
        total_ms=sum(stages.values()),
        rss=size,
        pss=size,
        peak_rss=size,
        model_bytes=1_000_000,
        installed_bytes=2_000_000,
        repeats=5,
        failure=failure,
    )
