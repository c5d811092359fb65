"""Latency percentiles of a callable; the same loop measures PyTorch and the artifact."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Latency of one call in milliseconds, at three percentiles, over `calls` calls."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    calls: int

    def images_per_second(self) -> float:
        """Throughput of one caller at the median latency."""
        return 1000 / self.p50_ms


def measure(call: Callable[[], object], seconds: float) -> Latency:
    """Call for `seconds` after a tenth of it as warm-up."""
    _times_ms(call, seconds / 10)
    times_ms = _times_ms(call, seconds)
    p50, p90, p99 = np.percentile(times_ms, [50, 90, 99])
    return Latency(float(p50), float(p90), float(p99), len(times_ms))


def _times_ms(call: Callable[[], object], seconds: float) -> list[float]:
    times_ms: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or len(times_ms) < 3:
        call()
        times_ms.append((time.perf_counter() - start) * 1000)
    return times_ms
