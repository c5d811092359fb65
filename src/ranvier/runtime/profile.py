"""Where the time of one call went, step by step and thread by thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.format import Buffer, Step


@dataclass(frozen=True, slots=True)
class Profile:
    """The clock of every thread at every step of one call.

    Attributes:
        steps, buffers: of the program.
        ticks: uint64 of shape (threads, steps + 1): when a thread began each step, and when it
            ended the last.
        finishes: uint64 of shape (threads, steps): when a thread had done its share of each step,
            before it waited for others; all zero where the artifact is too old to say.
        started: when the call began, in seconds of `time.perf_counter`.
        seconds: wall time of the call.
        flops, bytes: estimated work of every step at the call's shapes.
    """

    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    ticks: NDArray[np.uint64]
    finishes: NDArray[np.uint64]
    started: float
    seconds: float
    flops: tuple[int, ...]
    bytes: tuple[int, ...]

    @property
    def step_seconds(self) -> NDArray[np.float64]:
        """Seconds of every step on thread 0, waits for other threads included; shape (steps,)."""
        spent = np.diff(self.ticks[0].astype(np.int64)).astype(np.float64)
        total = float(spent.sum())
        scaled: NDArray[np.float64] = spent * (self.seconds / total if total > 0 else 0.0)
        return scaled
