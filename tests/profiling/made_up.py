"""A profile of two threads and a few kernels that nobody measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ranvier.artifact.format import Buffer, Step
from ranvier.profiling.bandwidth import Level
from ranvier.profiling.measure import ArtifactProfile, KernelTime
from ranvier.profiling.roofline import Roofline
from ranvier.profiling.timeline import Timeline
from ranvier.runtime.profile import Profile

LEVELS = (
    Level("L2", 2_000_000, 200e9),
    Level("L3", 32_000_000, 170e9),
    Level("memory", None, 40e9),
)


def step(kernel: str = "contraction_0", label: str = "conv", reads: Sequence[int] = ()) -> Step:
    """A step without arguments."""
    return Step(kernel, label, tuple(reads), (), source="model.py:1", operators=("conv", "relu"))


def clock(
    begins: Sequence[Sequence[int]], finishes: Sequence[Sequence[int]] | None, started: float = 0.0
) -> Profile:
    """Clock readings of shapes (threads, steps + 1) and (threads, steps)."""
    ticks = np.array(begins, np.uint64)
    steps = ticks.shape[1] - 1
    done = np.zeros((len(ticks), steps)) if finishes is None else np.array(finishes)
    names = tuple(step(label=f"value_{k}") for k in range(steps))
    return Profile(
        names, (Buffer("weight", 64),), ticks, done.astype(np.uint64), started, 1.0,
        (0,) * steps, (0,) * steps,
    )  # fmt: skip


def kernel(index: int, microseconds: float = 10.0, wait: float | None = 1.0) -> KernelTime:
    """A kernel of the call that `profile` makes up; each moves more bytes than the one before."""
    busy = None if wait is None else (microseconds, microseconds - 2 * wait)
    return KernelTime(
        index=index, label=f"value_{index}", kernel=f"contraction_{index}",
        operators=("conv", "relu"), source=f"/models/net.py:{10 + index % 2}",
        microseconds=microseconds, share=0.25, flops=3_000_000, bytes=60_000 * (index + 1),
        gflops=300.0, gbytes_per_second=6.0 * (index + 1), share_of_peak=0.6,
        roof="compute", share_of_roof=0.6,
        level="L2", limit="compute", busy_microseconds=busy, wait_microseconds=wait,
        imbalance=None if busy is None else busy[0] / (sum(busy) / 2),
    )  # fmt: skip


def profile(count: int = 4, name: str = "net", waits: bool = True) -> ArtifactProfile:
    """`count` kernels of 10 microseconds; thread 1 waits 2 at the end of each, unless unknown."""
    begins = np.arange(count) * 10e-6 + np.zeros((2, 1))
    ends = begins + 10e-6
    finishes = ends - np.array([[0.0], [2e-6]])
    wait = 1.0 if waits else None
    kernels = [replace(kernel(k, wait=wait), share=1 / count) for k in range(count)]
    kernels[-1] = replace(
        kernels[-1],
        operators=(),
        flops=0,
        gflops=0.0,
        share_of_peak=0.0,
        roof="memory",
        limit="memory",
    )
    steps = tuple(Step(k.kernel, k.label, (), ()) for k in kernels)
    return ArtifactProfile(
        name=name, precision="bf16", target="x86-64-v4-bf16", cpu="A CPU", cores=2,
        sizes={"batch": 2}, batch=2, calls=5, microseconds=10.0 * count,
        call_microseconds=12.0 * count,
        roofline=Roofline({"f32": 235e9, "bf16": 470e9}, LEVELS, "bf16", 5_000_000),
        kernels=tuple(kernels),
        typical=Timeline(steps, begins, finishes if waits else None, ends),
    )  # fmt: skip
