"""The roofline: the least time that a machine needs for a kernel, and what keeps it from it.

The model is that of Williams, Waterman and Patterson, "Roofline: an insightful visual performance
model for multicore architectures" (CACM 2009), with roofs that are measured on the spot. A kernel's
data come from where they can be at best:

- activations from the nearest level that holds all that the kernel reads and writes: the kernel
  before it may have left them there;
- weights from the nearest level that holds a whole call's data, because everything else passes
  through the caches before the next call reads them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ranvier.bench import precision_peak
from ranvier.profiling.bandwidth import Level, memory_levels
from ranvier.runtime.model import Model

Roof = Literal["compute", "memory"]
Limit = Literal["compute", "memory", "imbalance", "other"]
LIMITS: tuple[Limit, ...] = ("compute", "memory", "imbalance", "other")

_EXPLAINED = 1 / 3
"""Share of a kernel's time that a cause has to account for to be called its limit."""

_F32_KERNELS = ("nest", "depthwise", "scatter", "sort")
"""Kernels that compute in f32 whatever the precision: bf16 has a dot product and nothing else."""


@dataclass(frozen=True)
class Work:
    """What a kernel call has to do at the least: operations, and bytes of weights and the rest."""

    kernel: str
    flops: int
    weight_bytes: int
    other_bytes: int


@dataclass(frozen=True)
class Bound:
    """The least seconds for a kernel's operations and for its data; None where unknown.

    Attributes:
        level: name of the level that its activations may come from.
    """

    compute_seconds: float | None
    memory_seconds: float
    level: str

    @property
    def seconds(self) -> float | None:
        """The larger of the two, which can overlap."""
        if self.compute_seconds is None:
            return None
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def roof(self) -> Roof | None:
        """Which of the two is larger."""
        if self.compute_seconds is None:
            return None
        return "compute" if self.compute_seconds >= self.memory_seconds else "memory"


@dataclass(frozen=True)
class Roofline:
    """Measured roofs of a core group.

    Attributes:
        peaks: operations per second by precision; empty where they cannot be measured.
        levels: where data can lie, nearest first; the last one holds everything.
        precision: of the model.
        call_bytes: weights and activations of one call.
    """

    peaks: Mapping[str, float]
    levels: Sequence[Level]
    precision: str
    call_bytes: int

    @property
    def peak(self) -> float | None:
        """Operations per second in the model's precision."""
        return self.peaks.get(self.precision)

    def bound(self, work: Work) -> Bound:
        """The least time for `work`."""
        precision = "f32" if work.kernel.startswith(_F32_KERNELS) else self.precision
        peak = self.peaks.get(precision)
        near = self._holding(work.weight_bytes + work.other_bytes)
        far = self._holding(self.call_bytes)
        memory = work.weight_bytes / far.bytes_per_second + work.other_bytes / near.bytes_per_second
        return Bound(None if peak is None else work.flops / peak, memory, near.name)

    def _holding(self, size_bytes: int) -> Level:
        for level in self.levels:
            if level.capacity_bytes is None or size_bytes <= level.capacity_bytes:
                return level
        return self.levels[-1]


def measure_roofline(model: Model, call_bytes: int) -> Roofline:
    """Measure the roofs of the cores that a model runs on (once per process)."""
    names = ("f32",) if model.precision == "f32" else ("f32", model.precision)
    peaks = {name: precision_peak(model, name) for name in names}
    known = {name: peak for name, peak in peaks.items() if peak is not None}
    return Roofline(known, memory_levels(model.cores), model.precision, call_bytes)


def limit_of(bound: Bound, seconds: float, wait_seconds: float | None) -> Limit | None:
    """What most of a kernel's time goes to.

    Args:
        bound: the least times.
        seconds: the measured time.
        wait_seconds: of the average thread, see `KernelTime`; None if unknown.

    Returns:
        "compute" or "memory": the least time for operations or data accounts for it;
        "imbalance": threads wait for each other; "other": none of these accounts for a third of the
        time, so it goes to latency, address arithmetic, conversions or start-up. None where too
        little is known to say.
    """
    causes: dict[Limit, float] = {"memory": bound.memory_seconds}
    if bound.compute_seconds is not None:
        causes["compute"] = bound.compute_seconds
    if wait_seconds is not None:
        causes["imbalance"] = wait_seconds
    largest = max(causes, key=lambda cause: causes[cause])
    if seconds > 0 and causes[largest] >= seconds * _EXPLAINED:
        return largest
    return "other" if len(causes) == len(LIMITS) - 1 else None
