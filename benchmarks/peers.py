"""Ranvier beside PyTorch, ONNX Runtime and OpenVINO: same model, inputs and threads, in one run.

Every engine lives in a process of its own. They take turns; those that wait are stopped. A round
is one turn of every engine, in alternating order, so drift of the machine hits all alike. Figures
are written after every row, and `--resume` goes on where a run was stopped.

usage: python -m benchmarks.peers --models resnet50,mobilenet_v2 --batch 1,8 --json peers.json
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.comparison import Plan, compare, is_prepared, prepare_model
from benchmarks.engines import SETUPS
from benchmarks.engines.engine import Pace
from benchmarks.job import Job
from benchmarks.machine import describe_machine
from benchmarks.result import Report, Result
from benchmarks.rows import QUICK, ROWS, Row, select
from benchmarks.table import text_table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, print one table per row and precision."""
    options = _parser().parse_args(arguments)
    rows = select(QUICK if options.quick else ROWS, options.models, options.batch)
    report = Report(describe_machine(options.threads))
    if options.resume and options.json.exists():
        report = replace(report, results=Report.read(options.json).results)
    with _folder(options.folder) as folder:
        for model, found in groupby(rows, key=lambda row: row.model):
            report = _measure_model(model, list(found), report, folder, options)
            if not options.folder:
                shutil.rmtree(folder / model, ignore_errors=True)


def _measure_model(
    model: str, rows: Sequence[Row], report: Report, folder: Path, options: argparse.Namespace
) -> Report:
    """Measure the rows of one model that the report lacks; write it after each."""
    work = [
        (row, precision)
        for row in rows
        for precision in options.precision
        if not report.has(row, precision, options.threads)
    ]
    if not work:
        return report
    at = folder / model
    broken = ""
    sizes = [row.sizes for row in rows]
    if not is_prepared(at, sizes, options.precision, options.engines):
        broken = prepare_model(model, sizes, options.precision, options.engines, at)
    for row, precision in work:
        jobs = [
            Job(engine, model, row.sizes, precision, options.threads, str(at))
            for engine in options.engines
            if precision in SETUPS[engine].precisions
        ]
        start = time.perf_counter()
        results = _broken(jobs, broken) if broken else _compare(jobs, report, options)
        seconds = time.perf_counter() - start
        print(text_table(results), f"\n({seconds:.0f} s)", flush=True)
        report = replace(report, results=(*report.results, *results))
        if options.json:
            report.write(options.json)
    return report


def _compare(jobs: Sequence[Job], report: Report, options: argparse.Namespace) -> list[Result]:
    pace = Pace(options.seconds, options.calls, options.longest)
    plan = Plan(pace, options.rounds, min(options.rounds, 2), options.row_seconds)
    peak = report.machine["peak_gflops"][jobs[0].precision]
    return compare(jobs, plan, float("nan") if peak is None else peak * 1e9)


def _broken(jobs: Sequence[Job], reason: str) -> list[Result]:
    return [
        Result(job.engine, job.model, job.sizes, job.precision, job.threads, failure=reason)
        for job in jobs
    ]


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    """The folder for models: the given one, which is kept, or one that is gone afterwards."""
    if path is not None:
        yield path
        return
    with TemporaryDirectory(prefix="ranvier-peers-") as temporary:
        yield Path(temporary)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    threads = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("--quick", action="store_true", help="three models at batch 1")
    add("--models", type=_names, default=[], help="comma list; all unless given")
    add("--batch", type=_numbers, default=[], help="comma list; all unless given")
    add("--threads", type=int, default=threads)
    add("--precision", type=_names, default=["f32", "bf16"], help="comma list of f32, bf16")
    add("--engines", type=_names, default=list(SETUPS), help=f"comma list of {', '.join(SETUPS)}")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.3, help="length of one turn")
    add("--calls", type=int, default=5, help="calls in a turn, which is longer if they need it")
    add("--longest", type=float, default=1.2, help="but no call begins later in a turn")
    add("--row-seconds", type=float, default=30.0, help="fewer rounds where they take longer")
    add("--json", type=Path, help="also write all figures to this file, after every row")
    add("--resume", action="store_true", help="keep the rows that are in the file of --json")
    add("--folder", type=Path, help="keep exported and compiled models here, and use them again")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
