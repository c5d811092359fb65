"""The engines under comparison, one file each; an engine's package is imported when it is made."""

from __future__ import annotations

from benchmarks.engines.engine import Engine
from benchmarks.job import Job

PRECISIONS = {
    "torch-eager": ("f32", "bf16"),
    "torch-compile": ("f32", "bf16"),
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16"),
    "openvino-throughput": ("f32", "bf16"),
    "ranvier": ("f32", "bf16"),
}
"""The precisions in which each engine runs models on CPUs."""
DEFAULT = tuple(name for name in PRECISIONS if name != "torch-compile")
READS_ONNX = ("onnxruntime", "openvino", "openvino-throughput")


def make(job: Job) -> Engine:
    """The engine that `job` names, ready to be prepared."""
    match job.engine:
        case "torch-eager" | "torch-compile":
            from benchmarks.engines.pytorch import PyTorch

            return PyTorch(job)
        case "onnxruntime":
            from benchmarks.engines.onnx_runtime import OnnxRuntime

            return OnnxRuntime(job)
        case "openvino" | "openvino-throughput":
            from benchmarks.engines.open_vino import OpenVino

            return OpenVino(job)
        case "ranvier":
            from benchmarks.engines.ranvier_engine import RanvierEngine

            return RanvierEngine(job)
    raise ValueError(f"no engine {job.engine!r}; known: {', '.join(PRECISIONS)}")
