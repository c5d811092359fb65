"""OpenVINO on the CPU: one request at a time, or a queue of them tuned for throughput."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import openvino

from benchmarks.engines.engine import Array, timed_calls
from benchmarks.engines.onnx_file import input_arrays, onnx_path
from benchmarks.job import Job


class OpenVino:
    """OpenVINO; `openvino-throughput` keeps its optimal number of requests in flight."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._throughput = job.engine == "openvino-throughput"
        self._compiled: Any = None
        self._request: Any = None
        self._inputs: list[Array] = []

    def prepare(self) -> dict[str, float]:
        """Read the ONNX file and compile it."""
        start = time.perf_counter()
        model = openvino.Core().read_model(str(onnx_path(self._job)))
        read = time.perf_counter()
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT" if self._throughput else "LATENCY",
            "INFERENCE_PRECISION_HINT": self._job.precision,
            "INFERENCE_NUM_THREADS": self._job.threads,
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", options)
        self._request = self._compiled.create_infer_request()
        self._inputs = input_arrays(self._job)
        return {"load": read - start, "compile": time.perf_counter() - read}

    def call(self) -> Array:
        """Run once; inputs and output are shared, not copied."""
        outputs = self._request.infer(self._inputs, share_inputs=True, share_outputs=True)
        return np.asarray(outputs[0])

    def turn(self, seconds: float) -> list[float]:
        """One call after the other, or milliseconds per call of a full queue."""
        return [self._queue(seconds)] if self._throughput else timed_calls(self, seconds)

    def _queue(self, seconds: float) -> float:
        queue = openvino.AsyncInferQueue(self._compiled)
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < seconds or calls < 3:
            queue.start_async(self._inputs, share_inputs=True)
            calls += 1
        queue.wait_all()
        return (time.perf_counter() - start) * 1000 / calls
