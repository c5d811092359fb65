"""The figures of an engine in a row, the ratios between engines, and the JSON that keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.engines import LATENCY, SETUPS, THROUGHPUT
from benchmarks.rows import Row

_NONE = float("nan")


@dataclass(frozen=True)
class Result:
    """One engine in one row and precision; `failure` says why there are no figures.

    `median_ms` and `p99_ms` are of the latency of a call; of throughput engines that is from the
    start of a request to its end, while others run beside it. `spread` is half the distance
    between the fastest and the slowest round, over the median: of the latency, or of the items per
    second of throughput engines. `ratio` is the speed over `best_peer`'s: of latency among latency
    engines; of items per second, for a throughput engine, among the peers of either mode.
    `share_of_peak` counts the operations of the model as it is written. `error` is the normwise
    relative error of the output against PyTorch f32.
    """

    engine: str
    model: str
    sizes: Mapping[str, int]
    precision: str
    threads: int
    median_ms: float = _NONE
    p99_ms: float = _NONE
    spread: float = _NONE
    items_per_second: float = _NONE
    ratio: float = _NONE
    best_peer: str = ""
    share_of_peak: float = _NONE
    error: float = _NONE
    prepare_s: float = _NONE
    rounds: int = 0
    failure: str = ""

    @property
    def mode(self) -> str:
        """Whether the engine is set up for latency or for throughput."""
        return SETUPS[self.engine].mode

    @property
    def row(self) -> Row:
        """The row that the result belongs to."""
        return Row(self.model, self.sizes)

    @property
    def key(self) -> tuple[str, str, str]:
        """Which row and precision it belongs to."""
        return self.row.label, self.precision, str(self.threads)


def with_ratios(results: Sequence[Result]) -> list[Result]:
    """Compare the results of one row and precision with its best peers."""
    peers = [result for result in results if SETUPS[result.engine].peer and not result.failure]
    quickest = min(
        (result for result in peers if result.mode == LATENCY),
        key=lambda result: result.median_ms,
        default=None,
    )
    busiest = max(peers, key=lambda result: result.items_per_second, default=None)
    compared = []
    for result in results:
        if result.mode == LATENCY and quickest is not None:
            ratio, best = quickest.median_ms / result.median_ms, quickest
        elif result.mode == THROUGHPUT and busiest is not None:
            ratio, best = result.items_per_second / busiest.items_per_second, busiest
        else:
            compared.append(result)
            continue
        compared.append(replace(result, ratio=ratio, best_peer=best.engine))
    return compared


@dataclass(frozen=True)
class Report:
    """All results of a run, with what they were measured on.

    `machine` has the CPU's name, the cores, `peak_gflops` by precision and versions.
    """

    machine: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = ()

    def has(self, row: Row, precision: str, threads: int) -> bool:
        """Whether the row was measured."""
        key = row.label, precision, str(threads)
        return any(result.key == key for result in self.results)

    def write(self, path: Path) -> None:
        """Write JSON, which has no NaN: a figure that is missing is null. The file is replaced at
        once, so a run that is interrupted leaves the last complete one."""
        document = {
            "machine": self.machine,
            "results": [_without_nan(asdict(result)) for result in self.results],
        }
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(beside, path)

    @staticmethod
    def read(path: Path) -> Report:
        """The inverse of `write`."""
        document = json.loads(path.read_text())
        results = tuple(Result(**_with_nan(fields)) for fields in document["results"])
        return Report(document["machine"], results)


def _without_nan(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in fields.items()}


def _with_nan(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _NONE if value is None else value for name, value in fields.items()}
