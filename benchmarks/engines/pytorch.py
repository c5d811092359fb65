"""PyTorch, eager or compiled with frozen weights; images in channels-last, its faster layout.

Settings are those of https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html: no
autograd, channels-last for convolutions, as many OpenMP threads as cores. `torch.compile` freezes
the weights, so that Inductor packs them for oneDNN (torch._inductor.config.freezing, meant for
inference); sizes are static.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.engines.engine import Array, Pace, Turn, input_arrays, timed_calls
from benchmarks.job import Job
from tests.zoo.torchvision_import import define_detection_operators


class PyTorch:
    """PyTorch on the job's threads; `bf16` converts the weights and floating inputs."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model: Any = None
        self._inputs: tuple[torch.Tensor, ...] = ()

    def prepare(self) -> None:
        """Load the module, and compile it where asked."""
        torch.set_num_threads(self._job.threads)
        arrays = input_arrays(self._job)
        self._inputs = tuple(self._convert(torch.from_numpy(value)) for value in arrays)
        define_detection_operators()  # the pickled module imports torchvision
        self._model = torch.load(self._job.material.module, weights_only=False)
        if self._job.precision == "bf16":
            self._model = self._model.to(torch.bfloat16)
        if any(value.dim() == 4 for value in self._inputs):
            self._model = self._model.to(memory_format=torch.channels_last)
        if self._job.engine == "torch-compile":
            import torch._inductor.config as inductor

            inductor.freezing = True
            self._model = torch.compile(self._model, dynamic=False)

    def _convert(self, value: torch.Tensor) -> torch.Tensor:
        if self._job.precision == "bf16" and value.is_floating_point():
            value = value.to(torch.bfloat16)
        if value.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        return value

    def call(self) -> Array:
        """Run once, without autograd."""
        with torch.no_grad():
            output: torch.Tensor = self._model(*self._inputs)
        result: Array = output.float().numpy()
        return result

    def turn(self, pace: Pace) -> Turn:
        """One call after the other."""
        return timed_calls(self.call, pace)
