"""Where the time of one call went, step by step and thread by thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.format import Buffer, Loop, Step


@dataclass(frozen=True, slots=True)
class Profile:
    """The clock of every thread at every step of one call.

    A step in a loop has the time of all its turns, one after the other; what threads wait for in a
    loop, and the way from step to step, is the time of the loop's first step.

    Attributes:
        steps, buffers: of the program.
        ticks: uint64 of shape (threads, steps + 1): when a thread began each step, and when it
            ended the last.
        finishes: uint64 of shape (threads, steps): when a thread had done its share of each step,
            before it waited for others; all zero where the artifact is too old to say.
        started: when the call began, in seconds of `time.perf_counter`.
        seconds: wall time of the call.
        flops, bytes: estimated work of every step at the call's shapes, in all its turns.
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


def order_ticks(
    ticks: NDArray[np.uint64], turns: NDArray[np.uint64], loops: Sequence[Loop]
) -> None:
    """Put the clock readings of a program with branches and loops in order.

    Args:
        ticks: when steps begin and when they are finished, (2, threads, steps + 1); of a step in a
            loop, in its last turn. Changed in place: steps that were not taken get no duration, and
            those of a loop that of all their turns.
        turns: ticks in all turns of a step in a loop, and their number, (threads, 2, steps).
        loops: of the program, inner ones first.
    """
    begins, finishes = ticks[0], ticks[1, :, :-1]
    begins[begins == 0] = np.iinfo(np.uint64).max
    begins[:] = np.minimum.accumulate(begins[:, ::-1], axis=1)[:, ::-1]
    np.clip(finishes, begins[:, :-1], begins[:, 1:], out=finishes)
    for loop in loops:
        inside = slice(loop.first + 1, loop.last + 1)
        spent = turns[:, 0, inside]
        ends = begins[:, loop.last + 1]
        done = ends[:, None] - spent.sum(axis=1, keepdims=True) + np.cumsum(spent, axis=1)
        first = begins[:, loop.first][:, None]
        finishes[:, inside] = np.maximum(done, first)
        begins[:, inside] = np.maximum(done - spent, first)
        finishes[:, loop.first] = begins[:, loop.first]
