"""Ranvier: an artifact with symbolic sizes, on one group of all cores or on a group per core."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np

import ranvier
from benchmarks.engines.engine import (
    Array,
    Pace,
    Turn,
    input_arrays,
    timed_calls,
    timed_threads,
)
from benchmarks.job import Job


class RanvierEngine:
    """Ranvier on the CPUs of this process.

    `ranvier` runs one example after the other on all cores. `ranvier-throughput` loads the file
    once per core, which shares weights and code, and calls each from a thread of its own.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._models: list[Any] = []
        self._inputs: list[Array] = []

    def prepare(self) -> None:
        """Load the artifact."""
        cpus = sorted(os.sched_getaffinity(0))
        path = self._job.material.artifact(self._job.precision)
        alone = self._job.engine == "ranvier-throughput"
        groups = [[cpu] for cpu in cpus] if alone else [cpus]
        self._models = [ranvier.load(path, cores=group) for group in groups]
        self._inputs = input_arrays(self._job)

    def call(self) -> Array:
        """Run once, on the first group."""
        return np.asarray(self._models[0](*self._inputs))

    def turn(self, pace: Pace) -> Turn:
        """One call after the other on each group."""
        if len(self._models) == 1:
            return timed_calls(self.call, pace)
        return timed_threads([partial(model, *self._inputs) for model in self._models], pace)
