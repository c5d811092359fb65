"""Run engines alternately on one model and size, and put their figures side by side."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import engines
from benchmarks.job import Job
from benchmarks.turns import Worker, WorkerFailedError


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds of one turn per engine, after one warm-up turn each."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """One engine on one job. Times in milliseconds; `failure` says why there are none.

    `spread` is half the distance between the fastest and the slowest round, over the median.
    `ratio` is the speed over the best peer's in the same precision; Ranvier is no peer.
    `error` is the normwise relative error of the first output against PyTorch f32.
    """

    engine: str
    model: str
    sizes: Mapping[str, int]
    precision: str
    threads: int
    median_ms: float = float("nan")
    p99_ms: float = float("nan")
    spread: float = float("nan")
    items_per_second: float = float("nan")
    ratio: float = float("nan")
    error: float = float("nan")
    stages_s: Mapping[str, float] | None = None
    failure: str = ""


def compare(jobs: Sequence[Job], plan: Plan) -> list[Result]:
    """Measure all jobs, which differ in engine and precision only, in alternating turns."""
    with TemporaryDirectory(prefix="ranvier-peers-") as folder, ExitStack() as stack:
        jobs = [replace(job, folder=folder) for job in jobs]
        failures = _export_onnx(jobs)
        workers: list[Worker] = []
        stages: dict[str, dict[str, float]] = {}
        for job in jobs:
            if job.key() in failures:
                continue
            worker = stack.enter_context(Worker(job))
            try:
                stages[job.key()] = worker.prepared()
                workers.append(worker)
            except WorkerFailedError as error:
                failures[job.key()] = str(error)
        rounds = _alternate(workers, plan)
        results = [_result(job, rounds, stages, failures) for job in jobs]
    return list(_with_ratios(results))


def _export_onnx(jobs: Sequence[Job]) -> dict[str, str]:
    """Write the ONNX file where a job reads it; a failure for each of them if that fails."""
    readers = [job for job in jobs if job.engine in engines.READS_ONNX]
    if not readers:
        return {}
    command = [sys.executable, "-m", "benchmarks.engines.onnx_file", readers[0].to_json()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return {}
    reason = "\n".join(done.stderr.splitlines()[-15:])
    return {job.key(): f"export to ONNX failed:\n{reason}" for job in readers}


def _alternate(workers: Sequence[Worker], plan: Plan) -> dict[str, list[list[float]]]:
    for worker in workers:
        worker.turn(plan.seconds / 2)
    rounds: dict[str, list[list[float]]] = {worker.job.key(): [] for worker in workers}
    for number in range(plan.rounds):
        order = workers if number % 2 == 0 else list(reversed(workers))
        for worker in order:
            rounds[worker.job.key()].append(worker.turn(plan.seconds))
    return rounds


def _result(
    job: Job,
    rounds: Mapping[str, list[list[float]]],
    stages: Mapping[str, dict[str, float]],
    failures: Mapping[str, str],
) -> Result:
    key = job.key()
    result = Result(job.engine, job.model, job.sizes, job.precision, job.threads)
    if key in failures:
        return replace(result, failure=failures[key])
    medians = [statistics.median(times) for times in rounds[key]]
    everything = [time for times in rounds[key] for time in times]
    median_ms = statistics.median(medians)
    return replace(
        result,
        median_ms=median_ms,
        p99_ms=float(np.percentile(everything, 99)),
        spread=(max(medians) - min(medians)) / 2 / median_ms,
        items_per_second=1000 * job.sizes["batch"] / median_ms,
        error=_error(job),
        stages_s=stages[key],
    )


def _error(job: Job) -> float:
    folder = Path(job.folder)
    reference_path = folder / "torch-eager-f32.npy"
    if not reference_path.exists():
        return float("nan")
    reference = np.load(reference_path).astype(np.float64)
    output = np.load(folder / f"{job.key()}.npy").astype(np.float64)
    return float(np.linalg.norm(output - reference) / np.linalg.norm(reference))


def _with_ratios(results: Sequence[Result]) -> Iterator[Result]:
    best: dict[str, float] = {}
    for result in results:
        if result.engine != "ranvier" and not result.failure:
            known = best.get(result.precision, float("inf"))
            best[result.precision] = min(known, result.median_ms)
    for result in results:
        ratio = best.get(result.precision, float("nan")) / result.median_ms
        yield replace(result, ratio=ratio)
