"""Profiles an artifact: calls it on random inputs and takes medians, kernel by kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.bench import examples_per_call
from ranvier.profiling.machine import cpu_name
from ranvier.profiling.roofline import (
    Bound,
    Limit,
    Roof,
    Roofline,
    Work,
    limit_of,
    measure_roofline,
)
from ranvier.profiling.timeline import Timeline, seconds_per_tick, timeline
from ranvier.runtime.model import Model, load
from ranvier.runtime.profile import Profile
from ranvier.sample_inputs import complete_sizes, random_inputs

_WARM_UP_CALLS = 3
_WARM_UP_SECONDS = 0.05


@dataclass(frozen=True)
class KernelTime:
    """One kernel call; times are medians over the profiled calls.

    Attributes:
        index: position in the order of execution.
        label: the value that it computes.
        kernel: name of the native function.
        operators: of the model, fused into it.
        source: line of the user's model.
        microseconds: from its first thread's start to the next kernel's; waits included.
        share: of the whole call, 0 to 1.
        flops, bytes: estimated operations, and bytes read and written.
        gflops, gbytes_per_second: these over the measured time.
        share_of_peak: of the peak in the model's precision, 0 to 1; None where it is unknown.
        roof: "compute" or "memory": what the roofline says takes longer; None where unknown.
        share_of_roof: least time by the roofline over measured time, 0 to 1; None where unknown.
        level: where its activations may come from: "L2", "L3" or "memory".
        limit: what most of the time goes to, see `roofline.limit_of`.
        busy_microseconds: of every thread, without waiting; None for artifacts too old to say.
        wait_microseconds: of the average thread: the time in which it does not work on the kernel,
            at the barrier after it or because it starts late; None like the above.
        imbalance: busy time of the slowest thread over the average, at least 1; None likewise.
    """

    index: int
    label: str
    kernel: str
    operators: tuple[str, ...]
    source: str
    microseconds: float
    share: float
    flops: int
    bytes: int
    gflops: float
    gbytes_per_second: float
    share_of_peak: float | None
    roof: Roof | None
    share_of_roof: float | None
    level: str
    limit: Limit | None
    busy_microseconds: tuple[float, ...] | None
    wait_microseconds: float | None
    imbalance: float | None


@dataclass(frozen=True)
class ArtifactProfile:
    """The kernel calls in order of execution, and the machine that they ran on.

    Attributes:
        batch: examples per call.
        calls: how many calls the medians are over.
        microseconds: sum of the kernels' medians.
        call_microseconds: median of the whole call, Python included.
        roofline: measured on the same cores.
        typical: the call whose kernels took the median time.
    """

    name: str
    precision: str
    target: str
    cpu: str
    cores: int
    sizes: Mapping[str, int]
    batch: int
    calls: int
    microseconds: float
    call_microseconds: float
    roofline: Roofline
    kernels: tuple[KernelTime, ...]
    typical: Timeline

    @property
    def items_per_second(self) -> float:
        """Examples per second of the median call."""
        return self.batch / self.call_microseconds * 1e6

    @property
    def share_of_peak(self) -> float | None:
        """Operations of all kernels over their time, as a share of the peak; None if unknown."""
        peak = self.roofline.peak
        if peak is None or self.microseconds <= 0:
            return None
        return sum(kernel.flops for kernel in self.kernels) / self.microseconds * 1e6 / peak

    @property
    def share_waiting(self) -> float | None:
        """Share of all threads' time that goes to waiting for others, 0 to 1; None if unknown."""
        waits = [kernel.wait_microseconds for kernel in self.kernels]
        known = [wait for wait in waits if wait is not None]
        if len(known) < len(waits) or self.microseconds <= 0:
            return None
        return sum(known) / self.microseconds


