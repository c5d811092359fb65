"""ONNX Runtime on the CPU, all graph optimisations on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.engines.engine import Array, timed_calls
from benchmarks.engines.onnx_file import input_arrays, input_names, onnx_path
from benchmarks.job import Job


class OnnxRuntime:
    """ONNX Runtime in f32 (it has no bf16 kernels for CPUs)."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._session: Any = None
        self._feed: dict[str, Array] = {}

    def prepare(self) -> dict[str, float]:
        """Load the ONNX file."""
        start = time.perf_counter()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._job.threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(onnx_path(self._job)), options, providers=["CPUExecutionProvider"]
        )
        self._feed = dict(zip(input_names(self._job), input_arrays(self._job), strict=True))
        return {"load": time.perf_counter() - start}

    def call(self) -> Array:
        """Run once."""
        return np.asarray(self._session.run(None, self._feed)[0])

    def turn(self, seconds: float) -> list[float]:
        """One call after the other."""
        return timed_calls(self, seconds)
