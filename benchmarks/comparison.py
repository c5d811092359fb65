"""Run engines alternately on one row in one precision, and put their figures side by side."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import LATENCY, SETUPS
from benchmarks.engines.engine import Pace, Turn
from benchmarks.job import Job, Material, sizes_key
from benchmarks.result import Result, with_ratios
from benchmarks.rows import Sizes
from benchmarks.turns import Worker, WorkerFailedError

_WARM_UP_CALLS = 2


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Every engine warms up, then there are `rounds` of one turn per engine at `pace`; fewer rounds,
    but no fewer than `fewest`, where more of them would take longer than `row_seconds`.
    """

    pace: Pace
    rounds: int
    fewest: int
    row_seconds: float

    def rounds_for(self, round_seconds: float) -> int:
        """How many rounds of this length to run."""
        return max(self.fewest, min(self.rounds, int(self.row_seconds / round_seconds)))


def is_prepared(
    at: Path, sizes: Sequence[Sizes], precisions: Sequence[str], engines: Sequence[str]
) -> bool:
    """Whether the folder `at` has all that `prepare_model` would write, or why it cannot."""
    if not Material(at).facts.exists():
        return False
    facts = _facts(Material(at))
    forms = {SETUPS[engine].form for engine in engines}
    known = {sizes_key(each) for each in sizes} <= set(facts["flops"])
    return known and forms <= set(facts["forms"]) and set(precisions) <= set(facts["precisions"])


def prepare_model(
    model: str, sizes: Sequence[Sizes], precisions: Sequence[str], engines: Sequence[str], at: Path
) -> str:
    """Write the model's forms into the folder `at`, in a process of its own.

    Returns:
        Why there are none, or "". A form that alone failed has its reason in the facts.
    """
    order = {
        "model": model,
        "sizes": list(sizes),
        "precisions": list(precisions),
        "forms": sorted({SETUPS[engine].form for engine in engines}),
        "folder": str(at),
    }
    at.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.prepare_model", json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True)
    tail = "\n".join(done.stderr.splitlines()[-15:])
    return "" if done.returncode == 0 else f"the model cannot be built:\n{tail}"


def compare(jobs: Sequence[Job], plan: Plan, peak_flops: float) -> list[Result]:
    """Measure all jobs, which differ in engine only, in alternating turns.

    `peak_flops` is the machine's in the precision of the jobs, in operations per second.
    """
    facts = _facts(Material(Path(jobs[0].folder)))
    failures: dict[str, str] = {}
    reports: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        # All at once: what one of them does on one thread overlaps with the others.
        started: list[Worker] = []
        for job in jobs:
            reason = _missing(job, facts["failures"])
            if reason:
                failures[job.key()] = reason
            else:
                started.append(stack.enter_context(Worker(job)))
        workers: list[Worker] = []
        for worker in started:
            job = worker.job
            try:
                reports[job.key()] = worker.prepared()
                workers.append(worker)
            except WorkerFailedError as error:
                failures[job.key()] = str(error)
        turns, failed = _alternate(workers, plan)
    failures |= failed
    flops = facts["flops"].get(sizes_key(jobs[0].sizes), float("nan"))
    results = []
    for job in jobs:
        blank = Result(job.engine, job.model, job.sizes, job.precision, job.threads)
        key = job.key()
        if key in failures:
            results.append(replace(blank, failure=failures[key]))
        else:
            result = _figures(blank, turns[key])
            share = result.items_per_second / job.sizes["batch"] * flops / peak_flops
            first = reports[key]
            results.append(
                replace(
                    result,
                    share_of_peak=share,
                    error=first["error"],
                    prepare_s=first["prepare_s"],
                )
            )
    return with_ratios(results)


def _facts(material: Material) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(material.facts.read_text())
    return facts


def _missing(job: Job, failures: Mapping[str, str]) -> str:
    """Why the form that the engine loads could not be made, or ""."""
    form = SETUPS[job.engine].form
    return failures.get(form, "") or failures.get(f"{form}-{job.precision}", "")


def _alternate(
    workers: Sequence[Worker], plan: Plan
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """The turns of every worker, and the reason of each that ended before the others."""
    turns: dict[str, list[Turn]] = {worker.job.key(): [] for worker in workers}
    failures: dict[str, str] = {}

    def turn(worker: Worker, pace: Pace) -> Turn | None:
        if worker.job.key() in failures:
            return None
        try:
            return worker.turn(pace)
        except WorkerFailedError as error:
            failures[worker.job.key()] = str(error)
            return None

    warm_up = replace(plan.pace, calls=_WARM_UP_CALLS, longest=plan.pace.seconds)
    calls = [turn(worker, warm_up) for worker in workers]
    # A turn lasts as long as the pace says, or as one call where that is longer.
    lengths = [_length(plan.pace, done) for done in calls if done is not None]
    for number in range(plan.rounds_for(sum(lengths)) if lengths else 0):
        for worker in workers if number % 2 == 0 else reversed(workers):
            done = turn(worker, plan.pace)
            if done is not None:
                turns[worker.job.key()].append(done)
    return turns, failures


def _length(pace: Pace, warm_up: Turn) -> float:
    """The seconds that a turn will take, from the rate of the turn to warm up."""
    call = warm_up.seconds / warm_up.calls
    return max(call, min(pace.longest, max(pace.seconds, pace.calls * call)))


def _figures(blank: Result, turns: Sequence[Turn]) -> Result:
    batch = blank.sizes["batch"]
    medians = [statistics.median(turn.latencies_ms) for turn in turns]
    rates = [batch * turn.calls / turn.seconds for turn in turns]
    median_ms = statistics.median(medians)
    rate = 1000 * batch / median_ms if blank.mode == LATENCY else statistics.median(rates)
    figures = medians if blank.mode == LATENCY else rates
    every = [time_ms for turn in turns for time_ms in turn.latencies_ms]
    return replace(
        blank,
        median_ms=median_ms,
        p99_ms=float(np.percentile(every, 99)),
        spread=(max(figures) - min(figures)) / 2 / statistics.median(figures),
        items_per_second=rate,
        rounds=len(turns),
    )