def profile_artifact(
    artifact: str | os.PathLike[str],
    sizes: Mapping[str, int] | None = None,
    cores: int | str | Iterable[int] | None = None,
    repeat: int = 10,
) -> ArtifactProfile:
    """Profile an artifact on random inputs: `repeat` calls after a warm-up.

    Raises:
        InputError: a size that is missing or outside its range.
        ArtifactError, TargetError: as `ranvier.load`.
    """
    with load(artifact, cores=cores) as model:
        complete = complete_sizes(model.manifest, sizes or {})
        inputs = random_inputs(model.manifest, complete)
        warm_up = _warm_up(model, inputs)
        profiles = [model.profile(inputs) for _ in range(max(1, repeat))]
        tick = seconds_per_tick([*warm_up, *profiles])
        lines = [timeline(profile, tick) for profile in profiles]
        roofline = measure_roofline(model, _call_bytes(profiles[0], model, complete))
        kernels = _kernels(profiles[0], lines, roofline)
        totals = [line.seconds for line in lines]
        return ArtifactProfile(
            name=model.name,
            precision=model.precision,
            target=model.target,
            cpu=cpu_name(),
            cores=model.cores.count,
            sizes=complete,
            batch=examples_per_call(model, complete),
            calls=len(lines),
            microseconds=sum(kernel.microseconds for kernel in kernels),
            call_microseconds=float(np.median([p.seconds for p in profiles])) * 1e6,
            roofline=roofline,
            kernels=kernels,
            typical=lines[int(np.argsort(totals)[(len(totals) - 1) // 2])],
        )


def _warm_up(model: Model, inputs: Mapping[str, NDArray[Any]]) -> list[Profile]:
    """First calls plan memory and wake threads; they also give the clock's rate a long base."""
    end = time.perf_counter() + _WARM_UP_SECONDS
    profiles = [model.profile(inputs) for _ in range(_WARM_UP_CALLS)]
    while time.perf_counter() < end:
        profiles.append(model.profile(inputs))
    return profiles


def _kernels(
    profile: Profile, lines: Sequence[Timeline], roofline: Roofline
) -> tuple[KernelTime, ...]:
    spans = np.median([line.spans for line in lines], axis=0)
    # Busy times over all calls: (calls, threads, steps), None where the artifact does not say.
    known = [line.busy for line in lines if line.busy is not None]
    busy = np.median(known, axis=0) if known else None
    total = float(spans.sum())
    return tuple(
        _kernel(
            profile, index, float(span), total, roofline, None if busy is None else busy[:, index]
        )
        for index, span in enumerate(spans)
    )


def _kernel(
    profile: Profile,
    index: int,
    seconds: float,
    total: float,
    roofline: Roofline,
    busy: NDArray[np.float64] | None,
) -> KernelTime:
    step, flops, size = profile.steps[index], profile.flops[index], profile.bytes[index]
    weights = min(size, _weight_bytes(profile, index))
    bound = roofline.bound(Work(step.kernel, flops, weights, size - weights))
    mean = None if busy is None else float(busy.mean())
    wait = None if mean is None else max(0.0, seconds - mean)
    peak = roofline.peak
    return KernelTime(
        index=index,
        label=step.label,
        kernel=step.kernel,
        operators=step.operators,
        source=step.source,
        microseconds=seconds * 1e6,
        share=_rate(seconds, total),
        flops=flops,
        bytes=size,
        gflops=_rate(flops, seconds) / 1e9,
        gbytes_per_second=_rate(size, seconds) / 1e9,
        share_of_peak=None if peak is None else _rate(flops, seconds) / peak,
        roof=bound.roof,
        share_of_roof=_share_of_roof(bound, seconds),
        level=bound.level,
        limit=limit_of(bound, seconds, wait),
        busy_microseconds=None if busy is None else tuple(float(b) * 1e6 for b in busy),
        wait_microseconds=None if wait is None else wait * 1e6,
        imbalance=None if busy is None or not mean else float(busy.max()) / mean,
    )


def _share_of_roof(bound: Bound, seconds: float) -> float | None:
    return None if bound.seconds is None else _rate(bound.seconds, seconds)


def _rate(amount: float, per: float) -> float:
    return amount / per if per > 0 else 0.0


def _weight_bytes(profile: Profile, index: int) -> int:
    """Bytes of the weights that a step reads."""
    buffers = [profile.buffers[number] for number in set(profile.steps[index].reads)]
    return sum(b.size for b in buffers if b.kind == "weight" and isinstance(b.size, int))


def _call_bytes(profile: Profile, model: Model, sizes: Mapping[str, int]) -> int:
    """Weights and temporaries of a call; its inputs and outputs are small beside them."""
    weights = [b.size for b in profile.buffers if b.kind == "weight" and isinstance(b.size, int)]
    return sum(weights) + model.arena_bytes(**sizes)
