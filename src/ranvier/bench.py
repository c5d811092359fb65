"""Measures an artifact: latency percentiles, throughput, share of the machine's peak, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranvier.errors import InputError
from ranvier.peak import can_measure, peak_flops
from ranvier.runtime.model import Model, load
from ranvier.sample_inputs import batch_symbol, complete_sizes, random_inputs

WARM_UP_SHARE = 0.1
MINIMUM_CALLS = 3


@dataclass(frozen=True)
class Measurement:
    """One choice of sizes, called again and again.

    Attributes:
        sizes: of every symbol.
        batch: examples per call.
        calls: how many calls were timed.
        p50_ms .. p99_ms, mean_ms, best_ms: latency of one call in milliseconds.
        average_per_second: examples per second over all timed calls.
        maximum_per_second: examples per second of the fastest call.
        gflop: estimated operations of one call, in 10^9.
        share_of_peak: operations per second at the median latency over the machine's peak, 0 to 1;
            None where the peak is unknown.
        resident_bytes: memory of this process after the calls, shared mappings included.
        arena_bytes: memory of the temporaries.
    """

    sizes: Mapping[str, int]
    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    best_ms: float
    average_per_second: float
    maximum_per_second: float
    gflop: float
    share_of_peak: float | None
    resident_bytes: int
    arena_bytes: int


@dataclass(frozen=True)
class Benchmark:
    """What `bench` found; `peak_gflops` is that of all `cores` together, None where unknown."""

    artifact: str
    name: str
    precision: str
    target: str
    cores: int
    load_ms: float
    resident_bytes_before: int
    peak_gflops: float | None
    peak_note: str
    measurements: tuple[Measurement, ...]

    @property
    def fastest(self) -> Measurement:
        """The measurement with the highest average throughput."""
        return max(self.measurements, key=lambda m: m.average_per_second)


@dataclass(frozen=True)
class _Timed:
    """Raw result for one choice of sizes; the peak is measured after all of them."""

    sizes: Mapping[str, int]
    batch: int
    times: np.ndarray[Any, np.dtype[np.float64]]
    flops: int
    resident_bytes: int
    arena_bytes: int


def bench(
    artifact: str | os.PathLike[str],
    batches: Sequence[int] = (),
    sizes: Mapping[str, int] | None = None,
    seconds: float = 2.0,
    cores: int | str | Iterable[int] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Benchmark:
    """Call an artifact with random inputs for `seconds` per batch, after a warm-up.

    Args:
        artifact: path of the file.
        batches: examples per call, one measurement each; the smallest batch when empty.
        sizes: of the other symbols.
        seconds: time per measurement.
        cores: as for `ranvier.load`.
        progress: told what is measured next.

    Raises:
        InputError: a size that is missing or outside its range, or a batch for a model whose
            batch is fixed.
        ArtifactError, TargetError: as `ranvier.load`.
    """
    before = resident_bytes()
    start = time.perf_counter()
    model = load(artifact, cores=cores)
    load_ms = (time.perf_counter() - start) * 1000
    with model:
        timed = []
        for chosen in _choices(model, batches, sizes or {}):
            if progress is not None:
                progress(", ".join(f"{name}={size}" for name, size in chosen.items()) or "fixed")
            timed.append(_measure(model, chosen, seconds))
        peak, note = _peak(model)
        return Benchmark(
            os.fspath(artifact), model.name, model.precision, model.target, model.cores.count,
            load_ms, before, None if peak is None else peak / 1e9, note,
            tuple(_summarize(one, peak) for one in timed),
        )  # fmt: skip


def resident_bytes() -> int:
    """Resident memory of this process in bytes, shared mappings included."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def precision_peak(model: Model, precision: str) -> float | None:
    """Peak of the cores of a loaded model in a precision, in operations per second."""
    features = next(t.features for t in model.manifest.targets if t.name == model.target)
    return peak_flops(features, precision, model.cores)


def _choices(
    model: Model, batches: Sequence[int], sizes: Mapping[str, int]
) -> list[dict[str, int]]:
    symbol = batch_symbol(model.manifest)
    if symbol is None and batches:
        fixed = examples_per_call(model, {})
        if any(batch != fixed for batch in batches):
            raise InputError(
                f"{model.name} was compiled for a batch of {fixed}; compile it with a symbolic "
                "batch (dynamic_shapes) to choose another"
            )
    if symbol is None or not batches:
        return [complete_sizes(model.manifest, sizes)]
    return [complete_sizes(model.manifest, {**sizes, symbol: batch}) for batch in batches]


def examples_per_call(model: Model, sizes: Mapping[str, int]) -> int:
    """Examples per call: the batch, or else the first axis of the first input."""
    symbol = batch_symbol(model.manifest)
    if symbol is not None:
        return sizes[symbol]
    shape = model.inputs[0].shape if model.inputs else ()
    return shape[0] if shape and isinstance(shape[0], int) else 1


def _measure(model: Model, sizes: Mapping[str, int], seconds: float) -> _Timed:
    named = random_inputs(model.manifest, sizes)
    _times(lambda: model.run(named), seconds * WARM_UP_SHARE)
    times = _times(lambda: model.run(named), seconds)
    resident = resident_bytes()
    flops = sum(model.profile(named).flops)
    arena = model.arena_bytes(**sizes)
    return _Timed(sizes, examples_per_call(model, sizes), times, flops, resident, arena)


def _times(call: Callable[[], object], seconds: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds of each call, for at least `seconds` and `MINIMUM_CALLS`."""
    times: list[float] = []
    now = time.perf_counter()
    end = now + seconds
    while now < end or len(times) < MINIMUM_CALLS:
        call()
        after = time.perf_counter()
        times.append(after - now)
        now = after
    return np.array(times)


def _peak(model: Model) -> tuple[float | None, str]:
    if not can_measure():
        return None, "unknown: measuring it needs llvmlite, pip install 'ranvier[compile]'"
    peak = precision_peak(model, model.precision)
    if peak is None:
        return None, f"unknown: {model.target} has no fused multiply-add"
    return peak, f"{peak / 1e9:.0f} GFLOP/s, {model.precision}, threads: {model.cores.count}"


def _summarize(timed: _Timed, peak: float | None) -> Measurement:
    p50, p90, p95, p99 = (float(p) for p in np.percentile(timed.times * 1000, (50, 90, 95, 99)))
    best = float(timed.times.min())
    return Measurement(
        timed.sizes, timed.batch, len(timed.times), p50, p90, p95, p99,
        float(timed.times.mean() * 1000), best * 1000,
        timed.batch * len(timed.times) / float(timed.times.sum()), timed.batch / best,
        timed.flops / 1e9, None if peak is None else timed.flops / (p50 / 1000) / peak,
        timed.resident_bytes, timed.arena_bytes,
    )  # fmt: skip
