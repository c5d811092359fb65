"""What every engine offers to a comparison."""

from __future__ import annotations

import time
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Engine(Protocol):
    """A model loaded in one engine."""

    def prepare(self) -> dict[str, float]:
        """Load or compile the model; the seconds of each stage by name."""
        ...

    def call(self) -> Array:
        """Run the model once on the job's inputs; the first output in f32."""
        ...

    def turn(self, seconds: float) -> list[float]:
        """Run for `seconds`; milliseconds per call, one figure per call or one for all."""
        ...


def timed_calls(engine: Engine, seconds: float) -> list[float]:
    """Call one after the other for `seconds`, at least three times; milliseconds of each."""
    times_ms: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or len(times_ms) < 3:
        engine.call()
        times_ms.append((time.perf_counter() - start) * 1000)
    return times_ms
