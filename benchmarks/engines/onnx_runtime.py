"""ONNX Runtime on the CPU, all graph optimisations on (its default).

Settings are those of https://onnxruntime.ai/docs/performance/tune-performance/threading.html: the
number of intra-op threads is that of the cores, and its workers spin (the default), which
is best where nothing else runs. For throughput, several threads call one session whose calls run
on the calling thread alone: `InferenceSession.run` may be called from several threads at once.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.engines.engine import (
    Array,
    Pace,
    Turn,
    input_arrays,
    timed_calls,
    timed_threads,
)
from benchmarks.job import Job


class OnnxRuntime:
    """ONNX Runtime in f32 (it has no bf16 kernels for CPUs)."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._throughput = job.engine == "onnxruntime-throughput"
        self._session: Any = None
        self._feed: dict[str, Array] = {}

    def prepare(self) -> None:
        """Load the ONNX file."""
        job = self._job
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if self._throughput else job.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(job.material.onnx(job.sizes)), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in self._session.get_inputs()]
        self._feed = dict(zip(names, input_arrays(job), strict=True))

    def call(self) -> Array:
        """Run once."""
        return np.asarray(self._session.run(None, self._feed)[0])

    def turn(self, pace: Pace) -> Turn:
        """One call after the other, from one thread or from one per core."""
        if not self._throughput:
            return timed_calls(self.call, pace)
        cpus = sorted(os.sched_getaffinity(0))
        return timed_threads([partial(self._call_on, cpu) for cpu in cpus], pace)

    def _call_on(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread; well below a microsecond
        self.call()
