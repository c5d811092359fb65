"""The ONNX file that the engines of a comparison share, exported at the job's sizes.

usage: python -m benchmarks.engines.onnx_file JOB_JSON
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.engines.engine import Array
from benchmarks.job import Job
from tests import zoo


def onnx_path(job: Job) -> Path:
    """Where the file of this job lies."""
    return Path(job.folder) / "model.onnx"


def input_names(job: Job) -> list[str]:
    """The names of the model's inputs in the file."""
    return [f"input_{index}" for index in range(len(zoo.model(job.model).axes))]


def input_arrays(job: Job) -> list[Array]:
    """The job's inputs as NumPy arrays."""
    return [value.numpy() for value in zoo.model(job.model).inputs(job.sizes)]


def export(job: Job) -> None:
    """Write the file; fixed sizes, which the engines that read it prefer."""
    import torch

    entry = zoo.model(job.model)
    torch.onnx.export(
        entry.build().requires_grad_(False),
        entry.inputs(job.sizes),
        str(onnx_path(job)),
        input_names=input_names(job),
        output_names=["output"],
        dynamo=True,
        verbose=False,
    )


if __name__ == "__main__":
    export(Job.from_json(sys.argv[1]))
