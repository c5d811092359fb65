"""Ranvier: compiled with symbolic sizes, saved, loaded and run like any artifact."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import ranvier
from benchmarks.engines.engine import Array, timed_calls
from benchmarks.engines.onnx_file import input_arrays
from benchmarks.job import Job
from tests import zoo


class RanvierEngine:
    """Ranvier on the first CPUs of this process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model: Any = None
        self._inputs: list[Array] = []

    def prepare(self) -> dict[str, float]:
        """Compile, save and load."""
        entry = zoo.model(self._job.model)
        network = entry.build()
        start = time.perf_counter()
        compiled = ranvier.trace(
            network,
            entry.example_inputs(),
            dynamic_shapes=entry.dynamic_shapes(),
            precision=self._job.precision,
        )
        path = Path(self._job.folder) / f"{self._job.key()}.rvr"
        compiled.save(path)
        saved = time.perf_counter()
        self._model = ranvier.load(path, cores=sorted(os.sched_getaffinity(0)))
        self._inputs = input_arrays(self._job)
        return {"compile": saved - start, "load": time.perf_counter() - saved}

    def call(self) -> Array:
        """Run once."""
        return np.asarray(self._model(*self._inputs))

    def turn(self, seconds: float) -> list[float]:
        """One call after the other."""
        return timed_calls(self, seconds)
