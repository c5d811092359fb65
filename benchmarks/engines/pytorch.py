"""PyTorch, eager or compiled with frozen weights; images in channels-last, its faster layout."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.engines.engine import Array, timed_calls
from benchmarks.job import Job
from tests import zoo


class PyTorch:
    """PyTorch on the job's threads; `bf16` converts the weights and floating inputs."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model: Any = None
        self._inputs: tuple[torch.Tensor, ...] = ()

    def prepare(self) -> dict[str, float]:
        """Build the model, and compile it where asked."""
        torch.set_num_threads(self._job.threads)
        start = time.perf_counter()
        entry = zoo.model(self._job.model)
        self._model = entry.build().requires_grad_(False)
        self._inputs = tuple(self._convert(value) for value in entry.inputs(self._job.sizes))
        if self._job.precision == "bf16":
            self._model = self._model.to(torch.bfloat16)
        if any(value.dim() == 4 for value in self._inputs):
            self._model = self._model.to(memory_format=torch.channels_last)
        stages = {"load": time.perf_counter() - start}
        if self._job.engine == "torch-compile":
            stages["compile"] = self._compile()
        return stages

    def _convert(self, value: torch.Tensor) -> torch.Tensor:
        if self._job.precision == "bf16" and value.is_floating_point():
            value = value.to(torch.bfloat16)
        if value.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        return value

    def _compile(self) -> float:
        import torch._inductor.config as inductor

        start = time.perf_counter()
        inductor.freezing = True
        self._model = torch.compile(self._model)
        self.call()
        return time.perf_counter() - start

    def call(self) -> Array:
        """Run once, without autograd."""
        with torch.no_grad():
            output: torch.Tensor = self._model(*self._inputs)
        result: Array = output.float().numpy()
        return result

    def turn(self, seconds: float) -> list[float]:
        """One call after the other."""
        return timed_calls(self, seconds)
