"""What every engine offers to a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.job import Job

Array = NDArray[Any]


@dataclass(frozen=True)
class Pace:
    """How long a turn lasts: `seconds` and `calls` at least, but no call begins after `longest`."""

    seconds: float
    calls: int
    longest: float

    def wants_more(self, elapsed: float, calls: int) -> bool:
        """Whether to call once more after this time and number of calls."""
        if calls == 0:
            return True
        return elapsed < self.longest and (elapsed < self.seconds or calls < self.calls)


@dataclass(frozen=True)
class Turn:
    """What one turn measured: how many calls in how many seconds, and latencies of some or all."""

    calls: int
    seconds: float
    latencies_ms: tuple[float, ...]


class Engine(Protocol):
    """A model loaded in one engine."""

    def prepare(self) -> None:
        """Load or compile the model."""
        ...

    def call(self) -> Array:
        """Run the model once on the job's inputs; the first output in f32."""
        ...

    def turn(self, pace: Pace) -> Turn:
        """Run at this pace."""
        ...


def input_arrays(job: Job) -> list[Array]:
    """The job's inputs in order of position."""
    with np.load(job.material.inputs(job.sizes)) as file:
        return [file[name] for name in file.files]


def timed_calls(call: Callable[[], object], pace: Pace) -> Turn:
    """Call one after the other, and time each call."""
    latencies_ms: list[float] = []
    start = now = time.perf_counter()
    while pace.wants_more(now - start, len(latencies_ms)):
        call()
        before, now = now, time.perf_counter()
        latencies_ms.append((now - before) * 1000)
    return Turn(len(latencies_ms), now - start, tuple(latencies_ms))


def timed_threads(calls: Sequence[Callable[[], object]], pace: Pace) -> Turn:
    """Call each from a thread of its own, one after the other; all threads at once.

    The rate counts what every thread did up to its own end, so the last call of a slow thread
    does not weigh on the others.
    """
    with ThreadPoolExecutor(len(calls)) as pool:
        turns = list(pool.map(lambda call: timed_calls(call, pace), calls))
    rate = sum(turn.calls / turn.seconds for turn in turns)
    count = sum(turn.calls for turn in turns)
    latencies_ms = tuple(time_ms for turn in turns for time_ms in turn.latencies_ms)
    return Turn(count, count / rate, latencies_ms)
