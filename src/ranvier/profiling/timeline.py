"""One profiled call in seconds: when every thread worked on which step, and when it waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.artifact.format import Step
from ranvier.runtime.profile import Profile

Seconds = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Timeline:
    """Seconds since the first thread began the first step.

    Attributes:
        steps: in order of execution.
        begins: of shape (threads, steps): when a thread began a step.
        finishes: of the same shape: when it had done its share; None where the artifact is too old
            to say.
        ends: of the same shape: when it began the next step, or left the last.
    """

    steps: tuple[Step, ...]
    begins: Seconds
    finishes: Seconds | None
    ends: Seconds

    @property
    def seconds(self) -> float:
        """From the first thread's start to the last one's end."""
        return float(self.spans.sum())

    @property
    def spans(self) -> Seconds:
        """Seconds of every step, from its first thread's start to the next one's; (steps,)."""
        starts = self.begins.min(axis=0, initial=np.inf)
        last = self.ends[:, -1:].max(axis=0)
        spans: Seconds = np.diff(np.concatenate([starts, last]))
        return spans

    @property
    def busy(self) -> Seconds | None:
        """Seconds that every thread worked on every step; (threads, steps)."""
        return None if self.finishes is None else self.finishes - self.begins


def timeline(profile: Profile, seconds_per_tick: float) -> Timeline:
    """The clock readings of a profile in seconds."""
    ticks = profile.ticks.astype(np.int64)
    origin = ticks[:, 0].min()
    readings = (ticks - origin) * seconds_per_tick
    finishes = None
    if len(profile.steps) and profile.finishes.all():
        finishes = (profile.finishes.astype(np.int64) - origin) * seconds_per_tick
    return Timeline(profile.steps, readings[:, :-1], finishes, readings[:, 1:])


def seconds_per_tick(profiles: Sequence[Profile]) -> float:
    """The period of the CPU's clock, which runs at its own constant rate.

    From the first profile to the last: both clocks were read when a call began. A single profile
    has its wall time for all its ticks, which counts Python's part too.
    """
    first, last = profiles[0], profiles[-1]
    passed = int(last.ticks[0, 0]) - int(first.ticks[0, 0])
    if passed > 0:
        return (last.started - first.started) / passed
    span = int(first.ticks.max()) - int(first.ticks[:, 0].min())
    return first.seconds / span if span > 0 else 0.0
