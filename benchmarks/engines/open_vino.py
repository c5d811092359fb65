"""OpenVINO on the CPU: one request at a time, or a queue of them tuned for throughput.

Settings are those of https://docs.openvino.ai/2026/openvino-workflow/running-inference/
optimize-inference.html: the performance hints choose streams, threads and pinning for latency or
for throughput, and throughput needs the asynchronous queue with its optimal number of requests.
Inputs and outputs are shared with the caller instead of copied.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import openvino

from benchmarks.engines.engine import Array, Pace, Turn, input_arrays, timed_calls
from benchmarks.job import Job


class OpenVino:
    """OpenVINO; `openvino-throughput` keeps its optimal number of requests in flight."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._throughput = job.engine == "openvino-throughput"
        self._compiled: Any = None
        self._request: Any = None
        self._inputs: list[Array] = []

    def prepare(self) -> None:
        """Read the ONNX file and compile it."""
        job = self._job
        core = openvino.Core()
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT" if self._throughput else "LATENCY",
            "INFERENCE_PRECISION_HINT": job.precision,
            "INFERENCE_NUM_THREADS": job.threads,
        }
        model = core.read_model(str(job.material.onnx(job.sizes)))
        self._compiled = core.compile_model(model, "CPU", options)
        self._request = self._compiled.create_infer_request()
        self._inputs = input_arrays(job)

    def call(self) -> Array:
        """Run once; inputs and output are shared, not copied."""
        outputs = self._request.infer(self._inputs, share_inputs=True, share_outputs=True)
        return np.asarray(outputs[0])

    def turn(self, pace: Pace) -> Turn:
        """One call after the other, or a full queue."""
        return self._queue(pace) if self._throughput else timed_calls(self.call, pace)

    def _queue(self, pace: Pace) -> Turn:
        """Keep the queue full. Latencies are those of each request's last run, as it tells them:
        a callback per request would cost what the measurement is about."""
        queue = openvino.AsyncInferQueue(self._compiled)
        start, calls = time.perf_counter(), 0
        while pace.wants_more(time.perf_counter() - start, calls) or calls < len(queue):
            queue.start_async(self._inputs, share_inputs=True)
            calls += 1
        queue.wait_all()
        seconds = time.perf_counter() - start
        return Turn(calls, seconds, tuple(request.latency for request in queue))
