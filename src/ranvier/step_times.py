"""Where the time of a call goes, step by step: a table, and a trace for Chrome's viewer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ranvier.bench import model_peak
from ranvier.runtime.model import load
from ranvier.runtime.profile import Profile
from ranvier.sample_inputs import complete_sizes, random_inputs


@dataclass(frozen=True)
class StepTime:
    """One kernel call; the time is the median over the profiled calls, waits included.

    Attributes:
        share: of the whole call, 0 to 1.
        gflops, gbytes_per_second: estimated work over measured time.
        share_of_peak: of the machine's peak, 0 to 1; None where the peak is unknown.
    """

    index: int
    label: str
    kernel: str
    operators: tuple[str, ...]
    microseconds: float
    share: float
    gflops: float
    gbytes_per_second: float
    share_of_peak: float | None
    source: str


@dataclass(frozen=True)
class StepTimes:
    """The steps in order of execution; `last` is the raw profile of one call."""

    name: str
    precision: str
    target: str
    cores: int
    sizes: Mapping[str, int]
    microseconds: float
    steps: tuple[StepTime, ...]
    last: Profile


def profile_artifact(
    artifact: str | os.PathLike[str],
    sizes: Mapping[str, int] | None = None,
    cores: int | str | Iterable[int] | None = None,
    repeat: int = 10,
) -> StepTimes:
    """Profile an artifact on random inputs: `repeat` calls after a warm-up.

    Raises:
        InputError: a size that is missing or outside its range.
        ArtifactError, TargetError: as `ranvier.load`.
    """
    with load(artifact, cores=cores) as model:
        complete = complete_sizes(model.manifest, sizes or {})
        inputs = random_inputs(model.manifest, complete)
        for _ in range(3):
            model.run(inputs)
        profiles = [model.profile(inputs) for _ in range(max(1, repeat))]
        last = profiles[-1]
        peak = model_peak(model)
        seconds = np.median([profile.step_seconds for profile in profiles], axis=0)
        total = float(seconds.sum())
        steps = tuple(
            _step(last, index, float(spent), total, peak) for index, spent in enumerate(seconds)
        )
        return StepTimes(
            model.name, model.precision, model.target, model.cores.count, complete, total * 1e6,
            steps, last,
        )  # fmt: skip


def chrome_trace(profile: Profile) -> dict[str, object]:
    """One call as trace events (`chrome://tracing`, Perfetto): a bar per step and thread.

    The format is Google's "Trace Event Format"; times are microseconds since the call began.
    """
    ticks = profile.ticks.astype(np.int64)
    ticks = ticks - ticks[:, 0].min()
    span = int(ticks[0, -1] - ticks[0, 0])
    scale = profile.seconds * 1e6 / span if span > 0 else 0.0
    events: list[dict[str, object]] = [
        {
            "name": "thread_name", "ph": "M", "pid": 0, "tid": thread,
            "args": {"name": f"core thread {thread}"},
        }
        for thread in range(len(ticks))
    ]  # fmt: skip
    for thread, row in enumerate(ticks):
        starts = row * scale
        for index, step in enumerate(profile.steps):
            events.append({
                "name": step.label, "cat": step.kernel, "ph": "X", "pid": 0, "tid": thread,
                "ts": float(starts[index]), "dur": float(starts[index + 1] - starts[index]),
                "args": {
                    "kernel": step.kernel, "operators": ", ".join(step.operators),
                    "source": step.source, "flops": profile.flops[index],
                    "bytes": profile.bytes[index],
                },
            })  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _step(
    profile: Profile, index: int, seconds: float, total: float, peak: float | None
) -> StepTime:
    step = profile.steps[index]
    flops = profile.flops[index] / seconds if seconds > 0 else 0.0
    bandwidth = profile.bytes[index] / seconds if seconds > 0 else 0.0
    return StepTime(
        index, step.label, step.kernel, step.operators, seconds * 1e6,
        seconds / total if total > 0 else 0.0, flops / 1e9, bandwidth / 1e9,
        None if peak is None else flops / peak, step.source,
    )  # fmt: skip
